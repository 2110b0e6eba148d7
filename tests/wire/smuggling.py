"""Known ways to make two HTTP parsers disagree about where a request ends, as a table.

Sources: RFC 9112 (the section stands with each group); "HTTP Desync Attacks" (J. Kettle, 2019) for CL.TE, TE.CL and
TE.TE; "Browser-Powered Desync Attacks" (2022) for CL.0; "HTTP/1.1 must die" (2025) for 0.CL and Expect; "Funky chunks"
(J. B. Weikop, 2025) for TERM.EXT, EXT.TERM, TERM.SPILL and SPILL.TERM.

Each case is a request that a model would be asked with if it were taken, so that the same table serves a reader and a
gateway. What follows it on the connection is `CANARY`, which nobody may ever serve.
"""

from dataclasses import dataclass

MAX_BODY = 1000  # bytes; the limit that a reader under test is given

BODY = b'{"model":"m"}'
LINE = b"POST /v1/chat/completions HTTP/1.1"
HOST = b"Host: a"
LENGTH = b"Content-Length: 13"
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"d\r\n" + BODY + b"\r\n0\r\n\r\n"
BAD = frozenset({400})
OVER = frozenset({400, 413})  # too large, or no number that anybody could mean
UNKNOWN_CODING = frozenset({400, 501})  # RFC 9112 §6.1: 501 for a coding that is not understood
UNKNOWN_VERSION = frozenset({400, 505})  # RFC 9110 §15.6.6
HEAD_OVER = frozenset({431})
# A line of the chunked framing that does not end: RFC 9112 §7.1.1 leaves the 4xx to the server.
FRAMING_OVER = frozenset({400, 413, 431})


@dataclass(frozen=True)
class Case:
    """`bad` is refused with one of `statuses`; `near` differs from it by what is wrong, and is taken."""

    id: str
    bad: bytes
    near: bytes
    statuses: frozenset[int] = BAD


def message(*fields: bytes, body: bytes = BODY, line: bytes = LINE) -> bytes:
    return b"\r\n".join((line, *fields)) + b"\r\n\r\n" + body


def chunked(framing: bytes) -> bytes:
    return message(HOST, CHUNKED, body=framing)


SIZED = message(HOST, LENGTH)
IN_CHUNKS = chunked(CHUNKS)
OLD = message(HOST, LENGTH, line=LINE[:-1] + b"0")
CANARY = message(HOST, LENGTH, line=b"POST /v1/chat/completions?canary HTTP/1.1")

# RFC 9112 §6.3, rules 3 to 5: one framing, stated once.
TWO_FRAMINGS = [
    Case("CL.TE", message(HOST, LENGTH, CHUNKED, body=CHUNKS), IN_CHUNKS),
    Case("TE.CL", message(HOST, CHUNKED, LENGTH, body=CHUNKS), IN_CHUNKS),
    Case("CL.TE with a length of 0", message(HOST, b"Content-Length: 0", CHUNKED, body=CHUNKS), IN_CHUNKS),
    Case("CL.TE in another case", message(HOST, LENGTH, b"tRANSFER-eNCODING: CHUNKED", body=CHUNKS), IN_CHUNKS),
    Case(
        "CL.TE where the coding is none", message(HOST, LENGTH, b"Transfer-Encoding: identity"), SIZED, UNKNOWN_CODING
    ),
    Case("two lengths", message(HOST, LENGTH, b"Content-Length: 0"), SIZED),
    Case("two equal lengths", message(HOST, LENGTH, LENGTH), SIZED),
    Case("two lengths in two cases", message(HOST, LENGTH, b"content-length: 13"), SIZED),
    Case("two lengths far apart", message(LENGTH, HOST, b"A: 1", b"B: 2", b"Content-Length: 130"), SIZED),
]

