"""A real Ollama as a node's own: started, asked, killed, hung, replaced (requirements E2, G7, A9).

`.ci/run` installs one where there is Go; OLLAMA_TEST_BINARY names another, and one on PATH does as well. It runs with
one compute thread: two would fight with everything else on a small machine.
"""

import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil
import pytest
from tests.system.harness import House, Process, Router, call, chat, eventually, house_in

from llm_router.node.models import builtin

INSTALLED = Path.home() / ".cache" / "llm-router-tests"  # where .ci/run puts it
MODEL = "hello:latest"


def real_ollama() -> Path | None:
    """The newest that .ci/run installed, if nobody names another."""
    named = os.environ.get("OLLAMA_TEST_BINARY")
    found = named or next(iter(sorted(map(str, INSTALLED.glob("ollama-*/ollama")), reverse=True)), None)
    path = found or shutil.which("ollama")
    return Path(path).resolve() if path else None


OLLAMA = real_ollama()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(OLLAMA is None, reason="no real Ollama: .ci/run installs one where there is Go"),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP"),
]


class Setup(NamedTuple):
    """A router, and a node with a real Ollama that has one model."""

    house: House
    router: Router
    node: Process

    def own_url(self) -> str:
        """Where the node's Ollama listens, as its log says."""
        lines = [msgspec.json.decode(line) for line in self.node.text().splitlines() if line.startswith("{")]
        return [str(line["url"]) for line in lines if line["event"] == "runtime.started"][-1]

    def server(self) -> psutil.Process:
        """The process of `ollama serve`."""
        family = psutil.Process(self.node.pid).children(recursive=True)
        (server,) = (p for p in family if p.cmdline()[1:] == ["serve"])
        return server

    def answers(self) -> bool:
        return self.router.is_online("node", model=MODEL) and chat(self.router.url, MODEL).status == 200


def install(home: Path) -> None:
    """As the node does it when it has fetched one."""
    assert OLLAMA
    program = home / "node" / "ollama" / "program" / "0.9.6" / "bin" / "ollama"
    program.parent.mkdir(parents=True)
    program.symlink_to(OLLAMA)


def create(url: str, name: str, directory: Path) -> None:
    """What `ollama create` does: the file goes there under its hash, then a model is made of it (`docs/api.md`)."""
    file = directory / "hello.gguf"
    builtin.write(file)
    digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert call(url, "POST", f"/api/blobs/{digest}", file.read_bytes()).status == 201
    model = {"model": name, "files": {file.name: digest}, "parameters": {"num_thread": 1}, "stream": False}
    assert call(url, "POST", "/api/create", model).json() == {"status": "success"}


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with house_in(tmp_path_factory.mktemp("ollama")) as house:
        router = house.router()
        install(house.directory / "node")
        node = house.node(router, "node", "--runtime", "ollama", "--ollama-default-model", "none")
        setup = Setup(house, router, node)
        eventually(lambda: "runtime.started" in node.text(), 60)
        create(setup.own_url(), MODEL, house.directory)
        eventually(setup.answers, 60)
        yield setup


def test_model_is_listed(setup: Setup) -> None:
    """A model that Ollama has gained is the router's, under its name; Ollama's own home is the node's (A9)."""
    assert setup.router.listed() == [MODEL]
    assert [(r.kind, r.slots) for r in setup.router.node("node").runtimes] == [("ollama", 4)]
    assert setup.own_url().startswith("http://127.0.0.1:")
    assert (setup.house.directory / "node" / "node" / "ollama" / ".ollama" / "id_ed25519").is_file()


@pytest.mark.parametrize("stream", [True, False])
def test_chat(setup: Setup, stream: bool) -> None:  # noqa: FBT001 - a test's parameter
    """Ollama's own API, with the figures that only Ollama knows."""
    records = chat(setup.router.url, MODEL, stream=stream, options={"num_predict": 20}).records()
    assert "".join(r["message"]["content"] for r in records)
    assert records[-1]["done"] is True
    assert records[-1]["eval_count"] > 1
    assert (len(records) > 1) is stream


def test_openai(setup: Setup) -> None:
    """OpenAI's API, which Ollama speaks itself."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
    answer = call(setup.router.url, "POST", "/v1/chat/completions", body)
    assert answer.status == 200
    assert answer.json()["choices"][0]["message"]["content"]
    assert answer.json()["usage"]["completion_tokens"] > 1


def test_embed(setup: Setup) -> None:
    """One vector for each text."""
    answer = call(setup.router.url, "POST", "/api/embed", {"model": MODEL, "input": ["one", "two"]})
    assert answer.status == 200, answer
    first, second = answer.json()["embeddings"]
    assert len(first) == len(second) > 1


def test_loaded(setup: Setup) -> None:
    """The router knows what is in Ollama's memory, so that it sends requests there."""
    assert chat(setup.router.url, MODEL).status == 200
    eventually(lambda: setup.router.node("node").loaded == [MODEL], 15)


def test_killed(setup: Setup) -> None:
    """Its processes are gone, a new one is there with no help, and the next request is answered (G7)."""
    assert chat(setup.router.url, MODEL).status == 200
    server = setup.server()
    runners = server.children()
    assert runners
    server.kill()
    eventually(setup.answers, 60)
    assert setup.server().pid != server.pid
    eventually(lambda: not any(runs(p) for p in runners))
    assert "runtime.process_ended" in setup.node.text()


def test_hung(setup: Setup) -> None:
    """One that stands still is found out without traffic, killed and replaced (E2)."""
    server = setup.server()
    os.kill(server.pid, signal.SIGSTOP)
    eventually(lambda: "runtime.process_hung" in setup.node.text(), 40)
    eventually(setup.answers, 60)
    assert setup.server().pid != server.pid
    assert not runs(server)


def test_agent_killed(setup: Setup) -> None:
    """Nothing of it outlives its node, however that ended; the next node starts it again, with its models."""
    assert chat(setup.router.url, MODEL).status == 200
    family = psutil.Process(setup.node.pid).children(recursive=True)
    assert len(family) == 3
    setup.node.kill()
    eventually(lambda: not any(runs(p) for p in family))
    setup.node.start()
    eventually(setup.answers, 60)


def test_ends_with_its_node(setup: Setup) -> None:
    """In order, and soon."""
    family = psutil.Process(setup.node.pid).children(recursive=True)
    assert setup.node.stop() == 0
    assert not any(runs(p) for p in family)
    setup.node.start()
    eventually(setup.answers, 60)


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
