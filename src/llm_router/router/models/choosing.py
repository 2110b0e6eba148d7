"""What is needed of a repository (requirement H5), decided from its list of files; nothing is fetched here.

    a file is named         that one: a GGUF with all its parts, or the safetensors beside it
    GGUF and safetensors    an error that lists the files: somebody has to say which
    one GGUF                that one
    several GGUF            the policy's, or an error that lists them
    safetensors             config.json, the tokenizer's files, and the weights that the index names

A GGUF in several files (`-00001-of-00003.gguf`) is one choice. Projectors, importance matrices and adapters lie beside
models and are none.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import PurePosixPath

import msgspec

from llm_router.errors import BadRequest
from llm_router.models import names
from llm_router.models.manifest import Format
from llm_router.models.memory import in_words
from llm_router.router.models.entry import Policy

GGUF = ".gguf"
SAFETENSORS = ".safetensors"
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"  # transformers, `utils/__init__.py`: SAFE_WEIGHTS_INDEX_NAME
WEIGHTS = "model.safetensors"  # the same: SAFE_WEIGHTS_NAME
TOKENIZER_CONFIG = "tokenizer_config.json"

# A tokenizer is whole with any of these (transformers, `tokenization_utils_*.py`, and sentencepiece's own names) …
VOCABULARIES = frozenset(
    {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json", "tiktoken.model"}
)
# … and these belong to it, or to how the model is run, where they are there.
BESIDES = frozenset(
    {
        TOKENIZER_CONFIG,
        "special_tokens_map.json",
        "added_tokens.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
        "generation_config.json",
        "preprocessor_config.json",
        "processor_config.json",
    }
)

LISTED = 20  # files that an error names; a repository with every quantisation has about as many

# llama.cpp's gguf-split numbers parts so; it makes up the other files' names from the first one's.
_PART = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.IGNORECASE)
# What lies beside models: llama.cpp's own names for them (`convert_hf_to_gguf.py`, `imatrix`).
_COMPANION = re.compile(r"(^|[-_.])(mmproj|imatrix|lora|adapter)([-_.]|$)", re.IGNORECASE)
# How publishers write a quantisation at the end of a name: llama.cpp's words (`ggml.FILE_TYPES`), and their own that
# look alike.
_QUANTIZATION = re.compile(
    r"[-_.]((?:UD[-_])?(?:I?Q[1-8](?:_(?:[0-9]|K|NL|X*[SML]))+|TQ[12]_0|B?F16|F32|FP16|FP32|MXFP4(?:_MOE)?|NVFP4))(?=[-_.]|$)",
    re.IGNORECASE,
)
_UNUSUAL = re.compile(r"[^A-Za-z0-9_.-]+")


class RepoFile(msgspec.Struct, frozen=True):
    """A file of a repository: its path there, bytes, and SHA-256 in hexadecimal, "" where the hub does not tell."""

    path: str
    size: int
    sha256: str = ""

    @property
    def name(self) -> str:
        """Without directories."""
        return PurePosixPath(self.path).name


class Choice(msgspec.Struct, frozen=True):
    """The files that make the model, in order. `index`: a list of further ones, which has to be read for `complete`.

    `directory`: what stands before each path and is left out of names, "" or with a slash at its end.
    """

    format: Format
    files: tuple[RepoFile, ...]
    quantization: str = ""
    index: RepoFile | None = None
    directory: str = ""

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(file.size for file in self.files)


def choose(files: Iterable[RepoFile], file: str = "", policy: Policy = "") -> Choice:
    """What is needed, see above.

    Raises:
        BadRequest: it cannot be told, or is not there; the message lists what there is.
    """
    files = sorted(files, key=lambda one: one.path)
    ggufs = choices_of(files)
    weights = [one for one in files if one.path.endswith(SAFETENSORS)]
    if file:
        return _named(files, ggufs, file.strip("/"))
    if ggufs and any("/" not in one.path for one in weights):
        raise BadRequest(f"it has GGUF and safetensors: say which with `file`. {_listed(ggufs, weights)}")
    if ggufs:
        return _by_policy(ggufs, policy)
    if not weights:
        raise BadRequest("it has no GGUF and no safetensors file, so there is nothing that a node could run")
    return _safetensors(files, "")


# -- GGUF


def choices_of(files: Sequence[RepoFile]) -> list[Choice]:
    """The GGUF models among these, which are sorted; those that lack a part are none."""
    ggufs = [one for one in files if one.path.lower().endswith(GGUF) and not _COMPANION.search(_stem(one))]
    bundles = (tuple(some) for _, some in groupby(ggufs, key=_bundle))
    return [Choice("gguf", some, quantization(some[0].name)) for some in bundles if _is_whole(some)]


def parts_of(name: str) -> list[str]:
    """The names of all parts, where this is the name of one; else just this one."""
    part = _PART.fullmatch(name)
    if part is None or not 1 <= int(part["number"]) <= int(part["count"]):
        return [name]
    suffix = name[-len(GGUF) :]
    return [f"{part['stem']}-{number:05}-of-{part['count']}{suffix}" for number in range(1, int(part["count"]) + 1)]


def quantization(file: str) -> str:
    """What a GGUF's name says that it is quantised as, in capitals; "" where it says nothing."""
    found = _QUANTIZATION.findall(_without_number(file))
    return str(found[-1]).upper() if found else ""


