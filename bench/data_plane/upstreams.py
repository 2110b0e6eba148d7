"""The upstreams: `upstream.c`, compiled and running, at as many addresses as routers shall choose from.

One process for all: several would take the processors from the routers and, kept waiting themselves, write tokens that
a router then finds in one piece.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench.data_plane.compiler import compiled
from bench.processes import running

SOURCE = Path(__file__).with_name("upstream.c")
COUNT = 3  # enough for a choice to be one
SLOW = 100  # ms between the tokens of the model "slow": ten per second, about as fast as people read

PATH = "/v1/chat/completions"
MODELS = frozenset({"quick", "slow"})
TOKENS = 64  # of a stream: a sentence or three, as the figures of others are for
FOREVER = 100_000  # tokens of a stream that is held open; nobody waits for the last one


def question(model: str, tokens: int = 0) -> bytes:
    """The body of a request; with `tokens` for a stream of so many, else for an answer in one piece."""
    messages = [{"role": "user", "content": "Why does the sky turn red in the evening?"}]
    wanted = {"stream": True, "max_tokens": tokens} if tokens else {"stream": False}
    return msgspec.json.encode({"model": model, "messages": messages} | wanted)


@asynccontextmanager
async def upstreams(first_port: int, home: Path) -> AsyncIterator[list[int]]:
    """COUNT addresses, by their ports: from `first_port` on, or any if that is 0.

    Raises:
        NotReadyError: the program did not start, or could not be compiled.
    """
    program = await compiled(SOURCE, home)
    ports = [str(first_port and first_port + n) for n in range(COUNT)]
    async with running([str(program), str(SLOW), *ports], {}, home / "upstream.log") as started:
        yield [int(port) for port in started.line.split()]
