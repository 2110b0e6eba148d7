"""What web pages may do through a gateway, and what their browsers are told (CORS)."""

from pathlib import Path

import pytest
from tests.gateway.conftest import (
    BODY,
    SSE_HEAD,
    STREAM,
    Client,
    Held,
    House,
    answers,
    chunk,
    opened,
    whole,
)

from llm_router.errors import ConfigError
from llm_router.gateway.server import Gateway

PAGE = "http://localhost:3000"
EVIL = "http://evil.example"
ASKS = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type, x-stainless-os\r\n"
PATHS = ["/api/chat", "/v1/chat/completions", "/v1/messages", "/v0/nodes", "/"]
ALLOWED = "access-control-allow-origin"


async def ask(house: House, method: str, path: str, origin: str, lines: str = "", body: bytes = b"") -> Client:
    client = await house.client()
    await again(client, method, path, f"Origin: {origin}\r\n{lines}", body)
    return client


async def again(client: Client, method: str, path: str, lines: str = "", body: bytes = b"") -> None:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    await client.send(f"{method} {path} HTTP/1.1\r\nHost: router\r\n{lines}{length}\r\n".encode() + body)


class TestAPageThatMayNotCall:
    @pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
    @pytest.mark.parametrize("path", PATHS)
    async def test_is_refused_before_anything_is_done(self, house: House, method: str, path: str) -> None:
        """In the shape of the path's API; its connection goes on, for there may be another page behind it."""
        upstream = await house.node("one", answers(whole()))
        client = await ask(house, method, path, EVIL, ASKS if method == "OPTIONS" else "", BODY)
        status, headers, body = await client.answer()
        assert (status, ALLOWED in headers) == (403, False)
        assert headers["x-request-id"]
        assert EVIL.encode() in body
        assert b"OLLAMA_ORIGINS" in body
        assert body.startswith(b'{"error":"' if path.startswith("/api/") else (b'{"error":{', b'{"type":"error"'))
        assert upstream.connections == 0
        assert house.records.empty()
        await again(client, "GET", "/")
        assert (await client.answer())[0] == 200

    async def test_gets_no_body_to_head(self, house: House) -> None:
        """RFC 9110 §9.3.2."""
        client = await ask(house, "HEAD", "/", EVIL)
        assert (await client.head())[0] == 403
        await again(client, "GET", "/")
        assert (await client.answer())[0] == 200

    async def test_ends_its_connection_where_it_asks_for_that(self, house: House) -> None:
        """As with any other answer."""
        client = await ask(house, "GET", "/", EVIL, "Connection: close\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (403, "close")
        assert await client.rest() == b""

    @pytest.mark.parametrize("origin", ["null", "x" * 600, "http://a b", "\u00e9"])
    async def test_is_anything_that_is_no_origin(self, house: House, origin: str) -> None:
        """And of it no more than a little is repeated."""
        client = await ask(house, "GET", "/", origin)
        status, _, body = await client.answer()
        assert (status, len(body) < 400) == (403, True)


class TestPreflights:
    @pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
    async def test_of_a_page_that_may_call_is_204(self, house: House, path: str) -> None:
        """For every path, by the gateway itself: what the answer says is for the browser alone."""
        client = await ask(house, "OPTIONS", path, PAGE, ASKS)
        for _ in range(2):
            status, headers = await client.head()
            assert (status, headers[ALLOWED]) == (204, PAGE)
            assert headers["access-control-allow-headers"] == "content-type, x-stainless-os"
            assert "POST" in headers["access-control-allow-methods"]
            assert headers["x-request-id"]
            assert "content-length" not in headers
            await again(client, "OPTIONS", path, f"Origin: {PAGE}\r\n{ASKS}")

    async def test_say_whether_a_private_address_may_be_called(self, house: House) -> None:
        """As Chromium asks before a public page calls one."""
        client = await ask(house, "OPTIONS", "/", PAGE, ASKS + "Access-Control-Request-Private-Network: true\r\n")
        assert (await client.head())[1]["access-control-allow-private-network"] == "true"

    async def test_are_told_by_what_they_ask(self, house: House) -> None:
        """OPTIONS alone is a request like any other."""
        client = await ask(house, "OPTIONS", "/", PAGE)
        status, headers, _ = await client.answer()
        assert (status, headers[ALLOWED]) == (200, PAGE)


class TestAPageThatMayCall:
    def of(self, headers: dict[str, str]) -> str:
        """The page that an answer is for; caches are told that it is for this one alone."""
        assert headers["vary"] == "origin"
        assert "x-llm-router-node" in headers["access-control-expose-headers"]
        return headers[ALLOWED]

    @pytest.mark.parametrize("dialects", [frozenset({"ollama", "openai"}), frozenset({"openai"})])
    @pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
    async def test_reads_whole_answers(self, house: House, path: str, dialects: frozenset[str]) -> None:
        """Translated or not."""
        await house.node("one", answers(whole(b'{"choices":[{"message":{"content":"hi"}}]}')), dialects=dialects)
        client = await ask(house, "POST", path, PAGE, "", b'{"model":"m","stream":false,"messages":[]}')
        status, headers, _ = await client.answer()
        assert (status, self.of(headers)) == (200, PAGE)

    async def test_reads_streams(self, house: House) -> None:
        """From their first byte on."""
        await house.node("one", answers(SSE_HEAD + chunk(b"data: 1\n\n") + chunk(b"")))
        client = await ask(house, "POST", "/v1/chat/completions", PAGE, "", STREAM)
        status, headers = await client.head()
        assert (status, self.of(headers)) == (200, PAGE)

    @pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", b"{"), ("/api/chat", BODY)])
    async def test_reads_errors(self, house: House, path: str, body: bytes) -> None:
        """Or it could not say what is wrong."""
        client = await ask(house, "POST", path, PAGE, "", body)
        status, headers, _ = await client.answer()
        assert (status >= 400, self.of(headers)) == (True, PAGE)

    async def test_is_named_once(self, house: House) -> None:
        """What the node says of origins is dropped: browsers refuse an answer that names two."""
        theirs = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n"
        await house.node("one", answers(theirs + b"Content-Length: 2\r\n\r\n{}"))
        client = await ask(house, "POST", "/v1/chat/completions", PAGE, "", BODY)
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.lower().count(b"access-control-allow-origin") == 1
        assert b"access-control-allow-credentials" not in head.lower()

    async def test_is_no_business_of_the_node(self, house: House) -> None:
        """It has origins of its own, and would refuse ours; the control app may want to know."""
        script = Held(whole())
        script.go.set()
        await house.node("one", script)
        client = await ask(house, "POST", "/v1/chat/completions", PAGE, ASKS, BODY)
        await client.answer()
        assert PAGE.encode() not in script.requests[0]
        assert b"access-control" not in script.requests[0].lower()
        await again(client, "GET", "/", f"Origin: {PAGE}\r\n")
        assert PAGE.encode() in (await client.answer())[2]

    async def test_says_nothing_of_the_next_request(self, house: House) -> None:
        """Of one connection, each answer is for whoever asked; without an Origin, nothing is said."""
        client = await ask(house, "GET", "/", PAGE)
        assert self.of((await client.answer())[1]) == PAGE
        await again(client, "GET", "/")
        assert ALLOWED not in (await client.answer())[1]
        await again(client, "GET", "/", "Origin: app://obsidian.md\r\n")
        assert self.of((await client.answer())[1]) == "app://obsidian.md"
        await again(client, "GET", "/", f"Origin: {EVIL}\r\n")
        assert ALLOWED not in (await client.answer())[1]

    async def test_may_be_our_own(self, house: House) -> None:
        """The dashboard's."""
        client = await ask(house, "POST", "/v0/nodes", "http://router", "", BODY)
        assert (await client.answer())[0] == 200

    async def test_is_one_that_the_setting_names(self, tmp_path: Path) -> None:
        """Besides those that may always."""
        async with opened(tmp_path, origins=["http://*.example"]) as house:
            for origin in (EVIL, PAGE):
                client = await ask(house, "GET", "/", origin)
                assert self.of((await client.answer())[1]) == origin


async def test_a_setting_that_is_no_origin_is_an_error(tmp_path: Path) -> None:
    """At once, and by name: not a page that cannot call, later."""
    async with opened(tmp_path) as house:
        house.gateway.config.origins.append("example.com")
        with pytest.raises(ConfigError, match=r"OLLAMA_ORIGINS.*'example.com' is no origin"):
            Gateway(house.plane, house.gateway.config)
