"""Pages with generated parts in them."""

import re
from pathlib import Path

from tools.reference.blocks import BLOCKS

PAGES = Path(__file__).parents[2] / "docs" / "reference"

_BLOCK = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The page with its generated parts as the code has them now.

    Raises:
        KeyError: the page names a part that nobody makes.
    """
    return _BLOCK.sub(lambda found: f"{found[1]}\n{BLOCKS[found[2]]().strip()}\n\n{found[3]}", text)


def parts(text: str) -> list[str]:
    """The names of a page's generated parts."""
    return [found[2] for found in _BLOCK.finditer(text)]
