"""The head of an HTTP/1.1 message: read strictly, and once for all messages that begin alike.

A client says the same with every request, and a server with every answer, but for the length of the body. So the length
is cut out, and what is left is read once and remembered: reading one more is looking it up.

Rule 1: the grammar is that of RFC 9112 and 9110 without what they allow for the sake of old senders: no bare LF or CR,
        no folded line, no space before a colon, no byte that does not belong. Who reads what another would read
        otherwise can be made to pass on two messages as one (request smuggling).
Rule 2: there is one way to say where a body ends, said once (RFC 9112 §6.3): Content-Length in digits, or
        Transfer-Encoding: chunked.
Rule 3: what is remembered says nothing about a length, and never came from an error.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

Header = tuple[bytes, bytes]

END = b"\r\n\r\n"  # of a head

MAX_HEADERS = 100  # as Apache's LimitRequestFields and aiohttp's default order of magnitude

REMEMBERED = 512  # heads of each kind; a few MB at the worst, and more than there are kinds of client at one router
SHORT = 2048  # bytes; a longer one is read each time

TWO_LENGTHS = "the length of its body is said more than once"

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# How proxies say for whom they ask (RFC 7239, and what was there before it).
_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})

ID_LENGTH = 128  # characters of a client's own x-request-id that are taken over

_NO_BODY = frozenset({204, 304})  # statuses (RFC 9112 §6.3)

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # RFC 9110 §5.6.2
_TEXT = rb"[\t -~\x80-\xff]*+"  # RFC 9110 §5.5: what can be seen, space, tab, and bytes beyond ASCII
_FIELDS = rb"((?:" + _TOKEN + rb":" + _TEXT + rb"\r\n)*+)"
_REQUEST = re.compile(rb"(?:\r\n)*+(" + _TOKEN + rb") ([!-~]++) HTTP/1\.([01])\r\n" + _FIELDS)
_RESPONSE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: " + _TEXT + rb")?\r\n" + _FIELDS)
_FIELD = re.compile(rb"([^:]++):[\t ]*+([^\r]*+)\r\n")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_ID = re.compile(rb"[!-~]{1,%d}" % ID_LENGTH)
# uri-host [":" port] of RFC 3986 §3.2.2; nothing at all is what somebody says who has none (RFC 9112 §3.2)
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*+|\[[0-9A-Fa-f:.]++\])(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*+)(.*)")
_BEGINNING = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,24}+(?: [!-~]*+(?: [HTP/1.0\r]*+)?)?")


class Malformed(ValueError):
    """It is no head, or says two things; the text says what."""


class Head:
    """What both kinds have in common; header names are in lower case.

    `length` is None where Content-Length is not there, or is spelled as everybody does: then it never gets here.
    `framed`: the head itself says where the body ends.
    """

    __slots__ = ("_lines", "chunked", "framed", "headers", "keep_alive", "length")

    def __init__(self, fields: "_Fields") -> None:
        self.headers = fields.headers
        self.keep_alive = fields.keep_alive
        self.chunked = fields.chunked
        self.length = fields.length
        self.framed = fields.chunked or fields.length is not None
        self._lines: dict[frozenset[bytes], bytes] = {}

    def header(self, name: bytes) -> bytes:
        """The first value of a header, b"" where it is missing."""
        return _first(self.headers, name)

    def lines(self, drop: frozenset[bytes]) -> bytes:
        """The headers as they travel on, without those in `drop` and those that were for this hop."""
        lines = self._lines.get(drop)
        if lines is None:
            lines = self._lines[drop] = _lines(self.headers, drop)
        return lines


class RequestHead(Head):
    """What a request's head says, but for the length of the body.

    `target` is in origin form (RFC 9112 §3.2.1) or `*`; `path` is the target without its query. `request_id`: the
    client's own x-request-id where it is printable and short. `credential`: the key of `Authorization: Bearer`
    (RFC 6750 §2.1), or of `x-api-key`, as Anthropic's clients show theirs. `forwarded`: a proxy passed it on.
    """

    __slots__ = (
        "credential",
        "expects_continue",
        "forwarded",
        "host",
        "http10",
        "method",
        "origin",
        "path",
        "request_id",
        "target",
    )

    def __init__(self, method: bytes, target: bytes, fields: "_Fields") -> None:
        super().__init__(fields)
        self.method = method
        self.target = target
        self.path = target.partition(b"?")[0]
        self.host = fields.only(b"host") or b""
        self.http10 = fields.http10
        self.expects_continue = not fields.http10 and fields.first(b"expect").lower() == b"100-continue"
        self.origin = fields.first(b"origin")
        given = fields.first(b"x-request-id")
        self.request_id = given if _ID.fullmatch(given) else b""
        self.credential = _bearer(fields.first(b"authorization")) or fields.first(b"x-api-key")
        self.forwarded = any(name in _FORWARDED for name, _ in fields.headers)


class ResponseHead(Head):
    """What a response's head says, but for the length of the body."""

    __slots__ = ("has_body", "status")

    def __init__(self, status: int, fields: "_Fields") -> None:
        super().__init__(fields)
        self.status = status
        self.has_body = status not in _NO_BODY
        if fields.http10 and fields.chunked:  # its framing is faulty: RFC 9112 §6.1
            self.keep_alive = False


