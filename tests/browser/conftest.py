"""A real browser before a real router with three nodes."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright
from tests.system.harness import HELLO, House, Router, eventually, house_in

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
NAMES = ("node-a", "node-b", "node-c")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or what CHROMIUM in the environment names."""
    if not CHROMIUM:
        pytest.skip("no Chromium here: install it, or name one in the environment as CHROMIUM")
    with sync_playwright() as playwright:
        # Without a sandbox: as root, which containers run tests as, Chromium has none.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """A browser's window, of which everything is noted that a page of ours must not do."""

    def __init__(self, browser: Browser, **options: Any) -> None:  # noqa: ANN401 - Playwright's options
        self.context: BrowserContext = browser.new_context(**options)
        self.context.set_default_timeout(20_000)
        self.page: Page = self.context.new_page()
        self.wrong: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._asked)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.hosts.add(urlsplit(request.url).netloc)

    def open(self, url: str, page: str = "fleet") -> Page:
        """Show one of the pages, and wait until it is live."""
        self.page.goto(f"{url}/dashboard#/{page}")
        self.page.locator('.link-state[data-state="live"]').wait_for()
        return self.page


@contextmanager
def watching(browser: Browser, **options: Any) -> Iterator[Watched]:  # noqa: ANN401 - Playwright's options
    """A window in which nothing goes wrong, and which asks one router only."""
    options = {"viewport": {"width": 1280, "height": 900}, "locale": "en-US"} | options
    watched = Watched(browser, **options)
    try:
        yield watched
    finally:
        watched.context.close()
    assert not watched.wrong
    assert len(watched.hosts) == 1, "a page asks its router and nobody else"


@pytest.fixture
def window(browser: Browser) -> Iterator[Watched]:
    with watching(browser) as watched:
        yield watched


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Router]]:
    """A router with three real nodes, for tests that leave them as they are."""
    with house_in(tmp_path_factory.mktemp("browser")) as house:
        router = house.router("--policy", "least-requests", "--host", "127.0.0.1")
        for name in NAMES:
            house.node(router, name)
        eventually(lambda: router.is_online(*NAMES, model=HELLO), 60)
        yield house, router


@pytest.fixture
def empty_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """For tests that break things."""
    with house_in(tmp_path_factory.mktemp("house")) as house:
        yield house
