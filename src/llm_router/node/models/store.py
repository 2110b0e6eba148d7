"""The models stored on this machine: what lies below one directory, and below a second one that machines share.

A model is a GGUF file, or the numbered files of one; or a directory with a `config.json` and safetensors files. Its id
is its path without `.gguf` and number, in lower case, `=` for what is `:` in the id (`models/names.py`). A model is
listed when its files can be read and say what it is (requirement C2); which of them this node can run is for
`runnable.py` to say. `<model>.jinja` beside a GGUF file is a chat template that stands in for the file's own.

The shared directory's models are used where they lie (requirement H1); nothing is ever written there. Where both have
a model, our own counts. What a link leads to is only taken where that lies in the same directory.

Everything here reads the disk, and may wait for a network's: call it from a thread.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from llm_router.errors import Conflict, Forbidden, ModelNotFound
from llm_router.models import gguf
from llm_router.models.architecture import normalise, read_config
from llm_router.models.gguf import Facts
from llm_router.models.names import check, is_name, name_of, place_below
from llm_router.models.unreadable import Unreadable
from llm_router.node.models import builtin
from llm_router.node.models.bundles import Bundle, bundles
from llm_router.node.models.remembered import Remembered

SUFFIX = ".gguf"
SAFETENSORS = ".safetensors"
CONFIG = "config.json"
TEMPLATE = ".jinja"
PARTIAL = ".partial"  # a file on its way, see `models/partial.py`

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
    as its files name them, and `families` what that means; `facts`: what a GGUF file says besides; `files`: all that
    it consists of; `template`: the chat template beside it; `shared`: it lies in the shared directory.
    """

    id: str
    path: Path
    size: int
    modified: float
    format: Format = "gguf"
    architectures: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    facts: Facts | None = None
    files: tuple[Path, ...] = ()
    template: Path | None = None
    shared: bool = False

    def is_unchanged(self) -> bool:
        """Whether its files are what they were when it was looked at."""
        template = _template(self.files[0]) if self.format == "gguf" else None
        try:
            return (*_size_and_time(self.files, template), template) == (self.size, self.modified, self.template)
        except OSError:
            return False


class Scan(msgspec.Struct, frozen=True):
    """What a directory holds: models of every format, and for each file that is none the reason."""

    models: list[StoredModel]
    skipped: dict[Path, str]


