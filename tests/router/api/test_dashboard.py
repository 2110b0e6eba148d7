"""The dashboard's files, as a browser gets them (requirement F1)."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from llm_router.gateway.control_app import control_app
from llm_router.router.api.dashboard import dashboard_routes

PAGE = b"<!doctype html><title>x</title>" + b"<p>again and again</p>" * 50
Browser = AsyncTestClient[Litestar]


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    (tmp_path / "index.html").write_bytes(PAGE)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "tiny.js").write_bytes(b"1")
    (tmp_path / "notes.txt").write_bytes(b"nothing for a browser")
    async with AsyncTestClient(control_app(dashboard_routes(tmp_path))) as client:
        yield client


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/", "/dashboard/index.html"])
async def test_the_page_is_there(browser: Browser, path: str) -> None:
    """As HTML in UTF-8."""
    answer = await browser.get(path)
    assert (answer.status_code, answer.content) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


async def test_what_is_large_is_sent_compressed(browser: Browser) -> None:
    """To who takes it, and where it is a gain."""
    for accepted, coding in {"br, gzip;q=0.5": "gzip", "gzip;q=0": None, "identity": None, "*": "gzip"}.items():
        answer = await browser.get("/dashboard", headers={"accept-encoding": accepted})
        assert (answer.headers.get("content-encoding"), answer.content) == (coding, PAGE), accepted
    assert int((await browser.get("/dashboard")).headers["content-length"]) < len(gzip.compress(PAGE)) + 20
    assert "content-encoding" not in (await browser.get("/dashboard/parts/tiny.js")).headers


async def test_what_a_browser_has_is_not_sent_again(browser: Browser) -> None:
    """304 for the same file in the same coding; it asks each time."""
    plain = await browser.get("/dashboard", headers={"accept-encoding": "identity"})
    packed = await browser.get("/dashboard")
    assert packed.headers["cache-control"] == "no-cache"
    assert plain.headers["etag"] != packed.headers["etag"]
    for tag, status in {packed.headers["etag"]: 304, f'"other", W/{packed.headers["etag"]}': 304, "*": 304}.items():
        answer = await browser.get("/dashboard", headers={"if-none-match": tag})
        assert (answer.status_code, answer.content) == (status, b""), tag
    assert (await browser.get("/dashboard", headers={"if-none-match": plain.headers["etag"]})).status_code == 200


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/parts/tiny.js"])
async def test_nothing_but_our_own_files_runs_there(browser: Browser, path: str) -> None:
    """No script of others, no inline script, no frame, no guessing of types."""
    headers = (await browser.get(path)).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


@pytest.mark.parametrize("name", ["notes.txt", "gone.js", "../app.py", "%2e%2e/app.py", "..%2fapp.py", "parts"])
async def test_there_is_nothing_else(browser: Browser, name: str) -> None:
    """404: only files that the pages are made of, and none from elsewhere."""
    assert (await browser.get(f"/dashboard/{name}")).status_code == 404


async def test_our_own_files_are_found() -> None:
    """In the package, wherever it is installed."""
    async with AsyncTestClient(control_app(dashboard_routes())) as client:
        assert b"<title>" in (await client.get("/dashboard")).content
