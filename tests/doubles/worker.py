"""Stands in for a worker: `python worker.py [options]`, with an order on standard input, as the supervisor starts it.

It listens on the port that is shared and tells whoever connects who it is: one line of JSON, `Who`. A connection is
open until the client ends it; when the worker is told to end it listens no more, and waits for those that are open.

    --refuses N     worker N says that a setting cannot be used
    --crashes N     worker N ends with status 3, without a word
    --stays         does not end when it is told to
"""

import argparse
import asyncio
import os
import socket
import sys

from msgspec import Struct, json

from llm_router.router import lifeline
from llm_router.router.lifeline import Order, Ready, Refused

REASON = "this setting is of no use"


class Who(Struct):
    """Which worker answers."""

    worker: int
    pid: int
    home: str
    stdout: bool


class Worker:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._open = 0
        self._left = asyncio.Event()

    async def serve(self, link: socket.socket, *, stays: bool) -> None:
        config = self._order.config
        server = await asyncio.start_server(self._answer, config.host, config.port, reuse_port=True)
        reader, writer = await asyncio.open_unix_connection(sock=link)
        writer.write(lifeline.encode(Ready()))
        await reader.read()
        if stays:
            await asyncio.Event().wait()
        server.close()
        while self._open:
            self._left.clear()
            await self._left.wait()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        heard = os.fstat(1).st_rdev != os.stat(os.devnull).st_rdev  # noqa: PTH116 - of a descriptor's device
        who = Who(self._order.worker, os.getpid(), str(self._order.config.home), stdout=heard)
        writer.write(json.encode(who) + b"\n")
        await reader.read()
        writer.close()
        self._open -= 1
        self._left.set()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--refuses", type=int, default=0)
    parser.add_argument("--crashes", type=int, default=0)
    parser.add_argument("--stays", action="store_true")
    options = parser.parse_args()
    link = socket.socket(fileno=0)
    order = lifeline.receive(link)
    if order is None:
        sys.exit(1)
    if order.worker == options.crashes:
        sys.exit(3)
    if order.worker == options.refuses:
        link.sendall(lifeline.encode(Refused(REASON, misused=True)))
        sys.exit(2)
    asyncio.run(Worker(order).serve(link, stays=options.stays))


if __name__ == "__main__":
    main()
