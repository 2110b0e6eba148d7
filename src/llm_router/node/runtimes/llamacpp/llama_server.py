"""llama.cpp's own server: whether there is one that does better than the wheel's, and how it is started.

The wheel runs everywhere. A `llama-server` on PATH is preferred when its build is newer, since that is what new models
need, or when it computes on a graphics processor and the wheel does not.

What every build has to understand is said in arguments; the rest in LLAMA_ARG_* variables, which a build that does not
know them passes over (llama.cpp, `tools/server/README.md`).
"""

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Self

import aiohttp
from msgspec import Struct

from llm_router.contract import Address
from llm_router.errors import ConfigError, UpstreamFailed
from llm_router.node.runtimes.guarded import GuardedProcess
from llm_router.node.runtimes.llamacpp.child import Settings
from llm_router.node.runtimes.llamacpp.log import why_not_loaded
from llm_router.node.runtimes.llamacpp.process import LOAD_WITHIN
from llm_router.node.runtimes.process import Moved

NAME = "llama-server"
TELL_WITHIN = 20.0  # seconds; a driver of a graphics processor may take some to say what there is

_BUILD = re.compile(
    r"build (\d+)|version: (\d+) "
)  # "version: 0.6.0 (build 11476, commit …)"; before: "version: 6123 ("
_DEVICE = re.compile(
    r"^\s+(?!CPU|BLAS)\w+: .+\(\d+ MiB", re.MULTILINE
)  # "  CUDA0: NVIDIA … (24080 MiB, 23576 MiB free)"
# -P: whatever Python files lie in the directory the agent was started in are not imported.
WHEEL = (sys.executable, "-P", "-m", "llm_router.node.runtimes.llamacpp.devices")


class Build(Struct, frozen=True):
    """A llama.cpp: `path` of its server, "" for the wheel's; the number of its build; it uses a graphics processor."""

    path: str
    number: int
    gpu: bool

    @classmethod
    def of_wheel(cls, *, gpu: bool = sys.platform == "darwin") -> Self:
        """The wheel's: 2026.10.11549 has build 11549 (it is of the day after b11476). On macOS it knows Metal."""
        return cls("", int(version("xllamacpp").rpartition(".")[2]), gpu)

    @property
    def version(self) -> str:
        """As its releases are named; the wheel's by its own version."""
        return f"b{self.number}" if self.path else version("xllamacpp")


async def choose(setting: str) -> Build:
    """The llama.cpp to use: `setting` is a path, or "" for the better one of what there is.

    Raises:
        ConfigError: what `setting` names is no llama-server.
    """
    path = setting or await asyncio.to_thread(_on_path)
    if not path:
        return Build.of_wheel()
    found = await _look(path)
    if setting:
        if not found.number:
            raise ConfigError(f"--llama-server {setting}: it does not answer to --version as llama.cpp's server does")
        return found
    return await _better(found)


def _on_path() -> str:
    return shutil.which(NAME) or ""


async def _better(found: Build) -> Build:
    wheel = Build.of_wheel()
    if found.number > wheel.number:
        return found
    if found.gpu and not wheel.gpu:
        wheel = Build.of_wheel(gpu="GPU" in await _output(*WHEEL))
    return found if found.gpu and not wheel.gpu else wheel


async def _look(path: str) -> Build:
    told, devices = await asyncio.gather(_output(path, "--version"), _output(path, "--list-devices"))
    number = _BUILD.search(told)
    return Build(path, int(number[1] or number[2]) if number else 0, _DEVICE.search(devices) is not None)


async def _output(*command: str) -> str:
    """What a command prints; what cannot be run prints nothing."""
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    except OSError:
        return ""
    try:
        async with asyncio.timeout(TELL_WITHIN):
            printed, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return printed.decode(errors="replace")


def arguments(settings: Settings, port: int, *, embeds: bool) -> list[str]:
    """What it is started with; context is the total over all slots. `embeds`: it makes embeddings."""
    size = str(settings.context)  # what is pooled over is computed at once
    pooling = ["--batch-size", size, "--ubatch-size", size] if settings.pools else ["--pooling", "last"]
    return [
        *("--model", settings.path),
        *("--alias", settings.id),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--parallel", str(settings.parallel)),
        *("--ctx-size", str(settings.parallel * settings.context)),
        *("--threads", str(settings.threads)),
        *(["--embeddings", *pooling] if embeds else []),
        *(["--chat-template-file", settings.template] if settings.template else []),
        "--jinja",
        "--no-warmup",
    ]


def environment(settings: Settings, agents: Mapping[str, str]) -> dict[str, str]:
    """The `agents` variables, and what some builds do not know: the cache's limit, no page, no pages of others."""
    own = {
        "LLAMA_ARG_CACHE_RAM": str(settings.cache),
        "LLAMA_ARG_UI": "false",
        "LLAMA_ARG_NO_WEBUI": "true",
        "LLAMA_ARG_CORS_ORIGINS": "",
    }
    return {name: value for name, value in agents.items() if not name.startswith("LLAMA_ARG_")} | own


class LlamaServer(GuardedProcess):
    """A `llama-server` that runs one model."""

    def __init__(self, build: Build, settings: Settings, session: aiohttp.ClientSession, moved: Moved) -> None:
        """`session`: for asking it whether it serves."""
        super().__init__(settings.id, settings.log, session, moved)
        self._build = build
        self._settings = settings

    async def spawn(self) -> Process:
        """See `ServerProcess.spawn`. The log is this start's alone, so that the errors in it are."""
        await asyncio.to_thread(Path(self.log).write_bytes, b"")
        return await super().spawn()

    def command(self, port: int) -> list[str]:
        """See `GuardedProcess.command`."""
        # Older builds with --embeddings may do nothing else; the wheel's and newer ones do both.
        embeds = self._settings.pools or self._build.number >= Build.of_wheel().number
        return [self._build.path, *arguments(self._settings, port, embeds=embeds)]

    def environment(self, port: int) -> dict[str, str]:  # noqa: ARG002 - it is in the arguments
        """See `GuardedProcess.environment`."""
        return environment(self._settings, os.environ)

    async def serving(self, process: Process) -> Address:
        """See `ServerProcess.serving`."""
        return await self.answering(process, "/health", LOAD_WITHIN)

    async def failure(self, otherwise: str) -> UpstreamFailed:
        """See `GuardedProcess.failure`."""
        return await asyncio.to_thread(why_not_loaded, Path(self.log), otherwise)