def read_request_head(data: bytes, end: int) -> tuple[RequestHead, int | None]:
    """The head that `data` begins with, and the length of its body. `end`: where the CRLF of its last line ends.

    Raises:
        Malformed: the message says what is wrong.
    """
    rest, length = _cut(data[:end])
    head = _request_head(rest) if end < SHORT else _request_head.__wrapped__(rest)
    if length is None:
        return head, head.length
    if head.framed:
        raise Malformed(TWO_LENGTHS)
    return head, length


def read_response_head(data: bytes, end: int) -> tuple[ResponseHead, int | None]:
    """As `read_request_head`."""
    rest, length = _cut(data[:end])
    head = _response_head(rest) if end < SHORT else _response_head.__wrapped__(rest)
    if length is None:
        return head, head.length
    if head.framed:
        raise Malformed(TWO_LENGTHS)
    return head, length


def _cut(head: bytes) -> tuple[bytes, int | None]:
    """A head without its length, and that; any other spelling of it than everybody's stays where it is."""
    before, found, after = head.partition(b"\r\nContent-Length: ")
    if not found:
        before, found, after = head.partition(b"\r\ncontent-length: ")
    digits, _, after = after.partition(b"\r\n")
    if digits.isdigit() and len(digits) < 16:
        return before + b"\r\n" + after, int(digits)
    return head, None


def may_become_a_request(beginning: bytes) -> bool:
    """Whether the first bytes of a connection can still become a request: TLS and noise need not be waited for."""
    return beginning == b"\r" or _BEGINNING.fullmatch(beginning.partition(b"\r\n")[0]) is not None


def has_bare_lf(data: bytes | bytearray) -> bool:
    """Whether a line of it ends with LF alone. Its first byte may be the LF of a CRLF."""
    return data.count(b"\n", 1) != data.count(b"\r\n")


@lru_cache(maxsize=REMEMBERED)
def _request_head(data: bytes) -> RequestHead:
    found = _REQUEST.fullmatch(data)
    if found is None:
        raise Malformed(_why_not(data, "METHOD TARGET HTTP/1.1"))
    method, target, minor, block = found.groups()
    fields = _Fields(block, http10=minor == b"0")
    if fields.chunked and fields.http10:
        raise Malformed("Transfer-Encoding in HTTP/1.0")  # RFC 9112 §6.1: its framing is faulty
    _check_host(fields)
    if method == b"CONNECT":
        raise Malformed("CONNECT is not supported: this is no forward proxy")
    return RequestHead(method, _origin_form(target), fields)


