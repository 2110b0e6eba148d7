"""What `wire.stream` promises: the same records however the bytes were cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.errors import UpstreamFailed
from llm_router.wire.stream import RECORD_LIMIT, SseCutter, chunk, last_object, sse


def test_an_event_is_its_data() -> None:
    """One event, one record: the data without field name and blank line."""
    assert SseCutter().feed(b'data: {"a":1}\n\n') == [b'{"a":1}']


def test_several_events_in_one_piece_come_out_in_order() -> None:
    """A burst is cut into all of its events."""
    assert SseCutter().feed(b"data: a\n\ndata: b\n\ndata: c\n\n") == [b"a", b"b", b"c"]


def test_lines_of_one_event_are_joined() -> None:
    """Several `data` lines of an event are one record, joined by LF, as the standard has it."""
    assert SseCutter().feed(b"event: x\ndata: a\nid: 7\ndata:b\n\n") == [b"a\nb"]


def test_comments_and_empty_events_are_nothing() -> None:
    """A sign of life (`: …`) and an event without data give no record."""
    assert SseCutter().feed(b": queued\n\nevent: ping\n\n\n\ndata:\n\ndata: a\n\n") == [b"a"]


def test_carriage_returns_before_line_feeds_do_not_matter() -> None:
    """CRLF servers are understood, even when CR and LF come in different pieces."""
    cutter = SseCutter()
    pieces = [b"data: a\r", b"\n\r", b"\ndata: b\r\n\r\n"]
    assert [record for piece in pieces for record in cutter.feed(piece)] == [b"a", b"b"]


def test_a_last_event_without_its_blank_line_is_not_lost() -> None:
    """`end` hands out what came without its separator."""
    cutter = SseCutter()
    assert cutter.feed(b"data: a\n\ndata: [DONE]\n") == [b"a"]
    assert cutter.end() == [b"[DONE]"]
    assert cutter.end() == []


def test_a_record_has_a_limit() -> None:
    """A record that never ends is the upstream's failure, not this process's memory."""
    cutter = SseCutter()
    half = b"data: " + b"x" * (RECORD_LIMIT // 2)
    cutter.feed(half)
    with pytest.raises(UpstreamFailed, match="larger than"):
        cutter.feed(half)


EVENTS = st.lists(
    st.sampled_from([b"data: a\n\n", b"data: b\r\n\r\n", b": c\n\n", b"event: e\ndata: d\ndata: e\n\n", b"\n"])
)


@given(EVENTS, st.lists(st.integers(min_value=1, max_value=9)))
def test_where_the_pieces_end_makes_no_difference(events: list[bytes], sizes: list[int]) -> None:
    """Rule 3."""
    stream = b"".join(events)
    assert cut(stream, sizes) == cut(stream, [])


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    cutter = SseCutter()
    records = []
    for size in sizes:
        records += cutter.feed(stream[:size])
        stream = stream[size:]
    return records + cutter.feed(stream) + cutter.end()


def test_what_is_written_can_be_cut_again() -> None:
    """`sse` and `SseCutter` agree."""
    assert sse(b"{}") == b"data: {}\n\n"
    assert sse(b"{}", "error") == b"event: error\ndata: {}\n\n"
    assert SseCutter().feed(sse(b"[1]", "message")) == [b"[1]"]


def test_a_chunk_has_its_length_in_hexadecimal() -> None:
    """RFC 9112 §7.1; no data is no chunk, for a chunk of length 0 ends the body."""
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert chunk(b"") == b""


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        (b'"x":1,"k":{"a":{"b":2},"c":3},"d":{}}', b'{"a":{"b":2},"c":3}'),
        (b'"k": {"a":1}} text "k":\n{"a":2}}', b'{"a":2}'),
        (b'"k":{"a":1\r\n1f\r\n2}', b'{"a":12}'),
        (b'"k":null,"other":{"a":1}', b""),
        (b'"k":{"a":{"b":1}', b""),
        (b'"text":"\\"k\\":{}"', b""),
        (b"", b""),
        (b'"k":' + b"{" * 99 + b"}" * 99, b""),
    ],
)
def test_the_last_object_under_a_key_is_found(tail: bytes, found: bytes) -> None:
    """Whole or nested, across a chunk line, not in a string, and not what only follows the key."""
    assert last_object(tail, b'"k"') == found
