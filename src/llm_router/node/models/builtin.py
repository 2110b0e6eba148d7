"""The built-in model: a real llama GGUF, written from fixed numbers, whose answer is always one sentence.

It needs no download and no training, so a machine without network answers at once, through the same llama.cpp code as
any other model (design.md §5).

How it works: an embedding is one of 64 unit vectors. Every token that is not a word of the sentence has unit 0; word
i has unit i + 1. The blocks' weights are all zero, so what the residual stream carries to the output is the embedding
itself. The output matrix answers unit 0 with the first word, each word's unit with the next word, and the last one's
with the end of the turn. No word can come out of tokenizing a prompt: merges go through pairs, and no pair of the
letters of a word is a token. So whatever is asked, the first token generated is the first word.

The layout is GGUF version 3 (ggml, `docs/gguf.md`): header, metadata, tensor infos, then the tensors at multiples of
32 bytes; all numbers little-endian.
"""

from __future__ import annotations  # array is generic to type checkers only

import os
import struct
import sys
from array import array
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

NAME = "hello-world"
SENTENCE = (
    "Hello! This is LLM Router's built-in model, made from fixed numbers: whatever you ask, it always answers with "
    "the same sentence, which shows that your requests reach real llama.cpp code and come back."
)

DIM = 64  # more than the words of SENTENCE, so that each has a unit vector of its own
HEADS, KV_HEADS = 4, 2
FEED_FORWARD = 128
CONTEXT = 32_768  # nothing attends to anything, so any length would do; this is what current models offer
LOGIT = 8.0  # after the norm makes a unit vector sqrt(64) long: the next word leads by 64, certain at any temperature

ALIGNMENT = 32
U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5  # gguf_metadata_value_type
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # llama_token_type
UNK, BOS, EOT = 0, 1, 3  # positions in _SPECIAL

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_SPECIAL = ("<unk>", "<s>", "<|im_start|>", "<|im_end|>")
_SPACE = "\u2581"  # how SentencePiece writes the space before a word

Tensor: TypeAlias = "tuple[str, tuple[int, ...], array[float]]"


