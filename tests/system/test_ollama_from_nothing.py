"""A node that has no Ollama and gets one by itself, with its first model (requirements A2, G1, G6).

The program that the release holds is a double, so that there is something to see on machines without a network.
"""

import sys
from pathlib import Path

import pytest
from tests.doubles import fake_ollama
from tests.doubles.release_server import __file__ as release_server
from tests.system.harness import HELLO, House, Process, Router, chat, eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the program of these tests is a shell script"),
]


def releases(house: House) -> Process:
    """A server with one release."""
    program = house.directory / "program"
    fake_ollama.install(program)
    command = [sys.executable, release_server, str(house.directory / "releases"), "--port", "0"]
    server = Process("releases", [*command, "--publish", "1.2.3", "--program", str(program)], house.directory)
    house.processes.append(server.start())
    return server


def node(house: House, router: Router, url: str, *options: str) -> Process:
    own = ["--runtime", "ollama", "--ollama-download-url", url, "--ollama-download-max-retries", "0"]
    return house.node(router, "node", *own, "--ollama-default-model", "tiny", *options)


def test_from_nothing_to_a_model(house: House) -> None:
    """No step by hand: the program is fetched, started, and given the model, which the router lists."""
    router = house.router()
    fetched = node(house, router, releases(house).url)
    eventually(lambda: router.is_online("node", model="tiny"), 60)
    assert chat(router.url, "tiny").status == 200
    events = [word for word in ("ollama.installed", "runtime.started", "model.fetched") if word in fetched.text()]
    assert events == ["ollama.installed", "runtime.started", "model.fetched"]


def test_without_a_network(house: House) -> None:
    """The node is there all the same, with what llama.cpp has, and says once why there is no Ollama (A2)."""
    router = house.router()
    fetched = node(house, router, "http://127.0.0.1:9/releases", "--runtime", "llamacpp")
    eventually(lambda: router.is_online("node", model=HELLO), 60)
    eventually(lambda: "runtime.fetch_failed" in fetched.text(), 60)
    assert fetched.text().count("runtime.fetch_failed") == 1
    assert router.node("node").state == "online"


def test_a_second_start_fetches_nothing(house: House, tmp_path: Path) -> None:
    """What is installed is used, with no network; what it had is there."""
    router = house.router()
    server = releases(house)
    fetched = node(house, router, server.url)
    eventually(lambda: router.is_online("node", model="tiny"), 60)
    server.stop()
    fetched.stop()
    before = len(fetched.text())
    fetched.start()
    eventually(lambda: router.is_online("node", model="tiny"), 60)
    assert "fetch" not in fetched.text()[before:]
    assert [path.name for path in (tmp_path / "node" / "node" / "ollama" / "models").iterdir()] == ["tiny"]
