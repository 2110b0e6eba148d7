"""Plays a trace against a router, open-loop: requests are sent when the trace says, however slow the answers are.

One exception: nobody asks the next question before the last answer is there. Every router gets the same requests: where
an answer fails, one of the right length takes its place and the conversation goes on.
"""

import asyncio
from collections.abc import Iterable

import aiohttp
import msgspec

from bench.fleet.dialects import Dialect, Ollama, OpenAI
from bench.fleet.trace import Conversation, Message, Turn, missing_answer

PATIENCE = 900.0  # seconds of the trace; a run must end, also against a router that does not answer
NODE = "x-llm-router-node"  # the header in which a router of ours names the machine


class Sample(msgspec.Struct):
    """One request, in seconds of the trace. `ttft`: until the first text; `failure` is empty where all went well."""

    planned: float
    sent: float
    ttft: float = 0.0
    latency: float = 0.0
    status: int = 0
    node: str = ""
    failure: str = ""


def dialect_of(url: str) -> Dialect:
    """OpenAI's for an address that ends in /v1, as its clients are configured; else Ollama's."""
    return OpenAI() if url.endswith("/v1") else Ollama()


class Player:
    """Plays against the router at `url`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, scale: float) -> None:
        self._session = session
        self._dialect = dialect_of(url)
        self._url = url.removesuffix("/v1") + self._dialect.path
        self._scale = scale
        self._samples: list[Sample] = []

    async def play(self, conversations: Iterable[Conversation]) -> list[Sample]:
        """Every request of the trace, in the order in which they were planned."""
        self._began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for conversation in conversations:
                group.create_task(self._converse(conversation))
        return sorted(self._samples, key=lambda sample: sample.planned)

    async def _converse(self, conversation: Conversation) -> None:
        said = list(conversation.opening)
        for turn in conversation.turns:
            await self._until(turn.at)
            said.append(turn.question)
            said.append(await self._ask(conversation.model, said, turn))

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, (at - self._now()) / self._scale))  # noqa: TID251 - the user thinks

    def _now(self) -> float:
        """Seconds of the trace since it began."""
        return (asyncio.get_running_loop().time() - self._began) * self._scale

    async def _ask(self, model: str, said: list[Message], turn: Turn) -> Message:
        sample = Sample(turn.at, self._now())
        self._samples.append(sample)
        body = self._dialect.ask(model, said, turn.output)
        try:
            text = await self._exchange(body, sample)
        except TimeoutError:
            sample.failure = "no answer"
        except aiohttp.ClientError as error:
            sample.failure = type(error).__name__
        sample.latency = self._now() - sample.sent
        return missing_answer(turn) if sample.failure else Message("assistant", text)

    async def _exchange(self, body: bytes, sample: Sample) -> str:
        """Send and listen; the text. What goes wrong by the router's own words stands in `sample.failure`."""
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._url, data=body, headers=headers, timeout=self._patience()) as response:
            sample.status = response.status
            sample.node = response.headers.get(NODE, "")
            if response.status != 200:
                sample.failure = f"status {response.status}"
                return ""
            return await self._listen(response, sample)

    async def _listen(self, response: aiohttp.ClientResponse, sample: Sample) -> str:
        text: list[str] = []
        done = False
        async for line in response.content:  # to the end: who hangs up before has cancelled
            if not line.strip():
                continue
            heard = self._dialect.hear(line)
            if heard.text and not sample.ttft:
                sample.ttft = self._now() - sample.sent
            text.append(heard.text)
            sample.failure = sample.failure or heard.error
            done = done or heard.done
        sample.failure = sample.failure or ("" if done else "cut off")
        return "".join(text)

    def _patience(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=PATIENCE / self._scale)
