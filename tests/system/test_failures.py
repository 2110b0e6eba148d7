"""Nodes and routers die, clients leave: nobody else notices (requirements A5, A8, B5, B6, E1, E3)."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from tests.system.harness import (
    HELLO,
    TALK,
    Fake,
    House,
    Load,
    Process,
    Router,
    call,
    chat,
    eventually,
    house_in,
    talking,
)

RATE = 20.0  # requests per second


class Small:
    """Three nodes that answer the same model, on llama.cpp or in front of slow fakes."""

    names = ("node-a", "node-b", "node-c")

    def __init__(self, house: House, kind: str) -> None:
        self.model = HELLO if kind == "llama.cpp" else "fake"
        self.router = house.router()
        self.nodes = [house.node(self.router, name, *self._options(house, kind, name)) for name in self.names]
        eventually(lambda: self.router.is_online(*self.names, model=self.model), 60)

    def _options(self, house: House, kind: str, name: str) -> list[str]:
        if kind == "llama.cpp":
            return []
        fake = house.fake(f"fake-of-{name}", kind="openai", tokens=10, delay=0.03, slots=8)
        return ["--runtime", f"openai={fake.url}"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fakes", "llama.cpp"])
def test_node_killed_under_load(house: House, kind: str) -> None:
    """A node is killed under a steady load, and comes back.

    No whole request fails, no stream that had not begun fails, one that had begun ends with its protocol's error. The
    node is offline within 30 s, and back after a restart with no help, as who it was.
    """
    small = Small(house, kind)
    router, victim = small.router, small.nodes[1]
    identity = router.node(victim.name).id

    with Load(router.url, small.model, RATE) as load:
        eventually(lambda: load.count() >= RATE)
        eventually(lambda: router.node(victim.name).in_flight > 0)
        victim.kill()
        killed = time.monotonic()
        eventually(lambda: router.node(victim.name).state == "offline", 30)
        while_away = load.count()
        eventually(lambda: load.count() >= while_away + RATE)
        victim.start()
        eventually(lambda: router.is_online(victim.name, model=small.model), 30)
        served = router.node(victim.name).done
        eventually(lambda: router.node(victim.name).done > served)

    results = load.results()
    assert router.node(victim.name).id == identity
    assert [r for r in results if not r.streamed and (r.status != 200 or not r.whole)] == []
    assert [r for r in results if r.streamed and r.status != 200] == []
    broken = [r for r in results if r.streamed and not r.whole]
    assert [r for r in broken if r.began > killed] == []
    assert [r for r in broken if '"error"' not in r.closing] == []


def test_runtime_processes_end_with_their_node(house: House) -> None:
    """A node that is killed leaves no llama.cpp process behind (requirement I2)."""
    router = house.router()
    node = house.node(router, "killed")
    eventually(lambda: router.is_online("killed"), 60)
    children = psutil.Process(node.pid).children(recursive=True)
    assert children

    node.kill()
    eventually(lambda: not [c for c in children if c.is_running() and c.status() != psutil.STATUS_ZOMBIE])


def test_goodbye(house: House) -> None:
    """Stopping a node shows it offline at once, and takes its models off the lists (A5, C9)."""
    router, node, _ = with_fake(house)
    status = node.stop()

    assert status == 0
    assert router.node("node").state == "offline"
    assert chat(router.url, "fake").status == 503
    assert router.is_online("node") is False


@pytest.mark.slow
def test_router_killed(house: House) -> None:
    """A router is killed and started again: nodes and models are back within 10 s, no node was restarted (A8)."""
    router, node, fake = with_fake(house)
    pid, identity = node.pid, router.node("node").id
    router.kill()
    router.start()

    eventually(lambda: router.is_online("node", model="fake"), 10)
    assert chat(router.url, "fake").status == 200
    assert router.node("node").id == identity
    assert node.pid == pid
    assert fake.seen().done == 1


@pytest.mark.slow
def test_node_waits_for_its_router(house: House) -> None:
    """A node that finds no router keeps trying, says what it waits for, and joins when there is one (A7)."""
    router, node, _ = with_fake(house)
    router.stop()
    node.stop()
    with_log = len(node.text())
    node.start()
    eventually(lambda: router.url.removeprefix("http://") in node.text()[with_log:])
    router.start()
    eventually(lambda: router.is_online("node", model="fake"), 30)


class Three(NamedTuple):
    router: Router
    endless: Fake
    silent: Fake
    broken: Fake


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    """A node in front of three runtimes: one never comes to an end, one never begins, one breaks off."""
    with house_in(tmp_path_factory.mktemp("three")) as house:
        router = house.router()
        fakes = (
            house.fake("endless", kind="openai", models="endless", tokens=100_000, delay=0.02),
            house.fake("silent", kind="openai", models="silent", first_delay=1000),
            house.fake("broken", kind="openai", models="broken"),
        )
        fakes[2].set(cut_after=5)
        house.node(router, "node", *(text for f in fakes for text in ("--runtime", f"openai={f.url}")))
        eventually(lambda: router.is_online("node", model="broken"), 60)
        yield Three(router, *fakes)


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_client_leaves(three: Three, path: str) -> None:
    """A client that goes away is no longer worked for: the runtime sees its request cancelled (B6).

    It is in flight on its node until then, and not a moment longer (B7).
    """
    router, fake = three.router, three.endless
    cancelled = fake.seen().cancelled
    with talking(router.url, path, {"model": "endless", "messages": TALK, "stream": True}) as connection:
        response = connection.getresponse()
        for _ in range(3):
            assert response.readline()
            assert router.node("node").in_flight == 1
        response.close()
    eventually(lambda: fake.seen().cancelled == cancelled + 1, 5)
    eventually(lambda: fake.seen().in_flight == 0 and router.node("node").in_flight == 0, 5)


def test_client_leaves_before_the_first_byte(three: Three) -> None:
    """Likewise while nothing has been answered yet, and it is held against nobody (B6)."""
    router, fake = three.router, three.silent
    with talking(router.url, "/v1/chat/completions", {"model": "silent", "messages": []}):
        eventually(lambda: fake.seen().in_flight == 1)
    eventually(lambda: fake.seen().cancelled == 1, 5)
    assert router.node("node").state == "online"


def test_stream_breaks(three: Three) -> None:
    """A stream that breaks on its way ends with an error of its protocol, and not as if it were whole (B5)."""
    router = three.router
    body = {"model": "broken", "messages": TALK, "stream": True}

    for path, error in (("/api/chat", str), ("/v1/chat/completions", dict), ("/v1/responses", dict)):
        answer = call(router.url, "POST", path, body)
        assert answer.status == 200
        assert answer.whole is False
        assert isinstance(answer.records()[-1]["error"], error)
        assert router.lift("node", "broken").status == 204  # what breaks is excluded, and the next one shall reach it


def test_failing_node_is_replaced(house: House) -> None:
    """A node whose runtime fails before the first byte is replaced by another; the client notices nothing (B5)."""
    router = house.router()
    fakes = [house.fake(f"fake-{i}", kind="openai") for i in range(2)]
    for i, fake in enumerate(fakes):
        house.node(router, f"node-{i}", "--runtime", f"openai={fake.url}")
    eventually(lambda: router.is_online("node-0", "node-1", model="fake"), 60)

    for times, fault in enumerate(("close_before_first_byte", "garbage", "refuse"), start=1):
        fakes[0].set(**{fault: True})
        assert [chat(router.url, "fake", stream=stream).status for stream in (False, True) * 2] == [200] * 4
        assert [e.event for e in router.events()].count("node.model_excluded") == times
        router.lift("node-0", "fake")


def test_history_survives(house: House) -> None:
    """Requests and events are in the database, also after the router was started again (F4)."""
    router, _, _ = with_fake(house)
    answer = chat(router.url, "fake")
    assert chat(router.url, "nobody-knows").status == 404
    router.stop()
    router.start()

    requests = rows(router.database(), "select id, model, node, status, outcome, completion_tokens from requests")
    events = {event for (event,) in rows(router.database(), "select event from events where name = 'node'")}
    assert (answer.headers["x-request-id"], "fake", "node", 200, "done", 16) in requests
    assert ("nobody-knows", 404, "refused") in {(r[1], r[3], r[4]) for r in requests}
    assert {"node.registered", "node.online"} <= events


# -- helpers


def with_fake(house: House, **options: object) -> tuple[Router, Process, Fake]:
    router = house.router()
    fake = house.fake(**options)
    node = house.node(router, "node", "--runtime", f"openai={fake.url}")
    eventually(lambda: router.is_online("node", model="fake"), 60)
    return router, node, fake


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(os.fspath(database))) as connection:
        return connection.execute(query).fetchall()
