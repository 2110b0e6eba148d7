"""What `--runtime SPEC` means."""

from typing import Literal

import msgspec

from llm_router.contract import Address, parse_address
from llm_router.errors import BadRequest, ConfigError

FORMS = "llamacpp, ollama, ollama=URL or openai=URL"


class Spec(msgspec.Struct, frozen=True):
    """One runtime: the node's own without an address, others with theirs."""

    kind: Literal["llamacpp", "ollama", "openai"]
    address: Address | None = None


def parse_specs(texts: list[str]) -> list[Spec]:
    """The runtimes asked for, each once.

    Raises:
        ConfigError: one of them is none, or there is none.
    """
    if not texts:
        raise ConfigError(f"no runtime is given: --runtime takes {FORMS}")
    return list(dict.fromkeys(_parse(text.strip()) for text in texts))


def _parse(text: str) -> Spec:
    kind, _, url = text.partition("=")
    match text:
        case "llamacpp" | "ollama":
            return Spec(text)
    match kind:
        case "ollama" | "openai":
            return Spec(kind, _address(text, url))
    raise ConfigError(f"--runtime {text}: there is no such runtime; it takes {FORMS}")


def _address(text: str, url: str) -> Address:
    try:
        return parse_address(url)
    except BadRequest as error:
        raise ConfigError(f"--runtime {text}: {error.message}") from error
