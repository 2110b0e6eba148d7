"""A model that fails on a node is kept from that node, and from nothing else, until it is tried again (C6 to C9)."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from tests.system.harness import (
    API,
    Answer,
    Fake,
    House,
    Process,
    Router,
    ask,
    call,
    eventually,
    house_in,
    refused,
    run,
)

from llm_router.contract import NodeView

NEVER = 3600.0  # seconds until a trial; no test of those that set it sees one
IN_TURN = ("--policy", "round-robin", "--probe-every", "0.2")  # so that two requests reach two nodes


class Pair:
    """A router with two servers: both have `shared` and `plain`, and `one` has `solo` besides."""

    def __init__(self, house: House, *options: str) -> None:
        self.router: Router = house.router(*IN_TURN, *options)
        self.one: Fake = house.fake("one", models="shared,plain,solo")
        self.other: Fake = house.fake("other", models="shared,plain")
        for fake in (self.one, self.other):
            self.router.attach(fake)

    @property
    def url(self) -> str:
        return self.router.url

    def excluded(self) -> list[str]:
        """What is kept from `one`; nothing is ever kept from the other."""
        assert self.router.node("other").excluded == []
        return self.router.node("one").excluded

    def ask_all(self, model: str = "shared") -> list[Answer]:
        """In each API once: more requests than there are nodes, so that each has its turn."""
        return [ask(self.url, api, model) for api in API]

    def mend(self) -> None:
        """Nothing fails any more, and nothing is excluded."""
        for fake in (self.one, self.other):
            fake.set()
            for model in self.router.node(fake.name).excluded:
                self.router.lift(fake.name, model)
        eventually(lambda: self.router.is_online("one", "other", model="shared"))


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with house_in(tmp_path_factory.mktemp("pair")) as house:
        yield Pair(house, "--trial-after", str(NEVER))


@pytest.fixture
def pair(lasting: Pair) -> Iterator[Pair]:
    """Two servers in good order."""
    lasting.mend()
    yield lasting
    lasting.mend()


@pytest.fixture
def trying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two servers, and what failed is tried again after a second."""
    with house_in(tmp_path_factory.mktemp("trying")) as house:
        yield Pair(house, "--trial-after", "1")


# -- what excludes


@pytest.mark.parametrize(
    "fault",
    [{"status": 500}, {"status": 502}, {"status": 503}, {"close_before_first_byte": True}, {"garbage": True}],
    ids=str,
)
def test_failure(pair: Pair, fault: dict[str, object]) -> None:
    """A node fails: the client gets its answer from the other, and the node is asked for this model no more (C6)."""
    pair.one.set(only="shared", **fault)
    assert who(pair.ask_all()) == {"other"}
    assert pair.excluded() == ["shared"]

    seen = pair.one.seen().requests
    assert who(pair.ask_all()) == {"other"}
    assert pair.one.seen().requests == seen


def test_it_is_shown(pair: Pair) -> None:
    """The exclusion stands in the list of nodes, with its reason and times, and among the events."""
    pair.one.set(only="shared", status=500)
    pair.ask_all()

    (exclusion,) = pair.router.node("one").exclusions
    assert exclusion.model == "shared"
    assert exclusion.until - exclusion.since == pytest.approx(NEVER)
    assert "500" in exclusion.reason
    event = pair.router.events()[0]
    assert (event.event, event.name) == ("node.model_excluded", "one")
    assert "shared" in event.detail


def test_other_models_go_on(pair: Pair) -> None:
    """The node is online and gets its share of requests for its other models (C6)."""
    pair.one.set(only="shared", status=500)
    pair.ask_all()

    assert who(pair.ask_all("plain")) == {"one", "other"}
    assert who(pair.ask_all("solo")) == {"one"}
    assert pair.router.node("one").state == "online"


@pytest.mark.parametrize("api", API)
def test_broken_stream(pair: Pair, api: str) -> None:
    """A stream that breaks excludes as well; the next one comes from the other node, and is whole."""
    pair.one.set(only="shared", cut_after=3)
    streams = [ask(pair.url, api, "shared", stream=True) for _ in range(3)]

    assert sorted(s.whole for s in streams) == [False, True, True]
    assert pair.excluded() == ["shared"]


