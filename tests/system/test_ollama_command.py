"""The real `ollama` command against a router with two nodes that each have a real Ollama (issue 8, point 5).

What it prints is held against what it prints when it asks one Ollama alone, but for times, which differ.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.ports import free_port
from tests.system.harness import Process, Router, call, eventually, house_in
from tests.system.test_ollama import OLLAMA, install

from llm_router.node.models import builtin

WORDS = "Hello! This is LLM Router's built-in model"
PUBLISHED = "library/tiny"
MODELFILE = "FROM ./hello.gguf\nPARAMETER num_thread 1\nPARAMETER num_predict 20\nSYSTEM be brief\n"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")  # what moves the cursor
SPINNING = re.compile(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]")
MADE = re.compile(r"^((?:hello|second):latest\s+)[0-9a-f]{12}", re.MULTILINE)  # two Ollamas make two of one Modelfile
NOT_FOUND = re.compile(r"(model .* not found): .*")
AGO = re.compile(r"(Less than a|About a|\d+) \w+ (ago|from now)")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(OLLAMA is None, reason="no real Ollama: .ci/run installs one where there is Go"),
    pytest.mark.skipif(sys.platform == "win32", reason="as tests.system.test_ollama"),
]


class Command(NamedTuple):
    """`ollama` for one server."""

    url: str
    home: Path

    def run(self, *arguments: str, status: int = 0) -> str:
        """What it prints on both outputs; it must end with `status`."""
        assert OLLAMA
        environment = os.environ | {"OLLAMA_HOST": self.url, "HOME": str(self.home), "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [OLLAMA, *arguments], cwd=self.home, env=environment, capture_output=True, timeout=60, check=False
        )
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == status, said
        return said

    def lines(self, *arguments: str, status: int = 0) -> set[str]:
        """The same as a person sees it, without times: the lines, of which a terminal shows some again and again."""
        text = SPINNING.sub("", CONTROL.sub("\n", MADE.sub(r"\1<digest>", self.run(*arguments, status=status))))
        plain = (re.sub(r"\s+", " ", AGO.sub("<time>", line)).strip() for line in text.splitlines())
        return {line for line in plain if line}


class Setup(NamedTuple):
    """`fleet` asks the router, `alone` an Ollama of its own; `registry`: where both can pull from."""

    router: Router
    fleet: Command
    alone: Command
    registry: str

    def both(self, *arguments: str, status: int = 0) -> tuple[set[str], set[str]]:
        """What a command prints against the fleet and against one Ollama."""
        return self.fleet.lines(*arguments, status=status), self.alone.lines(*arguments, status=status)

    def same(self, *arguments: str, status: int = 0) -> set[str]:
        """What a command prints against both."""
        ours, theirs = self.both(*arguments, status=status)
        assert {_error(line) for line in ours} == {_error(line) for line in theirs}
        return ours

    def more(self, *arguments: str) -> set[str]:
        """What it prints against the fleet besides what it prints against one Ollama."""
        ours, theirs = self.both(*arguments)
        assert theirs - ours == set(), ours
        return ours - theirs

    def holders(self, model: str) -> list[str]:
        """Which nodes have it."""
        return sorted(name for name, node in self.router.nodes().items() if model in node.models)


class Serve(Process):
    """`ollama serve`, alone."""

    def start(self) -> "Serve":
        assert OLLAMA
        home = self.log.parent / "alone"
        home.mkdir(exist_ok=True)
        place = f"127.0.0.1:{free_port()}"
        environment = os.environ | {"OLLAMA_HOST": place, "HOME": str(home), "OLLAMA_MODELS": str(home / "models")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [OLLAMA, "serve"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self.url = f"http://{place}"
        eventually(lambda: "Listening on" in self.text(), 30)
        return self


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with house_in(tmp_path_factory.mktemp("command")) as house:
        router = house.router()
        for name in ("node-a", "node-b"):
            install(house.directory / name)
            house.node(router, name, "--runtime", "ollama", "--runtime", "llamacpp", "--ollama-default-model", "none")
        double = [sys.executable, "-m", "tests.doubles.ollama_registry", "--model", PUBLISHED]
        registry = Process("registry", double, house.directory)
        house.processes.append(registry.start())
        alone = Serve("alone", [], house.directory)
        house.processes.append(alone.start())
        home = house.directory / "client"
        home.mkdir()
        builtin.write(home / "hello.gguf")
        (home / "Modelfile").write_text(MODELFILE)
        eventually(lambda: _have_ollama(router), 60)
        yield Setup(router, Command(router.url, home), Command(alone.url, home), registry.url)


def test_the_life_of_a_model(setup: Setup) -> None:
    """`create`, `list`, `show`, `run`, `ps`, `stop`, `cp`, `rm`, each as against one Ollama."""
    created = setup.same("create", "hello")
    assert "success" in created
    assert len(setup.holders("hello:latest")) == 1
    (hello_world,) = setup.more("list")
    assert hello_world.startswith(builtin.NAME)  # llama.cpp's, which both nodes have
    for what in ((), ("--modelfile",), ("--parameters",), ("--system",), ("--template",), ("--verbose",)):
        shown, expected = (_without_paths(lines) for lines in setup.both("show", "hello", *what))
        assert shown == expected
    assert any(line.startswith(WORDS) for line in setup.same("run", "hello", "hi"))
    setup.more("ps")
    assert setup.same("stop", "hello") == set()
    assert not any("hello:latest" in line for lines in setup.both("ps") for line in lines)
    assert setup.same("cp", "hello", "second") == {"copied 'hello' to 'second'"}
    assert setup.same("rm", "hello") == {"deleted 'hello'"}
    assert setup.holders("hello:latest") == []
    assert any(line.startswith(WORDS) for line in setup.same("run", "second", "hi"))
    assert setup.same("rm", "second") == {"deleted 'second'"}
    assert len(setup.more("list")) == 1


def test_pull_and_push(setup: Setup) -> None:
    """`pull` from a registry, `run` at once, `cp`, `push` there; what is shown is what one Ollama shows."""
    name = f"{setup.registry}/{PUBLISHED}"
    bare = name.removeprefix("http://")
    pulled = setup.same("pull", "--insecure", name)
    assert "success" in pulled
    assert len(setup.holders(f"{bare}:latest")) == 1
    assert len(setup.more("list")) == 1
    assert any(line.startswith(WORDS) for line in setup.same("run", bare, "hi"))
    copy = bare.replace("tiny", "other")
    setup.same("cp", bare, copy)
    setup.same("push", "--insecure", f"http://{copy}")
    assert setup.same("rm", bare, copy) == {f"deleted '{bare}'", f"deleted '{copy}'"}


def test_pull_to_a_node(setup: Setup) -> None:
    """`?node=`: each node can be had to fetch it, and to delete it; then the other one answers."""
    name = f"{setup.registry}/{PUBLISHED}"
    bare = f"{name.removeprefix('http://')}:latest"
    for node in ("node-a", "node-b"):
        body = {"model": name, "insecure": True, "stream": False}
        answer = call(setup.router.url, "POST", f"/api/pull?node={node}", body)
        assert answer.json() == {"status": "success"}
    assert setup.holders(bare) == ["node-a", "node-b"]
    assert setup.fleet.run("list").count(bare) == 1
    assert call(setup.router.url, "DELETE", "/api/delete?node=node-a", {"model": bare}).status == 200
    assert setup.holders(bare) == ["node-b"]
    assert WORDS in setup.fleet.run("run", bare, "hi")
    assert setup.fleet.lines("rm", bare) == {f"deleted '{bare}'"}
    assert setup.holders(bare) == []


def test_what_is_not_there(setup: Setup) -> None:
    """The same errors, and the same status."""
    setup.same("show", "nope", status=1)
    setup.same("cp", "nope", "other", status=1)
    setup.same("pull", "--insecure", f"{setup.registry}/library/nope", status=1)
    setup.same("rm", "nope", status=1)
    setup.same("stop", "nope", status=1)


def test_show_of_llamacpp(setup: Setup) -> None:
    """A model that no Ollama has can be shown, run, copied and deleted, too."""
    assert "llama" in setup.fleet.run("show", builtin.NAME)
    assert WORDS in setup.fleet.run("run", builtin.NAME, "hi")
    setup.fleet.run("cp", builtin.NAME, "third")
    eventually(lambda: setup.holders("third") == ["node-a", "node-b"])
    setup.fleet.run("rm", "third")
    eventually(lambda: setup.holders("third") == [])


def _without_paths(lines: set[str]) -> set[str]:
    """`FROM` names a file in the directory of whichever Ollama it is."""
    return {re.sub(r"/\S*/blobs/", "", line) for line in lines}


def _error(line: str) -> str:
    """Of an error, what matters: we say more, and Ollama quotes a name in two ways."""
    return NOT_FOUND.sub(r"\1", line.replace('"', "'")) if line.startswith("Error: ") else line


def _have_ollama(router: Router) -> bool:
    nodes = router.nodes()
    return len(nodes) == 2 and all(any(r.kind == "ollama" for r in node.runtimes) for node in nodes.values())
