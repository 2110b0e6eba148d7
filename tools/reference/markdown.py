"""Markdown, as these pages have it."""

import re
from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what is in a cell must not end it."""
    lines = ["| " + " | ".join(map(_cell, line)) + " |" for line in (heads, *rows)]
    lines.insert(1, "|" + "---|" * len(heads))
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: object) -> str:
    """As code; nothing stays nothing."""
    return f"`{text}`" if str(text) else ""


def codes(texts: Iterable[object], between: str = ", ") -> str:
    """Several, each as code."""
    return between.join(map(code, texts))


def anchor(heading: str) -> str:
    """What a heading is linked to by: as GitHub makes it, lower case, without punctuation, spaces as hyphens."""
    kept = (c for c in heading.lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")


def meaning(docstring: str) -> str:
    """A docstring without the numbers of requirements, which only this project knows."""
    return re.sub(r" \(requirements? [A-Z]\d+[^)]*\)", "", docstring)
