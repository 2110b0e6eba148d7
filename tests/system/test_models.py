"""Many models on one node: in memory when they are asked for, as many as fit, for as long as they are used (C1, E2).

The models are copies of the built-in one. `--memory` makes a small machine of a large one: room for two.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.system.harness import TALK, Answer, House, Router, call, chat, eventually, refused, talking

from llm_router.models import gguf, memory
from llm_router.node.models.builtin import NAME, SENTENCE, model_bytes

CONTEXT = 16_384
PARALLEL = 2
BROKEN = model_bytes().replace(b"output_norm.weight", b"output_norm.wrong!")  # its header is in order
SPARE = 15_000_000  # bytes that an agent's own memory may go up and down by


class Small:
    """A router, and a node with the models a, b and c that has room for two models."""

    def __init__(self, house: House, *options: str, **files: bytes) -> None:
        models = house.directory / "small" / "node" / "models"
        models.mkdir(parents=True)
        for name, content in ({"a": model_bytes(), "b": model_bytes(), "c": model_bytes()} | files).items():
            (models / f"{name}.gguf").write_bytes(content)
        room = ["--memory", str(5 * need(models / "a.gguf") // 2)]
        size = ["--context", str(CONTEXT), "--parallel", str(PARALLEL), "--runtime", "llamacpp"]
        self.router: Router = house.router()
        self.node = house.node(self.router, "small", *room, *size, *options)
        eventually(lambda: self.router.is_online("small", model="c"), 60)

    @property
    def url(self) -> str:
        return self.router.url

    def loaded(self) -> set[str]:
        """What is in the node's memory, or on its way there, as the router has heard."""
        return set(self.router.node("small").loaded)

    def holds(self) -> set[str]:
        """What is in memory, as the node itself says."""
        running = call(self.node.url, "GET", "/api/ps").json()["models"]
        return {entry["name"] for entry in running}

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.node.pid).children(recursive=True)

    def memory(self) -> int:
        """Bytes of the agent itself."""
        return int(psutil.Process(self.node.pid).memory_info().rss)

    def says(self, model: str) -> None:
        answer = chat(self.url, model, stream=False)
        assert answer.status == 200, answer
        assert answer.json()["message"]["content"] == SENTENCE

    @contextmanager
    def busy(self, model: str) -> Iterator[None]:
        """An answer of this model is under way, and takes longer than a test does."""
        body = {"model": model, "messages": TALK, "stream": True, "max_tokens": CONTEXT - 100, "ignore_eos": True}
        with talking(self.url, "/v1/chat/completions", body) as connection, connection.getresponse() as response:
            assert response.readline()
            yield
            assert self.router.node("small").in_flight


def need(path: Path) -> int:
    """Bytes that the node counts for this model: to run it, and as much for conversations as it is large."""
    facts, size = gguf.read(path), path.stat().st_size
    return memory.need(facts, size, context=CONTEXT, parallel=PARALLEL).total + size


def ask(small: Small, model: str, **fields: object) -> Answer:
    return call(small.url, "POST", "/api/generate", {"model": model} | fields)


@pytest.mark.slow
def test_room_for_two(house: House) -> None:
    """The third model takes the place of the idle one; one in use is never unloaded; where all are, one waits."""
    small = Small(house, "--keep-alive=-1")
    eventually(lambda: small.loaded() == {NAME})
    small.says("a")
    small.says("b")
    assert eventually(lambda: small.loaded() == {"a", "b"})
    with small.busy("a"):
        small.says("c")  # b was used last, but is idle
        assert eventually(lambda: small.loaded() == {"a", "c"})
        assert len(small.processes()) == 2
        with ThreadPoolExecutor() as pool:
            with small.busy("c"):
                waiting = pool.submit(chat, small.url, "b", stream=False)
                eventually(lambda: small.router.node("small").in_flight == 3)
                assert small.holds() == {"a", "c"}
            assert waiting.result().status == 200
        assert eventually(lambda: small.loaded() == {"a", "b"})


