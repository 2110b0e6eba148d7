"""`llm-router up`, and the client commands against it."""

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from tests.ports import free_port
from tests.system.harness import COMMAND, HELLO, START, call, eventually, run

from llm_router.node.models.builtin import SENTENCE

ROUTER_MEMORY = (
    110_000_000  # bytes; 80 MB is promised without the development packages, which litestar loads when there
)


class Up:
    """A running `llm-router up`; `lines` is what it has printed."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self.port = free_port()
        ports = ["--port", str(self.port), "--node-port", str(free_port())]
        command = [*COMMAND, "up", "--home", str(home), *ports, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if "Ctrl-C" in line:
                break

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def children(self) -> dict[str, psutil.Process]:
        """The router and the node; one that has ended, or is not yet what it will be, is none of them."""
        found: dict[str, psutil.Process] = {}
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                arguments = child.cmdline()
                found |= {name: child for name, word in (("router", "serve"), ("node", "node")) if word in arguments}
        return found

    def has_another_node(self, pid: int) -> bool:
        """Whether a node runs that is not the one with this process id."""
        node = self.children().get("node")
        return node is not None and node.pid != pid

    def log(self, name: str) -> str:
        return (self.home / "logs" / f"{name}.log").read_text()

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        assert self.process.stdout is not None
        self.lines += self.process.stdout.read().splitlines()
        self.process.stdout.close()
        return self.process.wait(START)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("up"))
    yield running
    if running.process.poll() is None:
        running.end()


def test_addresses(up: Up) -> None:
    """It prints the address for each API, and the models."""
    assert f"Ollama     {up.url}" in up.lines
    assert f"OpenAI     {up.url}/v1" in up.lines
    assert f"Anthropic  {up.url}" in up.lines
    assert f"Models     {HELLO}" in up.lines


def test_line_to_try(up: Up) -> None:
    """It prints a line that can be copied to a shell as it stands, and that answers."""
    (line,) = (line.removeprefix("Try").strip() for line in up.lines if line.startswith("Try"))
    done = subprocess.run(shlex.split(line), capture_output=True, timeout=START, check=True)
    last = msgspec.json.decode(done.stdout.splitlines()[-1])
    assert last["done"] is True
    assert last["eval_count"] > 0


def test_chat_command(up: Up) -> None:
    """`llm-router chat` prints the answer, to a prompt on the command line and to one on standard input."""
    for arguments, stdin in ((["hi"], ""), ([], "hi\n")):
        done = run("chat", HELLO, *arguments, "--router", up.url, stdin=stdin)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == SENTENCE.split()


def test_chat_with_nobody(up: Up) -> None:
    """A model that is not there is one line and status 1."""
    done = run("chat", "nobody-knows", "hi", "--router", up.url)
    assert done.returncode == 1
    assert "nobody-knows" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_status(up: Up) -> None:
    """`status` and `nodes list` show the node as online, and local (requirement A6)."""
    said = run("status", "--router", up.url).stdout
    assert "1 of 1 node online, 1 model, 0 in flight" in said
    (node,) = msgspec.json.decode(run("nodes", "list", "--json", "--router", up.url).stdout)
    assert node["state"] == "online"
    assert node["local"] is True
    assert node["runtimes"][0]["kind"] == "llamacpp"
    assert node["id"] in run("nodes", "--router", up.url).stdout or node["id"] in said


def test_memory(up: Up) -> None:
    """The router at rest is small."""
    assert up.children()["router"].memory_info().rss < ROUTER_MEMORY


def test_taken_port(up: Up, tmp_path: Path) -> None:
    """A port that is taken is named, with what to do; status 2: it is a setting."""
    for command in ("up", "serve"):
        done = run(command, "--home", str(tmp_path), "--port", str(up.port))
        assert done.returncode == 2
        assert str(up.port) in done.stderr
        assert "--port" in done.stderr
        assert "Traceback" not in done.stderr


def test_for_this_machine_alone(up: Up) -> None:
    """Requirement A10: nobody else can reach the two unless that is asked for."""
    listens = {c.laddr.ip for child in up.children().values() for c in child.net_connections() if c.status == "LISTEN"}
    assert listens == {"127.0.0.1"}
    assert not any(line.startswith("Join") for line in up.lines)


@pytest.mark.slow
def test_node_is_started_again(up: Up) -> None:
    """A node that dies is started again, and says so; `up` goes on."""
    first = up.children()["node"]
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: up.has_another_node(first.pid), START)
    eventually(lambda: up.log("router").count("node.registered") == 2, START)
    eventually(lambda: any(n["state"] == "online" for n in call(up.url, "GET", "/v0/nodes").json()), START)


def test_stops(up: Up) -> None:
    """Ctrl-C ends both, the node first, quietly, with status 130; what they logged is in the home."""
    eventually(lambda: any(n["state"] == "online" for n in call(up.url, "GET", "/v0/nodes").json()), START)
    children = up.children()
    assert children.keys() == {"router", "node"}
    assert up.end(signal.SIGINT) == 130
    assert not any(c.is_running() for c in children.values())
    assert not any("Traceback" in line for line in up.lines)
    assert "node.offline" in up.log("router")
    assert "said goodbye" in up.log("router")
    assert "Traceback" not in up.log("router") + up.log("node")


@pytest.mark.usefixtures("quiet_network")
def test_shared(tmp_path: Path) -> None:
    """Requirement A10: `--share` prints how another machine joins; the token in it is the router's."""
    up = Up(tmp_path, "--share")
    token = (tmp_path / "router" / "join-token").read_text().strip()
    url = call(up.url, "GET", "/v0/join").json()["url"]
    listens = {c.laddr.ip for c in up.children()["router"].net_connections() if c.status == "LISTEN"}
    assert up.end(signal.SIGINT) == 130
    assert listens == {"0.0.0.0"}
    assert f"ROUTER_URL={url.replace('//', f'//{token}@')} llm-router node" in up.lines
    assert token not in up.log("router") + up.log("node")


def test_router_dies(tmp_path: Path) -> None:
    """Without its router there is nothing to do: it says so and ends with 1, and nothing is left."""
    up = Up(tmp_path)
    children = up.children()
    os.kill(children["router"].pid, signal.SIGKILL)
    assert up.process.stdout is not None
    said = up.process.stdout.read()
    up.process.stdout.close()
    assert up.process.wait(START) == 1
    assert "the router ended" in said
    assert not any(c.is_running() for c in children.values())