# RFC 9110 §8.6: Content-Length = 1*DIGIT. Python's own int() would take the half of these.
_LENGTHS = {
    "empty": b"",
    "blank": b"  ",
    "signed": b"+13",
    "negative": b"-13",
    "minus nothing": b"-0",
    "equal list": b"13, 13",
    "list": b"13,0",
    "list with an empty member": b"13,",
    "hex": b"0xd",
    "bare hex": b"d",
    "underscore": b"1_3",
    "space inside": b"1 3",
    "decimal": b"13.0",
    "exponent": b"13e0",
    "quoted": b'"13"',
    "parameter": b"13;a=b",
    "vertical tab after": b"13\x0b",
    "form feed before": b"\x0c13",
    "no-break space after": b"13\xa0",
    "fullwidth digits": "１３".encode(),  # noqa: RUF001 - the point
    "Arabic digits": "١٣".encode(),
    "superscript": b"\xb9\xb3",
    "NUL after": b"13\0",
    "a comment": b"13 (bytes)",
}
LENGTHS = [
    *(Case(f"length {name}", message(HOST, b"Content-Length: " + v), SIZED) for name, v in _LENGTHS.items()),
    *(
        Case(f"length of {len(v)} digits", message(HOST, b"Content-Length: " + v), SIZED, OVER)
        for v in (b"9" * 19, b"18446744073709551629", b"9" * 21, b"1" + b"0" * 5000)  # the second: 2^64 + 13
    ),
]

# RFC 9112 §6.1 and §7: no other coding than chunked, once. TE.TE lives on what one side alone takes for it.
_CODINGS = {
    "empty": b"",
    "identity": b"identity",
    "xchunked": b"xchunked",
    "chunked twice in one field": b"chunked, chunked",
    "gzip before": b"gzip, chunked",
    "gzip after": b"chunked, gzip",
    "gzip only": b"gzip",
    "identity before": b"identity, chunked",
    "empty member before": b", chunked",
    "empty member after": b"chunked,",
    "parameter": b"chunked;a=b",
    "quoted": b'"chunked"',
    "single quotes": b"'chunked'",
    "space inside": b"chun ked",
    "semicolon": b"chunked;",
    "not chunked": b"chunke",
    "cow": b"cow",
}
_CODINGS_BYTES = {  # no matter of codings: no field value has these bytes (RFC 9110 §5.5)
    "vertical tab after": b"chunked\x0b",
    "vertical tab before": b"\x0bchunked",
    "form feed before": b"\x0cchunked",
    "NUL after": b"chunked\0",
    "bare CR after": b"chunked\r",
    "bare CR before": b"\rchunked",
    "bare LF before": b"\nchunked",
    "a fold before": b"\r\n chunked",
    "DEL after": b"chunked\x7f",
}
_TE = b"Transfer-Encoding: "
CODINGS = [
    *(
        Case(f"coding {name}", message(HOST, _TE + v, body=CHUNKS), IN_CHUNKS, UNKNOWN_CODING)
        for name, v in _CODINGS.items()
    ),
    *(
        Case(f"coding {name}", message(HOST, _TE + v, body=CHUNKS), IN_CHUNKS, UNKNOWN_CODING)
        for name, v in _CODINGS_BYTES.items()
    ),
    Case("coding in two fields", message(HOST, CHUNKED, CHUNKED, body=CHUNKS), IN_CHUNKS, UNKNOWN_CODING),
    Case(
        "coding in two fields, one unknown",
        message(HOST, CHUNKED, _TE + b"x", body=CHUNKS),
        IN_CHUNKS,
        UNKNOWN_CODING,
    ),
    Case("coding in HTTP/1.0", message(HOST, CHUNKED, body=CHUNKS, line=LINE[:-1] + b"0"), IN_CHUNKS),
]