class Store:
    """The models in `directory` and below it, and those in the directory `shared`; `directories`: both, where given."""

    def __init__(self, directory: Path, shared: Path | None = None) -> None:
        self.directory = directory
        self.directories = [directory, shared] if shared else [directory]
        self._own = Shelf(directory)
        self._shared = Shelf(shared, shared=True) if shared else None
        self._one_at_a_time = threading.Lock()

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
        with self._one_at_a_time:
            own, shared = self._own.scan(), self._shared.scan() if self._shared else Scan([], {})
        ours = {model.id for model in own.models}
        return Scan(
            [*own.models, *(model for model in shared.models if model.id not in ours)], own.skipped | shared.skipped
        )

    def find(self, model_id: str) -> StoredModel:
        """The model of this id.

        Raises:
            ModelNotFound: it is not stored here.
        """
        found = next((model for model in self.scan().models if model.id == model_id), None)
        if found is None:
            raise ModelNotFound(f"model '{model_id}' not found: it is not stored on this node")
        return found

    # -- what changes it

    def delete(self, model_id: str) -> None:
        """Delete a model's files, and what has come of one that is on its way.

        Raises:
            ModelNotFound: it is not stored here.
            Forbidden: it lies in the shared directory.
            Conflict: a file is in use, or may not be deleted.
        """
        model = self.find(model_id)
        if model.shared:
            raise Forbidden(f"model '{model_id}' lies in the shared directory: delete {model.path} there")
        try:
            for file in _all_of(model):
                file.unlink(missing_ok=True)
            _prune(model.path if model.path.is_dir() else model.path.parent, self.directory)
        except OSError as error:
            raise Conflict(f"model '{model_id}' cannot be deleted: {error.strerror}: {error.filename}") from error

    def copy(self, source: str, target: str) -> None:
        """Have a model under a second name, in place of what had it; on one disk it takes no room a second time.

        Raises:
            BadRequest: `target` is no name.
            ModelNotFound: there is no model `source`.
            Conflict: what has the name `target` is in use, or the disk is full.
        """
        check(target)
        model = self.find(source)
        if source == target:
            return
        if any(other.id == target for other in self._own_models()):
            self.delete(target)
        try:
            for file, new in zip(model.files, self._files_of(target, model), strict=True):
                _duplicate(file, new, link=not model.shared)
            if model.template is not None:
                _duplicate(model.template, self.template(target), link=not model.shared)
        except OSError as error:
            raise Conflict(f"model '{source}' cannot be copied: {error.strerror}: {error.filename}") from error

    def _own_models(self) -> list[StoredModel]:
        return [model for model in self.scan().models if not model.shared]

    def _files_of(self, name: str, model: StoredModel) -> list[Path]:
        """Where the files of a model lie that is as this one, and has this name."""
        if model.format != "gguf":
            return [place_below(self.directory, name) / file.relative_to(model.path) for file in model.files]
        return self.places(name, len(model.files))

    # -- where things lie

    def places(self, model_id: str, count: int) -> list[Path]:
        """Where the `count` files of a GGUF model lie in our own directory.

        Raises:
            BadRequest: it is no name of a model.
        """
        stem = place_below(self.directory, model_id)
        if count == 1:
            return [stem.with_name(f"{stem.name}{SUFFIX}")]
        return [stem.with_name(f"{stem.name}-{i:05d}-of-{count:05d}{SUFFIX}") for i in range(1, count + 1)]

    def template(self, model_id: str) -> Path:
        """Where the chat template lies that stands in for the file's own. Raises as `places` does."""
        stem = place_below(self.directory, model_id)
        return stem.with_name(f"{stem.name}{TEMPLATE}")


