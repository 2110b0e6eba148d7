"""What a server's answer to a request for a file means, and how the rest of one is asked for. Nothing here acts.

What it may answer when `have` bytes are there (RFC 9110, 14.4, 15.3.7 and 15.5.17):
    200                     the whole file: from the beginning, never appended
    206 bytes HAVE-x/TOTAL  the rest
    206 anything else       it is out of step with us: thrown away, tried again
    416 bytes */HAVE        nothing is missing
    416 anything else       what is here is of no use: thrown away, tried again
    408, 429, 5xx           tried again, after Retry-After where it says one
    any other               an error at once

A tag says which version of a file some bytes belong to. It is the server's own, for If-Range; or `sha256:…` where the
checksum is known: then any server will do for the rest, and the checksum tells whether the parts belong together.
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import msgspec

_CHECKSUM = "sha256:"  # no ETag begins so, and no date
_RANGE = re.compile(r"bytes (?:\*|(?P<start>\d+)-\d+)/(?P<total>\d+|\*)")  # RFC 9110, 14.4


class Place(msgspec.Struct, frozen=True):
    """Where the bytes of an answer belong: from `start` on, of `total`, 0 where nobody knows."""

    start: int
    total: int


def place_of(status: int, headers: Mapping[str, str], have: int, tag: str) -> Place | None:
    """Where they belong, if `have` bytes of the version `tag` are there; None: they are out of step with these."""
    if status == HTTPStatus.OK:
        return Place(0, int(headers.get("content-length", "0")))
    match = _RANGE.fullmatch(headers.get("content-range", ""))
    if match is None or match["total"] == "*" or _is_other(headers, tag):
        return None
    start = int(match["start"] or match["total"])
    return Place(start, int(match["total"])) if start == have else None


def part_place(status: int, headers: Mapping[str, str], start: int) -> Place | None:
    """As `place_of`, where some bytes from `start` on were asked for, which may lie behind the file's end."""
    if status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return place_of(status, headers, start, "")
    match = _RANGE.fullmatch(headers.get("content-range", ""))
    return Place(start, int(match["total"]) if match and match["total"] != "*" else 0)


def _is_other(headers: Mapping[str, str], tag: str) -> bool:
    """A server that does not know If-Range sends a part of whatever file it has now."""
    return tag.startswith('"') and headers.get("etag", tag) != tag


def rest_wanted(have: int, tag: str) -> dict[str, str]:
    """Headers that ask for what follows `have` bytes of the version `tag`."""
    if not have:
        return {}
    part = {"range": f"bytes={have}-"}
    return part if tag.startswith(_CHECKSUM) else part | {"if-range": tag}


def tag_of(headers: Mapping[str, str], sha256: str) -> str:
    """The tag of what an answer holds; empty where it cannot be told. A weak ETag cannot (RFC 9110, 13.1.5)."""
    if sha256:
        return _CHECKSUM + sha256.lower()
    etag = headers.get("etag", "")
    return etag if etag.startswith('"') else headers.get("last-modified", "")


def is_of_use(tag: str, sha256: str) -> bool:
    """Whether bytes with this tag may be the beginning of the file with this checksum, empty where none is known."""
    return bool(tag) and (not tag.startswith(_CHECKSUM) or tag == tag_of({}, sha256))


def is_for_later(status: int) -> bool:
    """Whether the same request may go better in a while."""
    return status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500


def seconds(retry_after: str, now: float) -> float:
    """A Retry-After header, which is a number of seconds or a date (RFC 9110, 10.2.3); 0 where it is neither."""
    try:
        return float(retry_after) if retry_after.isdigit() else parsedate_to_datetime(retry_after).timestamp() - now
    except ValueError:
        return 0.0