@pytest.mark.slow
def test_silence(house: House) -> None:
    """A node that does not begin its answer in time is replaced, and excluded for the model."""
    pair = Pair(house, "--answer-timeout", "2", "--trial-after", str(NEVER))
    pair.one.set(only="shared", hang=True)
    assert who(pair.ask_all()) == {"other"}
    assert pair.excluded() == ["shared"]
    assert who(pair.ask_all("plain")) == {"one", "other"}


# -- what does not


@pytest.mark.parametrize("status", [400, 413, 422])
def test_client_fault(pair: Pair, status: int) -> None:
    """What the node says of a client's own fault reaches the client, and excludes nothing (C6)."""
    pair.one.set(status=status)
    pair.other.set(status=status)
    for api, answer in zip(API, pair.ask_all(), strict=True):
        assert refused(api, answer, status) == "told to fail"
        assert answer.headers["x-llm-router-node"] in ("one", "other")
    assert pair.excluded() == []


@pytest.mark.parametrize(
    "busy", [{"status": 429}, {"status": 429, "retry_after": 1}, {"status": 503, "retry_after": 1}]
)
def test_busy(pair: Pair, busy: dict[str, int]) -> None:
    """A node that is busy is passed over, and asked again next time; nothing is excluded (C6)."""
    pair.one.set(**busy)
    seen = pair.one.seen().requests
    assert who(pair.ask_all()) == {"other"}
    assert pair.excluded() == []
    assert pair.one.seen().requests > seen

    pair.one.set()
    assert who(pair.ask_all()) == {"one", "other"}


def test_all_are_busy(pair: Pair) -> None:
    """The client is told what the last of them said, and when to come again."""
    pair.one.set(status=503, retry_after=7)
    pair.other.set(status=503, retry_after=7)
    for api, answer in zip(API, pair.ask_all(), strict=True):
        assert refused(api, answer, 503) == "told to fail"
        assert answer.headers["retry-after"] == "7"
    assert pair.excluded() == []


def test_lost_model(pair: Pair) -> None:
    """A node that does not know the model any more: another one answers, and nothing is excluded."""
    pair.one.set(only="shared", status=404)
    assert who(pair.ask_all()) == {"other"}
    assert pair.excluded() == []


# -- what lifts


@pytest.mark.parametrize("how", ["call", "command"])
def test_operator_lifts(pair: Pair, how: str) -> None:
    """An operator lifts it, by a call or by the command, and the node is asked again; a second time is a 404 (C7)."""
    pair.one.set(only="shared", status=500)
    pair.ask_all()
    assert pair.excluded() == ["shared"]

    pair.one.set()
    if how == "call":
        assert pair.router.lift("one", "shared").status == 204
    else:
        assert run("nodes", "lift", pair.router.node("one").id, "shared", "--router", pair.url).returncode == 0
    assert pair.excluded() == []
    assert who(pair.ask_all()) == {"one", "other"}
    refused("v0", pair.router.lift("one", "shared"), 404, "not_excluded")


def test_coming_back_lifts(pair: Pair) -> None:
    """A server that was offline is asked for everything when it is back (C7)."""
    pair.one.set(only="shared", status=500)
    pair.ask_all()
    pair.one.kill()
    eventually(lambda: pair.router.node("one").state == "offline")
    pair.one.start()
    eventually(lambda: pair.router.is_online("one", model="shared"))
    assert pair.excluded() == []
    assert who(pair.ask_all()) == {"one", "other"}


@pytest.mark.slow
def test_trial(trying: Pair) -> None:
    """A failure is tried again when its time has come, once, and moves on; what is mended is back in use (C7)."""
    trying.one.set(only="shared", status=500)
    eventually(lambda: who(trying.ask_all()) == {"other"} and len(delays(trying)) > 1)
    assert delays(trying)[:2] == ["1 s", "2 s"]
    assert trying.one.seen().requests == len(delays(trying))
    assert trying.excluded() == ["shared"]

    trying.one.set()
    eventually(lambda: who(trying.ask_all()) == {"one", "other"})
    assert trying.excluded() == []
    assert trying.router.events()[0].event == "node.model_restored"


