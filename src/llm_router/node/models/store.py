"""The models stored on this machine: GGUF files below one directory.

A file's id is its path without `.gguf`, in lower case; requirement H7 says which ids there are. Nothing here waits, and
scanning reads the disk: call it from a thread.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from llm_router.node.models import builtin

SUFFIX = ".gguf"
MAGIC = b"GGUF"
ID = re.compile(r"[a-z0-9_.:-]+(/[a-z0-9_.:-]+)*")  # requirement H7; `..` is looked for on its own


class StoredModel(msgspec.Struct, frozen=True):
    """A model file: `size` in bytes, `modified` in seconds since the epoch."""

    id: str
    path: Path
    size: int
    modified: float


class Scan(msgspec.Struct, frozen=True):
    """What the directory holds: models by id, and for each file that is none the reason."""

    models: list[StoredModel]
    skipped: dict[Path, str]


class Store:
    """The model files in `directory` and below it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

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
        """Look at every `.gguf` file; hidden files and directories, and downloads under way, are passed over."""
        models: dict[str, StoredModel] = {}
        skipped: dict[Path, str] = {}
        for path in self._files():
            model_id = path.relative_to(self.directory).as_posix()[: -len(SUFFIX)].lower()
            reason = self._objection(path, model_id, models)
            if reason:
                skipped[path] = reason
                continue
            facts = path.stat()
            models[model_id] = StoredModel(model_id, path, facts.st_size, facts.st_mtime)
        return Scan(list(models.values()), skipped)

    def _files(self) -> Iterator[Path]:
        for path in sorted(self.directory.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(self.directory).parts)
            if path.suffix.lower() == SUFFIX and not hidden and path.is_file():
                yield path

    def _objection(self, path: Path, model_id: str, taken: dict[str, StoredModel]) -> str:
        if not ID.fullmatch(model_id) or ".." in model_id:
            return "its name has characters other than letters, digits and -_./: or has .. in it"
        if model_id in taken:
            return f"{taken[model_id].path} has the same id in lower case"
        try:
            with path.open("rb") as file:
                magic = file.read(len(MAGIC))
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        return "" if magic == MAGIC else "it is not a GGUF file: its first bytes are not GGUF"