def write(path: Path) -> None:
    """Write the model to `path`, whole or not at all: the same bytes each time."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(model_bytes())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def model_bytes() -> bytes:
    """The whole file."""
    tokens = _tokens()
    metadata = _metadata(tokens)
    tensors = _tensors(len(tokens))
    infos, offset = bytearray(), 0
    for name, shape, values in tensors:
        infos += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)  # type 0: F32
        offset += _aligned(4 * len(values))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + b"".join(metadata) + infos
    return b"".join(_padded(part) for part in (head, *(_little_endian(values) for _, _, values in tensors)))


# -- tokens: specials, the 256 bytes, the words


def _words() -> list[str]:
    first, *others = SENTENCE.split()
    return [first, *(_SPACE + word for word in others)]


def _tokens() -> list[tuple[str, int]]:
    special = [(text, UNKNOWN if text == "<unk>" else CONTROL) for text in _SPECIAL]
    octets = [(f"<0x{octet:02X}>", BYTE) for octet in range(256)]
    return [*special, *octets, *((word, NORMAL) for word in _words())]


# -- tensors


def _tensors(vocabulary: int) -> list[Tensor]:
    """Shapes as ggml writes them: the length of a row first."""
    kv = DIM * KV_HEADS // HEADS
    ones = array("f", [1.0]) * DIM
    return [
        ("token_embd.weight", (DIM, vocabulary), _embedding(vocabulary)),
        ("blk.0.attn_norm.weight", (DIM,), ones),
        _zeros("blk.0.attn_q.weight", DIM, DIM),
        _zeros("blk.0.attn_k.weight", DIM, kv),
        _zeros("blk.0.attn_v.weight", DIM, kv),
        _zeros("blk.0.attn_output.weight", DIM, DIM),
        ("blk.0.ffn_norm.weight", (DIM,), ones),
        _zeros("blk.0.ffn_gate.weight", DIM, FEED_FORWARD),
        _zeros("blk.0.ffn_up.weight", DIM, FEED_FORWARD),
        _zeros("blk.0.ffn_down.weight", FEED_FORWARD, DIM),
        ("output_norm.weight", (DIM,), ones),
        ("output.weight", (DIM, vocabulary), _output(vocabulary)),
    ]


def _zeros(name: str, columns: int, rows: int) -> Tensor:
    return name, (columns, rows), array("f", bytes(4 * columns * rows))


def _embedding(vocabulary: int) -> array[float]:
    matrix = array("f", bytes(4 * DIM * vocabulary))
    first = vocabulary - len(_words())
    for token in range(vocabulary):
        matrix[token * DIM + max(0, token - first + 1)] = 1.0
    return matrix


def _output(vocabulary: int) -> array[float]:
    matrix = array("f", bytes(4 * DIM * vocabulary))
    words = len(_words())
    for unit in range(words + 1):
        token = EOT if unit == words else vocabulary - words + unit
        matrix[token * DIM + unit] = LOGIT
    return matrix


# -- metadata


def _metadata(tokens: list[tuple[str, int]]) -> list[bytes]:
    words = len(_words())
    scores = [0.0] * (len(tokens) - words) + [-1000.0 - i for i in range(words)]
    return [
        _text("general.architecture", "llama"),
        _text("general.name", NAME),
        _text("general.description", "LLM Router's built-in model: it always answers with the same sentence."),
        _number("general.file_type", 0),
        _number("general.quantization_version", 2),
        _number("llama.vocab_size", len(tokens)),
        _number("llama.context_length", CONTEXT),
        _number("llama.embedding_length", DIM),
        _number("llama.block_count", 1),
        _number("llama.feed_forward_length", FEED_FORWARD),
        _number("llama.attention.head_count", HEADS),
        _number("llama.attention.head_count_kv", KV_HEADS),
        _number("llama.rope.dimension_count", DIM // HEADS),
        _real("llama.attention.layer_norm_rms_epsilon", 1e-5),
        _text("tokenizer.ggml.model", "llama"),
        _text("tokenizer.ggml.pre", "default"),
        _array("tokenizer.ggml.tokens", STRING, [_string(text) for text, _ in tokens]),
        _array("tokenizer.ggml.scores", F32, [struct.pack("<f", score) for score in scores]),
        _array("tokenizer.ggml.token_type", I32, [struct.pack("<i", kind) for _, kind in tokens]),
        _number("tokenizer.ggml.unknown_token_id", UNK),
        _number("tokenizer.ggml.bos_token_id", BOS),
        _number("tokenizer.ggml.eos_token_id", EOT),
        _number("tokenizer.ggml.padding_token_id", UNK),
        _flag("tokenizer.ggml.add_bos_token", value=True),
        _flag("tokenizer.ggml.add_eos_token", value=False),
        _flag("tokenizer.ggml.add_space_prefix", value=False),
        _text("tokenizer.chat_template", CHATML),
    ]


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _text(key: str, value: str) -> bytes:
    return _string(key) + struct.pack("<I", STRING) + _string(value)


def _number(key: str, value: int) -> bytes:
    return _string(key) + struct.pack("<II", U32, value)


def _real(key: str, value: float) -> bytes:
    return _string(key) + struct.pack("<If", F32, value)


def _flag(key: str, *, value: bool) -> bytes:
    return _string(key) + struct.pack("<I?", BOOL, value)


def _array(key: str, kind: int, items: list[bytes]) -> bytes:
    return _string(key) + struct.pack("<IIQ", ARRAY, kind, len(items)) + b"".join(items)


# -- bytes


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _padded(part: bytes) -> bytes:
    return part.ljust(_aligned(len(part)), b"\0")


def _little_endian(values: array[float]) -> bytes:
    if sys.byteorder == "little":
        return values.tobytes()
    swapped = array("f", values)
    swapped.byteswap()
    return swapped.tobytes()