def short_name(file: str) -> str:
    """A GGUF's name without its number, suffix and quantisation."""
    stem, found = _without_number(file), quantization(file)
    return stem[: stem.upper().rindex(found)].rstrip("-_.") if found else stem


def _bundle(file: RepoFile) -> tuple[str, int]:
    """Alike for the parts of one model."""
    part = _PART.fullmatch(file.path)
    return (part["stem"], int(part["count"])) if part else (file.path, 1)


def _is_whole(files: tuple[RepoFile, ...]) -> bool:
    return [file.path for file in files] == parts_of(files[0].path)


def _without_number(file: str) -> str:
    part = _PART.fullmatch(file)
    return part["stem"] if part else file[: -len(GGUF)] if file.lower().endswith(GGUF) else file


def _stem(file: RepoFile) -> str:
    return _without_number(file.name)


def _by_policy(ggufs: Sequence[Choice], policy: Policy) -> Choice:
    if len(ggufs) == 1:
        return ggufs[0]
    if not policy:
        raise BadRequest(
            f"it has {len(ggufs)} quantisations: say which with `file`, or by what with `policy` (quality, memory or"
            f" speed). {_listed(ggufs)}"
        )
    return _POLICIES[policy](ggufs)


def _largest(ggufs: Sequence[Choice]) -> Choice:
    """Of one model, more bytes are more of what it learned."""
    return max(ggufs, key=_size)


def _smallest(ggufs: Sequence[Choice]) -> Choice:
    return min(ggufs, key=_size)


def _fastest(ggufs: Sequence[Choice]) -> Choice:
    """Each token reads all weights, so fewer bytes are faster, as far as they are not slow to unpack.

    That is what those with tables (IQ…) and those of less than 4 bits are on processors.
    """
    quick = [one for one in ggufs if _bits(one) >= 4 and "IQ" not in one.quantization]
    return _smallest(quick or ggufs)


def _bits(choice: Choice) -> int:
    """How many bits a weight has, as the quantisation's name says; 0 where it does not."""
    digits = re.search(r"[0-9]+", choice.quantization)
    return int(digits[0]) if digits else 0


def _size(choice: Choice) -> int:
    return choice.size


_POLICIES: Mapping[str, Callable[[Sequence[Choice]], Choice]] = {
    "quality": _largest,
    "memory": _smallest,
    "speed": _fastest,
}


# -- a named file