# RFC 9112 §5, §5.1 and §5.2, §2.2: no space around names, no folds, CRLF and nothing else ends a line.
_HIDDEN = (HOST, LENGTH)
_FIELDS = {
    "space before colon": b"X-A : 1",
    "tab before colon": b"X-A\t: 1",
    "space in name": b"X A: 1",
    "no name": b": 1",
    "no colon": b"X-A",
    "empty name and value": b":",
    "only a space": b" ",
    "NUL in name": b"X-\0A: 1",
    "NUL in value": b"X-A: 1\x002",
    "bare CR in value": b"X-A: 1\r2",
    "bare CR at the end of a value": b"X-A: 1\r",
    "bare CR in name": b"X-\rA: 1",
    "bare LF in value": b"X-A: 1\n2",
    "bare LF before a field": b"X-A: 1\nTransfer-Encoding: chunked",
    "bare CR before a field": b"X-A: 1\rTransfer-Encoding: chunked",
    "bare CR and a space": b"X-A: 1\r Transfer-Encoding: chunked",
    "obs-fold": b"X-A: 1\r\n 2",
    "obs-fold with a tab": b"X-A: 1\r\n\t2",
    "obs-fold of nothing": b"X-A: 1\r\n ",
    "obs-fold that is a field": b"X-A: 1\r\n Transfer-Encoding: chunked",
    "non-ASCII name": b"X-\xe9: 1",
    "name in parentheses": b"(X): 1",
    "quoted name": b'"X-A": 1',
    "control character in name": b"X-\x01A: 1",
    "slash in name": b"X/A: 1",
    "hidden coding: space before colon": b"Transfer-Encoding : chunked",
    "hidden coding: tab before colon": b"Transfer-Encoding\t: chunked",
    "hidden coding: NUL in name": b"Transfer-Encoding\0: chunked",
    "hidden coding: vertical tab": b"Transfer-Encoding\x0b: chunked",
    "hidden coding: bare CR before": b"\rTransfer-Encoding: chunked",
    "hidden length: space before colon": b"Content-Length : 0",
    "hidden length: fold": b"Content-Length:\r\n 0",
}
FIELDS = [
    *(Case(name, message(HOST, LENGTH, field), message(HOST, LENGTH, b"X-A: 1")) for name, field in _FIELDS.items()),
    *(
        Case(f"{name}, first", message(field, HOST, LENGTH), message(b"X-A: 1", HOST, LENGTH))
        for name, field in _FIELDS.items()
    ),
    Case("space at the start of the first field", message(b" " + HOST, LENGTH), SIZED),
    Case("tab at the start of the first field", message(b"\t" + HOST, LENGTH), SIZED),
    Case("space at the start of a field", message(HOST, b" " + LENGTH), SIZED),
    Case("LF for every line end", SIZED.replace(b"\r\n", b"\n"), SIZED),
    Case("CR for every line end", SIZED.replace(b"\r\n", b"\r"), SIZED),
    Case("LF after the request line", SIZED.replace(b"\r\n", b"\n", 1), SIZED),
    Case("LF after a field", SIZED.replace(HOST + b"\r", HOST), SIZED),
    Case("LF ends the head", SIZED.replace(b"\r\n\r\n", b"\r\n\n"), SIZED),
    Case("LF LF ends the head", SIZED.replace(b"\r\n\r\n", b"\n\n"), SIZED),
    Case("LF CRLF ends the head", SIZED.replace(b"\r\n\r\n", b"\n\r\n"), SIZED),
    Case("CR CR LF after a field", SIZED.replace(HOST + b"\r\n", HOST + b"\r\r\n"), SIZED),
    Case("CR CR LF ends the head", SIZED.replace(b"\r\n\r\n", b"\r\n\r\r\n"), SIZED),
    Case("a bare CR before the request", b"\r" + SIZED, SIZED),
    Case("a bare LF before the request", b"\n" + SIZED, SIZED),
]

# RFC 9112 §3.2: one Host, and a host.
HOSTS = [
    Case("no host", message(LENGTH), SIZED),
    Case("two hosts", message(HOST, b"Host: b", LENGTH), SIZED),
    Case("two equal hosts", message(HOST, HOST, LENGTH), SIZED),
    *(
        Case(f"host {value.decode('latin-1')!r}", message(b"Host: " + value, LENGTH), SIZED)
        for value in (
            b"a/b",
            b"a b",
            b"a, b",
            b"a@b",
            b"a:99999",
            b"a:x",
            b"http://a",
            b"a?b",
            b"a#b",
            b"[::1",
            b"\xff",
        )
    ),
]

