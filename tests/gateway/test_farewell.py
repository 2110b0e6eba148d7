"""The last word on a connection reaches clients that are still sending; none of them stays for long."""

import asyncio
import http.client
from pathlib import Path

import pytest
from tests.gateway.conftest import Client, House, opened, until

from llm_router.gateway import farewell

LARGE = b"x" * 8_000_000  # more than all buffers between two sockets take
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


async def sent_too_much(house: House) -> Client:
    """A client that has got its last word, and has not ended its side."""
    client = await house.client()
    await client.send(HEAD % len(LARGE))
    await until(lambda: len(house.gateway.leaving) == 1)
    return client


class TestWhoIsStillSending:
    async def test_reads_its_answer_when_it_has_sent_everything(self, tmp_path: Path) -> None:
        """As every blocking client does (RFC 9112 §9.6)."""

        def blocking(port: int) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("POST", "/v1/chat/completions", LARGE)
            answer = connection.getresponse()
            found = answer.status, answer.read()
            connection.close()
            return found

        async with opened(tmp_path, max_body=1_000_000) as house:
            status, body = await asyncio.to_thread(blocking, house.port)
            assert (status, b"max-body" in body) == (413, True)
            await until(lambda: not house.gateway.leaving)

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_reads_its_answer_while_it_sends(self, tmp_path: Path, chunked: bool) -> None:  # noqa: FBT001 - both ways to frame a body
        """Chunked, it is refused in the middle."""
        async with opened(tmp_path, max_body=1_000_000) as house:
            client = await house.client()
            if chunked:
                head = b"POST /api/chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n"
            else:
                head = HEAD
            client.writer.write(head % len(LARGE) + LARGE)
            assert (await client.answer())[0] == 413
            assert await client.rest() == b""
            client.writer.write_eof()
            await until(lambda: not house.gateway.leaving)

    @pytest.mark.parametrize("beginning", [b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\nb: c\r\n\r\n"])
    async def test_reads_what_was_wrong_with_it(self, house: House, beginning: bytes) -> None:
        """Noise, and HTTP that is none."""
        client = await house.client()
        client.writer.write(beginning + LARGE)
        assert (await client.answer())[0] == 400

    async def test_that_there_is_no_room(self, tmp_path: Path) -> None:
        """Nothing of what it asked is read, but it hears that."""
        async with opened(tmp_path, max_connections=1) as house:
            await house.client()
            await until(lambda: len(house.gateway.clients) == 1)
            client = await house.client()
            client.writer.write(HEAD % len(LARGE) + LARGE)
            status, headers, body = await client.answer()
            assert (status, headers["retry-after"]) == (503, "1")
            assert body.startswith(b'{"error":{"message":"all 1 connections')
            assert headers["x-request-id"]


class TestWhoStays:
    async def test_is_cut_after_a_moment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """However little it sends."""
        monkeypatch.setattr(farewell, "LONGEST", 0.05)
        async with opened(tmp_path, max_body=1) as house:
            client = await sent_too_much(house)
            await client.send(b"x")
            await until(lambda: not house.gateway.leaving)

    async def test_is_cut_when_it_has_sent_too_much(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """However quickly."""
        monkeypatch.setattr(farewell, "MOST", 1_000_000)
        monkeypatch.setattr(farewell, "LONGEST", 3600)
        async with opened(tmp_path, max_body=1) as house:
            client = await sent_too_much(house)
            client.writer.write(LARGE)
            await until(lambda: not house.gateway.leaving)

    async def test_is_not_one_of_many(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond a number, connections just end when the answer is sent."""
        monkeypatch.setattr(farewell, "LINGERERS", 1)
        async with opened(tmp_path, max_body=1) as house:
            await sent_too_much(house)
            client = await house.client()
            await client.send(HEAD % 9)
            assert (await client.answer())[0] == 413
            assert await client.rest() == b""
            await until(lambda: not house.gateway.clients)
            assert len(house.gateway.leaving) == 1

    async def test_takes_nobodys_place(self, tmp_path: Path) -> None:
        """It is no client any more."""
        async with opened(tmp_path, max_body=1, max_connections=1) as house:
            await sent_too_much(house)
            client = await house.client()
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.answer())[0] == 200

    async def test_does_not_hold_up_the_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing of it is left when the gateway has ended."""
        monkeypatch.setattr(farewell, "LONGEST", 3600)
        async with opened(tmp_path, max_body=1) as house:
            await sent_too_much(house)
            await house.gateway.drain(5)
            await until(lambda: not house.gateway.leaving)
