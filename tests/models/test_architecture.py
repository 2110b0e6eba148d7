"""What architectures are called, and where a `config.json` says so (requirements C2, C3)."""

from pathlib import Path

import pytest

from llm_router.models.architecture import MAX_CONFIG, normalise, read_config
from llm_router.models.unreadable import Unreadable

NAMES = {
    "qwen": ["Qwen2ForCausalLM", "Qwen3MoeForCausalLM", "qwen2", "qwen3next", "QWenLMHeadModel", "Qwen2_5_VL"],
    "llama": ["LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel", "Llama4ForConditionalGeneration", "llama4"],
    "mistral": ["MistralForCausalLM", "Mistral3ForConditionalGeneration", "mistral3"],
    "mixtral": ["MixtralForCausalLM"],
    "gemma": ["GemmaForCausalLM", "Gemma3nForConditionalGeneration", "gemma-embedding"],
    "phi": ["PhiForCausalLM", "Phi3ForCausalLM", "PhiMoEForCausalLM", "phi2", "phimoe"],
    "nemotron": ["NemotronForCausalLM", "NemotronHForCausalLM", "nemotron_h_moe"],
    "deepseek": ["DeepseekV3ForCausalLM", "deepseek2"],
    "gptoss": ["GptOssForCausalLM", "gpt-oss", "gpt_oss"],
    "glm": ["GlmForCausalLM", "Glm4MoeForCausalLM", "glm4moe", "ChatGLMModel", "chatglm"],
    "granite": ["GraniteMoeHybridForCausalLM", "granitehybrid"],
    "smollm": ["SmolLM3ForCausalLM", "smollm3"],
    "cohere": ["Cohere2ForCausalLM", "command-r", "cohere2"],
    "starcoder": ["Starcoder2ForCausalLM", "GPTBigCodeForCausalLM", "starcoder"],
    "falcon": ["FalconH1ForCausalLM", "falcon-h1"],
    "olmo": ["OlmoeForCausalLM", "olmo2"],
    "bert": ["BertModel", "bert"],
    "nomicbert": ["NomicBertModel", "nomic-bert"],
}


@pytest.mark.parametrize(("family", "name"), [(family, name) for family, names in NAMES.items() for name in names])
def test_families(family: str, name: str) -> None:
    """A family is told by how a name begins, whoever wrote it (C3)."""
    assert normalise([name]) == [family]


def test_an_unknown_name() -> None:
    """A name of no known family is kept in lower case, its letters and digits (C3)."""
    assert normalise(["UnknownCustomForCausalLM"]) == ["unknowncustomforcausallm"]


@pytest.mark.parametrize(
    "name", ["dolphin", "DolphinForCausalLM", "CodeLlama", "my-qwen", "notgemma", "ModernBertModel"]
)
def test_a_name_that_contains_a_family(name: str) -> None:
    """A name that has a family's name in it, but not at its beginning, is not of that family (C3)."""
    assert not {"phi", "llama", "qwen", "gemma", "bert"}.intersection(normalise([name]))


def test_duplicates() -> None:
    """Names that mean the same are one; the order stays (C3)."""
    assert normalise(["LlamaForCausalLM", "Qwen2Model", "LLaMAForCausalLM", "LlamaModel"]) == ["llama", "qwen"]


def test_what_is_no_text() -> None:
    """What is no text, or has nothing in it, is left out (C3)."""
    assert normalise([None, 7, ["LlamaModel"], {"a": 1}, "", "---", "LlamaModel"]) == ["llama"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def refusal(path: Path) -> str:
    with pytest.raises(Unreadable) as refused:
        read_config(path)
    return refused.value.reason


def test_a_config(path: Path) -> None:
    """`architectures` is read, what is no name in it left out (C2, C3)."""
    path.write_text('{"model_type": "x", "architectures": ["Qwen2ForCausalLM", 7, null, ""], "hidden_size": 64}')
    assert read_config(path).architectures == ["Qwen2ForCausalLM"]


def test_numbers_that_json_has_no_word_for(path: Path) -> None:
    """Python's json writes Infinity and NaN into such files; they are read all the same."""
    path.write_text(
        '{"time_step_limit": [0.0, Infinity], "a": -Infinity, "b":NaN, "architectures": ["Mamba2ForCausalLM"]}'
    )
    assert read_config(path).architectures == ["Mamba2ForCausalLM"]


@pytest.mark.parametrize(
    ("quantization", "mlx"),
    [('{"group_size": 64, "bits": 4}', True), ("null", False), ('{"bits": 4}', False), ('"fp8"', False)],
)
def test_packed_for_metal(path: Path, quantization: str, *, mlx: bool) -> None:
    """Weights in MLX's packing are told from others: only Metal runs them (C4)."""
    path.write_text(f'{{"architectures": ["LlamaForCausalLM"], "quantization": {quantization}}}')
    assert read_config(path).mlx is mlx


def test_missing(path: Path) -> None:
    """No file: it is said (C3)."""
    assert "missing" in refusal(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "malformed"),
        (b"\xff\xfe{}", "malformed"),
        (b'{"architectures": ["\xff"]}', "malformed"),
        (b"[]", "malformed"),
        (b"[" * 100_000, "malformed"),
        (b'{"a":' + b"[" * 100_000, "malformed"),
        (b"{}", "names no architecture"),
        (b'{"architectures": "LlamaForCausalLM"}', "names no architecture"),
        (b'{"architectures": []}', "names no architecture"),
        (b'{"architectures": [1, null, "-"]}', "names no architecture"),
        (b" " * MAX_CONFIG + b"{}", "longer than 4 MiB"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_no_good(path: Path, content: bytes, reason: str) -> None:
    """An empty file, a malformed one, one that names nothing: each is said as what it is (C3)."""
    path.write_bytes(content)
    assert reason in refusal(path)