# RFC 9112 §3: method SP request-target SP HTTP-version, one space each.
_LINES = {
    "leading space": b" " + LINE,
    "leading tab": b"\t" + LINE,
    "two spaces before the target": LINE.replace(b" ", b"  ", 1),
    "two spaces before the version": LINE.replace(b" HTTP", b"  HTTP"),
    "trailing space": LINE + b" ",
    "tab before the target": LINE.replace(b" ", b"\t", 1),
    "tab before the version": LINE.replace(b" HTTP", b"\tHTTP"),
    "vertical tab before the version": LINE.replace(b" HTTP", b"\x0bHTTP"),
    "form feed before the version": LINE.replace(b" HTTP", b"\x0cHTTP"),
    "a bare CR before the version": LINE.replace(b" HTTP", b" \rHTTP"),
    "a bare CR at the end": LINE + b"\r",
    "no version (HTTP/0.9)": b"POST /v1/chat/completions",
    "no target": b"POST HTTP/1.1",
    "no target but its spaces": b"POST  HTTP/1.1",
    "no method": b"/v1/chat/completions HTTP/1.1",
    "an empty method": b" /v1/chat/completions HTTP/1.1",
    "four words": b"POST /v1/chat /completions HTTP/1.1",
    "two versions": LINE + b" HTTP/1.1",
    "version in lower case": LINE.replace(b"HTTP", b"http"),
    "version of another protocol": LINE.replace(b"HTTP", b"HTTPS"),
    "version without a dot": LINE.replace(b"1.1", b"1"),
    "version with a comma": LINE.replace(b"1.1", b"1,1"),
    "version with two digits": LINE.replace(b"1.1", b"1.10"),
    "version with a leading zero": LINE.replace(b"1.1", b"01.1"),
    "version with a sign": LINE.replace(b"1.1", b"+1.1"),
    "version with a letter": LINE.replace(b"1.1", b"1.1x"),
    "method with a separator": LINE.replace(b"POST", b"PO(ST"),
    "method with a NUL": LINE.replace(b"POST", b"PO\0ST"),
    "method that is not ASCII": LINE.replace(b"POST", b"P\xd6ST"),
    "target with a NUL": LINE.replace(b"chat", b"ch\0at"),
    "target with a control character": LINE.replace(b"chat", b"ch\x01at"),
    "target with a DEL": LINE.replace(b"chat", b"ch\x7fat"),
    "target with a tab": LINE.replace(b"chat", b"ch\tat"),
    "target with a bare CR": LINE.replace(b"chat", b"ch\rat"),
    "target with a bare LF": LINE.replace(b"chat", b"ch\nat"),
    "target that is not ASCII": LINE.replace(b"chat", b"ch\xe4t"),
    "target that is no path": LINE.replace(b"/v1", b"v1"),
    "target that is an authority": b"POST a:80 HTTP/1.1",
    "target that begins with an at": LINE.replace(b"/v1", b"@b/v1"),
    "target with a backslash first": LINE.replace(b"/v1", b"\\v1"),
    "no forward proxy": b"CONNECT a:80 HTTP/1.1",
}
LINES = [
    *(Case(name, message(HOST, LENGTH, line=line), SIZED) for name, line in _LINES.items()),
    *(
        Case(f"HTTP/{version}", message(HOST, LENGTH, line=LINE[:-3] + version.encode()), SIZED, UNKNOWN_VERSION)
        for version in ("0.9", "2.0", "3.0", "9.9")
    ),
    Case("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SIZED, UNKNOWN_VERSION),
]

# RFC 9112 §7.1: chunk = 1*HEXDIG [ chunk-ext ] CRLF chunk-data CRLF. §7.1.1: a limit on extensions.
_SIZES = {
    "empty": b"",
    "signed": b"+d",
    "negative": b"-d",
    "0x": b"0xd",
    "0X": b"0XD",
    "underscore": b"0_d",
    "space before": b" d",
    "space after": b"d ",
    "tab before": b"\td",
    "tab after": b"d\t",
    "not hex": b"g",
    "h after": b"dh",
    "two numbers": b"d d",
    "comma": b"d,d",
    "NUL": b"d\0",
    "vertical tab after": b"d\x0b",
    "fullwidth digit": "1３".encode(),  # noqa: RUF001 - the point
    "CR after": b"d\r",
    "two CRs after": b"d\r\r",
    "CR before": b"\rd",
    "LF before": b"\nd",
    "EXT.TERM, bare LF in an extension": b"d;a\nb",
    "EXT.TERM, bare CR in an extension": b"d;a\rb",
    "NUL in an extension": b"d;a\0b",
    "bare LF after the semicolon": b"d;\n",
}
_DATA = BODY + b"\r\n0\r\n\r\n"
CHUNK_SIZES = [
    *(Case(f"chunk size {name}", chunked(size + b"\r\n" + _DATA), IN_CHUNKS) for name, size in _SIZES.items()),
    *(
        Case(
            f"last chunk {name}", chunked(b"d\r\n" + BODY + b"\r\n" + size.replace(b"d", b"0") + b"\r\n\r\n"), IN_CHUNKS
        )
        for name, size in _SIZES.items()
        if b"d" in size
    ),
    *(
        Case(f"chunk size of {len(size)} digits", chunked(size + b"\r\n" + _DATA), IN_CHUNKS, OVER)
        for size in (b"7fffffffffffffff", b"1000000000000000d", b"f" * 20, b"0" * 300 + b"d")
    ),
    Case("chunk larger than a body may be", chunked(b"3e9\r\n" + b"x" * 1001 + b"\r\n"), IN_CHUNKS, OVER),
    Case("chunk of 2 GB", chunked(b"7fffffff\r\n" + b"x" * 1001), IN_CHUNKS, OVER),
    Case("chunks that are too much together", chunked((b"64\r\n" + b"x" * 100 + b"\r\n") * 11), IN_CHUNKS, OVER),
]
CHUNKS_OTHER = [
    Case("TERM.EXT, LF ends a size", chunked(b"d\n" + _DATA), IN_CHUNKS),
    Case("CR ends a size", chunked(b"d\r" + _DATA), IN_CHUNKS),
    Case("LF ends the data", chunked(CHUNKS.replace(b"}\r\n", b"}\n")), IN_CHUNKS),
    Case("CR ends the data", chunked(CHUNKS.replace(b"}\r\n", b"}\r")), IN_CHUNKS),
    Case("TERM.SPILL, nothing ends the data", chunked(CHUNKS.replace(b"}\r\n", b"}")), IN_CHUNKS),
    Case("SPILL.TERM, two bytes end the data", chunked(CHUNKS.replace(b"}\r\n", b"}XX")), IN_CHUNKS),
    Case("data longer than its size", chunked(CHUNKS.replace(b"d\r\n", b"c\r\n", 1)), IN_CHUNKS),
    Case("data shorter than its size", chunked(CHUNKS.replace(b"d\r\n", b"e\r\n", 1)), IN_CHUNKS),
    Case("LF ends the last chunk", chunked(CHUNKS.replace(b"0\r\n", b"0\n")), IN_CHUNKS),
    Case("LF ends the message", chunked(CHUNKS[:-2] + b"\n"), IN_CHUNKS),
    Case("LF LF ends the message", chunked(CHUNKS[:-4] + b"\n\n"), IN_CHUNKS),
    Case("CR CR LF ends the message", chunked(CHUNKS[:-2] + b"\r\r\n"), IN_CHUNKS),
    Case("an extension without an end", chunked(b"d;a=" + b"x" * 70_000 + b"\r\n" + _DATA), IN_CHUNKS, FRAMING_OVER),
]

# RFC 9112 §7.1.2: a trailer is a field, with a field's grammar.
_TRAILERS = {
    "folded": b"X-A: 1\r\n 2",
    "space before colon": b"X-A : 1",
    "space first": b" X-A: 1",
    "no colon": b"X-A",
    "no name": b": 1",
    "NUL": b"X-A: \0",
    "bare CR": b"X-A: 1\r2",
    "bare LF": b"X-A: 1\n2",
    "request line": b"GET /canary HTTP/1.1",
}
TRAILERS = [
    *(
        Case(f"trailer {name}", chunked(CHUNKS[:-2] + field + b"\r\n\r\n"), chunked(CHUNKS[:-2] + b"X-A: 1\r\n\r\n"))
        for name, field in _TRAILERS.items()
    ),
    Case("trailer ends with LF", chunked(CHUNKS[:-2] + b"X-A: 1\n\r\n"), IN_CHUNKS),
    Case("a trailer without an end", chunked(CHUNKS[:-2] + b"X-A: " + b"x" * 70_000), IN_CHUNKS, FRAMING_OVER),
    Case("too many trailers", chunked(CHUNKS[:-2] + b"X-A: 1\r\n" * 9000 + b"\r\n"), IN_CHUNKS, FRAMING_OVER),
]

# RFC 9112 §3 and §2.2; RFC 6585 §5 for 431.
LIMITS = [
    Case("too many fields", message(HOST, LENGTH, *[b"A: b"] * 100), message(HOST, LENGTH, *[b"A: b"] * 98), HEAD_OVER),
    Case("a field that is too long", message(HOST, LENGTH, b"A: " + b"x" * 66_000), SIZED, HEAD_OVER),
    Case("a name that is too long", message(HOST, LENGTH, b"x" * 66_000 + b": a"), SIZED, HEAD_OVER),
    Case(
        "a target that is too long",
        message(HOST, LENGTH, line=LINE.replace(b"chat", b"x" * 66_000)),
        SIZED,
        frozenset({414, 431}),  # RFC 9110 §15.5.15 has a status of its own for it
    ),
    Case("a method that is too long", b"x" * 66_000 + SIZED, SIZED, frozenset({400, 431, 501})),  # RFC 9112 §3
    Case("a body that is too long", message(HOST, b"Content-Length: 1001"), SIZED, frozenset({413})),
]

CORPUS = [
    *TWO_FRAMINGS,
    *LENGTHS,
    *CODINGS,
    *FIELDS,
    *HOSTS,
    *LINES,
    *CHUNK_SIZES,
    *CHUNKS_OTHER,
    *TRAILERS,
    *LIMITS,
]

HIDDEN = b"POST /v1/chat/completions?canary HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


def hiding(*fields: bytes, line: bytes = LINE) -> bytes:
    """A request whose body is another one, for whoever overlooks the body."""
    return message(HOST, b"Content-Length: %d" % len(HIDDEN), *fields, line=line, body=HIDDEN)


# What looks odd and is legal: one request each, with this body. Refusing it would cost somebody a client.
LEGAL = {
    "CL.0": (hiding(), HIDDEN),
    "0.CL with GET": (hiding(line=b"GET /x HTTP/1.1"), HIDDEN),
    "0.CL with HEAD": (hiding(line=b"HEAD /x HTTP/1.1"), HIDDEN),
    "0.CL with OPTIONS *": (hiding(line=b"OPTIONS * HTTP/1.1"), HIDDEN),
    "0.CL with DELETE": (hiding(line=b"DELETE /x HTTP/1.1"), HIDDEN),
    "Expect, and the body at once": (hiding(b"Expect: 100-continue"), HIDDEN),
    "an offer to upgrade": (hiding(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"), HIDDEN),
    "Connection names the length": (hiding(b"Connection: Content-Length"), HIDDEN),
    "GET in chunks": (message(HOST, CHUNKED, body=CHUNKS, line=b"GET /x HTTP/1.1"), BODY),
    "a body in chunks that looks like the end": (chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), b"0\r\n\r\n"),
    "coding in another case": (message(HOST, b"transfer-ENCODING: Chunked", body=CHUNKS), BODY),
    "no space after the colon": (message(b"Host:a", b"Content-Length:13"), BODY),
    "spaces and tabs around a value": (message(b"Host: \t a \t", b"Content-Length:\t 13 \t"), BODY),
    "an empty value": (message(HOST, LENGTH, b"X-A:"), BODY),
    "bytes above ASCII in a value": (message(HOST, LENGTH, b"X-A: \xe9\xff"), BODY),
    "no length": (message(HOST, body=b""), b""),
    "absolute form": (message(HOST, LENGTH, line=LINE.replace(b"/v1", b"http://b:80/v1")), BODY),  # §3.2.2
    "an empty host": (message(b"Host:", LENGTH), BODY),
    "an IPv6 host": (message(b"Host: [::1]:8080", LENGTH), BODY),
    "leading zeros in a chunk size": (chunked(CHUNKS.replace(b"d", b"00d", 1)), BODY),
    "capital hex": (chunked(b"D" + CHUNKS[1:]), BODY),
    "a chunk extension": (chunked(CHUNKS.replace(b"d\r", b'd;a=b;c="d"\r', 1)), BODY),
    "an extension of the last chunk": (chunked(CHUNKS.replace(b"0\r", b"0;a\r", 1)), BODY),
    "bad whitespace before an extension": (chunked(CHUNKS.replace(b"d\r", b"d \t;a=b\r", 1)), BODY),  # §7.1.1
    "a trailer": (chunked(CHUNKS[:-2] + b"X-Checksum: 1\r\n\r\n"), BODY),
    "trailers that would be a framing": (
        chunked(CHUNKS[:-2] + LENGTH + b"\r\n" + CHUNKED + b"\r\nHost: b\r\nConnection: close\r\n\r\n"),
        BODY,
    ),  # dropped (RFC 9112 §7.1.2)
    "an empty line first": (b"\r\n" + SIZED, BODY),  # §2.2
    "empty lines first": (b"\r\n\r\n\r\n" + SIZED, BODY),
    "another method": (message(HOST, LENGTH, line=LINE.replace(b"POST", b"PROPFIND")), BODY),
    "HTTP/1.0 that asks to stay": (
        message(LENGTH, b"Connection: keep-alive", line=LINE[:-1] + b"0"),
        BODY,
    ),
}
