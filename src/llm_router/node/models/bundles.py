"""Which files are one model: a model may lie in several, whose names end in their number, as `-00001-of-00003.gguf`.

llama.cpp's gguf-split and Hugging Face's transformers number them alike.
"""

import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import msgspec

from llm_router.models.unreadable import Unreadable

# The suffix in lower case only: llama.cpp makes up the other files' names from the first one's, and writes it so.
PART = re.compile(r"(?P<name>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.(gguf|safetensors)")


class Bundle(msgspec.Struct, frozen=True):
    """The files of one model, in order. `path`: without number and suffix; `count`: how many there should be."""

    path: Path
    files: tuple[Path, ...]
    count: int

    def check(self) -> None:
        """Look whether all are there.

        Raises:
            Unreadable: some are not.
        """
        there = {_numbered(file)[2] for file in self.files}
        missing = [number for number in range(1, self.count + 1) if number not in there]
        if missing:
            named = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
            raise Unreadable(f"it is one of {self.count} files that make a model, and these are not here: {named}")


def bundles(files: Iterable[Path]) -> list[Bundle]:
    """Put together what belongs together, in the order of names."""
    grouped = groupby(sorted(files, key=_numbered), key=lambda file: _numbered(file)[:2])
    return [Bundle(path, tuple(parts), count) for (path, count), parts in grouped]


def _numbered(file: Path) -> tuple[Path, int, int]:
    """A file's path without number and suffix, of how many it is one, and which; 1 and 1 where it is alone."""
    part = PART.fullmatch(file.name)
    if part and 1 <= int(part["number"]) <= int(part["count"]):
        return file.with_name(part["name"]), int(part["count"]), int(part["number"])
    return file.with_suffix(""), 1, 1
