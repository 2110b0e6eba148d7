"""One of several workers: `python -m llm_router.router.worker`, started by `workers.py`, its order on standard input.

A whole router that shares its port. It ends when its supervisor says so or is gone (`lifeline.py`), and on SIGTERM or
SIGINT; to be told twice means nothing, since systemd and terminals signal every process, and then the supervisor does.
Not for Windows, where a port cannot be shared.
"""

import asyncio
import os
import socket
import sys

import structlog
import uvloop

from llm_router.config import RouterConfig
from llm_router.errors import ConfigError
from llm_router.gateway.signals import SIGNALS
from llm_router.router import lifeline
from llm_router.router.app import run
from llm_router.router.lifeline import Ready, Refused

STDIN = 0
FAILED, MISUSED = 1, 2  # exit statuses, as the command's


async def serve(config: RouterConfig, link: socket.socket) -> int:
    """Serve until told to end; the exit status."""
    reader, writer = await asyncio.open_unix_connection(sock=link)
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    holding = asyncio.create_task(_hold(reader, stop))
    try:
        await run(config, ready=lambda _: writer.write(lifeline.encode(Ready())), stop=stop)
    except ConfigError as error:
        writer.write(lifeline.encode(Refused(error.message, misused=True)))
        return MISUSED
    except OSError as error:
        writer.write(lifeline.encode(Refused(f"cannot start: {error}", misused=False)))
        return FAILED
    finally:
        holding.cancel()
        writer.close()
    return 0


async def _hold(reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    """Wait for the supervisor's end, or its word to end; they are the same."""
    try:
        await reader.read()
    except OSError:  # the connection was reset: it is gone, too
        pass
    finally:
        stop.set()


def _link() -> socket.socket:
    """Take standard input: what this process starts must not inherit it, and hold it when this process is gone."""
    link = socket.socket(fileno=os.dup(STDIN))
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device, for its number
        os.dup2(nothing.fileno(), STDIN)
    return link


def main() -> None:
    """Do what standard input says."""
    link = _link()
    order = lifeline.receive(link)
    if order is None:
        sys.exit(FAILED)
    structlog.contextvars.bind_contextvars(worker=order.worker)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(serve(order.config, link)))


if __name__ == "__main__":
    main()
