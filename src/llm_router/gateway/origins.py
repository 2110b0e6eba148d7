"""Which web pages may call us: CORS as `OLLAMA_ORIGINS` means it. Pure: bytes of a request in, header lines out.

A browser names the page's origin in a request that crosses origins, and shows the answer to the page only where the
answer allows that origin (WHATWG Fetch, "CORS protocol"). That hides answers, but it does not keep a request with
consequences from being carried out: so, as Ollama does (gin-contrib/cors, `applyCors`), what comes from any other
origin is to be refused with 403 before anything is done for it. A request without an Origin header is not asked about.

Rule 1: what a client sent stands in an answer only after it has matched a grammar that has no place for CR or LF.
Rule 2: an origin is allowed by name, never by `*`, and `access-control-allow-credentials` is never sent: a page calls
        with the key that it has, not with the cookie of somebody who is signed in.
"""

import re
from collections.abc import Sequence

# Pages that Ollama always lets in (`envconfig/config.go`, `AllowedOrigins`): of this machine, and of desktop apps.
ALWAYS = (
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0")
        for scheme in ("http", "https")
        for port in ("", ":*")
    ),
    *(f"{scheme}://*" for scheme in ("app", "file", "tauri", "vscode-webview", "vscode-file")),
)

# What CORS says between a browser and this hop. It does not travel on: a runtime has origins of its own and would
# refuse ours, and an answer with two `access-control-allow-origin` (llama.cpp sends one) is refused by browsers.
ASKED = frozenset(
    {
        b"origin",
        b"access-control-request-headers",
        b"access-control-request-method",
        b"access-control-request-private-network",
    }
)
ANSWERED = frozenset(
    {
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
        b"access-control-allow-private-network",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
)

# Bytes. The longest that a browser has to say is a host name of 253 with scheme and port (RFC 1035 §2.3.4).
LONGEST = 512

# An origin as browsers write it (WHATWG HTML, "serialization of an origin"): scheme://host[:port]. The host of `file`
# is empty. "null" is the origin of pages that have none: sandboxed frames, and in most browsers files.
_ORIGIN = re.compile(rb"null|[a-z][a-z0-9+.-]*://(?:[a-z0-9._~%-]*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE)
# The same with `*` anywhere; before `://` it may be all there is, and then stand for that too ("*.example.com"). "null"
# cannot be named: every page can have that origin, in a sandboxed frame. gin-contrib/cors does not take it either.
_PATTERN = re.compile(r"(?:[a-z*][a-z0-9+.*-]*://|\*)(?:[a-z0-9._~%*-]*|\[[0-9a-f:.*]+\])(?::[0-9*]{1,5})?")
_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")  # RFC 9110 §5.6.2

# Every method that has a route; whether this one has is the route's to say.
_METHODS = b"access-control-allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
# Seconds; the most that Chromium remembers. Fetch's default is 5, which would double the requests of a chat.
_MAX_AGE = b"access-control-max-age: 7200\r\n"
# Answers to OPTIONS are not to be cached (RFC 9110 §9.3.7), but there are caches that do.
_PREFLIGHT_VARY = b"vary: origin, access-control-request-headers, access-control-request-private-network\r\n"
# A page sees of an answer's headers no more than these and a few harmless ones (Fetch, "CORS-safelisted").
_EXPOSED = b"access-control-expose-headers: x-request-id, x-llm-router-node, x-queue-wait-ms, retry-after\r\n"


class Origins:
    """The origins whose pages may call."""

    __slots__ = ("_allowed",)

    def __init__(self, patterns: Sequence[str]) -> None:
        """Allow `patterns` besides those in `ALWAYS`.

        A pattern is scheme://host[:port] in which each `*` stands for any characters or none; "*" allows every origin.
        Blanks around a pattern, its case, and patterns that are empty do not count.

        Raises:
            ValueError: a pattern is not one; the message names it.
        """
        given = [pattern.strip().lower() for pattern in patterns]
        expressions = [_expression(pattern) for pattern in (*ALWAYS, *filter(None, given))]
        self._allowed = re.compile(b"|".join(expressions))

    def allows(self, origin: bytes, host: bytes) -> bool:
        """Whether a request with these values of Origin and Host may be carried out.

        A page of ours may call us (gin-contrib/cors: Origin is `http://` or `https://` and then Host): whether TLS
        ended at a proxy before us cannot be seen from here.
        """
        if len(origin) > LONGEST or not _ORIGIN.fullmatch(origin):
            return False
        origin = origin.lower()
        return self._allowed.fullmatch(origin) is not None or _is_same(origin, host.lower())

    def preflight(self, origin: bytes, headers: bytes, *, private_network: bool) -> bytes:
        """Header lines for the 204 that answers a preflight of an allowed origin.

        Args:
            origin: of the request, as `allows` took it.
            headers: Access-Control-Request-Headers, b"" where there is none. A list of names is allowed as it is:
                clients invent them (`x-stainless-*`), and which ones an allowed page sends protects nobody.
            private_network: whether it says `Access-Control-Request-Private-Network: true`, as Chromium asks before a
                public page calls a private address (WICG Private Network Access).
        """
        lines = [_allow(origin), _METHODS, _MAX_AGE, _PREFLIGHT_VARY]
        if _NAMES.fullmatch(headers):
            lines.append(b"access-control-allow-headers: %b\r\n" % headers)
        if private_network:
            lines.append(b"access-control-allow-private-network: true\r\n")
        return b"".join(lines)

    def lines(self, origin: bytes) -> bytes:
        """Header lines for every other answer to an allowed origin, errors too: or its page could not read them."""
        return _allow(origin) + _EXPOSED + b"vary: origin\r\n"


def _expression(pattern: str) -> bytes:
    """A regular expression for one pattern.

    Raises:
        ValueError: it is none.
    """
    if not _PATTERN.fullmatch(pattern):
        raise ValueError(f"'{pattern}' is no origin: write scheme://host or scheme://host:port, with * for any part")
    first, *rest = (re.escape(part) for part in pattern.encode().split(b"*"))
    if not rest:
        return first
    *middle, last = rest
    # Atomic: the first place where a middle part fits is as good as any, so there is no need to come back to it, and
    # no origin takes longer than its length times the number of parts.
    return first + b"".join(b"(?>.*?%b)" % part for part in middle) + b".*" + last


def _is_same(origin: bytes, host: bytes) -> bool:
    return host != b"" and origin in {b"http://" + host, b"https://" + host}


def _allow(origin: bytes) -> bytes:
    """The line that lets the page see the answer; none for what cannot have been allowed (rule 1)."""
    return b"access-control-allow-origin: %b\r\n" % origin if _ORIGIN.fullmatch(origin) else b""
