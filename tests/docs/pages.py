"""The pages of the documentation, and the commands in them.

A comment right before a block says what is to be known of it:

    <!-- not run: REASON -->
    <!-- on: MACHINE; stays: TEXT; shows: TEXT -->

`on`: it is typed on another machine than the first. `stays`: it goes on running, and what follows comes when it has
said TEXT. `shows`: its output has TEXT, at the latest after some seconds. `<!-- ends: MACHINE -->` by itself ends what
stays there, and a page that has `<!-- with: a router -->` takes one that runs for granted.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.ja.md", *sorted((ROOT / "docs").rglob("*.md"))]

RUN = {"sh", "python", "console"}
SHOWN = {"", "text", "yaml", "toml", "nginx"}  # what is looked at, not typed
FIRST = "the first"

_STEP = re.compile(
    r"(?:^<!-- (?P<marks>(?:(?!-->).)*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$"
    r"|^<!-- ends: (?P<ends>.+?) -->$",
    re.MULTILINE | re.DOTALL,
)


class Step(msgspec.Struct, frozen=True):
    """A block of a page, or with `ends` the end of what runs on that machine."""

    language: str = ""
    text: str = ""
    not_run: str = ""
    on: str = FIRST
    stays: str = ""
    shows: str = ""
    ends: str = ""

    @property
    def is_typed(self) -> bool:
        """Whether it is for readers to run."""
        return self.language in RUN

    @property
    def is_run(self) -> bool:
        """Whether it is for a test to do."""
        return bool(self.ends) or (self.is_typed and not self.not_run)


def steps(page: str) -> Iterator[Step]:
    """Everything in a page that is to be run, and all other blocks, in their order.

    Raises:
        TypeError: a comment says what nobody knows.
    """
    for found in _STEP.finditer(page):
        if found["ends"]:
            yield Step(ends=found["ends"])
        else:
            yield Step(found["language"], found["text"], **_marks(found["marks"] or ""))


def _marks(comment: str) -> dict[str, str]:
    if comment.startswith(("generated:", "with:", "end")):
        return {}
    if comment.startswith("not run:"):
        return {"not_run": comment.removeprefix("not run:").strip()}
    parts = (part.partition(":") for part in comment.split("; ") if part)
    return {name.strip(): value.strip() for name, _, value in parts}
