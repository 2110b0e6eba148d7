"""The models stored on this machine: what lies below one directory.

A model is a GGUF file, or the numbered files of one; or a directory with a `config.json` and safetensors files. Its id
is its path without `.gguf` and number, in lower case; requirement H7 says which ids there are. A model is listed when
its files can be read and say what it is (requirement C2); which of them this node can run is for `runnable.py` to say.

Nothing here waits, and scanning reads the disk: call it from a thread, from one at a time.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from llm_router.models import gguf
from llm_router.models.architecture import normalise, read_config
from llm_router.models.gguf import Facts
from llm_router.models.unreadable import Unreadable
from llm_router.node.models import builtin
from llm_router.node.models.bundles import Bundle, bundles
from llm_router.node.models.remembered import Remembered

SUFFIX = ".gguf"
SAFETENSORS = ".safetensors"
CONFIG = "config.json"
ID = re.compile(r"[a-z0-9_.:-]+(/[a-z0-9_.:-]+)*")  # requirement H7; `..` is looked for on its own

Format = Literal["gguf", "safetensors", "mlx"]  # mlx: safetensors files whose packing only MLX reads, on Metal

# GGUF files that are not a model by themselves (`general.type`; an older projector says so by its architecture only)
COMPANIONS = {
    "adapter": "it is an adapter (LoRA) for a model",
    "mmproj": "it is a projector that lets a model see or hear",
    "imatrix": "it is an importance matrix, with which models are quantised",
}
PROJECTOR = "clip"
PART_NAME = "-00001-of-00003.gguf"


class StoredModel(msgspec.Struct, frozen=True):
    """A model: its file, the first of its files, or its directory.

    `size`: bytes in all its files; `modified`: when one of them last was, in seconds since the epoch; `architectures`:
    as its files name them, and `families` what that means; `facts`: what a GGUF file says besides.
    """

    id: str
    path: Path
    size: int
    modified: float
    format: Format = "gguf"
    architectures: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    facts: Facts | None = None


class Scan(msgspec.Struct, frozen=True):
    """What the directory holds: models of every format, and for each file that is none the reason."""

    models: list[StoredModel]
    skipped: dict[Path, str]


class Store:
    """The models in `directory` and below it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._headers = Remembered(gguf.read)
        self._configs = Remembered(read_config)

    def ensure_builtin(self) -> None:
        """Write the built-in model where it is missing.

        Raises:
            OSError: the directory cannot be written.
        """
        path = self.directory / f"{builtin.NAME}{SUFFIX}"
        if not path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            builtin.write(path)

    def scan(self) -> Scan:
        """Look at every model; hidden files and directories, and downloads under way, are passed over.

        A file is read the first time only, and when it has changed.
        """
        models: dict[str, StoredModel] = {}
        skipped: dict[Path, str] = {}
        for path, look in self._candidates():
            try:
                model = look()
            except Unreadable as error:
                skipped[path] = error.reason
            except OSError as error:
                skipped[path] = f"it cannot be read: {error.strerror}"
            else:
                if models.setdefault(model.id, model) is not model:
                    skipped[path] = f"{models[model.id].path} has the same id, {model.id}"
        self._headers.forget()
        self._configs.forget()
        return Scan(list(models.values()), skipped)

    def _candidates(self) -> Iterator[tuple[Path, Callable[[], StoredModel]]]:
        """What could be a model: the file that names it, and how to look into it."""
        ggufs: list[Path] = []
        directories: dict[Path, list[Path]] = {}
        for file in self._files():
            if file.suffix.lower() == SUFFIX:
                ggufs.append(file)
            elif file.suffix == SAFETENSORS:
                directories.setdefault(file.parent, []).append(file)
        for bundle in bundles(ggufs):
            yield bundle.files[0], partial(self._gguf, bundle)
        for directory, files in directories.items():
            yield directory / CONFIG, partial(self._safetensors, directory, files)

    def _files(self) -> Iterator[Path]:
        for path in sorted(self.directory.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(self.directory).parts)
            if path.suffix.lower() in (SUFFIX, SAFETENSORS) and not hidden and path.is_file():
                yield path

    def _gguf(self, bundle: Bundle) -> StoredModel:
        model_id = self._id(bundle.path)
        bundle.check()
        parts = [self._header(file, number, bundle) for number, file in enumerate(bundle.files)]
        facts = msgspec.structs.replace(
            parts[0], tensors=sum(part.tensors for part in parts), weights=sum(part.weights for part in parts)
        )
        _check_whole(facts)
        size, modified = _size_and_time(bundle.files)
        named = (facts.architecture,)
        families = tuple(normalise(named))
        return StoredModel(model_id, bundle.files[0], size, modified, "gguf", named, families, facts)

    def _header(self, file: Path, number: int, bundle: Bundle) -> Facts:
        """The facts of a bundle's file, which must say of itself what its name says."""
        try:
            facts = self._headers.of(file)
        except Unreadable as error:
            raise Unreadable(f"{file.name}: {error.reason}" if number else error.reason) from None
        if (facts.part, max(facts.parts, 1)) != (number, bundle.count):
            said = f"it says that it is file {facts.part + 1} of {max(facts.parts, 1)} of its model"
            raise Unreadable(f"{file.name}: {said}, and its name does not end like {PART_NAME}")
        return facts

    def _safetensors(self, directory: Path, files: list[Path]) -> StoredModel:
        model_id = self._id(directory)
        for bundle in bundles(files):
            bundle.check()
        config = self._configs.of(directory / CONFIG)
        size, modified = _size_and_time([*files, directory / CONFIG])
        kind: Format = "mlx" if config.mlx else "safetensors"
        families = tuple(normalise(config.architectures))
        return StoredModel(model_id, directory, size, modified, kind, tuple(config.architectures), families)

    def _id(self, path: Path) -> str:
        """The id of the model at this path, which has no suffix any more."""
        if path == self.directory:
            raise Unreadable("it lies in the store itself: a model of several files needs a directory of its own")
        model_id = path.relative_to(self.directory).as_posix().lower()
        if not ID.fullmatch(model_id) or ".." in model_id:
            raise Unreadable("its name has characters other than letters, digits and -_./: or has .. in it")
        return model_id


def _check_whole(facts: Facts) -> None:
    """Look whether it is a model by itself.

    Raises:
        Unreadable: it goes with one, or lacks what makes one.
    """
    kind = "mmproj" if facts.architecture == PROJECTOR else facts.kind
    if kind in COMPANIONS:
        raise Unreadable(f"{COMPANIONS[kind]}, not a model by itself")
    if not facts.architecture:
        raise Unreadable("it names no architecture: general.architecture is not there")
    if not facts.tensors:
        raise Unreadable("it has no weights, only a vocabulary")


def _size_and_time(files: Iterable[Path]) -> tuple[int, float]:
    """Bytes of all, and when one of them last changed."""
    states = [file.stat() for file in files]
    return sum(state.st_size for state in states), max(state.st_mtime for state in states)
