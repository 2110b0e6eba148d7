"""Runtimes that hang while their agents live (requirement E2): noticed, without traffic, started again if managed."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from tests.system.harness import HELLO, House, Process, Router, call, chat, eventually

NOTICED = 15.0  # seconds; a pause of 5 between two looks, 5 for the first one in vain, 2 to be sure, and what is on top


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows cannot stop a process")
def test_llama_cpp_process_hangs(house: House) -> None:
    """A llama.cpp process that stands still with a request in flight is ended and started again by its node.

    The request ends too, well or badly; nobody has to ask for the new process, and the router answers again by itself.
    """
    router = house.router()
    node = house.node(router, "node")
    eventually(lambda: router.is_online("node"), 60)
    hung = model_process(node)

    os.kill(hung.pid, signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(chat, router.url, HELLO)
        eventually(lambda: "model.process_hung" in node.text(), 30)
        assert waiting.result(60).status in (200, 502, 503)
    assert not hung.is_running()
    eventually(lambda: node.text().count("model.started") == 2)
    assert model_process(node).pid != hung.pid
    eventually(lambda: router.node("node").loaded == [HELLO])
    assert router.node("node").state == "online"
    eventually(lambda: chat(router.url, HELLO).status == 200, 60)


@pytest.mark.slow
def test_attached_server_hangs(house: House) -> None:
    """An Ollama that takes connections and answers nothing: its node lives on, without its models (C9).

    Every request goes to the other node, until the Ollama answers again.
    """
    router = house.router()
    fakes = [house.fake(f"ollama-{i}", kind="ollama", models="shared") for i in range(2)]
    for i, fake in enumerate(fakes):
        house.node(router, f"node-{i}", "--runtime", f"ollama={fake.url}")
    eventually(lambda: router.is_online("node-0", "node-1", model="shared"), 60)

    fakes[0].set(hang_all=True)
    eventually(lambda: router.node("node-0").models == [], NOTICED)
    assert call(router.url, "GET", "/v1/models").json()["data"] != []
    assert (router.node("node-0").state, router.node("node-0").loaded) == ("online", [])
    assert [who_answers(router) for _ in range(4)] == ["node-1"] * 4

    fakes[0].set()
    eventually(lambda: router.is_online("node-0", model="shared"), 10)
    eventually(lambda: who_answers(router) == "node-0", 60)


@pytest.mark.slow
def test_only_server_hangs(house: House) -> None:
    """A node without any model stays online and gets nothing; its models are back when its Ollama is."""
    router = house.router()
    fake = house.fake("ollama", kind="ollama")
    house.node(router, "node", "--runtime", f"ollama={fake.url}")
    eventually(lambda: router.is_online("node", model="fake"), 60)

    fake.set(hang_all=True)
    eventually(lambda: router.node("node").models == [], NOTICED)
    assert router.node("node").state == "online"
    assert chat(router.url, "fake").status in (404, 503)
    fake.set()
    eventually(lambda: router.is_online("node", model="fake"), 10)
    eventually(lambda: chat(router.url, "fake").status == 200, 60)


def model_process(node: Process) -> psutil.Process:
    """The one llama.cpp process of a node."""
    (child,) = psutil.Process(node.pid).children()
    return child


def who_answers(router: Router) -> str:
    answer = chat(router.url, "shared", stream=False)
    assert answer.status == 200
    return answer.headers["x-llm-router-node"]
