"""What a GGUF file says of itself, and that no file can do harm (requirement C2)."""

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.models import ggufs
from tests.models.ggufs import LLAMA, opening, text, typed

from llm_router.models import ggml, gguf
from llm_router.models.gguf import Facts
from llm_router.models.unreadable import Unreadable
from llm_router.node.models import builtin

oracle = pytest.importorskip("gguf")  # the format's own reader and writer
numpy = pytest.importorskip("numpy")  # which it needs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.gguf"


def refusal(path: Path, content: bytes) -> str:
    """Why this file is not read."""
    path.write_bytes(content)
    with pytest.raises(Unreadable) as refused:
        gguf.read(path)
    return refused.value.reason


# -- against the format's own package

Writer = Any  # gguf.GGUFWriter: the package ships no types


def decoder(writer: Writer) -> None:
    writer.add_name("A decoder")
    writer.add_file_type(oracle.LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_context_length(40_960)
    writer.add_block_count(3)
    writer.add_embedding_length(256)
    writer.add_head_count(8)
    writer.add_head_count_kv(2)
    writer.add_key_length(64)
    writer.add_value_length(32)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token {number}" for number in range(5000)])
    writer.add_token_types([1] * 5000)
    writer.add_token_merges(["a b", "b c"] * 2000)
    writer.add_chat_template("{{ messages }}" * 1000)


def by_layer(writer: Writer) -> None:
    writer.add_block_count(4)
    writer.add_embedding_length(64)
    writer.add_head_count([4, 8, 4, 8])
    writer.add_head_count_kv([0, 2, 0, 1])
    writer.add_vocab_size(77)
    writer.add_custom_alignment(64)


def embedder(writer: Writer) -> None:
    writer.add_context_length(512)
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(oracle.PoolingType.CLS)
    writer.add_float32("bert.attention.layer_norm_epsilon", 1e-12)
    writer.add_array("bert.some.floats", [0.5, 1.5])


def adapter(writer: Writer) -> None:
    writer.add_type("adapter")


def second_part(writer: Writer) -> None:
    writer.add_uint16("split.no", 1)
    writer.add_uint16("split.count", 3)


KINDS = {"qwen3": decoder, "nemotron_h": by_layer, "bert": embedder, "llama": adapter, "gpt-oss": second_part}


def written(path: Path, architecture: str, fill: Callable[[Writer], None]) -> Path:
    writer = oracle.GGUFWriter(path, architecture)
    fill(writer)
    writer.add_tensor("token_embd.weight", numpy.zeros((3, 64), dtype=numpy.float32))
    writer.add_tensor(
        "blk.0.ffn_up.weight", numpy.zeros((2, 34), dtype=numpy.uint8), raw_dtype=8
    )  # 2 rows of 32 in Q8_0
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def told(path: Path) -> Facts:
    """The facts of a file, as the format's own reader has them."""
    reader = oracle.GGUFReader(path)

    def of(key: str, otherwise: Any = 0) -> Any:  # noqa: ANN401 - of whatever type a key has
        field = reader.fields.get(key)
        return otherwise if field is None else field.contents()

    own = of("general.architecture")
    blocks, heads = of(f"{own}.block_count"), of(f"{own}.attention.head_count")
    kv_heads = of(f"{own}.attention.head_count_kv", heads)
    return Facts(
        version=3,
        kind=of("general.type", "model"),
        architecture=own,
        name=of("general.name", ""),
        file_type=of("general.file_type", None),
        context=of(f"{own}.context_length"),
        blocks=blocks,
        embedding=of(f"{own}.embedding_length"),
        heads=max(heads) if isinstance(heads, list) else heads,
        kv_heads=sum(kv_heads) if isinstance(kv_heads, list) else kv_heads * blocks,
        key=of(f"{own}.attention.key_length"),
        value=of(f"{own}.attention.value_length"),
        vocabulary=of(f"{own}.vocab_size") or len(of("tokenizer.ggml.tokens", [])),
        causal=of(f"{own}.attention.causal", otherwise=True),
        pooling=of(f"{own}.pooling_type", None),
        chat_template=bool(of("tokenizer.chat_template", "")),
        part=of("split.no"),
        parts=of("split.count"),
        tensors=len(reader.tensors),
        weights=sum(int(tensor.n_bytes) for tensor in reader.tensors),
        count=sum(int(tensor.n_elements) for tensor in reader.tensors),
    )


@pytest.mark.parametrize("architecture", KINDS)
def test_as_the_formats_own_reader(path: Path, architecture: str) -> None:
    """Of files that the `gguf` package writes, the same is read as it reads itself (C2)."""
    written(path, architecture, KINDS[architecture])
    assert gguf.read(path) == told(path)


def test_the_builtin_model(path: Path) -> None:
    """The built-in model is read as the `gguf` package reads it."""
    builtin.write(path)
    facts = gguf.read(path)
    assert facts == told(path)
    assert (facts.architecture, facts.context, facts.chat_template) == ("llama", builtin.CONTEXT, True)


def test_version_two(path: Path) -> None:
    """Version 2 is laid out like version 3."""
    content = bytearray(ggufs.write(path).read_bytes())
    content[4] = 2
    path.write_bytes(content)
    assert gguf.read(path).version == 2


def test_types_of_tensors() -> None:
    """The sizes of ggml's types are those of the `gguf` package."""
    sizes = {int(kind): size for kind, size in oracle.GGML_QUANT_SIZES.items()}
    assert {kind: sizes[kind] for kind in ggml.BLOCKS} == ggml.BLOCKS


def test_names_of_quantisations() -> None:
    """The names of llama.cpp's file types are those of the `gguf` package."""
    names = {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in oracle.LlamaFileType}
    assert {kind: names[kind] for kind in ggml.FILE_TYPES} == ggml.FILE_TYPES


@pytest.mark.parametrize(("file_type", "said"), [(15, "Q4_K_M"), (1024, "unknown"), (None, "unknown")])
def test_quantization(file_type: int | None, said: str) -> None:
    """A file says how it is quantised, or that it is not known."""
    assert Facts(3, file_type=file_type).quantization == said


@pytest.mark.parametrize(("pooling", "embeds"), [(None, False), (0, False), (1, True), (3, True)])
def test_embeds(pooling: int | None, *, embeds: bool) -> None:
    """A model that says how it pools is made for embeddings."""
    assert Facts(3, pooling=pooling).embeds is embeds


def test_a_name_to_print(path: Path) -> None:
    """A name has only what can be printed: it goes to logs and terminals."""
    ggufs.write(path, LLAMA | {"general.name": "Ti\x1b[2Jny\n"})
    assert gguf.read(path).name == "Ti[2Jny"


def test_heads_without_kv_heads(path: Path) -> None:
    """Where nothing is said of the heads that are remembered, all of them are."""
    ggufs.write(path, {key: value for key, value in LLAMA.items() if not key.endswith("_kv")})
    assert gguf.read(path).kv_heads == 2 * 4


# -- files that are no good: each has its own reason

NAMED = text("general.architecture") + typed("llama")
TENSOR = text("output.weight")

BAD = {
    "empty": (b"", "too short"),
    "not GGUF": (b"<!DOCTYPE html><html><body>Not found</body></html>", "first bytes are not GGUF"),
    "nothing after the opening": (opening(1, 1), "ends in the middle of its header"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 1, 1), "big-endian"),
    "version 1": (opening(0, 0, version=1), "version 1,"),
    "a version to come": (opening(0, 0, version=4), "version 4,"),
    "too many keys": (opening(0, 1 << 60), "metadata has 1,152,921,504,606,846,976"),
    "too many tensors": (opening(1 << 40, 1), "tensors has 1,099,511,627,776"),
    "a key's name too long": (opening(0, 1) + struct.pack("<Q", 5000), "name of a key has 5,000"),
    "a key twice": (opening(0, 2) + NAMED + NAMED, "key 'general.architecture' twice"),
    "a value of no type": (opening(0, 1) + text("x") + struct.pack("<I", 13), "unknown type 13"),
    "a text too long": (opening(0, 1) + text("x") + struct.pack("<IQ", 8, 1 << 62), "'x' has 4,611,686"),
    "a text cut off": (opening(0, 1) + text("x") + struct.pack("<IQ", 8, 2000), "ends in the middle of its header"),
    "a list too long": (opening(0, 1) + text("x") + struct.pack("<IIQ", 9, 8, 1 << 50), "'x' has 1,125,899"),
    "a list cut off": (opening(0, 1) + text("x") + struct.pack("<IIQ", 9, 4, 5000), "ends in the middle"),
    "a list of lists": (opening(0, 1) + text("x") + struct.pack("<IIQ", 9, 9, 1), "lists in a list"),
    "a list of nothing known": (opening(0, 1) + text("x") + struct.pack("<IIQ", 9, 99, 1), "unknown type 99"),
    "an entry too long": (
        opening(0, 1) + text("x") + struct.pack("<IIQQ", 9, 8, 2, 1 << 63) + b"\0" * 64,
        "ends in the middle",
    ),
    "a tensor's name too long": (opening(1, 0) + struct.pack("<Q", 65), "name of a tensor has 65"),
    "a tensor of 5 dimensions": (opening(1, 0) + TENSOR + struct.pack("<I", 5), "5 dimensions"),
    "a tensor far away": (
        opening(1, 0) + TENSOR + struct.pack("<IQIQ", 1, 8, 0, 1 << 63),
        "bytes before its tensors do",
    ),
    "a name that is a number": (opening(0, 1) + text("general.architecture") + typed(7), "is not a name: 7"),
    "an architecture that is a sentence": (ggufs.header({"general.architecture": "a b"}, {}), "no name of one: 'a b'"),
    "a length that is text": (ggufs.header(LLAMA | {"llama.block_count": "two"}, {}), "not a natural number: 'two'"),
    "a length that is broken": (ggufs.header(LLAMA | {"llama.block_count": 2.5}, {}), "not a natural number: 2.5"),
    "a length for each layer": (ggufs.header(LLAMA | {"llama.block_count": [1, 2]}, {}), "not a natural number"),
    "an alignment too wide": (ggufs.header(LLAMA | {"general.alignment": 1 << 30}), "multiples of 1,073,741,824"),
}


