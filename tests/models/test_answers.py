"""What answers mean: where their bytes belong, what is tried again, and when."""

import pytest

from llm_router.models.answers import Place, is_for_later, is_of_use, part_place, place_of, rest_wanted, seconds, tag_of

SHA256 = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("status", "content_range", "start"),
    [
        (200, "", 0),
        (206, "bytes 100-199/200", 100),
        (206, "bytes 50-199/200", None),
        (206, "bytes 100-199/*", None),
        (206, "", None),
        (416, "bytes */100", 100),
        (416, "bytes */90", None),
        (416, "", None),
    ],
)
def test_what_an_answer_means(status: int, content_range: str, start: int | None) -> None:
    """Bytes are appended only where they continue the hundred that are there (RFC 9110, 14.4)."""
    place = place_of(status, {"content-range": content_range}, 100, '"tag"')
    assert (place.start if place else None) == start


def test_parts() -> None:
    """A part begins where it was asked for, or the whole file comes; behind its end, its size is told."""
    assert part_place(206, {"content-range": "bytes 100-149/200"}, 100) == Place(100, 200)
    assert part_place(206, {"content-range": "bytes 0-149/200"}, 100) is None
    assert part_place(200, {"content-length": "200"}, 100) == Place(0, 200)
    assert part_place(416, {"content-range": "bytes */200"}, 300) == Place(300, 200)
    assert part_place(416, {}, 300) == Place(300, 0)


def test_retry_after() -> None:
    """Retry-After is read as seconds and as a date (RFC 9110, 10.2.3); what it is not counts as none."""
    assert seconds("7", 0) == 7
    assert seconds("Thu, 01 Jan 1970 00:01:00 GMT", 50) == 10
    assert seconds("soon", 0) == seconds("", 0) == 0


def test_what_is_tried_again() -> None:
    """What the server calls its own trouble, or ours in time, is tried again; what it calls our fault is not."""
    assert all(is_for_later(status) for status in (408, 429, 500, 502, 503, 504))
    assert not any(is_for_later(status) for status in (400, 401, 403, 404, 410))


def test_rest_from_any_server() -> None:
    """With a checksum, any server will do for the rest; without one, only the server that has that very version."""
    known = tag_of({"etag": '"abc"'}, SHA256.upper())
    assert rest_wanted(100, known) == {"range": "bytes=100-"}
    assert rest_wanted(100, tag_of({"etag": '"abc"'}, "")) == {"range": "bytes=100-", "if-range": '"abc"'}
    assert rest_wanted(0, known) == {}
    part = {"content-range": "bytes 100-199/200", "etag": '"of another server"'}
    assert place_of(206, part, 100, known) is not None
    assert place_of(206, part, 100, '"abc"') is None


def test_what_may_be_a_beginning() -> None:
    """Bytes are built upon only if they may be of the file that is wanted."""
    known = tag_of({}, SHA256)
    assert is_of_use(known, SHA256)
    assert is_of_use('"abc"', SHA256)  # If-Range tells, and then the checksum
    assert not is_of_use(known, "")
    assert not is_of_use(known, "f" * 64)
    assert not is_of_use("", SHA256)