class Shelf:
    """One directory with models in it. One thread at a time."""

    def __init__(self, directory: Path, *, shared: bool = False) -> None:
        self._directory = directory
        self._is_shared = shared
        self._headers = Remembered(gguf.read)
        self._configs = Remembered(read_config)

    def scan(self) -> Scan:
        """See `Store.scan`. A directory that is not there, or no more, has nothing in it."""
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
        arriving: list[Path] = []
        for file in self._files():
            if file.suffix == PARTIAL:
                arriving.append(file.with_suffix(""))
            elif file.suffix.lower() == SUFFIX:
                ggufs.append(file)
            else:
                directories.setdefault(file.parent, []).append(file)
        not_yet = {b.path for b in bundles(arriving)} | {f.parent for f in arriving if f.suffix.lower() != SUFFIX}
        for bundle in bundles(ggufs):
            if bundle.path not in not_yet or len(bundle.files) == bundle.count:
                yield bundle.files[0], partial(self._gguf, bundle)
        for directory, files in directories.items():
            if directory not in not_yet:
                yield directory / CONFIG, partial(self._safetensors, directory, files)

    def _files(self) -> Iterator[Path]:
        """Every file that could be one of a model, or will be, in the order of paths."""
        wanted = (SUFFIX, SAFETENSORS, PARTIAL)
        found: list[Path] = []
        for directory, directories, names in os.walk(self._directory):  # what cannot be listed is passed over
            directories[:] = [name for name in directories if not name.startswith(".")]
            found += [Path(directory, name) for name in names if name.lower().endswith(wanted) and name[0] != "."]
        return filter(self._lies_here, sorted(found))

    def _lies_here(self, file: Path) -> bool:
        """Whether it is a file, and below our directory, whatever links lead to it."""
        return file.is_file() and file.resolve().is_relative_to(self._directory.resolve())

    def _gguf(self, bundle: Bundle) -> StoredModel:
        model_id = self._id(bundle.path)
        bundle.check()
        parts = [self._header(file, number, bundle) for number, file in enumerate(bundle.files)]
        facts = msgspec.structs.replace(
            parts[0],
            tensors=sum(part.tensors for part in parts),
            weights=sum(part.weights for part in parts),
            count=sum(part.count for part in parts),
        )
        _check_whole(facts)
        template = _template(bundle.files[0])
        size, modified = _size_and_time(bundle.files, template)
        named = (facts.architecture,)
        return StoredModel(
            model_id,
            bundle.files[0],
            size,
            modified,
            architectures=named,
            families=tuple(normalise(named)),
            facts=facts,
            files=bundle.files,
            template=template,
            shared=self._is_shared,
        )

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

    def _safetensors(self, directory: Path, weights: list[Path]) -> StoredModel:
        model_id = self._id(directory)
        for bundle in bundles(weights):
            bundle.check()
        config = self._configs.of(directory / CONFIG)
        files = tuple(sorted(file for file in directory.iterdir() if self._lies_here(file) and _goes_with_it(file)))
        size, modified = _size_and_time(files, None)
        return StoredModel(
            model_id,
            directory,
            size,
            modified,
            "mlx" if config.mlx else "safetensors",
            architectures=tuple(config.architectures),
            families=tuple(normalise(config.architectures)),
            files=files,
            shared=self._is_shared,
        )

    def _id(self, path: Path) -> str:
        """The id of the model at this path, which has no suffix any more."""
        if path == self._directory:
            raise Unreadable("it lies in the store itself: a model of several files needs a directory of its own")
        model_id = name_of(PurePosixPath(path.relative_to(self._directory).as_posix()))
        if not is_name(model_id):
            raise Unreadable(
                "its name has characters other than letters, digits and -_./: or has .. in it, or Windows keeps it"
            )
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


def _goes_with_it(file: Path) -> bool:
    """Whether a file in the directory of a safetensors model is part of it: a tokenizer is, another model is not."""
    return not file.name.startswith(".") and file.suffix.lower() not in (SUFFIX, TEMPLATE)


def _template(file: Path) -> Path | None:
    """The chat template beside a GGUF model, of which this is the first file."""
    stem = bundles([file])[0].path
    template = stem.with_name(f"{stem.name}{TEMPLATE}")
    return template if template.is_file() else None


def _size_and_time(files: Iterable[Path], template: Path | None) -> tuple[int, float]:
    """Bytes of the files, and when one of them, or the template, last changed."""
    states = [file.stat() for file in files]
    times = [state.st_mtime for state in (*states, template.stat())] if template else [s.st_mtime for s in states]
    return sum(state.st_size for state in states), max(times)


# -- what changes it


def _all_of(model: StoredModel) -> list[Path]:
    """Its files, and those of an attempt to fetch it anew."""
    rest = [file.with_name(f"{file.name}{end}") for file in model.files for end in (PARTIAL, f"{PARTIAL}.tag")]
    return [*model.files, *rest, *([model.template] if model.template else [])]


def _prune(directory: Path, top: Path) -> None:
    """Remove it, and those above it, as long as there is nothing in them."""
    while directory != top and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent


def _duplicate(file: Path, new: Path, *, link: bool) -> None:
    """Have the file's content under a second name, whole or not at all."""
    new.parent.mkdir(parents=True, exist_ok=True)
    hidden = new.with_name(f".{new.name}.{os.getpid()}{PARTIAL}")
    hidden.unlink(missing_ok=True)
    try:
        if not (link and _link(file, hidden)):
            shutil.copyfile(file, hidden)
        hidden.replace(new)
    finally:
        hidden.unlink(missing_ok=True)


def _link(file: Path, new: Path) -> bool:
    """Whether the file system could do it: not across two of them, and not all can."""
    try:
        os.link(file.resolve(), new)
    except OSError:
        return False
    return True
