"""Reads what a GGUF file says of itself: its header, never its weights.

The layout (ggml, `docs/gguf.md`), all numbers little-endian:

    "GGUF"  version: u32  tensors: u64  keys: u64
    per key     name: string  type: u32  value
    per tensor  name: string  dimensions: u32  lengths: u64 each  type: u32  offset: u64
    zeros up to the next multiple of general.alignment, then the tensors' data, each at its offset from there

    string      length: u64, then UTF-8
    array       type: u32  length: u64, then the values

Nothing a file says is believed without a bound: files come from anywhere. A file is read in blocks, and what is not
asked for, like a tokenizer's lists, is passed over without an object for each entry.
"""

import math
import re
import struct
from pathlib import Path
from typing import BinaryIO

import msgspec

from llm_router.models import ggml
from llm_router.models.unreadable import Unreadable

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # alike in layout; 1 had shorter numbers, and nothing has written it since 2023

# Bounds. Each is several times what the largest files of the field have (262k tokens, 1,100 tensors, 20 MB of header).
MAX_HEADER = 64 << 20  # bytes in all; what it takes longest to read is 8M empty strings, about a second
MAX_KEYS = 4096
MAX_TENSORS = 65_536
MAX_ELEMENTS = 4 << 20  # of an array
MAX_NAME = 1024  # bytes of a key's name; docs/gguf.md allows 65,535, and nobody uses a hundred
MAX_TENSOR_NAME = 64  # GGML_MAX_NAME
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
MAX_TEXT = 32 << 20  # bytes of a string; some files carry a tokenizer's whole JSON in one
MAX_KEPT_TEXT = 1024  # bytes of a string that is wanted: names of things
MAX_LAYERS = 1024  # that a list of numbers by layer may have
MAX_ALIGNMENT = 1 << 20

BLOCK = 256 << 10  # bytes read at once

STRING, ARRAY, BOOL = 8, 9, 7  # gguf_metadata_value_type
SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    BOOL: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
ARCHITECTURE = re.compile(r"[A-Za-z0-9_.-]{0,64}")  # docs/gguf.md has letters and digits, real names - and _ too
U32 = SCALARS[4]
U64 = SCALARS[10]


class CutShort(Unreadable):
    """There are fewer bytes of it than it should have: with more of them it may be readable."""


class ByLayer(msgspec.Struct, frozen=True):
    """A number that each layer has its own of: the sum of all, and the largest."""

    total: int
    most: int


Value = int | float | bool | str | ByLayer


class Facts(msgspec.Struct, frozen=True):
    """What a GGUF file says of the model in it. What it does not say is empty, 0 or None.

    `context`: tokens it was made for; `blocks`: its layers; `heads`: of attention, the most that a layer has;
    `kv_heads`: those that are remembered, of all layers together; `key` and `value`: what one of them remembers of a
    token, in numbers; `pooling`: llama_pooling_type, for models made for embeddings; `causal`: a token sees only those
    before it, which is how text is generated; `weights`: bytes of the tensors; `part` of `parts`, counted from 0: where
    the model lies in several files, of which the first has the facts; `count`: the numbers in the tensors.
    """

    version: int
    kind: str = "model"  # general.type
    architecture: str = ""
    name: str = ""
    file_type: int | None = None
    context: int = 0
    blocks: int = 0
    embedding: int = 0
    heads: int = 0
    kv_heads: int = 0
    key: int = 0
    value: int = 0
    vocabulary: int = 0
    causal: bool = True
    pooling: int | None = None
    chat_template: bool = False
    part: int = 0
    parts: int = 0
    tensors: int = 0
    weights: int = 0
    count: int = 0

    @property
    def quantization(self) -> str:
        """What most tensors are quantised as, in llama.cpp's words: `Q4_K_M`; `unknown` where it is not told."""
        return "unknown" if self.file_type is None else ggml.FILE_TYPES.get(self.file_type, "unknown")

    @property
    def embeds(self) -> bool:
        """It is made for embeddings: it says how the vectors of a text's tokens become one."""
        return self.pooling not in (None, ggml.POOLING_NONE)