def _named(files: Sequence[RepoFile], ggufs: Sequence[Choice], file: str) -> Choice:
    """The model that this file is of: by its path, or by its name where that is enough."""
    fitting = [one for one in ggufs if any(file in (part.path, part.name) for part in one.files)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise BadRequest(f"{file!r:.200} is there more than once: name its directory too. {_listed(fitting)}")
    if file.endswith(SAFETENSORS) and any(file == one.path for one in files):
        return _safetensors(files, file[: file.rfind("/") + 1])
    weights = [one for one in files if one.path.endswith(SAFETENSORS)]
    raise BadRequest(f"{file!r:.200} is no model there, or lacks parts. {_listed(ggufs, weights)}")


def _listed(ggufs: Iterable[Choice], weights: Sequence[RepoFile] = ()) -> str:
    """The files that can be named, with their sizes."""
    lines = [f"{one.files[0].path} ({in_words(one.size)})" for one in ggufs]
    lines += [f"{one.path} ({in_words(one.size)})" for one in weights]
    more = f" and {len(lines) - LISTED} more" if len(lines) > LISTED else ""
    return f"There are: {', '.join(lines[:LISTED])}{more}" if lines else "There is none"


# -- safetensors


def _safetensors(files: Sequence[RepoFile], directory: str) -> Choice:
    """What lies in this directory of the repository. Of the weights, those that no index names."""
    here = {one.path.removeprefix(directory): one for one in files if one.path.startswith(directory)}
    if CONFIG not in here:
        raise BadRequest(f"it has no {directory}{CONFIG}, without which nobody can tell what the weights are of")
    if not VOCABULARIES & here.keys():
        raise BadRequest(f"it has no tokenizer: none of {', '.join(sorted(VOCABULARIES))}")
    beside = [here[name] for name in sorted((VOCABULARIES | BESIDES) & here.keys())]
    files = (here[CONFIG], *beside)
    if INDEX in here:
        return Choice("safetensors", (*files, here[INDEX]), index=here[INDEX], directory=directory)
    return Choice("safetensors", (*files, _only_weights(here)), directory=directory)


def _only_weights(here: Mapping[str, RepoFile]) -> RepoFile:
    weights = [one for name, one in here.items() if name.endswith(SAFETENSORS) and "/" not in name]
    if WEIGHTS in here:
        return here[WEIGHTS]
    if len(weights) == 1:
        return weights[0]
    raise BadRequest(f"it has no {WEIGHTS} and no {INDEX} that says which weights belong together")


class _Index(msgspec.Struct):
    """A tensor's name -> the file that it is in (transformers, `modeling_utils.py`)."""

    weight_map: dict[str, str]


def complete(choice: Choice, files: Iterable[RepoFile], index: bytes) -> Choice:
    """The choice, with the weights that its index names.

    Raises:
        BadRequest: the index cannot be read, or names what is not there.
    """
    try:
        wanted = sorted(set(msgspec.json.decode(index, type=_Index).weight_map.values()))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"its {choice.directory}{INDEX} cannot be read: {error}") from error
    there = {file.path: file for file in files}
    missing = [name for name in wanted if choice.directory + name not in there]
    if missing or not wanted:
        raise BadRequest(f"its {INDEX} names files that it does not have: {', '.join(missing[:LISTED])}")
    shards = tuple(there[choice.directory + name] for name in wanted)
    return msgspec.structs.replace(choice, files=choice.files + shards, index=None)


# -- names


def file_name(choice: Choice, file: RepoFile) -> str:
    """What a file is called within the model.

    A GGUF's name is for people, and what is unusual in it is changed; others are looked for by their names.

    Raises:
        BadRequest: it could become a path that leads elsewhere, or that some machine cannot have.
    """
    if choice.format == "gguf":
        return _UNUSUAL.sub("-", file.name).lstrip(".-") or f"model{GGUF}"
    name = file.path.removeprefix(choice.directory)
    if not names.is_name(name.lower()) or ":" in name:
        raise BadRequest(f"it has a file whose name cannot be kept on every machine: {name!r:.200}")
    return name


def default_name(base: str, quantized: str) -> str:
    """What a model is called where nobody says: `qwen2-0.5b-instruct:q4_k_m`.

    `base`: a repository's name, without its owner, or a file's.

    Raises:
        BadRequest: nothing is left of it that could be a name.
    """
    base = re.sub(r"[-_.]gguf$", "", base.lower())
    base = re.sub(r"\.{2,}", ".", _UNUSUAL.sub("-", base)).strip("-.")
    name = f"{base}:{_UNUSUAL.sub('-', quantized.lower())}" if quantized else base
    if not names.is_name(name):
        raise BadRequest("a name is needed that the model shall be called by: give one with `name`")
    return name
