"""Which part of a file a request is for: Range and the conditions around it, as RFC 9110 has them (requirement H6).

What is answered, the first line that fits:

    If-None-Match names this version                   304
    no Range, HEAD, several ranges, another unit       200, the whole of it
    If-Range names another version                     200, the whole of it
    no byte of the range is there                      416, and how long the file is
    anything else                                      206, and which bytes they are

A version's name is an entity tag in its quotes; "" is a version that cannot be named, and no condition fits that. We
name no dates, so an If-Range with one is another version's.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus

import msgspec

# RFC 9110, 14.1.2; longer numbers are no place in any file. Several ranges may be answered as if none were asked for
# (14.2), and downloaders ask for one.
_RANGE = re.compile(r"bytes=[ \t]*(?P<first>\d{0,18})-(?P<last>\d{0,18})[ \t]*", re.IGNORECASE)


class Asked(msgspec.Struct, frozen=True):
    """What a request says of the part that it wants: its method, and these headers, "" where they are not there."""

    method: str = "GET"
    range: str = ""
    if_range: str = ""
    if_none_match: str = ""


class Part(msgspec.Struct, frozen=True):
    """The answer: its status, header lines, and the bytes from `start` up to `stop`, which is not one of them."""

    status: int
    start: int
    stop: int
    headers: dict[str, str]


def asked(method: str, headers: Mapping[str, str]) -> Asked:
    """What a request asks for. `headers`: by their names in lower case."""
    return Asked(
        method,
        range=headers.get("range", ""),
        if_range=headers.get("if-range", ""),
        if_none_match=headers.get("if-none-match", ""),
    )


def part(wanted: Asked, size: int, tag: str) -> Part:
    """What to answer of a file of `size` bytes, whose version is `tag`."""
    headers = {"accept-ranges": "bytes"} | ({"etag": tag} if tag else {})
    if tag and _lists(wanted.if_none_match, tag):
        return Part(HTTPStatus.NOT_MODIFIED, 0, 0, headers)
    span = _span(wanted, size, tag)
    if span is None:
        return Part(HTTPStatus.OK, 0, size, headers | {"content-length": str(size)})
    start, stop = span
    if start >= stop:
        headers |= {"content-range": f"bytes */{size}", "content-length": "0"}
        return Part(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0, headers)
    headers |= {"content-range": f"bytes {start}-{stop - 1}/{size}", "content-length": str(stop - start)}
    return Part(HTTPStatus.PARTIAL_CONTENT, start, stop, headers)


def _span(wanted: Asked, size: int, tag: str) -> tuple[int, int] | None:
    """The bytes of the range; None: there is none that counts."""
    match = _RANGE.fullmatch(wanted.range)
    if wanted.method != "GET" or match is None or match["first"] == match["last"] == "":
        return None
    if wanted.if_range and (not tag or wanted.if_range != tag):  # compared strongly: a weak tag never fits (13.1.5)
        return None
    if not match["first"]:
        return max(0, size - int(match["last"])), size
    first, last = int(match["first"]), int(match["last"] or size)
    return None if last < first and match["last"] else (first, min(last + 1, size))


def _lists(tags: str, tag: str) -> bool:
    """Whether `If-None-Match` lists the tag: a weak one counts as a strong one here (13.1.2)."""
    return any(listed.strip().removeprefix("W/") in {tag, "*"} for listed in tags.split(","))
