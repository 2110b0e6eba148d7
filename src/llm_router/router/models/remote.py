"""What a model's files say of it, read where they are: of a GGUF the header, of safetensors the `config.json`.

A header is a few MB in front of many GB: so much is asked for (RFC 9110, 14.2: Range) as turns out to be needed.
"""

import tempfile
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path

import msgspec

from llm_router.contract import UNREADABLE
from llm_router.errors import BadRequest
from llm_router.models import gguf
from llm_router.models.architecture import Config, read_config
from llm_router.models.download import Part, in_thread
from llm_router.models.gguf import MAX_HEADER, CutShort, Facts
from llm_router.models.memory import need
from llm_router.models.unreadable import Unreadable

FIRST = 256 * 1024  # bytes; enough for a small vocabulary
GROWTH = 4  # times as much as there is, when it was not enough: a header of 8 MB takes four requests

CONTEXT = 4096  # tokens for which a model's memory is told, as nodes have it where nobody says otherwise
DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}  # PyTorch's names -> those of GGUF files
# GGUF files that are no model by themselves: `general.type`, and an older projector's architecture
COMPANIONS = frozenset({"adapter", "mmproj", "imatrix"})
PROJECTOR = "clip"

Fetch = Callable[[int, int], Awaitable[Part]]  # the bytes from the first number on, as many as the second


class Told(msgspec.Struct, frozen=True):
    """What files say of their model; what they do not is empty or 0. `size`: of the file that was read, in bytes."""

    architectures: list[str]
    quantization: str = ""
    context: int = 0
    chat_template: bool = False
    facts: Facts | None = None
    size: int = 0


async def told_by_gguf(fetch: Fetch) -> Told:
    """What the header of the file that `fetch` reads says.

    Raises:
        BadRequest: it is no model that could be run.
        DownloadFailed: it could not be read; whatever `fetch` raises.
    """
    facts, size = await _facts(fetch)
    if facts.kind in COMPANIONS or facts.architecture in ("", PROJECTOR) or not facts.tensors:
        raise BadRequest("it is a file that goes with a model, or lacks its weights: not a model by itself")
    quantization = "" if facts.quantization == "unknown" else facts.quantization
    return Told([facts.architecture], quantization, facts.context, facts.chat_template, facts, size)


async def _facts(fetch: Fetch) -> tuple[Facts, int]:
    """The facts, and the whole file's size."""
    head, wanted = b"", FIRST
    while True:
        part = await fetch(len(head), wanted - len(head))
        head = head[: part.start] + part.body
        size = part.total or len(head)
        try:
            return await in_thread(gguf.read_head, BytesIO(head), size), size
        except CutShort as error:
            if not part.body or len(head) >= min(size, MAX_HEADER):
                raise BadRequest(f"it cannot be read: {error.reason}") from error
        except Unreadable as error:
            raise BadRequest(f"it cannot be read: {error.reason}") from error
        wanted = min(MAX_HEADER, GROWTH * wanted)


# -- safetensors


class _Shape(msgspec.Struct):
    """What is read of a `config.json` (transformers' names); models that also see have those of text in a part."""

    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    dtype: str | None = None
    torch_dtype: str | None = None
    text_config: "_Shape | None" = None
    quantization_config: "_Quantized | None" = None
    quantization: "_Quantized | None" = None


class _Quantized(msgspec.Struct):
    """`quant_method` is transformers', `bits` stands there too, and alone with MLX."""

    quant_method: str = ""
    bits: int | None = None


async def told_by_config(config: bytes, tokenizer_config: bytes) -> Told:
    """What a `config.json` says, and a `tokenizer_config.json` of a chat template; either may be empty.

    Raises:
        BadRequest: it says not even which architecture the model has.
    """
    try:
        architectures = (await in_thread(_read_config, config)).architectures
    except Unreadable as error:
        raise BadRequest(f"its config.json cannot be used: {error.reason}") from error
    shape = _shape(config)
    text = shape.text_config or shape
    return Told(
        architectures,
        _quantization(shape),
        text.max_position_embeddings or 0,
        b'"chat_template"' in tokenizer_config,
        _as_facts(text),
    )


def _read_config(config: bytes) -> Config:
    """As `architecture` reads it, which wants a file."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "config.json")
        path.write_bytes(config)
        return read_config(path)


def _shape(config: bytes) -> _Shape:
    """Nothing, where it is unlike what is known: the model may be run nevertheless."""
    try:
        return msgspec.json.decode(config, type=_Shape)
    except UNREADABLE:
        return _Shape()


def _quantization(shape: _Shape) -> str:
    if shape.quantization_config and shape.quantization_config.quant_method:
        return shape.quantization_config.quant_method.upper()
    if shape.quantization and shape.quantization.bits:  # MLX's
        return f"{shape.quantization.bits}-bit"
    return DTYPES.get(shape.dtype or shape.torch_dtype or "", "")


def _as_facts(shape: _Shape) -> Facts | None:
    """In a GGUF's words, for `memory`; None where numbers are missing that it counts with."""
    layers, heads = shape.num_hidden_layers, shape.num_attention_heads
    if not (shape.hidden_size and layers and heads and shape.vocab_size):
        return None
    return Facts(
        version=0,
        blocks=layers,
        embedding=shape.hidden_size,
        heads=heads,
        kv_heads=layers * (shape.num_key_value_heads or heads),
        key=shape.head_dim or 0,
        value=shape.head_dim or 0,
        vocabulary=shape.vocab_size,
    )


def memory(told: Told, size: int) -> int:
    """Bytes that a node needs for one request of CONTEXT tokens, with files of `size` bytes; 0: it is not told."""
    if told.facts is None:
        return 0
    context = min(CONTEXT, told.context or CONTEXT)  # no model is run with more than it was made for
    return need(told.facts, size, context=context, parallel=1).total