def read(path: Path) -> Facts:
    """The facts in the header of the file at `path`. It reads the disk: call it from a thread.

    Raises:
        Unreadable: it is no GGUF file, or one that is damaged, cut off, or of a kind that is not read here.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return read_head(file, file.seek(0, 2))


def read_head(file: BinaryIO, size: int) -> Facts:
    """As `read`, for a file of `size` bytes of which `file` may have no more than the beginning.

    Raises:
        CutShort: that is less than its header.
    """
    file.seek(0)
    source = _Source(file, size)
    version, tensors, keys = _opening(source)
    metadata = _metadata(source, keys)
    weights, count = _weights(source, tensors, metadata)
    return _facts(version, tensors, weights, count, metadata)


class _Source:
    """A file, read from the front. `file` is read in blocks; what is passed over is not kept."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self._file = file
        self._block = b""
        self._at = 0  # in the block
        self._start = 0  # of the block in the file

    @property
    def position(self) -> int:
        """Bytes that were taken or passed over."""
        return self._start + self._at

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if self._at + count > len(self._block):
            self._advance(count)
        taken = self._block[self._at : self._at + count]
        self._at += count
        return taken

    def number(self, form: struct.Struct) -> int:
        """The next number, of this form."""
        return int(form.unpack(self.take(form.size))[0])

    def length(self, most: int, what: str) -> int:
        """The next length or count, which is a u64; more than `most` is refused."""
        length = self.number(U64)
        if length > most:
            raise Unreadable(f"it says that {what} has {length:,} bytes or entries; {most:,} is the most that is read")
        return length

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        self._at += count
        if self._at > len(self._block):
            self._advance(0)

    def skip_strings(self, count: int) -> None:
        """Pass over `count` strings: the loop that a vocabulary of 150,000 tokens goes through."""
        unpack, block, at = U64.unpack_from, self._block, self._at
        last = len(block) - U64.size
        for _ in range(count):
            if at > last:
                self._at = at
                self._advance(U64.size)
                block, at = self._block, 0
                last = len(block) - U64.size
            (length,) = unpack(block, at)
            at += U64.size + length
        self._at = at
        self.skip(0)

    def _advance(self, count: int) -> None:
        """Begin a block at the present position, with at least `count` bytes in it."""
        self._start, self._at = self.position, 0
        if self._start + count > min(self.size, MAX_HEADER):
            raise Unreadable(_end_of(self.size))
        self._file.seek(self._start)
        self._block = self._file.read(max(BLOCK, count))
        if len(self._block) < count:  # it became shorter since, or only its beginning is here
            raise CutShort(_end_of(self.size))


def _end_of(size: int) -> str:
    if size > MAX_HEADER:
        return f"its header is longer than {MAX_HEADER >> 20} MiB"
    return "it ends in the middle of its header: it is damaged, or only a part of it was fetched"


def _opening(source: _Source) -> tuple[int, int, int]:
    """Version, number of tensors, number of keys."""
    if source.size < 24:
        raise Unreadable("it is too short for a GGUF file: it is empty, or was not fetched whole")
    if source.take(4) != MAGIC:
        raise Unreadable("it is not a GGUF file: its first bytes are not GGUF")
    version = source.number(U32)
    if version not in VERSIONS:
        raise Unreadable(_of_version(version))
    tensors = source.length(MAX_TENSORS, "the list of its tensors")
    return version, tensors, source.length(MAX_KEYS, "its metadata")


def _of_version(version: int) -> str:
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if swapped in VERSIONS:
        return "its numbers are big-endian, and this machine's are not: convert it with gguf_convert_endian.py"
    read = " and ".join(map(str, VERSIONS))
    return f"it is of GGUF version {version}, and versions {read} are read: fetch or convert it anew"


# -- metadata


def _metadata(source: _Source, keys: int) -> dict[str, Value]:
    """Every key that has a value worth keeping: numbers, names, sums over layers; of a vocabulary how long it is."""
    metadata: dict[str, Value] = {}
    seen: set[bytes] = set()
    for _ in range(keys):
        name = source.take(source.length(MAX_NAME, "the name of a key"))
        if name in seen:
            raise Unreadable(f"it has the key {_shown(name)} twice")
        seen.add(name)
        value = _value(source, source.number(U32), name)
        if value is not None:
            metadata[name.decode(errors="replace")] = value
    return metadata


def _value(source: _Source, kind: int, name: bytes) -> Value | None:
    if kind in SCALARS:
        return _scalar(source, kind)
    if kind == STRING:
        return _text(source, name)
    if kind == ARRAY:
        return _array(source, name)
    raise Unreadable(f"its key {_shown(name)} has a value of unknown type {kind}")


def _scalar(source: _Source, kind: int) -> int | float | bool:
    form = SCALARS[kind]
    value: int | float | bool = form.unpack(source.take(form.size))[0]
    return value


def _text(source: _Source, name: bytes) -> str | None:
    """A string, if it is short or a template; of a long one nothing, of a template whether there is one."""
    length = source.length(MAX_TEXT, _shown(name))
    if length > MAX_KEPT_TEXT:
        source.skip(length)
        return "…"
    return source.take(length).decode(errors="replace")


def _array(source: _Source, name: bytes) -> Value | None:
    """Numbers by layer, if it can be that; of a vocabulary its length; of others nothing."""
    kind = source.number(U32)
    count = source.length(MAX_ELEMENTS, _shown(name))
    if kind == STRING:
        source.skip_strings(count)
        return count if name == _TOKENS else None
    if kind not in SCALARS:
        what = "lists in a list" if kind == ARRAY else f"entries of unknown type {kind}"
        raise Unreadable(f"its key {_shown(name)} has {what}")
    if count > MAX_LAYERS:
        source.skip(count * SCALARS[kind].size)
        return None
    return _by_layer([number for (number,) in SCALARS[kind].iter_unpack(source.take(count * SCALARS[kind].size))])