@pytest.mark.parametrize("name", BAD)
def test_says_what_is_wrong(path: Path, name: str) -> None:
    """A file that is damaged, or was never one, is refused with a reason that people can use (C2)."""
    content, reason = BAD[name]
    assert reason in refusal(path, content)


def test_no_file(path: Path) -> None:
    """A file that is not there, or not ours to read, is the system's own error."""
    with pytest.raises(FileNotFoundError):
        gguf.read(path)


def test_half_fetched(path: Path) -> None:
    """A file that ends before its weights do is not taken for a model, and the missing bytes are told."""
    whole = ggufs.write(path).read_bytes()
    assert "it ends 1,000 bytes before its tensors do" in refusal(path, whole[:-1000])


def test_cut_anywhere(path: Path) -> None:
    """Wherever a file was cut, it is refused."""
    whole = ggufs.write(path, LLAMA | {"tokenizer.ggml.tokens": ["a", "b"], "llama.x": 1.5}, {"a": (8,)}).read_bytes()
    for length in range(len(whole)):
        refusal(path, whole[:length])


def test_a_header_without_end(path: Path) -> None:
    """A header is read up to a bound, however much of it there is."""
    long = struct.pack("<IQ", 8, 32 << 20)
    with path.open("wb") as file:
        file.write(opening(0, 4))
        for key in "abcd":
            file.write(text(key) + long)
            file.seek(32 << 20, 1)
        file.truncate()
    with pytest.raises(Unreadable, match="header is longer than 64 MiB"):
        gguf.read(path)


