"""Several workers on one port and one PostgreSQL, as people start them (issue 9; requirements A8, B5)."""

import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from threading import Event

import psutil
import pytest
from tests.system.harness import START, Answer, Fake, House, Router, ask, call, eventually, run

needs_sharing = pytest.mark.skipif(sys.platform == "win32", reason="ports cannot be shared here")

WORKER = "llm_router.router.worker"
PACE = {"tokens": 40, "delay": 0.05}  # two seconds: it goes on for long after the signal
CLIENTS = 4
TRIES = 10  # a client whose worker is killed meets the other one, or at worst its successor's beginning
BETWEEN = 0.05  # seconds between a client's requests: the machine has something else to do, too
ASKED = 20  # connections: were there two workers, one of them would be missed once in half a million times


def with_workers(house: House, **server: object) -> tuple[Router, Fake]:
    """Two workers, and a server that both know."""
    router = house.router("--workers", "2")
    eventually(lambda: '"workers.started"' in router.text(), START)
    fake = house.fake(**server)
    router.attach(fake, slots=2 * CLIENTS)
    eventually(lambda: all(health["online"] for health in looks(router)))
    return router, fake


def looks(router: Router) -> list[dict[str, object]]:
    """What the workers say, many times."""
    return [again(lambda: call(router.url, "GET", "/health")).json() for _ in range(ASKED)]


def serving(router: Router) -> set[object]:
    """Who of them serves clients now, by the names of the replicas."""
    return {health["replica"] for health in looks(router)}


def workers(router: Router) -> list[psutil.Process]:
    return [child for child in psutil.Process(router.pid).children() if WORKER in child.cmdline()]


def is_alive(process: psutil.Process) -> bool:
    """It runs; one that nobody has waited for does not: an orphan's new parent may take its time."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def again(request: Callable[[], Answer]) -> Answer:
    """As clients do who find that their connection is broken, be it in the middle of an answer."""
    for _ in range(TRIES):
        with suppress(OSError, HTTPException):
            if (answer := request()).whole:
                return answer
    raise AssertionError(f"{TRIES} connections in a row were broken")


def insist(router: Router, over: Event) -> list[Answer]:
    """Ask one thing after the other."""
    answers = []
    while not over.wait(BETWEEN):
        answers.append(again(lambda: ask(router.url, "openai", "fake")))
    return answers


@needs_sharing
@pytest.mark.slow
def test_a_worker_that_is_killed(house: House, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started again, and clients that reconnect lose nothing. Who kills the supervisor has ended them all."""
    monkeypatch.setenv("LLM_ROUTER_DATABASE_URL", postgres_url)
    router, _ = with_workers(house)
    before = serving(router)
    assert len(before) == 2

    over = Event()
    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(insist, router, over) for _ in range(CLIENTS)]
        try:
            workers(router)[0].kill()
            eventually(lambda: len(serving(router) - before) == 1, START)
        finally:
            over.set()
        answers = [answer for future in asking for answer in future.result()]
    assert len(serving(router)) == 2
    assert answers
    assert {(answer.status, answer.whole) for answer in answers} == {(200, True)}

    children = workers(router)
    router.kill()
    eventually(lambda: not any(map(is_alive, children)), START)


@needs_sharing
@pytest.mark.slow
def test_requests_in_flight_finish(house: House, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both workers, after one SIGTERM, also where every process gets it, as systemd does; the exit status is 0."""
    monkeypatch.setenv("LLM_ROUTER_DATABASE_URL", postgres_url)
    router, fake = with_workers(house, **PACE)
    children = workers(router)
    with ThreadPoolExecutor() as pool:
        streams = [pool.submit(ask, router.url, "openai", "fake", stream=True) for _ in range(CLIENTS)]
        eventually(lambda: fake.seen().in_flight == CLIENTS)
        for child in children:
            child.send_signal(signal.SIGTERM)
        assert router.stop() == 0
    assert all(stream.result().whole and b"[DONE]" in stream.result().body for stream in streams)
    assert not any(map(is_alive, children))


def test_without_a_database_in_common(house: House) -> None:
    """Processes with a file each would be strangers; the message says what to set."""
    refused = run("serve", "--home", str(house.directory), "--port", "0", "--workers", "2")
    assert refused.returncode == 2
    assert "set LLM_ROUTER_DATABASE_URL=postgresql+asyncpg://user:password@host/database" in refused.stderr
