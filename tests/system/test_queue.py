"""Who finds every slot taken waits, for so long, and so many may (requirements B3, B6, D5)."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from tests.system.harness import (
    API,
    Answer,
    Fake,
    House,
    Router,
    ask,
    eventually,
    house_in,
    question,
    refused,
    talking,
)

SHORT = 0.5  # seconds that a request may wait at the hasty router
LONGEST_RETRY = 60  # seconds; nobody is told to come again later than that


class One(NamedTuple):
    """A router with one server that has one slot."""

    router: Router
    fake: Fake

    @property
    def url(self) -> str:
        return self.router.url


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[One]:
    """One request may wait, for as long as it takes."""
    with house_in(tmp_path_factory.mktemp("patient")) as house:
        yield one_slot(house, "--queue-size", "1")


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[One]:
    """As many as like may wait, for a moment."""
    with house_in(tmp_path_factory.mktemp("hasty")) as house:
        yield one_slot(house, "--queue-timeout", str(SHORT))


@pytest.mark.parametrize("api", API)
def test_waits_its_turn(patient: One, api: str) -> None:
    """The second request is answered when the first is over, and says how long it waited; the first says nothing."""
    with ThreadPoolExecutor() as pool:
        with occupied(patient):
            second = waiting(patient, pool, api)
            assert patient.fake.seen().in_flight == 1
        answer = second.result()

    assert answer.status == 200
    assert int(answer.headers["x-queue-wait-ms"]) > 0
    record = patient.router.requests()[0]
    assert (record.id, record.outcome) == (answer.headers["x-request-id"], "done")
    assert round(record.waited * 1000) == int(answer.headers["x-queue-wait-ms"])
    assert "x-queue-wait-ms" not in ask(patient.url, api, "fake").headers


@pytest.mark.parametrize("api", API)
def test_queue_is_full(patient: One, api: str) -> None:
    """One more than may wait is told at once to come again, and when; who waits already is not harmed."""
    with ThreadPoolExecutor() as pool:
        with occupied(patient):
            second = waiting(patient, pool, api)
            third = ask(patient.url, api, "fake")
        assert second.result().status == 200

    assert "busy" in refused(api, third, 429, "queue_full")
    assert 1 <= int(third.headers["retry-after"]) <= LONGEST_RETRY


def test_waited_too_long(hasty: One) -> None:
    """No slot in time: 504, in the shape of each API, and nothing of it has reached the server."""
    with occupied(hasty), ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda api: ask(hasty.url, api, "fake"), API))
        assert hasty.fake.seen().in_flight == 1

    for api, answer in zip(API, answers, strict=True):
        assert "0.5 s" in refused(api, answer, 504, "queue_timeout")
        assert int(answer.headers["x-queue-wait-ms"]) >= SHORT * 1000
    assert ask(hasty.url, "openai", "fake").status == 200


@pytest.mark.parametrize("api", API)
def test_client_leaves_the_queue(patient: One, api: str) -> None:
    """A client that goes away while it waits makes room for another, and no server hears of it (B6)."""
    before = patient.fake.seen().requests
    with occupied(patient):
        with talking(patient.url, API[api], question("fake")):
            eventually(lambda: is_full(patient))
        eventually(lambda: not is_full(patient))
    eventually(lambda: patient.router.node("fake").in_flight == 0)

    assert patient.fake.seen().requests == before + 1  # the one that occupied the slot
    left = [r for r in patient.router.requests()[:2] if not r.node]
    assert [(r.outcome, r.attempts) for r in left] == [("cancelled", 0)]


# -- helpers


def one_slot(house: House, *options: str) -> One:
    one = One(house.router("--probe-every", "3600", *options), house.fake())
    one.router.attach(one.fake, slots=1)
    return one


@contextmanager
def occupied(one: One) -> Iterator[None]:
    """The only slot is taken by a request that is never answered; its client leaves at the end of the block."""
    one.fake.set(hang=True, times=1)
    with talking(one.url, API["openai"], question("fake")):
        eventually(lambda: one.fake.seen().in_flight == 1)
        yield


def waiting(one: One, pool: ThreadPoolExecutor, api: str) -> Future[Answer]:
    """A request that has come to wait. It is the one that may."""
    future = pool.submit(ask, one.url, api, "fake")
    eventually(lambda: is_full(one))
    return future


def is_full(one: One) -> bool:
    """Whether a further request would be turned away."""
    return one.router.explain("fake").code == "queue_full"
