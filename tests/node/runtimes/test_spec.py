"""What `--runtime` takes."""

import pytest

from llm_router.contract import Address
from llm_router.errors import ConfigError
from llm_router.node.runtimes.spec import Spec, parse_specs


def test_kinds() -> None:
    """llama.cpp and Ollama of our own, an Ollama and an OpenAI server by URL, in the order given, each once."""
    texts = ["llamacpp", "ollama", "ollama=127.0.0.1:11434", "openai=https://host/team/v1/", "llamacpp", "ollama"]
    assert parse_specs(texts) == [
        Spec("llamacpp"),
        Spec("ollama"),
        Spec("ollama", Address("127.0.0.1", 11434)),
        Spec("openai", Address("host", 443, tls=True, prefix="/team")),
    ]


@pytest.mark.parametrize("spec", ["vllm", "", "openai", "llamacpp=x", "ollama=", "openai=ftp://host"])
def test_everything_else_is_refused(spec: str) -> None:
    """With the setting's name in the message."""
    with pytest.raises(ConfigError, match="--runtime"):
        parse_specs([spec])


def test_none_at_all() -> None:
    """An agent without a runtime has nothing to do."""
    with pytest.raises(ConfigError, match="no runtime"):
        parse_specs([])