# -- files of people who mean harm

hostile = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def facts_or_refusal(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        outcome = gguf.read(path).name
    except Unreadable as error:
        outcome = error.reason
    assert outcome.isprintable()


@hostile
@given(changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=8))
def test_bytes_changed_anywhere(path: Path, changes: list[tuple[int, int]]) -> None:
    """Whatever bytes of a header are others than they were: facts, or a reason."""
    content = bytearray(ggufs.header(LLAMA | {"tokenizer.ggml.tokens": ["a", "b"], "llama.list": [1, 2]}) + bytes(4096))
    for place, octet in changes:
        content[place % len(content)] = octet
    facts_or_refusal(path, bytes(content))


@hostile
@given(rest=st.binary(max_size=400), tensors=st.integers(0, 3), keys=st.integers(0, 3))
def test_any_bytes(path: Path, rest: bytes, tensors: int, keys: int) -> None:
    """Whatever comes after a good opening: facts, or a reason."""
    facts_or_refusal(path, opening(tensors, keys) + rest)


def memory_to_read(path: Path) -> int:
    """The most bytes that reading this file took at a time."""
    tracemalloc.start()
    try:
        gguf.read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_vocabulary_is_passed_over(path: Path) -> None:
    """A list of 150,000 tokens takes no more memory than a block of the file."""
    tokens = [f"token {number}" for number in range(150_000)]
    ggufs.write(path, LLAMA | {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.scores": list(range(150_000))})
    assert gguf.read(path).vocabulary == 150_000
    assert memory_to_read(path) < 1_000_000


def test_as_much_as_can_be(path: Path) -> None:
    """A header filled to its bounds takes some megabytes, not hundreds."""
    names = [f"{number:04}" * 256 for number in range(gguf.MAX_KEYS)]
    texts: dict[str, ggufs.Value] = dict.fromkeys(names, "x" * 1024)
    ggufs.write(path, texts | {name: list(range(1000)) for name in names[::16]})
    assert memory_to_read(path) < 16_000_000