# -- the lists, and nodes of which nothing is left


def test_lists(pair: Pair) -> None:
    """What is excluded everywhere is on no list; what is excluded somewhere is (C8)."""
    pair.one.set(status=500)
    for model in ("solo", "shared"):
        pair.ask_all(model)
    assert pair.excluded() == ["shared", "solo"]
    assert pair.router.listed() == ["plain", "shared"]
    tags = call(pair.url, "GET", "/api/tags").json()["models"]
    assert sorted(m["name"].removesuffix(":latest") for m in tags) == ["plain", "shared"]
    assert call(pair.url, "GET", "/v1/models/solo").status == 404

    pair.other.set(status=500)
    for model in ("shared", "plain"):
        pair.ask_all(model)
    assert pair.router.listed() == []


class Alone(NamedTuple):
    """A router with one agent, in front of a server with two models."""

    router: Router
    agent: Process
    fake: Fake


@pytest.fixture(scope="module")
def lonesome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    with house_in(tmp_path_factory.mktemp("alone")) as house:
        router = house.router("--trial-after", str(NEVER))
        fake = house.fake(models="shared,plain")
        yield Alone(router, house.node(router, "agent", "--runtime", f"openai={fake.url}"), fake)


@pytest.fixture
def alone(lonesome: Alone) -> Iterator[Alone]:
    """The agent in good order."""
    router, _, fake = lonesome
    eventually(lambda: router.is_online("agent", model="shared"), 60)
    yield lonesome
    fake.set()
    for model in router.node("agent").excluded:
        router.lift("agent", model)


@pytest.mark.parametrize("api", API)
def test_nothing_is_left(alone: Alone, api: str) -> None:
    """All of a node's models are excluded: it stays online and gets nothing (C9).

    Clients are told that nobody can run the model now, and when it is tried again (B3).
    """
    everything_fails(alone)
    seen = alone.fake.seen().requests
    answer = ask(alone.router.url, api, "shared")

    assert "failed" in refused(api, answer, 503, "no_capable_nodes")
    assert 0 < int(answer.headers["retry-after"]) <= NEVER
    assert alone.fake.seen().requests == seen
    assert alone.router.node("agent").state == "online"
    assert alone.router.listed() == []


@pytest.mark.parametrize("api", API)
def test_busy_behind_an_agent(alone: Alone, api: str) -> None:
    """A server that is busy is no failure, also when its agent passes on what it says (C6)."""
    alone.fake.set(status=503, retry_after=7)
    answer = ask(alone.router.url, api, "shared")
    assert refused(api, answer, 503) == "told to fail"
    assert answer.headers["retry-after"] == "7"
    assert alone.router.node("agent").excluded == []


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restart_lifts(alone: Alone, end: str) -> None:
    """An agent that was started again is asked for everything, also if nobody noticed that it was away (C7)."""
    everything_fails(alone)
    getattr(alone.agent, end)()
    alone.agent.start()
    eventually(lambda: is_as_new(alone.router.node("agent")))
    assert ask(alone.router.url, "openai", "shared").status == 200


# -- helpers


def everything_fails(alone: Alone) -> None:
    """Both models have failed once, and would not fail again."""
    alone.fake.set(status=500)
    for model in ("shared", "plain"):
        assert ask(alone.router.url, "openai", model).status == 500
    alone.fake.set()
    assert alone.router.node("agent").excluded == ["plain", "shared"]


def who(answers: list[Answer]) -> set[str]:
    """The nodes that gave these answers, all of which are good."""
    assert {a.status for a in answers} == {200}, answers
    return {a.headers["x-llm-router-node"] for a in answers}


def is_as_new(node: NodeView) -> bool:
    return node.state == "online" and not node.excluded


def delays(pair: Pair) -> list[str]:
    """From each failure to the next trial, in the order of events."""
    excluded = [e.detail for e in pair.router.events() if e.event == "node.model_excluded"]
    return [detail.rpartition("tried again after ")[2] for detail in reversed(excluded)]
