"""`llm-router up`: a router and a node on this machine, as two child processes with one home.

Rule 1: the children are the commands `serve` and `node` as anybody could type them; what is known of them is what they
print (one line with their address once they listen) and what the router tells about its nodes.
Rule 2: they end in order, the node first, so that it says goodbye to a router that is there.
Rule 3: a node that ends is started again; without its router there is nothing to do.
"""

import asyncio
import logging
import os
import shutil
import signal
import socket
import ssl
import sys
import time
from collections import deque
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import structs
from rich.console import Console
from rich.text import Text

from llm_router import __version__
from llm_router.config import DEFAULT_ROUTER_PORT, MB, NodeConfig, RouterConfig
from llm_router.contract import JOIN, NODES, UNREADABLE, Address, JoinLine, NodeView
from llm_router.errors import ConfigError, RouterError
from llm_router.node.bars import Bars

T = TypeVar("T")

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
ACCENT = "cyan"
READY_WITHIN = 120.0  # seconds; a first start writes the built-in model on what may be a slow disk
LOOK_EVERY = 0.1  # seconds between looks at the router's list of nodes while starting
PROGRESS_EVERY = 2.0  # seconds between looks at what nodes fetch; they tell every five
LOOK_TIMEOUT = 2.0  # seconds for the router, on this machine, to answer
LAST_LINES = 20  # of a child that ended: enough for a traceback's end
LOG_SIZE = 10 * MB  # then the file is put aside as .1
STOP_MARGIN = 5.0  # seconds on top of the drain time before a child is killed
FIRST_RESTART, LONGEST_RESTART = 1.0, 60.0  # seconds, doubling: as a node retries its router (requirement A7)
GROW_UP = 60.0  # seconds a node has to live for its next end to count as the first one
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
LOUD = ("warning", "error", "critical")
ALONE = ["llamacpp"]  # what a node of `up` runs where nobody says: nothing is downloaded unasked
OLLAMA_PORT = 11434  # of a user's own Ollama, by default (requirement I1)
USERS_OLLAMA = f"http://127.0.0.1:{OLLAMA_PORT}"
EACH_OTHER = frozenset({"node.offline", "node.suspect", "router.unreachable"})  # no news while only one of them is up


class CannotRunError(RouterError):
    """The two cannot be started, or not go on."""

    code = "cannot_run"


class LogLine(msgspec.Struct):
    """What is read of a child's log line; the rest is fields."""

    event: str
    level: str = "info"


class Child:
    """One of the two processes: `name` is what people call it, `arguments` what is typed after `llm-router`."""

    def __init__(self, name: str, arguments: list[str], logs: Path, console: Console) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self.url = ""
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._console = console
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._logger = _file_logger(name, self.log)
        self.unsaid: frozenset[str] = EACH_OTHER

    async def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            CannotRunError: it ended instead.
        """
        command = [sys.executable, "-m", "llm_router", *self._arguments, "--log-format", "json", "--with-parent"]
        self._last.clear()
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,  # held open: with us gone, it ends (`--with-parent`)
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,  # Ctrl-C on a terminal goes to us alone, see Rule 2
        )
        self._hearing = asyncio.create_task(self._hear(_pipe(self._process.stderr)))
        line = (await _pipe(self._process.stdout).readline()).decode().split()
        if not line:
            raise CannotRunError(await self.epitaph())
        self.url = line[-1]

    async def _hear(self, stderr: asyncio.StreamReader) -> None:
        """Keep what it logs; show what matters."""
        while raw := await _line(stderr):
            line = raw.decode(errors="replace").rstrip()
            self._logger.info("%s", line)
            self._last.append(line)
            self._show(line)

    def _show(self, line: str) -> None:
        with suppress(*UNREADABLE):
            said = msgspec.json.decode(line, type=LogLine)
            if said.level in LOUD and said.event not in self.unsaid:
                fields = msgspec.json.decode(line, type=dict[str, object])
                rest = [f"{k}={v}" for k, v in fields.items() if k not in ("event", "level", "timestamp", "exception")]
                mark = (f"  ! {self.name}  ", "yellow")
                self._console.print(Text.assemble(mark, said.event, ("  " + "  ".join(rest), "dim")), soft_wrap=True)

    def is_over(self) -> bool:
        """Whether it ended."""
        return self._process is not None and self._process.returncode is not None

    async def ended(self) -> int:
        """Wait for its end; return its status."""
        return await self._process.wait() if self._process else 0

    async def epitaph(self) -> str:
        """What to say about its end: its own last words where they are meant for people."""
        status = await self.ended()
        await self._hearing
        errors = [line.removeprefix("Error: ") for line in self._last if line.startswith("Error: ")]
        why = errors[-1] if errors else "\n".join(["", *self._last])
        return f"the {self.name} ended with status {status}: {why}\nIts log is {self.log}"

    async def stop(self, seconds: float) -> None:
        """Ask it to end; after `seconds`, or when the caller will not wait, make it."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), seconds)
            await self._hearing
        except (TimeoutError, asyncio.CancelledError):
            process.kill()
            raise