def _by_layer(numbers: list[int | float | bool]) -> ByLayer | None:
    naturals = [number for number in numbers if isinstance(number, int) and number >= 0]
    return ByLayer(sum(naturals), max(naturals, default=0)) if len(naturals) == len(numbers) else None


_TOKENS = b"tokenizer.ggml.tokens"


def _shown(name: bytes) -> str:
    return repr(name[:64].decode(errors="replace"))


# -- tensors


def _weights(source: _Source, tensors: int, metadata: dict[str, Value]) -> tuple[int, int]:
    """Bytes of all tensors, and how many numbers they have.

    Raises:
        Unreadable: the file ends before they do.
    """
    total = end = count = 0
    for _ in range(tensors):
        size, offset, numbers = _tensor(source)
        total += size
        count += numbers
        end = max(end, offset + size)
    alignment = _natural(metadata, "general.alignment") or 32  # the default that docs/gguf.md gives
    if alignment > MAX_ALIGNMENT:
        raise Unreadable(f"it says that its tensors lie at multiples of {alignment:,} bytes")
    missing = _rounded_up(source.position, alignment) + end - source.size if tensors else 0
    if missing > 0:
        raise Unreadable(f"it ends {missing:,} bytes before its tensors do: only a part of it was fetched")
    return total, count


def _tensor(source: _Source) -> tuple[int, int, int]:
    """Size and offset of the next tensor, in bytes, and how many numbers it has."""
    source.skip(source.length(MAX_TENSOR_NAME, "the name of a tensor"))
    dimensions = source.number(U32)
    if dimensions > MAX_DIMENSIONS:
        raise Unreadable(f"it says that a tensor has {dimensions} dimensions")
    shape = struct.unpack(f"<{dimensions}Q", source.take(8 * dimensions))
    kind = source.number(U32)
    return ggml.tensor_bytes(kind, shape), source.number(U64), math.prod(shape)


def _rounded_up(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


# -- facts


def _facts(version: int, tensors: int, weights: int, count: int, metadata: dict[str, Value]) -> Facts:
    architecture = _name(metadata, "general.architecture")
    if not ARCHITECTURE.fullmatch(architecture):
        raise Unreadable(f"its architecture is no name of one: {architecture!r:.80}")
    own = f"{architecture}."
    pooling, file_type = f"{own}pooling_type", "general.file_type"
    blocks = _natural(metadata, own + "block_count")
    heads = kv_heads = own + "attention.head_count"
    if f"{heads}_kv" in metadata:  # without it, each head has its own (llama.cpp reads it so)
        kv_heads = f"{heads}_kv"
    return Facts(
        version=version,
        kind=_name(metadata, "general.type") or "model",
        architecture=architecture,
        name=_name(metadata, "general.name"),
        file_type=_natural(metadata, file_type) if file_type in metadata else None,
        context=_natural(metadata, own + "context_length"),
        blocks=blocks,
        embedding=_natural(metadata, own + "embedding_length"),
        heads=_by_layers(metadata, heads, blocks).most,
        kv_heads=_by_layers(metadata, kv_heads, blocks).total,
        key=_natural(metadata, own + "attention.key_length"),
        value=_natural(metadata, own + "attention.value_length"),
        vocabulary=_natural(metadata, own + "vocab_size") or _natural(metadata, _TOKENS.decode()),
        causal=bool(metadata.get(own + "attention.causal", True)),
        pooling=_natural(metadata, pooling) if pooling in metadata else None,
        chat_template=bool(metadata.get("tokenizer.chat_template")),
        part=_natural(metadata, "split.no"),
        parts=_natural(metadata, "split.count"),
        tensors=tensors,
        weights=weights,
        count=count,
    )


def _name(metadata: dict[str, Value], key: str) -> str:
    value = metadata.get(key, "")
    if not isinstance(value, str):
        raise Unreadable(f"its key {key} is not a name: {value!r:.40}")
    return "".join(letter for letter in value if letter.isprintable())


def _natural(metadata: dict[str, Value], key: str) -> int:
    """The number of this key, 0 where it is not there."""
    value = metadata.get(key, 0)
    if not isinstance(value, int) or value < 0:
        raise Unreadable(f"its key {key} is not a natural number: {value!r:.40}")
    return value


def _by_layers(metadata: dict[str, Value], key: str, blocks: int) -> ByLayer:
    """The numbers of this key, which has one for each layer, or the same for all."""
    value = metadata.get(key, 0)
    if isinstance(value, ByLayer):
        return value
    most = _natural(metadata, key)
    return ByLayer(most * blocks, most)
