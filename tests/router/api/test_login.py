"""`/login` of a running router: people come in by one-time links (requirement A10)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from sqlalchemy import Engine, create_engine, text

from llm_router.config import RouterConfig
from llm_router.router.access.throttle import BURST
from llm_router.router.app import serving

HTML = {"accept": "text/html"}


@asynccontextmanager
async def browser(port: int, address: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A client with a jar of cookies, at this address."""
    jar = aiohttp.CookieJar(unsafe=True)  # which is aiohttp's word for: of hosts that are addresses, too
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector, cookie_jar=jar) as session:
        yield session


@pytest.fixture
async def port(config: RouterConfig) -> AsyncIterator[int]:
    async with serving(msgspec.structs.replace(config, trust=["127.0.0.1/32"])) as listening:
        yield listening


@pytest.fixture
async def here(port: int) -> AsyncIterator[aiohttp.ClientSession]:
    async with browser(port, "127.0.0.1") as session:
        yield session


@pytest.fixture
async def there(port: int) -> AsyncIterator[aiohttp.ClientSession]:
    async with browser(port, "127.0.0.2") as session:
        yield session


async def link(here: aiohttp.ClientSession) -> str:
    async with here.post("/v0/login-links") as response:
        assert response.status == 201
        return str(msgspec.json.decode(await response.read())["path"])


async def status(api: aiohttp.ClientSession, method: str, path: str, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with api.request(method, path, headers=named, allow_redirects=False) as response:
        return response.status


def own(api: aiohttp.ClientSession) -> dict[str, str]:
    """What a browser says of a page of ours that asks."""
    return {"origin": str(api._base_url).rstrip("/")}  # noqa: SLF001 - aiohttp has no other way to ask


async def test_a_link_opens_the_dashboard_once(here: aiohttp.ClientSession, there: aiohttp.ClientSession) -> None:
    """Its cookie is a session; the same link again is a page that says what to do."""
    path = await link(here)
    assert await status(there, "GET", "/v0/nodes") == 401
    async with there.get(path, allow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (303, "/dashboard")
        assert "HttpOnly" in response.headers["set-cookie"]
        assert "SameSite=Strict" in response.headers["set-cookie"]
        assert "no-store" in response.headers["cache-control"]
    assert await status(there, "GET", "/v0/nodes") == 200
    async with here.get(path, allow_redirects=False) as response:
        assert response.status == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert "llm-router login-link" in await response.text()
        assert "set-cookie" not in response.headers


async def test_a_link_cannot_be_checked_without_the_database(
    config: RouterConfig, here: aiohttp.ClientSession, there: aiohttp.ClientSession
) -> None:
    """The page says so, in the reader's language; the link is not used up by it."""
    path = await link(here)
    other = create_engine(f"sqlite:///{config.home / 'router' / 'router.db'}")
    rename(other, "login_links", "away")
    for language, words in (("en", "The database cannot be reached"), ("ja", "データベースに接続できない")):
        async with there.get(path, headers={"accept-language": language}) as response:
            assert response.status == 503
            assert words in await response.text()
    rename(other, "away", "login_links")
    assert await status(there, "GET", path) == 303


def rename(engine: Engine, before: str, after: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {before} RENAME TO {after}"))


async def test_a_session_acts_for_our_own_pages_only(here: aiohttp.ClientSession, there: aiohttp.ClientSession) -> None:
    """And signs out: then its cookie is worth nothing."""
    await status(there, "GET", await link(here))
    assert await status(there, "POST", "/v0/login-links") == 403
    assert await status(there, "POST", "/v0/login-links", **own(there)) == 201
    assert await status(there, "POST", "/v0/login-links", sec_fetch_site="same-origin") == 201
    (cookie,) = there.cookie_jar
    assert await status(there, "POST", "/v0/logout", **own(there)) == 204
    assert list(there.cookie_jar) == []
    assert await status(there, "GET", "/v0/nodes", cookie=f"{cookie.key}={cookie.value}") == 401


async def test_a_browser_is_led_to_the_page(there: aiohttp.ClientSession) -> None:
    """From anywhere it may not look at; the page asks nobody else for anything, and runs no script."""
    async with there.get("/dashboard", headers=HTML) as response:
        assert (response.status, response.url.path) == (200, "/login")
        text = await response.text()
        policy = response.headers["content-security-policy"]
    assert "llm-router login-link" in text
    assert "<script" not in text
    assert "http" not in text
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy


async def test_the_page_speaks_japanese(there: aiohttp.ClientSession) -> None:
    """Requirement F5: to a browser that prefers it."""
    for accepted, language in [("ja,en;q=0.8", "ja"), ("en-GB,ja;q=0.5", "en"), ("fr", "en"), ("fr,ja-JP", "ja")]:
        async with there.get("/login", headers={"accept-language": accepted}) as response:
            assert f'<html lang="{language}">' in await response.text()


async def test_an_admin_key_is_good_on_the_page(here: aiohttp.ClientSession, there: aiohttp.ClientSession) -> None:
    """Typed in; one for inference is not."""
    keys = {}
    for scope in ("admin", "inference"):
        async with here.post("/v0/keys", data=msgspec.json.encode({"name": scope, "scope": scope})) as response:
            keys[scope] = msgspec.json.decode(await response.read())["key"]
    async with there.post("/login", data={"token": keys["inference"]}, allow_redirects=False) as response:
        assert response.status == 401
    async with there.post("/login", data={"token": keys["admin"]}, allow_redirects=False) as response:
        assert response.status == 303
    assert await status(there, "GET", "/v0/keys") == 200


async def test_guessing_is_throttled(there: aiohttp.ClientSession) -> None:
    """429 with Retry-After, on the page as with keys."""
    for _ in range(int(BURST)):
        assert await status(there, "GET", "/login?token=wrong") == 401
    async with there.post("/login", data={"token": "wrong"}) as response:
        assert response.status == 429
        assert int(response.headers["retry-after"]) > 0
    assert await status(there, "GET", "/v0/nodes", x_api_key="wrong") == 429


async def test_what_is_no_form(there: aiohttp.ClientSession) -> None:
    """It is refused, and breaks nothing."""
    async with there.post("/login", data=b"\xff\xfe") as response:
        assert response.status == 400
    async with there.post("/login", data=b"x" * 10_000) as response:
        assert response.status in {400, 413}
    async with there.post("/login", data=b"") as response:
        assert response.status == 401
