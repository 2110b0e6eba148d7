"""Which web pages may call us: what `OLLAMA_ORIGINS` means, and what an answer says to a browser."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.gateway.origins import ANSWERED, ASKED, Origins

HOST = b"127.0.0.1:8080"
NAMES = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
# What an attacker may make of an origin: the right bytes in the wrong places, and the wrong ones.
HOSTILE = st.lists(
    st.sampled_from([b"http://", b"localhost", b":", b"8", b"\r\n", b"\n", b" ", b"x: y", b"null", b",", b"\0", b"@"])
    | st.binary(max_size=4)
).map(b"".join)


def fields(lines: bytes) -> dict[str, str]:
    """Header lines, taken apart as strictly as a client could."""
    assert lines.endswith(b"\r\n")
    split = [line.partition(": ") for line in lines.decode("ascii")[:-2].split("\r\n")]
    assert all(re.fullmatch("[a-z-]+", name) and colon and value.isprintable() for name, colon, value in split)
    assert len({name for name, _, _ in split}) == len(split)
    return {name: value for name, _, value in split}


class TestWhoMayCall:
    @pytest.mark.parametrize(
        "origin",
        [
            *(
                f"{s}://{h}{p}"
                for s in ("http", "https")
                for h in ("localhost", "127.0.0.1", "0.0.0.0")
                for p in ("", ":3000")
            ),
            "app://obsidian.md",
            "app://.",
            "file://",
            "tauri://localhost",
            "vscode-webview://1a2b3c4d5e",
            "vscode-file://vscode-app",
            "HTTP://LocalHost:3000",
        ],
    )
    @pytest.mark.parametrize("patterns", [[], ["https://example.com"]])
    def test_pages_of_this_machine_and_desktop_apps_always(self, origin: str, patterns: list[str]) -> None:
        """Those of Ollama's list, whatever the setting says."""
        assert Origins(patterns).allows(origin.encode(), HOST)

    @pytest.mark.parametrize(
        "origin",
        [
            "https://example.com",
            "http://localhost.evil.com",
            "http://localhost:80.evil.com",
            "http://localhost:8080@evil.com",
            "http://evil.com:8080",
            "http://127.0.0.1.nip.io",
            "ftp://localhost",
            "http://[::1]:3000",
            "chrome-extension://abcdefgh",
            "null",
            "",
            "localhost",
            "http://localhost http://evil.com",
            "http://localhost/",
            "http://localhost:3000/path",
            "http://localhost:123456",
            "http://localhost:*",
            "app://x\r\nset-cookie: a=b",
            "file://x\n",
        ],
    )
    def test_no_other_unless_the_setting_names_it(self, origin: str) -> None:
        """Nor what only looks like one of them, and what is no origin at all."""
        assert not Origins([]).allows(origin.encode(), HOST)

    @pytest.mark.parametrize(
        ("pattern", "origin", "allowed"),
        [
            ("https://example.com", "https://example.com", True),
            ("https://example.com", "https://example.com:8443", False),
            ("https://example.com", "http://example.com", False),
            ("https://example.com", "https://example.com.evil.org", False),
            ("https://example.com", "https://exampleXcom", False),
            (" HTTPS://Example.com ", "https://example.com", True),
            ("https://*.example.com", "https://a.b.example.com", True),
            ("https://*.example.com", "https://example.com", False),
            ("https://*.example.com", "https://a.example.com.evil.org", False),
            ("https://*.example.com", "https://evil.org:1.example.com", False),
            ("*.example.com", "http://a.example.com", True),
            ("*://example.com", "capacitor://example.com", True),
            ("http://*.lan:*", "http://nas.lan:5000", True),
            ("http://*.lan:*", "http://nas.lan", False),
            ("http://a*b*c", "http://abc", True),
            ("http://a*b*c", "http://ac", False),
            ("http://aa*a", "http://aa", False),
            ("http://[::1]:*", "http://[::1]:3000", True),
            ("http://[::1]:*", "http://1:3000", False),
            ("chrome-extension://*", "chrome-extension://abcdefgh", True),
            ("chrome-extension://*", "moz-extension://abcdefgh", False),
            ("*", "https://anything.example", True),
            ("*", "null", True),
            ("*", "https://anything.example/path", False),
            ("*", "garbage", False),
        ],
    )
    def test_a_star_stands_for_any_part(self, pattern: str, origin: str, allowed: bool) -> None:  # noqa: FBT001 - a table
        """Everything else for itself, in any case of letters; alone it allows every origin, but no garbage."""
        assert Origins([pattern]).allows(origin.encode(), HOST) is allowed

    @given(st.lists(NAMES, max_size=4), st.lists(NAMES | st.just("*"), min_size=1, max_size=4))
    def test_patterns_match_as_the_plain_reading_says(self, labels: list[str], parts: list[str]) -> None:
        """However many stars: as if every one of them were tried with everything."""
        pattern, origin = "https://a." + ".".join(parts), "https://a." + ".".join(labels)
        plain = re.escape(pattern).replace(r"\*", ".*")
        assert Origins([pattern]).allows(origin.encode(), HOST) is bool(re.fullmatch(plain, origin))

    @pytest.mark.parametrize(
        ("origin", "host", "allowed"),
        [
            (b"http://router.lan:8080", b"router.lan:8080", True),
            (b"https://router.lan", b"Router.LAN", True),
            (b"http://router.lan:8080", b"router.lan", False),
            (b"http://evil.com", b"router.lan", False),
            (b"app2://router.lan", b"router.lan", False),
            (b"http://", b"", False),
            (b"null", b"null", False),
        ],
    )
    def test_a_page_of_ours_may_call_us(self, origin: bytes, host: bytes, allowed: bool) -> None:  # noqa: FBT001 - a table
        """Whatever the setting says: it is the address that the page came from."""
        assert Origins([]).allows(origin, host) is allowed

    @pytest.mark.parametrize(
        "pattern",
        [
            *("example.com", "localhost:*", "a*", "null", "://a", "http://a b", "http://a\r\nb", "http://bücher.de"),
            *("http://a/", "https://a/b", "*/x", "http://a:port", "http://u@a", "http://[::1"),
        ],
    )
    def test_what_is_no_pattern_is_named(self, pattern: str) -> None:
        """Whoever wrote it is told, and not left with a page that cannot call."""
        with pytest.raises(ValueError, match=re.escape(f"'{pattern}' is no origin")):
            Origins(["https://good.example", pattern])

    def test_empty_patterns_say_nothing(self) -> None:
        """`OLLAMA_ORIGINS=https://a.example, ,` is one pattern."""
        origins = Origins(["https://a.example", " ", ""])
        assert origins.allows(b"https://a.example", HOST)
        assert not origins.allows(b"https://b.example", HOST)
        assert not origins.allows(b"", HOST)

    @pytest.mark.timeout(20)  # going back for every star, it would be longer than the world is old
    def test_no_origin_takes_long(self) -> None:
        """A pattern of many stars and an origin made for it: nothing is tried twice."""
        origins = Origins(["http://" + "*a" * 20 + "b"])
        assert not origins.allows(b"http://" + b"a" * 500, HOST)
        assert not origins.allows(b"http://" + b"a" * 60_000, HOST)


