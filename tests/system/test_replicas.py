"""Three routers that are one, on a real PostgreSQL (issue 9, point 1; requirements A8, C6, D6, E1, F2)."""

import csv
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http.client import HTTPConnection
from typing import TypeVar

import pytest
from tests.postgres import Cluster
from tests.system.harness import (
    Answer,
    Fake,
    House,
    Load,
    Process,
    Result,
    Router,
    call,
    chat,
    eventually,
    house_in,
    refused,
)

T = TypeVar("T")

# Seconds in which every replica shall have heard of something. The promise is one; on a machine that does other things
# too, a test leaves room.
SOON = 5.0
NODES = ("a", "b", "c", "d", "e", "f")


class Replicas:
    """Three routers, and six nodes of which each registered at one of them."""

    def __init__(self, house: House, database: str) -> None:
        self.house = house
        self.routers = [house.replica(f"replica-{i}", database) for i in range(3)]
        self.fakes: dict[str, Fake] = {}
        self.nodes: dict[str, Process] = {}
        for i, name in enumerate(NODES):
            self.fakes[name] = house.fake(f"fake-{name}", models=f"common,only-{name}")
            runtime = f"openai={self.fakes[name].url}"
            self.nodes[name] = house.node(self.routers[i % 3], name, "--runtime", runtime)
        self.all(lambda router: router.is_online(*NODES, model="common"), 60)

    def all(self, check: Callable[[Router], T], seconds: float = SOON) -> list[T]:
        """What this is at each of them, as soon as it is true at all."""
        return [eventually(partial(check, router), seconds) for router in self.routers]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Replicas]:
    """For tests that leave everything as it was."""
    with house_in(tmp_path_factory.mktemp("replicas")) as house:
        yield Replicas(house, cluster.create())


pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]  # fifteen processes start for the first


def test_a_node_that_registered_at_one_is_used_by_all(replicas: Replicas) -> None:
    """A model that one node has is answered by whichever replica is asked, and listed by all."""
    for router in replicas.routers:
        for name in NODES:
            answer = chat(router.url, f"only-{name}", stream=False)
            assert answer.status == 200
            assert answer.headers["x-llm-router-node"] == name


def test_a_node_that_comes_is_known_to_all(replicas: Replicas) -> None:
    """From one replica's hearing of a node to all others' there is less than a second."""
    house = replicas.house
    fake = house.fake("fake-late", models="late")
    node = house.node(replicas.routers[0], "late", "--runtime", f"openai={fake.url}")
    eventually(lambda: replicas.routers[0].is_online("late", model="late"), 30)
    began = time.monotonic()
    replicas.all(lambda router: router.is_online("late", model="late"))
    print(f"known to all after {time.monotonic() - began:.2f} s")  # noqa: T201 - a figure for who measures
    assert node.stop() == 0
    replicas.all(lambda router: router.node("late").state == "offline")
    assert call(replicas.routers[1].url, "DELETE", f"/v0/nodes/{replicas.routers[1].node('late').id}").status == 204
    replicas.all(lambda router: "late" not in router.nodes())


def test_an_exclusion_at_one_holds_at_all(replicas: Replicas) -> None:
    """What failed at one is asked of that node by none; lifted at another, it is asked by all again (C6, C7)."""
    first, second, third = replicas.routers
    replicas.fakes["a"].set(status=500)
    refused("ollama", chat(first.url, "only-a", stream=False), 500)
    replicas.all(lambda router: router.node("a").excluded == ["only-a"])
    refused("ollama", chat(second.url, "only-a", stream=False), 503)
    replicas.fakes["a"].set()
    assert third.lift("a", "only-a").status == 204
    replicas.all(lambda router: router.node("a").excluded == [])
    assert chat(second.url, "only-a", stream=False).status == 200


def test_settings_of_a_node(replicas: Replicas) -> None:
    """A node that is drained and renamed at one is so at all; and so when that is taken back."""
    first, second, _ = replicas.routers
    id_ = first.node("b").id
    assert call(second.url, "PATCH", f"/v0/nodes/{id_}", {"drain": True, "tags": ["blue"]}).status == 200
    replicas.all(lambda router: router.node("b").settings.drain and router.node("b").settings.tags == ["blue"])
    refused("ollama", chat(first.url, "only-b", stream=False), 503)
    assert call(first.url, "PATCH", f"/v0/nodes/{id_}", {"drain": False, "tags": []}).status == 200
    replicas.all(lambda router: not router.node("b").settings.drain)


def asks(router: Router, key: str) -> Answer:
    return call(router.url, "GET", "/v1/models", headers={"authorization": f"Bearer {key}"})