@pytest.mark.slow
def test_all_in_use_for_too_long(house: House) -> None:
    """Who waited for room in vain is told when to come again, and nothing is held against the model (C6)."""
    small = Small(house, "--queue-timeout", "0.5")
    with small.busy("a"), small.busy("b"):
        answer = chat(small.url, "c", stream=False)
        assert "no memory for 'c'" in refused("ollama", answer, 504)
        assert int(answer.headers["retry-after"]) > 0
        assert small.router.node("small").excluded == []
    small.says("c")


@pytest.mark.slow
def test_back_to_the_start(house: House) -> None:
    """When `keep_alive` runs out, processes and memory are what they were."""
    small = Small(house, "--keep-alive", "500ms")
    assert eventually(lambda: small.processes() == [])
    before = small.memory()
    for model in "abc":
        small.says(model)
    assert small.processes()
    assert eventually(lambda: small.processes() == [])
    assert eventually(lambda: small.loaded() == set())
    assert small.memory() < before + SPARE
    small.says("a")


@pytest.mark.slow
def test_loaded_and_unloaded_by_request(house: House) -> None:
    """Ollama's way: a request without a prompt loads; with `keep_alive` 0, as a number or text, it unloads."""
    small = Small(house)
    for path, empty in (("/api/generate", {"prompt": ""}), ("/api/chat", {"messages": []})):
        for nothing in (0, "0", "0s"):
            answer = call(small.url, "POST", path, {"model": "a", **empty, "stream": False})
            assert (answer.status, answer.json()["done_reason"]) == (200, "load")
            assert eventually(lambda: "a" in small.loaded())
            answer = call(small.url, "POST", path, {"model": "a", **empty, "keep_alive": nothing, "stream": False})
            assert (answer.status, answer.json()["done_reason"]) == (200, "unload")
            assert eventually(lambda: "a" not in small.loaded())


def test_kept_by_request(house: House) -> None:
    """What a request says counts from its end, and in the node's stead; embeddings say it too."""
    small = Small(house, "--keep-alive=0")
    small.says("a")
    assert eventually(lambda: "a" not in small.loaded())
    assert ask(small, "a", prompt="hi", keep_alive=-1).status == 200
    assert eventually(lambda: "a" in small.loaded())
    small.says("a")
    assert call(small.url, "POST", "/api/embed", {"model": "a", "input": "hi", "keep_alive": 0}).status == 200
    assert eventually(lambda: "a" not in small.loaded())
    answer = ask(small, "a", prompt="hi", keep_alive="soon")
    assert "keep_alive" in refused("ollama", answer, 400)


def test_files_that_are_no_good(house: House) -> None:
    """A damaged file is not listed and named in the log; one that does not load is kept from this node, alone (C6)."""
    small = Small(house, damaged=b"GGUF\x03\0\0\0 and nothing else", broken=BROKEN)
    assert set(small.router.listed()) == {"a", "b", "c", "broken", NAME}
    (line,) = [line for line in small.node.text().splitlines() if "damaged.gguf" in line]
    assert "model.skipped" in line
    answer = chat(small.url, "broken", stream=False)
    assert "output_norm" in refused("ollama", answer, 502)
    node = small.router.node("small")
    assert (node.state, node.excluded) == ("online", ["broken"])
    small.says("a")


@pytest.mark.slow
def test_more_than_it_holds_for_a_while(house: House) -> None:
    """Many clients, more models than fit: everybody is answered, and nothing is left behind."""
    small = Small(house, "--keep-alive", "1s")
    before = small.memory()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: chat(small.url, "abc"[i % 3], stream=i % 2 == 0), range(60)))
    assert {answer.status for answer in answers} == {200}
    assert all(answer.whole for answer in answers)
    assert eventually(lambda: small.processes() == [])
    assert small.memory() < before + SPARE
