"""The live stream (requirement F2): everybody gets the same, misses nothing, and nobody waits for a slow one."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from llm_router.core.registry import Change, Registry
from llm_router.router import live as lives
from llm_router.router.feed import Feed
from llm_router.router.ledger import Ledger
from llm_router.router.live import Live, Ring
from llm_router.router.publisher import Publisher
from llm_router.router.replicas.base import Alone
from llm_router.router.store.database import Database

HELLO = b'{"hello":1}'


class Streams:
    """A `Live`, and those who read of it."""

    def __init__(self, database: Database) -> None:
        self.ledger = Ledger(database, lambda _: None)
        self.publish = Publisher(self.ledger, Alone())
        self.live = Live(Feed(Registry(), dict, lambda: 0), self.ledger, self.publish)

    def reader(self, last: str = "") -> "Reader":
        return Reader(self.live, last)

    def happens(self, detail: str) -> None:
        self.publish([Change("node.online", "n", "n", detail)])


class Reader:
    """One who watches."""

    def __init__(self, live: Live, last: str) -> None:
        self.stream: AsyncIterator[bytes] = live.stream(HELLO, last)
        self.text = b""

    async def until(self, what: bytes) -> str:
        """Read until this was there; the id of the last message."""
        while what not in self.text:
            self.text += await anext(self.stream)
        ids: list[bytes] = re.findall(rb"^id: (.*)$", self.text, re.MULTILINE)
        return ids[-1].decode()

    def names(self) -> list[str]:
        return [name.decode() for name in re.findall(rb"^event: (.*)$", self.text, re.MULTILINE)]


@pytest.fixture
async def streams(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streams]:
    monkeypatch.setattr(lives, "LOOK_EVERY", 0.01)
    made = Streams(database)
    made.live.start()
    yield made
    await made.live.stop()


async def test_a_stream_begins_with_everything(streams: Streams) -> None:
    """Who asks is greeted, and told all nodes."""
    reader = streams.reader()
    await reader.until(b"event: rates")
    assert reader.names() == ["hello", "nodes", "rates"]
    assert reader.text.startswith(b"retry: ")
    assert b"data: " + HELLO in reader.text


async def test_everybody_gets_the_same_bytes(streams: Streams) -> None:
    """And a message is written out once: they are the same object."""
    readers = [streams.reader() for _ in range(3)]
    for reader in readers:
        await reader.until(b"event: rates")
    nexts = [asyncio.ensure_future(anext(r.stream)) for r in readers]  # noqa: TID251 - anext is no coroutine
    await asyncio.wait(nexts, timeout=0.02)
    streams.happens("here")
    got = await asyncio.gather(*nexts)
    assert b"here" in got[0]
    assert got[0] is got[1] is got[2]


async def test_a_lost_connection_is_resumed(streams: Streams) -> None:
    """Requirement F2: with the id of the last message, exactly what came after it."""
    reader = streams.reader()
    await reader.until(b"event: rates")
    streams.happens("first")
    last = await reader.until(b"first")
    streams.happens("second")
    await reader.until(b"second")
    again = streams.reader(last)
    await again.until(b"second")
    assert again.names() == ["event"]


@pytest.mark.parametrize("last", ["1-1", "nonsense", "-", "{epoch}-99999999999999999999", "{epoch}-²", "{epoch}-7"])
async def test_who_was_away_too_long_begins_anew(streams: Streams, last: str) -> None:
    """So does who comes from an earlier run, or with an id that was never given out."""
    reader = streams.reader()
    epoch = (await reader.until(b"event: rates")).rpartition("-")[0]
    again = streams.reader(last.format(epoch=epoch))
    await again.until(b"event: rates")
    assert again.names() == ["hello", "nodes", "rates"]


async def test_a_slow_reader_is_cut(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is behind by more than is kept; nobody waits for it."""
    slow, quick = streams.reader(), streams.reader()
    await slow.until(b"event: rates")
    await quick.until(b"event: rates")
    monkeypatch.setattr(lives, "RING_BYTES", 1000)
    for number in range(20):
        streams.happens(f"number {number}.")
        await quick.until(b"number %d." % number)
    assert [chunk async for chunk in slow.stream] == []


async def test_silence_is_no_death(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment shows that the connection stands."""
    monkeypatch.setattr(lives, "COMMENT_EVERY", 0.01)
    reader = streams.reader()
    await reader.until(b"\n: \n\n")


async def test_a_stream_ends_after_a_while(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches has to show again that it may; what was missed is there then."""
    monkeypatch.setattr(lives, "STREAM_FOR", 0.0)
    reader = streams.reader()
    reader.text = b"".join([chunk async for chunk in reader.stream])
    again = streams.reader(await reader.until(b"event: rates"))
    assert [chunk async for chunk in again.stream] == [lives.RETRY]


async def test_streams_end_with_the_router(streams: Streams) -> None:
    """Requirement I2: none is left waiting."""
    reader = streams.reader()
    await reader.until(b"event: rates")
    ended = asyncio.ensure_future(anext(reader.stream, b"the end"))  # noqa: TID251 - anext is no coroutine
    await streams.live.stop()
    assert await ended == b"the end"


async def test_nothing_is_gathered_for_nobody(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """A while after the last one has left; who then comes back begins anew."""
    monkeypatch.setattr(lives, "LINGER", 0.0)
    reader = streams.reader()
    last = await reader.until(b"event: rates")
    await reader.stream.aclose()  # type: ignore[attr-defined]  # it is a generator
    while streams.ledger._watchers:  # noqa: SLF001 - nothing else shows it, but for less work
        await streams.ledger.flush()  # a turn of the loop
    again = streams.reader(last)
    await again.until(b"event: rates")
    assert again.names() == ["hello", "nodes", "rates"]


async def test_a_fault_of_ours_ends_no_router(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are cut, the log says why, and it is tried again."""
    monkeypatch.setattr(lives, "FAILED_FOR", 0.0)
    reader = streams.reader()
    await reader.until(b"event: rates")
    impossible: Any = object()  # no JSON can be made of it
    streams.happens(impossible)
    again = streams.reader()
    await again.until(b"event: rates")


def test_a_ring_keeps_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go, numbers go on."""
    ring = Ring("7")
    ring.add((b"event", b"1"))
    monkeypatch.setattr(lives, "RING_BYTES", 2 * len(ring.after(0)))
    for data in (b"2", b"3", b"4"):
        ring.add((b"event", data))
    assert [ring.place(f"7-{number}") for number in range(6)] == [None, None, 2, 3, 4, None]
    assert ring.after(3) == b"id: 7-4\nevent: event\ndata: 4\n\n"
    assert ring.after(2).count(b"event: ") == 2