def has(router: Router, key: str) -> bool:
    """Whether it knows the key of this id. To ask with the key too early is to show a wrong one, which is counted."""
    return key in {made["id"] for made in call(router.url, "GET", "/v0/keys").json()}


def test_a_key_that_is_revoked_at_one_is_refused_by_all(replicas: Replicas) -> None:
    """A key made at one is good at all at once, and of no use anywhere when another one has revoked it."""
    first, _, third = replicas.routers
    made = call(first.url, "POST", "/v0/keys", {"name": "shared", "scope": "inference"}).json()
    replicas.all(lambda router: has(router, made["id"]))
    assert [asks(router, made["key"]).status for router in replicas.routers] == [200] * 3
    assert call(third.url, "DELETE", f"/v0/keys/{made['id']}").status == 204
    began = time.monotonic()
    replicas.all(lambda router: asks(router, made["key"]).status == 401)
    print(f"refused by all after {time.monotonic() - began:.2f} s")  # noqa: T201 - as above


def test_a_link_and_its_session(replicas: Replicas) -> None:
    """A login link made at one signs in at another, once, and the session counts at the third."""
    first, second, third = replicas.routers
    link = call(first.url, "POST", "/v0/login-links").json()
    token = link["path"].rpartition("token=")[2]
    form = {"content-type": "application/x-www-form-urlencoded"}
    signed = call(second.url, "POST", "/login", f"token={token}".encode(), form)
    cookie = signed.headers["set-cookie"].partition(";")[0].replace(_port(second), _port(third))
    proxied = {"cookie": cookie, "x-forwarded-for": "192.0.2.7"}  # from elsewhere: its address is not enough
    eventually(lambda: call(third.url, "GET", "/v0/nodes", headers=proxied).status == 200, SOON)
    replicas.all(lambda router: call(router.url, "POST", "/login", f"token={token}".encode(), form).status != 303)


def _port(router: Router) -> str:
    return router.url.rpartition(":")[2]


def test_the_join_token_is_one(replicas: Replicas) -> None:
    """All show the same token; a new one made at one is the one of all."""
    tokens = {call(router.url, "GET", "/v0/join").json()["token"] for router in replicas.routers}
    assert len(tokens) == 1
    new = call(replicas.routers[2].url, "POST", "/v0/join/rotate").json()["token"]
    replicas.all(lambda router: call(router.url, "GET", "/v0/join").json()["token"] == new)
    assert new not in tokens


def test_history_and_explain(replicas: Replicas) -> None:
    """Each replica explains, and shows the requests and events of all, each of them once."""
    ids = [chat(router.url, "only-c", stream=False).headers["x-request-id"] for router in replicas.routers]
    for router in replicas.routers:
        assert router.explain("only-c").node == "c"
        eventually(partial(_has, router, ids), SOON)
    events = replicas.routers[0].events()
    for name in NODES:
        own = [(e.event, e.detail) for e in events if e.name == name]
        assert sum(event == "node.registered" for event, _ in own) == 1, own
        assert sum(event == "node.online" for event, _ in own) == 1, own


def _has(router: Router, ids: Iterable[str]) -> bool:
    return {record.id for record in router.requests()}.issuperset(ids)


def test_who_watches_one_sees_all(replicas: Replicas) -> None:
    """The live stream of one replica tells of a request that another one has answered (F2)."""
    first, second, _ = replicas.routers
    host, port = first.url.removeprefix("http://").split(":")
    connection = HTTPConnection(host, int(port), timeout=30)
    connection.request("GET", "/v0/events", headers={"accept": "text/event-stream"})
    stream = connection.getresponse()
    until(stream.readline, b"event: rates")
    id_ = chat(second.url, "only-d", stream=False).headers["x-request-id"]
    until(stream.readline, id_.encode())
    connection.close()


def until(read: Callable[[], bytes], text: bytes) -> None:
    """Read lines up to one that holds this text."""
    while line := read():
        if text in line:
            return
    raise AssertionError(f"the stream ended without {text!r}")


# -- trouble, each in a house of its own


