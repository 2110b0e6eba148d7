"""Connections of clients: limits, time-outs, many requests on one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.gateway.conftest import House, answers, whole


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway whose time-outs are as short as its clock is exact."""
    house = House(tmp_path)
    await house.start(head_timeout=0.1, body_timeout=0.1, idle_timeout=0.1)
    yield house
    await house.stop()


async def test_a_head_that_trickles_is_408(impatient: House) -> None:
    """However often a byte comes: the head as a whole has its time."""
    client = await impatient.client()
    await client.send(b"POST /api/chat HTTP/1.1\r\nHos")
    status, headers, body = await client.answer()
    assert (status, headers["connection"]) == (408, "close")
    assert b"head did not arrive" in body
    assert await client.rest() == b""


async def test_a_body_that_stalls_is_408_in_the_callers_shape(impatient: House) -> None:
    """The path is known by then, and so is the API."""
    client = await impatient.client()
    await client.send(b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab")
    status, _, body = await client.answer()
    assert status == 408
    assert body.startswith(b'{"type":"error"')


async def test_an_idle_connection_is_closed_without_a_word(impatient: House) -> None:
    """An answer that nobody asked for would be taken for the next one."""
    client = await impatient.client()
    assert await asyncio.wait_for(client.rest(), 5) == b""


async def test_a_client_that_takes_its_time_between_bytes_is_served(house: House) -> None:
    """Within the limits, one byte at a time is a request like any other."""
    client = await house.client()
    for byte in b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n":
        await client.send(bytes([byte]))
    assert (await client.answer())[0] == 200


async def test_head_is_answered_without_a_body(house: House) -> None:
    """And the connection goes on (RFC 9110 §9.3.2)."""
    client = await house.client()
    await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    status, headers = await client.head()
    assert (status, int(headers["content-length"]) > 0) == (200, True)
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("a", 200), ("[::1]:80", 200), ("a.b-c:60000", 200), ("", 200), ("a: 0", 400), ("a/b", 400), ("a:99999", 400)],
)
async def test_a_host_that_is_none_is_400(house: House, host: str, status: int) -> None:
    """RFC 9112 §3.2. The control app builds URLs of it."""
    client = await house.client()
    await client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert (await client.answer())[0] == status


async def test_connection_close_is_honoured(house: House) -> None:
    """A client that asks for the end gets its answer first."""
    client = await house.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    _, headers, _ = await client.answer()
    assert headers["connection"] == "close"
    assert await client.rest() == b""


async def test_what_came_before_garbage_is_answered_first(house: House) -> None:
    """A pipeline that goes wrong does not take its good requests with it."""
    client = await house.client()
    await client.send(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n\x00garbage\r\n\r\n")
    assert (await client.answer())[0] == 200
    assert (await client.answer())[0] == 400
    assert await client.rest() == b""


async def test_a_clients_own_request_id_must_be_harmless(house: House) -> None:
    """It is repeated in headers and records: printable and short, or ours instead."""
    client = await house.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: " + b"x" * 200 + b"\r\n\r\n")
    assert len((await client.answer())[1]["x-request-id"]) < 40


async def test_a_client_that_pipelines_and_does_not_read_fills_no_memory(house: House) -> None:
    """Its next request waits until it has taken the answers before."""
    big = b'{"x":"' + b"x" * 200_000 + b'"}'
    upstream = await house.node("one", answers(whole(big)))
    client = await house.client()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n\r\n" + b'{"model":"m"}'
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001 - a client that does not read
    await client.send(request * 500)
    assert await answered(house) < 400  # as many as fit into the sockets' buffers, and no more
    assert upstream.connections == 1


async def answered(house: House) -> int:
    """How many requests are answered until nothing moves for a second."""
    count = 0
    while True:
        try:
            await asyncio.wait_for(house.records.get(), 1)
        except TimeoutError:
            return count
        count += 1
