"""Who watches: readers of the live stream, as dashboards are, that look at little of it so as to be fifty at once."""

import asyncio
from collections import Counter

import aiohttp
import msgspec

STREAM = {"Accept": "text/event-stream"}
FOR_EVER = aiohttp.ClientTimeout(total=None, sock_connect=30)
END = b"\n\n"
REQUESTS = b"\nevent: requests\ndata: "
NODE = b"\nevent: node\n"


class _Request(msgspec.Struct):
    id: str


class Watcher:
    """One reader. `seen`: how often each request was told of; `nodes`: how many messages of a node came."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._decoder = msgspec.json.Decoder(list[_Request])
        self.seen: Counter[str] = Counter()
        self.nodes = 0
        self.cut = 0
        self.greeted = asyncio.Event()
        self.told = asyncio.Event()  # of requests, again

    async def watch(self) -> None:
        """Until it is cancelled; a stream that ends is asked for again."""
        while True:
            async with self._session.get("/v0/events", headers=STREAM, timeout=FOR_EVER) as response:
                response.raise_for_status()
                await self._read(response.content)
            self.cut += 1

    async def _read(self, stream: aiohttp.StreamReader) -> None:
        rest = b""
        async for piece in stream.iter_any():
            whole, found, rest = (rest + piece).rpartition(END)
            if found:
                self.greeted.set()
                self.nodes += whole.count(NODE)
                self._take(whole)

    def _take(self, messages: bytes) -> None:
        for part in messages.split(REQUESTS)[1:]:
            self.seen.update(request.id for request in self._decoder.decode(part.partition(END)[0]))
            self.told.set()

    async def has_seen(self, ids: set[str], seconds: float) -> int:
        """How many of `ids` it was not told of, at most so much later."""
        try:
            async with asyncio.timeout(seconds):
                while not ids <= self.seen.keys():
                    self.told.clear()
                    await self.told.wait()
        except TimeoutError:
            pass
        return len(ids - self.seen.keys())