OUTAGE = 30.0  # seconds (issue 9)
RATE = 20.0  # requests per second at each replica


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A PostgreSQL that may be stopped."""
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.close()


def three(house: House, database: str, **options: object) -> tuple[list[Router], list[Fake]]:
    """Replicas, and two attached servers."""
    routers = [house.replica(f"replica-{i}", database) for i in range(3)]
    fakes = [house.fake(f"server-{i}", **options) for i in range(2)]
    for fake in fakes:
        routers[0].attach(fake, slots=50)
    for router in routers:
        eventually(partial(router.is_online, *(fake.name for fake in fakes), model="fake"))
    return routers, fakes


def test_a_replica_that_is_killed_takes_nothing_along(house: House, postgres_url: str) -> None:
    """Clients that come back to another replica when theirs is gone are all answered; so are all others (E1)."""
    routers, _ = three(house, postgres_url, delay=0.01)
    with Load(routers[0].url, "fake", RATE, then=routers[1].url) as moved, Load(routers[2].url, "fake", RATE) as calm:
        eventually(lambda: moved.count() > RATE and calm.count() > RATE)
        routers[0].kill()
        before = moved.count()
        eventually(lambda: moved.count() > before + 2 * RATE)
    assert [
        result for result in (*moved.results(), *calm.results()) if not (result.status == 200 and result.whole)
    ] == []
    eventually(lambda: health(routers[1])["replicas"] == [health(routers[2])["replica"]])


def health(router: Router) -> dict[str, object]:
    answer: dict[str, object] = call(router.url, "GET", "/health").json()
    return answer


def test_without_its_database_a_replica_serves_on(house: House, own_cluster: Cluster) -> None:
    """PostgreSQL is gone for half a minute under load: no request fails, and afterwards all of them are on record.

    An agent that speaks to one of them is not taken to be silent by the others, who cannot hear of it.
    """
    routers, fakes = three(house, own_cluster.create(), delay=0.01)
    house.node(routers[0], "agent", "--runtime", f"openai={fakes[0].url}")
    for router in routers:
        eventually(partial(router.is_online, "agent", model="fake"), 30)
    loads = [Load(router.url, "fake", RATE) for router in routers]
    with loads[0], loads[1], loads[2]:
        eventually(lambda: all(load.count() > RATE for load in loads))
        own_cluster.stop()
        for router in routers:
            eventually(partial(_is, router, "degraded"))
        time.sleep(OUTAGE)
        assert [router.node("agent").state for router in routers] == ["online"] * 3
        own_cluster.start()
        for router in routers:
            eventually(partial(_is, router, "ok"), 30)
    results = [result for load in loads for result in load.results()]
    assert [result for result in results if not (result.status == 200 and result.whole)] == []
    eventually(lambda: _recorded(routers[0]) == len(results), 30)
    made = call(routers[1].url, "POST", "/v0/keys", {"name": "after", "scope": "inference"}).json()
    for router in routers:
        eventually(lambda router=router: asks(router, made["key"]).status == 200, SOON)  # type: ignore[misc]


def _is(router: Router, status: str) -> bool:
    return health(router)["status"] == status


def _recorded(router: Router) -> int:
    """How many requests are on record; one that was under way to the database when that ended may be so twice."""
    rows = csv.DictReader(call(router.url, "GET", "/v0/requests?format=csv").body.decode().splitlines())
    return len({row["id"] for row in rows})


def test_slots_are_shared(house: House, postgres_url: str) -> None:
    """Two replicas with more to do than a node has slots ask it for no more than those, and what has just come.

    If they knew nothing of each other, they would ask it for twice as much.
    """
    routers = [house.replica(f"replica-{i}", postgres_url) for i in range(2)]
    fake = house.fake("server", tokens=6, delay=LASTS / 6)
    routers[0].attach(fake, slots=SLOTS)
    for router in routers:
        eventually(partial(router.is_online, fake.name, model="fake"))
    with Load(routers[0].url, "fake", RUSH) as first, Load(routers[1].url, "fake", RUSH) as second:
        eventually(lambda: min(first.count(), second.count()) >= SLOTS / 2, 60)  # each has had its share of them
        first.end()
    results = [*first.results(), *second.results()]
    assert {result.status for result in results} == {200}
    just_come = max(together(load.results(), COUNTED + STALLS) for load in (first, second))
    assert SLOTS <= fake.seen().peak <= SLOTS + just_come < 2 * SLOTS


SLOTS = 8
LASTS = 6.0  # seconds that an answer takes: 1.3 a second is what the node can do
RUSH = 1.5  # requests a second at each replica, which alone would fill the slots: nine of them at once
COUNTED = 0.25  # seconds between two messages about what is where
STALLS = 2.5  # seconds for which a machine that does other things too may forget one of them


def together(results: list[Result], seconds: float) -> int:
    """The most requests that began within so many seconds of each other."""
    begins = sorted(result.began for result in results)
    return max(sum(begin <= other < begin + seconds for other in begins) for begin in begins)
