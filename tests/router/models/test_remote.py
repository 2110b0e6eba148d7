"""What a model's files say, read from where they are (requirements H5, H6)."""

from pathlib import Path

import msgspec
import pytest
from tests.models import ggufs

from llm_router.errors import BadRequest
from llm_router.models import gguf
from llm_router.models.download import Part
from llm_router.models.memory import need
from llm_router.router.models import remote
from llm_router.router.models.remote import memory, told_by_config, told_by_gguf

Ranges = list[tuple[int, int]]


class Server:
    """A file that is fetched in parts; `asked`: which ones. `ranges`: whether it knows Range."""

    def __init__(self, content: bytes, *, ranges: bool = True) -> None:
        self.content = content
        self.ranges = ranges
        self.asked: Ranges = []

    async def fetch(self, start: int, count: int) -> Part:
        self.asked.append((start, count))
        begin = start if self.ranges else 0
        return Part(self.content[begin : start + count], begin, len(self.content))


def model(path: Path, vocabulary: int = 0, **more: ggufs.Value) -> bytes:
    """A GGUF with a vocabulary of so many tokens of 60 bytes."""
    tokens: dict[str, ggufs.Value] = {"tokenizer.ggml.tokens": [f"{number:060}" for number in range(vocabulary)]}
    return ggufs.write(path, ggufs.LLAMA | (tokens if vocabulary else {}) | more).read_bytes()


@pytest.mark.parametrize("ranges", [True, False])
async def test_no_more_is_fetched_than_the_header_takes(tmp_path: Path, *, ranges: bool) -> None:
    """A header of 680 kB takes two requests, the second for what is missing; also where Range is not known."""
    whole = model(tmp_path / "m.gguf", vocabulary=10_000)
    server = Server(whole, ranges=ranges)
    told = await told_by_gguf(server.fetch)
    assert told.facts == gguf.read(tmp_path / "m.gguf")
    assert told.size == len(whole)
    assert server.asked == [(0, remote.FIRST), (remote.FIRST, 3 * remote.FIRST)]


async def test_weights_are_not_fetched(tmp_path: Path) -> None:
    """Of a large file the beginning is enough: all is known, also that the rest should be there."""
    whole = ggufs.write(tmp_path / "m.gguf", ggufs.LLAMA, {"w": (1024, 1024)}).read_bytes()
    server = Server(whole)
    told = await told_by_gguf(server.fetch)
    assert server.asked == [(0, remote.FIRST)]
    assert (told.architectures, told.context, told.facts and told.facts.weights) == (["llama"], 2048, 4 << 20)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>sign in first</html>", "not a GGUF file"),
        (b"", "too short"),
        (ggufs.header()[:100], "ends in the middle"),
        (ggufs.header(), "before its tensors do"),
        (ggufs.header({}, {}), "goes with a model"),
        (ggufs.header(ggufs.LLAMA | {"general.type": "adapter"}, {}), "goes with a model"),
        (ggufs.header(ggufs.LLAMA | {"general.architecture": "clip"}, {}), "goes with a model"),
    ],
)
async def test_what_is_no_model(content: bytes, said: str) -> None:
    """It is refused before anything is registered, with the reason."""
    with pytest.raises(BadRequest, match=said):
        await told_by_gguf(Server(content).fetch)


async def test_memory_is_that_of_a_node(tmp_path: Path) -> None:
    """What is shown is what a node computes for one request, and no more context than the model was made for."""
    told = await told_by_gguf(Server(model(tmp_path / "m.gguf")).fetch)
    assert told.facts is not None
    assert memory(told, 1000) == need(told.facts, 1000, context=2048, parallel=1).total


CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 32_768,
    "torch_dtype": "bfloat16",
}


async def test_a_config_tells_the_same() -> None:
    """Architecture, context, number format; and of memory its cache, which is 2 heads of 64, twice, in 24 layers."""
    told = await told_by_config(msgspec.json.encode(CONFIG), b'{"chat_template": "{{ x }}"}')
    assert (told.architectures, told.context, told.quantization) == (["Qwen2ForCausalLM"], 32_768, "BF16")
    assert told.chat_template
    assert told.facts is not None
    needed = need(told.facts, 0, context=4096, parallel=1)
    assert needed.cache == 4096 * 24 * 2 * (64 + 64) * 2
    assert memory(told, 10) == 10 + needed.total


async def test_a_config_with_text_in_a_part_and_quantised_weights() -> None:
    """Models that also see have their numbers there; a quantisation goes before the number format."""
    config = {"architectures": ["X"], "text_config": CONFIG, "quantization_config": {"quant_method": "fp8"}}
    told = await told_by_config(msgspec.json.encode(config), b"")
    assert (told.context, told.quantization, told.chat_template) == (32_768, "FP8", False)
    mlx = msgspec.json.encode(CONFIG | {"quantization": {"group_size": 64, "bits": 4}})
    assert (await told_by_config(mlx, b"")).quantization == "4-bit"


@pytest.mark.parametrize("odd", [b'{"architectures":["X"],"hidden_size":"many"}', b'{"architectures":["X"]}'])
async def test_a_config_that_tells_little(odd: bytes) -> None:
    """It can be registered, and its memory is not known."""
    told = await told_by_config(odd, b"")
    assert (told.architectures, memory(told, 10)) == (["X"], 0)


@pytest.mark.parametrize("broken", [b"", b"{", b"{}", b"\xff"])
async def test_a_config_that_tells_nothing(broken: bytes) -> None:
    """It is refused."""
    with pytest.raises(BadRequest, match=r"config\.json cannot be used"):
        await told_by_config(broken, b"")
