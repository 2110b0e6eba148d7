"""Which architecture a model has, by names that mean the same wherever they were read (requirements C2, C3).

Hugging Face's `config.json` names a class ("Qwen2ForCausalLM"), GGUF has llama.cpp's name ("qwen2"): both are "qwen".
A family is what people compare and filter by. Whether a runtime can run a model is decided by the name as it stands in
the file, by the runtime (`asking.py`): a family's newest member may well be unknown to it.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from llm_router.models.unreadable import Unreadable

# A name's beginning, in lower case without anything between letters and digits -> the family. Where two fit, the longer
# one does. One family's names may begin in more than one way: Hugging Face's, llama.cpp's.
FAMILIES = {
    "apertus": "apertus",
    "arcee": "arcee",
    "baichuan": "baichuan",
    "bailing": "bailing",
    "bert": "bert",
    "bitnet": "bitnet",
    "bloom": "bloom",
    "chatglm": "glm",
    "cohere": "cohere",
    "commandr": "cohere",
    "dbrx": "dbrx",
    "deepseek": "deepseek",
    "ernie": "ernie",
    "exaone": "exaone",
    "falcon": "falcon",
    "gemma": "gemma",
    "glm": "glm",
    "gpt2": "gpt2",
    "gptbigcode": "starcoder",
    "gptj": "gptj",
    "gptneox": "gptneox",
    "gptoss": "gptoss",
    "granite": "granite",
    "grok": "grok",
    "hunyuan": "hunyuan",
    "internlm": "internlm",
    "jamba": "jamba",
    "kimi": "kimi",
    "lfm2": "lfm2",
    "llama": "llama",
    "mamba": "mamba",
    "minicpm": "minicpm",
    "minimax": "minimax",
    "mistral": "mistral",
    "mixtral": "mixtral",
    "modernbert": "modernbert",
    "mpt": "mpt",
    "nemotron": "nemotron",
    "nomicbert": "nomicbert",
    "olmo": "olmo",
    "orion": "orion",
    "phi": "phi",
    "plamo": "plamo",
    "qwen": "qwen",
    "rwkv": "rwkv",
    "seedoss": "seedoss",
    "smollm": "smollm",
    "stablelm": "stablelm",
    "starcoder": "starcoder",
    "t5": "t5",
    "xverse": "xverse",
}
_BEGINNINGS = sorted(FAMILIES, key=len, reverse=True)

MAX_CONFIG = 4 << 20  # bytes; the largest, which list every layer's quantisation, have some hundred kB

# Python's json writes these into `config.json`, where a model has such a number, though JSON has no word for them.
_NO_JSON = re.compile(rb"(?<=[\[:,\s])-?(?:Infinity|NaN)(?=[\s,\]}])")


class Config(msgspec.Struct, frozen=True):
    """What a `config.json` says: the architectures as they stand there, whether the weights are in MLX's packing."""

    architectures: list[str]
    mlx: bool


def normalise(names: Iterable[object]) -> list[str]:
    """The families of these names, or for a name of no known family the name in lower case, its letters and digits.

    What is no text, or has no letter or digit, is left out, and so is what came before.
    """
    compact = (_compact(name) for name in names if isinstance(name, str))
    return list(dict.fromkeys(_family(name) for name in compact if name))


def _compact(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _family(compact: str) -> str:
    return next((FAMILIES[start] for start in _BEGINNINGS if compact.startswith(start)), compact)


def read_config(path: Path) -> Config:
    """Read a `config.json`. It reads the disk: call it from a thread.

    Raises:
        Unreadable: it is missing, empty, too large or malformed, or names no architecture.
        OSError: it is there and cannot be read.
    """
    raw = _read(path)
    try:
        found = msgspec.json.decode(_NO_JSON.sub(b"null", raw), type=_Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"it is malformed: {error}") from error
    listed = found.architectures if isinstance(found.architectures, list) else []
    names = [name for name in listed if isinstance(name, str) and _compact(name)]
    if not names:
        raise Unreadable("it names no architecture: `architectures` is not a list with a name in it")
    return Config(names, _is_mlx(found.quantization))


class _Raw(msgspec.Struct):
    architectures: object = None
    quantization: object = None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG + 1)
    except FileNotFoundError:
        raise Unreadable("it is missing, and a model without it cannot be told from another") from None
    if not raw.strip():
        raise Unreadable("it is empty")
    if len(raw) > MAX_CONFIG:
        raise Unreadable(f"it is longer than {MAX_CONFIG >> 20} MiB")
    return raw


def _is_mlx(quantization: object) -> bool:
    """MLX alone writes group size and bits under this name (mlx-lm, `utils.py`)."""
    return isinstance(quantization, dict) and {"group_size", "bits"} <= quantization.keys()