@lru_cache(maxsize=REMEMBERED)
def _response_head(data: bytes) -> ResponseHead:
    found = _RESPONSE.fullmatch(data)
    if found is None:
        raise Malformed(_why_not(data, "HTTP/1.1 STATUS"))
    minor, status, block = found.groups()
    if status.startswith(b"1"):
        raise Malformed(f"an interim answer ({status.decode()}) that nobody asked for")
    head = ResponseHead(int(status), _Fields(block, http10=minor == b"0"))
    if len(head.headers) > MAX_HEADERS:
        raise Malformed(f"more than {MAX_HEADERS} headers")
    return head


class _Fields:
    """The headers of one head, and what follows from them."""

    def __init__(self, block: bytes, *, http10: bool) -> None:
        self.headers: Sequence[Header] = [(name.lower(), value.rstrip(b" \t")) for name, value in _FIELD.findall(block)]
        self.http10 = http10
        asked = {token.strip(b" \t").lower() for value in self._all(b"connection") for token in value.split(b",")}
        self.keep_alive = b"keep-alive" in asked if http10 else b"close" not in asked
        self.chunked = self._is_chunked()
        self.length = self._length()
        if self.chunked and self.length is not None:
            raise Malformed(TWO_LENGTHS)

    def first(self, name: bytes) -> bytes:
        return _first(self.headers, name)

    def only(self, name: bytes) -> bytes | None:
        """The value of a header that may be there once."""
        values = self._all(name)
        if len(values) > 1:
            raise Malformed(f"more than one {name.decode().title()}")
        return values[0] if values else None

    def _all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    def _is_chunked(self) -> bool:
        """Nobody sends any other coding to or from an inference server, and two readings of one are an attack."""
        coding = self.only(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise Malformed("a Transfer-Encoding other than chunked")
        return coding is not None

    def _length(self) -> int | None:
        value = self.only(b"content-length")
        if value is None:
            return None
        if not _DIGITS.fullmatch(value):
            raise Malformed("a Content-Length that is no number")
        return int(value)


def _bearer(authorization: bytes) -> bytes:
    scheme, _, key = authorization.partition(b" ")
    return key.strip(b" ") if scheme.lower() == b"bearer" else b""


def _check_host(fields: _Fields) -> None:
    """RFC 9112 §3.2. Frameworks build URLs of it."""
    host = fields.only(b"host")
    if host is None and not fields.http10:
        raise Malformed("the Host header is missing")
    if host is not None and not _is_host(host):
        raise Malformed("the Host header is not a host with an optional port")


def _is_host(value: bytes) -> bool:
    match = _HOST.fullmatch(value)
    return match is not None and int(match[1] or 0) <= 65535


def _origin_form(target: bytes) -> bytes:
    """RFC 9112 §3.2: what a client asks of a proxy is `http://host/path`; to us only the path means something."""
    if target.startswith(b"/") or target == b"*":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not _is_host(absolute[1]):
        raise Malformed("the target is no path")
    rest: bytes = absolute[2]
    return rest if rest.startswith(b"/") else b"/" + rest


def _first(headers: Sequence[Header], name: bytes) -> bytes:
    for key, value in headers:
        if key == name:
            return value
    return b""


def _lines(headers: Sequence[Header], drop: frozenset[bytes]) -> bytes:
    """Header lines; `Connection` may name further headers that are for this hop only (RFC 9110 §7.6.1)."""
    connection = [value for name, value in headers if name == b"connection"]
    named = {token.strip(b" \t").lower() for value in connection for token in value.split(b",")}
    return b"".join([b"%b: %b\r\n" % header for header in headers if header[0] not in drop and header[0] not in named])


def _why_not(data: bytes, first: str) -> str:
    """What is wrong with a head that does not match; asked once, for a message."""
    if has_bare_lf(data):
        return "a line feed without its carriage return"
    for number, line in enumerate(data.split(b"\r\n")[1:-1], 2):
        if not re.fullmatch(_TOKEN + rb":" + _TEXT, line):
            return f"line {number} of its head is not 'Name: value'"
    return f"it does not begin with {first}"
