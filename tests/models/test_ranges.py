"""Which bytes are answered to which request (requirement H6; RFC 9110, sections 13 and 14)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.models.ranges import Asked, Part, asked, part

TAG = '"abc"'


def of(span: str, size: int = 10, **more: str) -> Part:
    return part(Asked(range=span, **more), size, TAG)


@pytest.mark.parametrize(
    ("span", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=2-5", 2, 6),
        ("bytes=7-", 7, 10),
        ("bytes=7-99", 7, 10),
        ("bytes=-3", 7, 10),
        ("bytes=-99", 0, 10),
        ("Bytes= 2-5 ", 2, 6),
    ],
)
def test_a_range_is_a_part(span: str, start: int, stop: int) -> None:
    """With which bytes they are, of how many."""
    what = of(span)
    assert (what.status, what.start, what.stop) == (206, start, stop)
    assert what.headers["content-range"] == f"bytes {start}-{stop - 1}/10"
    assert what.headers["content-length"] == str(stop - start)
    assert (what.headers["etag"], what.headers["accept-ranges"]) == (TAG, "bytes")


@pytest.mark.parametrize(
    "span",
    ["", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1", "0-1", f"bytes={'9' * 30}-"],
)
def test_what_is_no_range_of_ours_is_not_there(span: str) -> None:
    """The whole file is answered: several ranges, other units, nonsense."""
    what = of(span)
    assert (what.status, what.start, what.stop) == (200, 0, 10)
    assert what.headers["content-length"] == "10"
    assert "content-range" not in what.headers


@pytest.mark.parametrize(("span", "size"), [("bytes=10-", 10), ("bytes=99-100", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
def test_a_range_behind_the_end_is_416(span: str, size: int) -> None:
    """With how long the file is: so whoever resumes learns that nothing is missing."""
    what = of(span, size)
    assert (what.status, what.headers["content-range"], what.start, what.stop) == (416, f"bytes */{size}", 0, 0)


@pytest.mark.parametrize("if_range", ['"other"', f"W/{TAG}", "Sat, 21 Nov 2026 15:00:00 GMT"])
def test_a_part_of_another_version_is_not_sent(if_range: str) -> None:
    """If-Range compares strongly; we name no dates."""
    assert of("bytes=2-5", if_range=if_range).status == 200
    assert of("bytes=2-5", if_range=TAG).status == 206
    assert part(Asked(range="bytes=2-5", if_range=TAG), 10, "").status == 200


@pytest.mark.parametrize("listed", [TAG, f"W/{TAG}", f'"x", {TAG}', "*"])
def test_what_is_known_is_not_sent_again(listed: str) -> None:
    """304, before any range is looked at."""
    what = of("bytes=2-5", if_none_match=listed)
    assert (what.status, what.headers["etag"]) == (304, TAG)
    assert "content-length" not in what.headers
    assert of("bytes=2-5", if_none_match='"x"').status == 206


def test_head_knows_no_range() -> None:
    """It is defined for GET alone (section 14.2)."""
    assert part(Asked("HEAD", range="bytes=2-5"), 10, TAG).status == 200


def test_headers_are_read_by_their_names() -> None:
    """As a framework gives them."""
    headers = {"range": "bytes=1-", "if-range": TAG, "if-none-match": '"x"', "host": "h"}
    assert asked("GET", headers) == Asked("GET", "bytes=1-", TAG, '"x"')
    assert asked("HEAD", {}) == Asked("HEAD")


@given(st.one_of(st.text(), st.from_regex(r"bytes=\d*-\d*", fullmatch=True)), st.integers(0, 1000))
def test_no_header_makes_a_part_that_is_not_there(span: str, size: int) -> None:
    """Whatever it says: a part lies within the file, and says how long it is."""
    what = of(span, size)
    assert what.status in (200, 206, 416)
    assert 0 <= what.start <= what.stop <= size
    assert what.headers["content-length"] == str(what.stop - what.start)
