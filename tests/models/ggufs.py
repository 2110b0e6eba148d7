"""Writes GGUF files for tests, good ones and others; of the tensors' data only the length."""

import struct
from collections.abc import Mapping
from pathlib import Path

U8, U32, F32, BOOL, STRING, ARRAY, U64 = 0, 4, 6, 7, 8, 9, 10  # gguf_metadata_value_type

Value = int | float | bool | str | list[int] | list[str]

LLAMA: dict[str, Value] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "llama.context_length": 2048,
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 128,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
}
TENSORS = {"token_embd.weight": (64, 8), "output.weight": (64, 8)}  # F32


def write(path: Path, metadata: Mapping[str, Value] = LLAMA, tensors: Mapping[str, tuple[int, ...]] = TENSORS) -> Path:
    """Write a whole file: its weights are zeros that take no room on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head, data = header(metadata, tensors), sum(4 * product(shape) for shape in tensors.values())
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(len(head) + data)
    return path


def header(metadata: Mapping[str, Value] = LLAMA, tensors: Mapping[str, tuple[int, ...]] = TENSORS) -> bytes:
    """Everything before the tensors' data. Each tensor's length is a multiple of 32 bytes."""
    keys = b"".join(text(key) + typed(value) for key, value in metadata.items())
    infos, offset = b"", 0
    for name, shape in tensors.items():
        infos += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        offset += 4 * product(shape)
    whole = opening(len(tensors), len(metadata)) + keys + infos
    return whole + b"\0" * (-len(whole) % 32)


def opening(tensors: int, keys: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def typed(value: Value) -> bytes:
    """A value and its type before it."""
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", U32, value)
    if isinstance(value, float):
        return struct.pack("<If", F32, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + text(value)
    kind = STRING if value and isinstance(value[0], str) else U32
    entries = b"".join(text(entry) if isinstance(entry, str) else struct.pack("<I", entry) for entry in value)
    return struct.pack("<IIQ", ARRAY, kind, len(value)) + entries


def product(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total
