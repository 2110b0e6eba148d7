"""Real processes, started and ended by the tests: the commands as people type them, in a directory of their own.

Every process gets a pipe as its standard input and ends when it closes, so that none is left behind, whatever happens.
"""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
from tests.doubles.fake_runtime import Counters
from tests.doubles.hub import Count, Options
from tests.ports import lasting_port

from llm_router.contract import Explanation, NodeView
from llm_router.core.usage import RequestRecord
from llm_router.router.store.queries import Event

T = TypeVar("T")

HELLO = "hello-world"  # the built-in model
FAKE = Path(__file__).parents[1] / "doubles" / "fake_runtime.py"
HUB = Path(__file__).parents[1] / "doubles" / "hub.py"
COMMAND = [sys.executable, "-m", "llm_router"]
START = 60.0  # seconds; what a start takes on a busy machine, and no test waits for it in vain
LOOK = 0.05  # seconds between looks
API = {"ollama": "/api/chat", "openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
ANTHROPIC = {404: "not_found_error", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error"}
TALK = [{"role": "user", "content": "hi"}]
QUIET = ["--log-format", "json"]


def eventually(check: Callable[[], T], seconds: float = 20.0) -> T:
    """Ask again and again; return the first answer that is true. The last one is part of the failure."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {answer!r}"
        time.sleep(LOOK)


class Answer(msgspec.Struct):
    """A response. Header names in lower case; `whole`: its end has come, it was not cut off."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True

    def json(self) -> Any:  # noqa: ANN401 - whatever JSON holds
        return msgspec.json.decode(self.body)

    def records(self) -> list[Any]:
        """The records of an NDJSON stream, or the data of an SSE stream that is JSON."""
        lines = (line.removeprefix(b"data: ") for line in self.body.splitlines())
        return [msgspec.json.decode(line) for line in lines if line.startswith(b"{")]


def call(url: str, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
    """One request on a connection of its own; bytes are sent as they are, anything else as JSON."""
    sent = body if isinstance(body, bytes) else None if body is None else msgspec.json.encode(body)
    host, port = url.removeprefix("http://").split(":")
    with closing(HTTPConnection(host, int(port), timeout=START)) as connection:
        connection.request(method, path, sent, headers or {})
        return _read(connection.getresponse())


def parse(data: bytes) -> Answer:
    """The bytes of a response, as far as they came."""
    with closing(HTTPResponse(_Received(data))) as response:  # type: ignore[arg-type]  # of a socket it wants only this
        response.begin()
        return _read(response)


class _Received:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _read(response: HTTPResponse) -> Answer:
    headers = {k.lower(): v for k, v in response.getheaders()}
    try:
        return Answer(response.status, headers, response.read())
    except IncompleteRead as cut:
        return Answer(response.status, headers, cut.partial, whole=False)


def chat(url: str, model: str, **fields: object) -> Answer:
    """A short conversation of the Ollama kind."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return call(url, "POST", "/api/chat", body | fields)


def ask(url: str, api: str, model: str, **fields: object) -> Answer:
    """A short conversation with one of `API`, whole unless `stream` says otherwise."""
    return call(url, "POST", API[api], question(model) | fields)


def question(model: str) -> dict[str, object]:
    """What each of `API` understands."""
    return {"model": model, "max_tokens": 100, "messages": TALK, "stream": False}


def error_of(api: str, body: dict[str, Any], status: int, code: str = "") -> str:
    """The text of an error in the shape of `api`; fails when it has another.

    `code`: that of an error of ours, as in docs/reference/api.md; without one it may be what a runtime said.
    """
    error = body["error"]
    if api == "ollama":
        assert isinstance(error, str)
        return error
    if api == "anthropic":
        assert body["type"] == "error"
        assert not code or error["type"] == ANTHROPIC.get(status, error["type"])
    else:
        assert error["type"]
        assert not code or error["code"] == code
    return str(error["message"])


def refused(api: str, answer: Answer, status: int, code: str = "") -> str:
    """The text of a refusal with this status, in the shape of `api`."""
    assert answer.status == status, answer
    return error_of(api, answer.json(), status, code)


@contextmanager
def talking(url: str, path: str, body: object) -> Iterator[HTTPConnection]:
    """A connection on which a request has been sent; closed at the end, whatever has come by then."""
    host, port = url.removeprefix("http://").split(":")
    with closing(HTTPConnection(host, int(port), timeout=START)) as connection:
        connection.request("POST", path, msgspec.json.encode(body))
        yield connection


class Process:
    """One program. `url` is what it says on its first line of output."""

    def __init__(self, name: str, command: list[str], directory: Path, **variables: str) -> None:
        """`variables`: of its environment, besides ours."""
        self.name = name
        self.command = command
        self.variables = variables
        self.log = directory / f"{name}.log"
        self.url = ""

    def start(self) -> Self:
        """Start it and wait until it listens."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | self.variables,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert line, f"{self.name} did not start:\n{self.text()}"
        self.url = self.address(line)
        return self

    def address(self, line: str) -> str:
        return line.rsplit(maxsplit=1)[-1]

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """As `kill -9`: it cannot say goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As an operator would; return the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(START)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return status

    def text(self) -> str:
        """What it logged, and printed on standard error."""
        return self.log.read_text(errors="replace")


class Router(Process):
    """`llm-router serve`."""

    def nodes(self) -> dict[str, NodeView]:
        """The nodes by name."""
        views = msgspec.json.decode(call(self.url, "GET", "/v0/nodes").body, type=list[NodeView])
        return {view.name: view for view in views}

    def node(self, name: str) -> NodeView:
        return self.nodes()[name]

    def is_online(self, *names: str, model: str = "") -> bool:
        nodes = self.nodes()
        return all(n in nodes and nodes[n].state == "online" and (model or HELLO) in nodes[n].models for n in names)

    def events(self) -> list[Event]:
        """What happened to the nodes, newest first."""
        return msgspec.json.decode(call(self.url, "GET", "/v0/events?limit=1000").body, type=list[Event])

    def requests(self) -> list[RequestRecord]:
        """What was asked, newest first."""
        return msgspec.json.decode(call(self.url, "GET", "/v0/requests?limit=1000").body, type=list[RequestRecord])

    def explain(self, model: str) -> Explanation:
        """What would happen to a request now."""
        answer = call(self.url, "POST", "/v0/routing/explain", {"model": model})
        return msgspec.json.decode(answer.body, type=Explanation)

    def listed(self) -> list[str]:
        """The models that can be asked for, as `GET /v1/models` says."""
        return [entry["id"] for entry in call(self.url, "GET", "/v1/models").json()["data"]]

    def attach(self, fake: "Fake", kind: str = "openai", slots: int = 4) -> None:
        body = {"url": fake.url, "kind": kind, "name": fake.name, "slots": slots}
        assert call(self.url, "POST", "/v0/nodes/attach", body).status == 201

    def lift(self, name: str, model: str) -> Answer:
        """Lift an exclusion, as an operator does."""
        return call(self.url, "DELETE", f"/v0/nodes/{self.node(name).id}/exclusions/{model}")

    def database(self) -> Path:
        return next(Path(self.command[self.command.index("--home") + 1]).rglob("*.db"))


class Fake(Process):
    """`tests/doubles/fake_runtime.py`."""

    def address(self, line: str) -> str:
        return f"http://127.0.0.1:{msgspec.json.decode(line)['port']}"

    def seen(self) -> Counters:
        return msgspec.json.decode(call(self.url, "GET", "/_control").body, type=Counters)

    def set(self, **faults: object) -> None:
        assert call(self.url, "POST", "/_control", faults).status == 200

    def lists(self, *models: str) -> None:
        """Have these models from now on."""
        assert call(self.url, "POST", "/_models", models).status == 200


class Hub(Process):
    """`tests/doubles/hub.py`."""

    cdn = ""  # where the bytes come from

    def start(self) -> Self:
        super().start()
        assert self.process.stdout is not None
        self.cdn = self.process.stdout.readline().decode().strip()
        return self

    def options(self) -> list[str]:
        """Of a router that may fetch from it, and from nowhere else."""
        return ["--hf-endpoint", self.url, "--model-origins", f"{self.url}/*", "--model-origins", f"{self.cdn}/*"]

    def set(self, **options: object) -> None:
        assert call(self.url, "POST", "/_options", Options(**options)).status == 204  # type: ignore[arg-type]

    def held(self) -> None:
        """Wait until a transfer stands still."""
        assert call(self.url, "GET", "/_held").status == 204

    def release(self) -> None:
        assert call(self.url, "POST", "/_release").status == 204

    def count(self, file: str) -> Count:
        """What was sent of a file, named with its repository."""
        counts = msgspec.json.decode(call(self.url, "GET", "/_counts").body, type=dict[str, Count])
        return counts.get(file, Count())


class House:
    """A router and its nodes, in one directory. `close` ends what is left of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[Process] = []

    def router(self, *options: str) -> Router:
        """Start a router on a port of its own, which it keeps when it is started again."""
        return self._serve("router", options)

    def replica(self, name: str, database: str, *options: str) -> Router:
        """Start a router that shares a database with others."""
        return self._serve(name, options, LLM_ROUTER_DATABASE_URL=database)

    def _serve(self, name: str, options: Sequence[str], **variables: str) -> Router:
        where = ["--home", str(self.directory / name), "--host", "127.0.0.1", "--port", str(lasting_port())]
        command = [*COMMAND, "serve", *where, "--with-parent", *QUIET]
        router = Router(name, [*command, *options], self.directory, **variables)
        self.processes.append(router.start())
        router.command[router.command.index("--port") + 1] = router.url.rsplit(":", 1)[1]
        return router

    def node(self, router: Process, name: str, *options: str, program: Sequence[str] = COMMAND) -> Process:
        """Start a node, of llama.cpp alone unless told otherwise; it has one compute thread, and a short memory."""
        where = ["--home", str(self.directory / name), "--router", router.url, "--port", "0", "--with-parent"]
        small = ["--name", name, "--threads", "1", "--context", "512"]
        if "--runtime" not in options:
            small += ["--runtime", "llamacpp"]
        node = Process(name, [*program, "node", *where, *small, *QUIET, *options], self.directory)
        self.processes.append(node.start())
        return node

    def fake(self, name: str = "fake", /, **options: object) -> Fake:
        """Start a fake runtime; it keeps its port when it is started again."""
        chosen = [text for key, value in options.items() for text in (f"--{key.replace('_', '-')}", str(value))]
        command = [sys.executable, str(FAKE), "--port", str(lasting_port()), *chosen]
        fake = Fake(name, command, self.directory)
        self.processes.append(fake.start())
        fake.command += ["--port", fake.url.rsplit(":", 1)[1]]
        return fake

    def publish(self, path: str, content: bytes) -> None:
        """Have the hub offer this file of a repository."""
        file = self.directory / "hub" / path
        file.parent.mkdir(parents=True)
        file.write_bytes(content)

    def hub(self) -> Hub:
        """Start a hub of models that has what was published."""
        hub = Hub("hub", [sys.executable, str(HUB), str(self.directory / "hub")], self.directory)
        self.processes.append(hub.start())
        return hub

    def logs(self) -> str:
        return "\n".join(f"=== {p.name}\n{p.text()}" for p in self.processes)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.stop()


@contextmanager
def house_in(directory: Path) -> Iterator[House]:
    """A house that is empty again at the end; nothing in it may have logged a traceback."""
    house = House(directory)
    try:
        yield house
    finally:
        house.close()
    assert "Traceback (most recent call last)" not in house.logs(), house.logs()


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end."""
    command = [*COMMAND, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=START, check=False)


# -- load


class Result(msgspec.Struct):
    """How one request of a load ended. `closing`: the last record of a stream."""

    path: str
    streamed: bool
    status: int
    whole: bool
    closing: str
    began: float


KINDS = [("/api/chat", True), ("/v1/chat/completions", False), ("/v1/chat/completions", True), ("/api/chat", False)]


class Load:
    """A steady stream of requests, half of them streams, of two APIs: `rate` per second until the block ends.

    `then`: where a client asks once more whose connection to `url` was refused or lost.
    """

    def __init__(self, url: str, model: str, rate: float = 20.0, then: str = "") -> None:
        self._url = url
        self._then = then
        self._model = model
        self._rate = rate
        self._over = threading.Event()
        self._sent: list[Future[Result]] = []

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(max_workers=200)
        self._sender = threading.Thread(target=self._send)
        self._sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._sender.join()
        self._pool.shutdown(wait=True)

    def _send(self) -> None:
        while not self._over.wait(1 / self._rate):
            path, streamed = KINDS[len(self._sent) % len(KINDS)]
            self._sent.append(self._pool.submit(self._request, path, streamed))

    def _request(self, path: str, streamed: bool) -> Result:  # noqa: FBT001 - one of KINDS
        began = time.monotonic()
        body = {"model": self._model, "messages": [{"role": "user", "content": "hi"}], "stream": streamed}
        try:
            answer = self._ask(path, body)
        except (OSError, HTTPException) as error:
            return Result(path, streamed, 0, whole=False, closing=repr(error), began=began)
        text = answer.body.decode(errors="replace").strip()
        end = text.splitlines()[-1] if text else ""
        last = "[DONE]" if path.startswith("/v1") else '"done":true'
        whole = answer.whole and (last in end or not streamed)
        return Result(path, streamed, answer.status, whole=whole, closing=end, began=began)

    def _ask(self, path: str, body: object) -> Answer:
        try:
            answer = call(self._url, "POST", path, body)
        except (OSError, HTTPException):
            if not self._then:
                raise
            return call(self._then, "POST", path, body)
        return answer if answer.whole or not self._then else call(self._then, "POST", path, body)

    def end(self) -> None:
        """Send no more before the block ends: of several loads, each ends when those after it are answered."""
        self._over.set()

    def count(self) -> int:
        """How many requests have been answered so far."""
        return sum(f.done() for f in self._sent)

    def results(self) -> list[Result]:
        """How all of them ended; call it after the block."""
        return [f.result() for f in self._sent]