def _pipe(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    """Return the stream that is there because it was asked for."""
    assert stream is not None  # noqa: S101 - narrows the type that asyncio declares for all cases
    return stream


async def _line(stream: asyncio.StreamReader) -> bytes:
    """One line; of one that is longer than the reader's buffer, what fits."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as end:
        return end.partial
    except asyncio.LimitOverrunError as error:
        return await stream.readexactly(error.consumed)


def _file_logger(name: str, path: Path) -> logging.Logger:
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger(f"llm_router.up.{name}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.handlers = [RotatingFileHandler(path, maxBytes=LOG_SIZE, backupCount=1, delay=True, encoding="utf-8")]
    return logger


# -- the life of the pair


async def run(router: RouterConfig, node: NodeConfig, *, share: bool = False) -> int:
    """Run both until told to end; return the exit status. `share`: other machines can reach the router.

    Raises:
        ConfigError: the router's port is taken.
        CannotRunError: one of the two did not start, or the router ended by itself.
    """
    router = _placed(router, share=share)
    if not router.port:
        router = structs.replace(router, port=_free_port(router.host))
    elif not _free(router.host, router.port):
        raise ConfigError(
            f"port {router.port} of {router.host} is taken: stop what uses it, or choose another with --port"
        )
    life = asyncio.create_task(_Pair(router, node).live())
    told: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        told.append(number)
        life.cancel()

    with suppress(NotImplementedError):  # Windows: Ctrl-C cancels this task itself
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        await life
    except asyncio.CancelledError:
        if not told:
            raise
    return INTERRUPTED if signal.SIGINT in told else 0


class _Pair:
    """The router and the node, and what is printed about them."""

    def __init__(self, router: RouterConfig, node: NodeConfig) -> None:
        self._console = Console(highlight=False)
        self._router = router
        self._node = node
        home = ["--home", str(router.home)]
        logs = router.home / "logs"
        place = ["--host", router.host, "--port", str(router.port)]
        self._server = Child("router", ["serve", *place, *home], logs, self._console)
        self._url = _reachable(Address(router.host, router.port, bool(router.tls_cert)).url)
        port = node.port if _free(node.host or LOOPBACK, node.port) else 0
        runtimes = [text for spec in node.runtime or ALONE for text in ("--runtime", spec)]
        agent = ["node", "--port", str(port), "--router", self._url, *runtimes, *home]
        self._agent = Child("node", agent, logs, self._console)

    async def live(self) -> None:
        """Start both, say so, and stay until the router ends or this is cancelled (Rules 2 and 3)."""
        began = time.monotonic()
        try:
            with self._console.status("Starting a router and a node"):
                await asyncio.gather(self._server.start(), self._agent.start())
                nodes = await self._ready()
            seconds = time.monotonic() - began
            hint = [] if self._node.runtime else await asyncio.to_thread(_ollama_hint, self._url)
            if self._router.host != LOOPBACK:
                hint += await asyncio.to_thread(_join_hint, self._url)
            _show(self._console, self._url, nodes, self._node.home / "node" / "models", seconds, hint)
            self._server.unsaid = self._agent.unsaid = frozenset()
            await self._stay()
        finally:
            self._server.unsaid = EACH_OTHER
            try:
                await self._agent.stop(self._node.drain_timeout + STOP_MARGIN)
            finally:
                await self._server.stop(self._router.drain_timeout + STOP_MARGIN)

    async def _ready(self) -> list[NodeView]:
        """Every node, once ours is online with its models, or else after READY_WITHIN."""
        port = urlsplit(self._agent.url).port
        deadline = time.monotonic() + READY_WITHIN
        while True:
            nodes = await asyncio.to_thread(_nodes, self._url)
            ours = [n for n in nodes if n.kind == "agent" and n.local and urlsplit(n.url).port == port]
            if any(n.state == "online" and n.models for n in ours) or time.monotonic() > deadline:
                return nodes
            for child in (self._server, self._agent):
                if child.is_over():
                    raise CannotRunError(await child.epitaph())
            await asyncio.sleep(LOOK_EVERY)  # noqa: TID251 - the router has no event to wait for yet

    async def _stay(self) -> None:
        beside = [asyncio.create_task(self._keep_node())]
        if self._console.is_terminal:
            beside.append(asyncio.create_task(self._show_progress()))
        try:
            await self._server.ended()
            raise CannotRunError(await self._server.epitaph())
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)

    async def _show_progress(self) -> None:
        """What nodes fetch, as bars (requirement G5)."""
        with Bars(self._console) as bars:
            while True:
                nodes = await asyncio.to_thread(_nodes, self._url)
                bars.show([thing for node in nodes for thing in node.progress])
                await asyncio.sleep(PROGRESS_EVERY)  # noqa: TID251 - the pause between two looks

    async def _keep_node(self) -> None:
        """Start the node again whenever it ends, at growing intervals when it does not live long."""
        pause = FIRST_RESTART
        while True:
            born = time.monotonic()
            await self._agent.ended()
            pause = FIRST_RESTART if time.monotonic() - born > GROW_UP else min(pause * 2, LONGEST_RESTART)
            why = (await self._agent.epitaph()).splitlines()[0]
            self._console.print(Text.assemble(("  ! node  ", "yellow"), f"{why}; again in {pause:g} s"), soft_wrap=True)
            await asyncio.sleep(pause)  # noqa: TID251 - a node that cannot live must not be started in a tight loop
            with suppress(CannotRunError):  # it ended at once: the next round says so
                await self._agent.start()


def _placed(router: RouterConfig, *, share: bool) -> RouterConfig:
    """The router is for this machine alone unless it is shared, or somebody chose an address for it."""
    chosen = router.host if router.host != RouterConfig().host else LOOPBACK
    return structs.replace(router, host=EVERYWHERE if share else chosen)


def _free(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port), family=_family(host)).close()
    except OSError:
        return False
    return True


def _free_port(host: str) -> int:
    with socket.create_server((host, 0), family=_family(host)) as listener:
        return int(listener.getsockname()[1])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _reachable(url: str) -> str:
    """Return the address to use where `url` says that every interface listens."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _nodes(url: str) -> list[NodeView]:
    """The router's list of nodes; empty as long as it cannot be had."""
    return _get(url, NODES, list[NodeView]) or []


def _get(url: str, path: str, kind: type[T]) -> T | None:
    parts = urlsplit(url)
    with closing(_connection(parts)) as connection:
        try:
            connection.request("GET", path)
            return msgspec.json.decode(connection.getresponse().read(), type=kind)
        except (OSError, HTTPException, *UNREADABLE):
            return None


def _connection(parts: SplitResult) -> HTTPConnection:
    """To the router that we started; that its certificate names this machine's own address is not asked of it."""
    if parts.scheme == "http":
        return HTTPConnection(str(parts.hostname), parts.port, timeout=LOOK_TIMEOUT)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection(str(parts.hostname), parts.port, timeout=LOOK_TIMEOUT, context=context)


# -- what is printed


def _show(
    console: Console, url: str, nodes: list[NodeView], store: Path, seconds: float, ollama: list[tuple[str, str]]
) -> None:
    """The addresses, the models, the nodes, how there can be more of them, and a line to try."""
    online = [n for n in nodes if n.state == "online"]
    models = sorted({m for n in online for m in n.models})
    console.print()
    console.print(
        Text.assemble(("  LLM Router", f"bold {ACCENT}"), (f" {__version__}", "dim"), _ready_in(online, seconds))
    )
    console.print()
    paths = {"Ollama": "", "OpenAI": "/v1", "Anthropic": "", "Dashboard": "/dashboard"}
    for what, path in paths.items():
        _row(console, what, url + path, ACCENT)
    console.print()
    _row(console, "Models", ", ".join(models) or "none yet: see the node's log")
    _row(console, "Add", f"GGUF files to {_short(store)}")
    for node in online:
        kinds = ", ".join(r.kind for r in node.runtimes) or node.kind
        _row(console, "Node", f"{node.name} ({kinds}) at {node.url}")
    for label, line in ollama:
        _row(console, label, line)
    if models:
        console.print()
        for label, line in zip(("Try", "or"), lines_to_try(url, models[0], own_name()), strict=True):
            _row(console, label, line, "bold")
    console.print()
    console.print(Text("  Ctrl-C stops both.", "dim"))


def _ollama_hint(url: str) -> list[tuple[str, str]]:
    """Rows that say how models of Ollama come in: a user's own where it answers, else one of the node's (A9)."""
    command = own_name()
    if _ollama_answers():
        elsewhere = "" if urlsplit(url).port == DEFAULT_ROUTER_PORT else f" --router {url}"
        line = f"{command} nodes attach {USERS_OLLAMA} --kind ollama{elsewhere}"
        return [("Ollama", f"one runs at {USERS_OLLAMA}; to add it:"), ("", line)]
    return [("Ollama", f"is brought up as well by: {command} up --runtime llamacpp --runtime ollama")]


def _join_hint(url: str) -> list[tuple[str, str]]:
    """Rows that say how other machines come in, as nodes and as clients; those at the router need no key."""
    line = _get(url, JOIN, JoinLine)
    if line is None:
        return []
    return [
        ("Shared", f"at {line.url}; clients there need a key: {own_name()} keys create"),
        ("Join", "type this on another machine, and it is a node of this router:"),
        ("", line.command),
    ]


def _ollama_answers() -> bool:
    with closing(HTTPConnection("127.0.0.1", OLLAMA_PORT, timeout=LOOK_TIMEOUT)) as connection:
        try:
            connection.request("GET", "/api/version")
            return b'"version"' in connection.getresponse().read(1000)
        except (OSError, HTTPException):
            return False


def _ready_in(online: list[NodeView], seconds: float) -> tuple[str, str]:
    return (f" is ready, after {seconds:.1f} s", "dim") if online else (" is up, its node is not", "yellow")


def _row(console: Console, label: str, value: str, style: str = "") -> None:
    console.print(Text.assemble((f"  {label:<11}", "dim"), (value, style)), soft_wrap=True)


def _short(path: Path) -> str:
    """The path as people write it, with `~` for their own directory."""
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)


def lines_to_try(url: str, model: str, command: str = "llm-router") -> tuple[str, str]:
    """Two lines that can be copied to a shell as they stand."""
    elsewhere = "" if urlsplit(url).port == DEFAULT_ROUTER_PORT else f" --router {url}"
    body = msgspec.json.encode({"model": model, "prompt": "hi"}).decode()
    return f"curl {url}/api/generate -d '{body}'", f"{command} chat{elsewhere} {model} hi"


def own_name() -> str:
    """How this command can be typed again from here: the shell may not find it where `make` calls it by its path."""
    called = Path(sys.argv[0]).absolute()
    if called.name == "__main__.py":
        return f"{Path(sys.executable).name} -m llm_router"
    if shutil.which("llm-router"):
        return "llm-router"
    if not called.is_relative_to(Path.cwd()):
        return str(called)
    near = str(called.relative_to(Path.cwd()))
    return near if os.sep in near else f"{os.curdir}{os.sep}{near}"
