"""Who asks: so many requests per second, whatever comes of them, and somebody who looks whether the router is well."""

import asyncio
from itertools import cycle

import aiohttp
import msgspec

from bench.live.nodes import JSON, MODELS

ID = "x-request-id"
PATIENCE = aiohttp.ClientTimeout(total=60)


class Sample(msgspec.Struct):
    """One request. `sent` and `took` in seconds of the loop's clock; `failure` is empty where all went well."""

    sent: float
    took: float = 0.0
    id: str = ""
    failure: str = ""


class Asker:
    """Asks the router behind `session`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self.chats: list[Sample] = []
        self.looks: list[Sample] = []

    async def chat(self, rate: float, seconds: float) -> None:
        """Ask each model in turn, `rate` times a second; back when every answer is there."""
        models = cycle(MODELS)
        async with asyncio.TaskGroup() as group:
            async for _ in _ticks(rate, seconds):
                body = {"model": next(models), "messages": [{"role": "user", "content": "Say sixteen words."}]}
                group.create_task(self._post(msgspec.json.encode(body)))

    async def look(self, rate: float, seconds: float) -> None:
        """GET /health, `rate` times a second."""
        async with asyncio.TaskGroup() as group:
            async for _ in _ticks(rate, seconds):
                group.create_task(self._get())

    async def _post(self, body: bytes) -> None:
        sample = Sample(self._loop.time())
        self.chats.append(sample)
        try:
            async with self._session.post("/api/chat", data=body, headers=JSON, timeout=PATIENCE) as response:
                answer = await response.read()
                sample.id = response.headers.get(ID, "")
                if response.status != 200 or b'"done":true' not in answer:
                    sample.failure = f"status {response.status}: {answer[:200]!r}"
        except (aiohttp.ClientError, TimeoutError) as error:
            sample.failure = repr(error)
        sample.took = self._loop.time() - sample.sent

    async def _get(self) -> None:
        sample = Sample(self._loop.time())
        self.looks.append(sample)
        try:
            async with self._session.get("/health", timeout=PATIENCE) as response:
                await response.read()
                sample.failure = "" if response.status == 200 else f"GET /health: status {response.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            sample.failure = f"GET /health: {error!r}"
        sample.took = self._loop.time() - sample.sent


class _ticks:  # noqa: N801 - reads as the generator that it is in short
    """Moments, `rate` of them a second, for `seconds`; those that were missed come at once."""

    def __init__(self, rate: float, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._rate = rate
        self._left = iter(range(round(rate * seconds)))

    def __aiter__(self) -> "_ticks":
        return self

    async def __anext__(self) -> None:
        number = next(self._left, None)
        if number is None:
            raise StopAsyncIteration
        due = self._began + number / self._rate
        await asyncio.sleep(max(due - self._loop.time(), 0.0))  # noqa: TID251 - requests come when they come
