"""The process of the agent's own Ollama: where it listens, what it is told, how it is known to serve.

    address      loopback only, on the port of OLLAMA_HOST where that is free to use, else on any free one
    directory    a home of its own, so that no key or model of a user's Ollama is touched (it keeps its key in
                 `~/.ollama`, and does not start where there is no home at all, as under some service managers)
    environment  the agent's own: OLLAMA_NUM_PARALLEL, proxies, CUDA_VISIBLE_DEVICES and whatever else it knows

Its variables are listed in Ollama's `envconfig/config.go`. It lets pages of this machine in, whatever it is told; those
that a user allowed in OLLAMA_ORIGINS are the business of the gateway in front of it, which keeps the header to itself.
"""

import asyncio
import os
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from llm_router.config import DEFAULT_NODE_PORT, DEFAULT_ROUTER_PORT
from llm_router.contract import Address
from llm_router.errors import ConfigError, UpstreamFailed
from llm_router.node.runtimes.guarded import HERE, GuardedProcess
from llm_router.node.runtimes.process import Moved

NAME: Final = "ollama"
LAST_WORDS = 2_000  # bytes at the end of its log in which to look for the reason why it ended

# A user's Ollama, the router and this node's gateway: their clients' OLLAMA_HOST names these, and means them.
OTHERS = frozenset({11434, DEFAULT_ROUTER_PORT, DEFAULT_NODE_PORT})
THIS_MACHINE = frozenset({"", "localhost", "127.0.0.1", "0.0.0.0", "::", "::1"})


class Settings(msgspec.Struct, frozen=True):
    """How to run it. `port` 0: any; `models`: a user's own directory, "" for one below `home`; times in seconds."""

    binary: str
    home: str
    log: str
    port: int = 0
    models: str = ""
    keep_alive: str = "5m"
    start_within: float = 60.0


def port_of(host: str) -> int:
    """The port that OLLAMA_HOST reserves for the agent's own Ollama; 0 where it is about something else.

    Raises:
        ConfigError: it is no address.
    """
    try:
        parts = urlsplit(host if "://" in host else f"//{host}")
        port = parts.port or 0
    except ValueError as error:
        raise ConfigError(f"OLLAMA_HOST is {host!r}: {error}; write 127.0.0.1:PORT") from error
    return port if (parts.hostname or "") in THIS_MACHINE and port not in OTHERS else 0


def environment(settings: Settings, port: int, agents: Mapping[str, str]) -> dict[str, str]:
    """The variables for a server on `port`, made from the `agents` own."""
    own = {
        "OLLAMA_HOST": f"{HERE}:{port}",
        "OLLAMA_MODELS": settings.models or str(Path(settings.home) / "models"),
        "OLLAMA_KEEP_ALIVE": settings.keep_alive,
        "HOME": settings.home,
        "USERPROFILE": settings.home,  # what Windows calls it
    }
    if settings.models:  # where it would remove what another Ollama is in the midst of fetching
        own["OLLAMA_NOPRUNE"] = "1"
    return {k: v for k, v in agents.items() if k != "OLLAMA_ORIGINS"} | own


class OllamaProcess(GuardedProcess):
    """`ollama serve`."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession, moved: Moved) -> None:
        """`session`: for asking it whether it serves."""
        super().__init__(NAME, settings.log, session, moved, wanted=settings.port)
        self._settings = settings

    async def spawn(self) -> Process:
        """See `ServerProcess.spawn`."""
        await asyncio.to_thread(_make_directories, self._settings)
        return await super().spawn()

    def command(self, port: int) -> list[str]:  # noqa: ARG002 - it is in the environment
        """See `GuardedProcess.command`."""
        return [self._settings.binary, "serve"]

    def environment(self, port: int) -> dict[str, str]:
        """See `GuardedProcess.environment`."""
        return environment(self._settings, port, os.environ)

    async def serving(self, process: Process) -> Address:
        """See `ServerProcess.serving`."""
        return await self.answering(process, "/api/version", self._settings.start_within)

    async def failure(self, otherwise: str) -> UpstreamFailed:
        """See `GuardedProcess.failure`."""
        return UpstreamFailed(await asyncio.to_thread(_last_words, Path(self.log), otherwise))


def _make_directories(settings: Settings) -> None:
    Path(settings.home).mkdir(parents=True, exist_ok=True)
    Path(settings.log).parent.mkdir(parents=True, exist_ok=True)


def _last_words(log: Path, otherwise: str) -> str:
    """The last line that it wrote, where Go programs say why they end; `otherwise` where it wrote nothing."""
    try:
        text = log.read_bytes()[-LAST_WORDS:].decode(errors="replace")
    except OSError:
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else otherwise