class TestWhatIsAnswered:
    @given(NAMES, st.booleans())
    def test_an_answer_names_the_origin_and_what_a_page_may_read(self, name: str, tls: bool) -> None:  # noqa: FBT001 - drawn
        """Never `*`, and never with the cookies of whoever is signed in (Fetch, "CORS protocol and credentials")."""
        origin = f"http{'s' * tls}://{name}.example:8080"
        found = fields(Origins(["*"]).lines(origin.encode()))
        assert found == {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": "x-request-id, x-llm-router-node, x-queue-wait-ms, retry-after",
            "vary": "origin",
        }

    def test_the_origin_is_repeated_as_it_was_written(self) -> None:
        """A browser compares byte by byte."""
        assert fields(Origins([]).lines(b"app://Obsidian.md"))["access-control-allow-origin"] == "app://Obsidian.md"

    def test_a_preflight_allows_what_it_asks_for(self) -> None:
        """All that the OpenAI, Anthropic and Ollama libraries send from a browser, and every method with a route."""
        wanted = (
            "anthropic-beta,anthropic-dangerous-direct-browser-access,anthropic-version,authorization,content-type, "
            "idempotency-key,openai-beta,traceparent,tracestate,x-api-key,x-request-id,x-requested-with,"
            "x-stainless-lang,x-stainless-retry-count,x-stainless-timeout"
        )
        found = fields(Origins([]).preflight(b"http://localhost:3000", wanted.encode(), private_network=False))
        assert found["access-control-allow-origin"] == "http://localhost:3000"
        assert found["access-control-allow-headers"] == wanted
        methods = set(found["access-control-allow-methods"].split(", "))
        assert methods == {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
        assert int(found["access-control-max-age"]) >= 600
        assert "origin" in found["vary"].split(", ")
        assert "access-control-allow-private-network" not in found

    @pytest.mark.parametrize("wanted", [b"", b"a b", b"a,,b", b"a,", b"a\r\nx: y", b"a: b", b"\xff", b"a\n", b"*, a;b"])
    def test_what_is_no_list_of_names_is_not_repeated(self, wanted: bytes) -> None:
        """The browser then refuses the request; nothing of it gets into the answer."""
        found = fields(Origins([]).preflight(b"http://localhost", wanted, private_network=False))
        assert "access-control-allow-headers" not in found

    def test_a_public_page_may_call_a_private_address(self) -> None:
        """Chromium asks for it in the preflight (WICG Private Network Access)."""
        found = fields(Origins(["*"]).preflight(b"https://a.example", b"", private_network=True))
        assert found["access-control-allow-private-network"] == "true"

    @given(HOSTILE, HOSTILE)
    def test_no_bytes_of_a_client_make_a_header_of_their_own(self, origin: bytes, wanted: bytes) -> None:
        """Whatever is asked with, allowed or not: response splitting is impossible."""
        origins = Origins(["*"])
        known = ANSWERED | {b"vary"}
        for lines in (origins.lines(origin), origins.preflight(origin, wanted, private_network=True)):
            found = fields(lines)
            assert {name.encode() for name in found} <= known
            assert ("access-control-allow-origin" in found) is (origins.allows(origin, HOST) or len(origin) > 512)
            assert "access-control-allow-credentials" not in found

    def test_what_is_said_to_this_hop_does_not_travel_on(self) -> None:
        """A runtime would refuse an origin that only we allow; its own answer to one would stand beside ours."""
        said = fields(Origins([]).lines(b"http://localhost"))
        said |= fields(Origins([]).preflight(b"http://localhost", b"a", private_network=True))
        assert {name.encode() for name in said} - {b"vary"} < ANSWERED
        assert {b"origin", b"access-control-request-method", b"access-control-request-headers"} < ASKED
