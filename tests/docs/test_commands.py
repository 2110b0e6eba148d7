"""What readers are told to type is typed: each page is one session, from top to bottom."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, Step, steps
from tests.docs.sandbox import Sandbox
from tests.ports import free_port

pytestmark = pytest.mark.slow

WITH = "<!-- with: a router -->"
TYPED = {page: [step for step in steps(page.read_text("utf-8")) if step.is_run] for page in PAGES}
UP = Step("sh", "llm-router up\n", stays="Ctrl-C")
SHARED = [page for page, typed in TYPED.items() if typed and (WITH in page.read_text("utf-8") or typed[0] == UP)]
REPLICAS = ROOT / "docs" / "how-to" / "replicas.md"
ALONE = [page for page, typed in TYPED.items() if typed and page not in (*SHARED, REPLICAS)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A router and a node for all pages that take them for granted, or start no others."""
    with closing(Sandbox(tmp_path_factory.mktemp("docs"), free_port())) as sandbox:
        sandbox.do(UP)
        yield sandbox


@pytest.mark.parametrize("page", ALONE, ids=name)
def test_from_nothing(page: Path, tmp_path: Path) -> None:
    """A page that starts everything itself does what it says."""
    with closing(Sandbox(tmp_path, free_port())) as sandbox:
        for step in TYPED[page]:
            sandbox.do(step)


def test_replicas(tmp_path: Path, postgres_url: str) -> None:
    """The page about replicas has two of them, on a real PostgreSQL."""
    with closing(Sandbox(tmp_path, free_port(), postgres_url)) as sandbox:
        for step in TYPED[REPLICAS]:
            sandbox.do(step)


@pytest.mark.parametrize("page", SHARED, ids=name)
def test_with_a_router(page: Path, running: Sandbox) -> None:
    """A page about a router that runs does what it says."""
    for step in TYPED[page]:
        running.do(step)
