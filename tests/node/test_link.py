"""The agent's calls to its router, with a small real server in the router's place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from tests.doubles.fake_router import SECRET, FakeRouter, refusal
from tests.node.conftest import Journal

from llm_router.contract import Heartbeat, NodeSettings, Registration, parse_address
from llm_router.node.identity import Identity
from llm_router.node.link import Link, delay


class House:
    """A link that is kept up until the block ends."""

    def __init__(self, url: str, home: Path, session: aiohttp.ClientSession, journal: Journal) -> None:
        self.identity = Identity.load(home / "identity.json")
        self.offered: list[int] = []
        self.link = Link(
            parse_address(url),
            self.identity,
            session,
            introduce=lambda: Registration(self.identity.node_id, "machine", 11435, os="Linux", models_version=7),
            report=lambda: Heartbeat(models_version=7, cpu=12.5, in_flight=1),
            offered=self.offered.append,
            log=journal.log,
        )

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Link]:
        task = asyncio.create_task(self.link.run())
        try:
            yield self.link
        finally:
            task.cancel()
            await asyncio.wait({task})


@pytest.fixture
async def router() -> AsyncIterator[FakeRouter]:
    async with FakeRouter() as router:
        yield router


@pytest.fixture
def house(router: FakeRouter, tmp_path: Path, session: aiohttp.ClientSession, journal: Journal) -> House:
    return House(router.url, tmp_path, session, journal)


async def test_registers_at_once(house: House, router: FakeRouter) -> None:
    """The first call introduces the node (requirements A1 to A3)."""
    async with house.up():
        said = await router.next("register")
    message = msgspec.json.decode(said.body, type=Registration)
    assert (message.node_id, message.machine_name, message.port) == (house.identity.node_id, "machine", 11435)
    assert said.secret == ""


async def test_the_secret_is_kept_and_shown(house: House, router: FakeRouter, tmp_path: Path) -> None:
    """What the router gives is kept in the home, shown on every later call, and after a restart (A8)."""
    async with house.up() as link:
        await router.next("register")
        link.changed()
        assert (await router.next("heartbeat")).secret == SECRET
    assert Identity.load(tmp_path / "identity.json").secret(router.url) == SECRET
    async with house.up() as link:
        link.changed()
        assert (await router.next("heartbeat")).secret == SECRET


async def test_heartbeats_report(house: House, router: FakeRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come by themselves, with what the machine does (requirement D1)."""
    monkeypatch.setattr("llm_router.node.link.HEARTBEAT_EVERY", 0.01)
    async with house.up():
        await router.next("heartbeat")
        said = await router.next("heartbeat")
    assert msgspec.json.decode(said.body, type=Heartbeat) == Heartbeat(models_version=7, cpu=12.5, in_flight=1)


async def test_forgotten_and_back(house: House, router: FakeRouter) -> None:
    """A router that lost its database gets the registration again at once (E3)."""
    async with house.up() as link:
        await router.next("register")
        router.forget()
        link.changed()
        await router.next("heartbeat")
        await router.next("register")


async def test_goodbye(house: House, router: FakeRouter, journal: Journal) -> None:
    """A node that stops says so (A5)."""
    async with house.up():
        await journal.entry("router.registered")
    await house.link.goodbye()
    assert (await router.next("goodbye")).secret == SECRET


async def test_no_goodbye_from_a_stranger(house: House, router: FakeRouter) -> None:
    """Who never got in has nobody to take leave of."""
    await house.link.goodbye()
    assert router.calls.empty()


async def test_a_router_that_is_not_there_yet(tmp_path: Path, session: aiohttp.ClientSession, journal: Journal) -> None:
    """It is waited for, the log says where and how long, and when it comes the node registers (A7)."""
    async with FakeRouter() as gone:
        port = gone.port
    house = House(gone.url, tmp_path, session, journal)
    async with house.up():
        entry = await journal.entry("router.unreachable")
        assert entry["router"] == gone.url
        assert 0.5 <= entry["retry_in"] <= 1.0
        async with FakeRouter(port) as router:
            await router.next("register")


async def test_a_router_that_goes_and_comes(tmp_path: Path, session: aiohttp.ClientSession, journal: Journal) -> None:
    """A node outlives its router and is back with the first heartbeat that is heard (A8)."""
    async with FakeRouter() as first:
        house = House(first.url, tmp_path, session, journal)
        keeping = house.up()
        link = await keeping.__aenter__()
        await first.next("register")
    try:
        link.changed()
        await journal.entry("router.unreachable")
        async with FakeRouter(first.port) as second:
            assert (await second.next("heartbeat")).secret == SECRET
            await second.next("register")
    finally:
        await keeping.__aexit__(None, None, None)


async def test_settings_are_taken_and_given_back(
    house: House, router: FakeRouter, journal: Journal, tmp_path: Path
) -> None:
    """What operators set comes with a heartbeat's answer, and goes to a router that has forgotten us (F3)."""
    router.settings = NodeSettings("box", ["lab"], drain=True, changed=5.0)
    async with house.up() as link:
        first = await router.next("register")
        assert msgspec.json.decode(first.body, type=Registration).settings == NodeSettings()
        await journal.entry("settings.changed")
        router.forget()
        link.changed()
        again = await router.next("register")
        assert msgspec.json.decode(again.body, type=Registration).settings == router.settings
    assert (tmp_path / "settings.json").exists()


async def test_approval_is_waited_for(house: House, router: FakeRouter, journal: Journal) -> None:
    """Requirement A10: the log says who can let us in and how; when it is done, nothing has to be done here."""
    router.state = "pending"
    async with house.up() as link:
        entry = await journal.entry("router.approval_needed")
        assert f"llm-router nodes approve {house.identity.node_id}" in entry["hint"]
        await router.next("heartbeat")
        router.state = "registering"
        link.changed()
        await journal.entry("router.approved")
        router.state = "online"
        link.changed()
        await router.next("heartbeat")
    assert len(journal.find("router.approval_needed")) == len(journal.find("router.approved")) == 1


async def test_refused(house: House, router: FakeRouter, journal: Journal) -> None:
    """The router's reason is in the log, and the node tries again (A4, A7)."""
    router.refusals.append(
        (400, refusal("http://10.0.0.5:11435/v1/models cannot be reached", "model_list_unavailable"))
    )
    async with house.up():
        entry = await journal.entry("router.refused_us")
        assert entry["reason"] == "http://10.0.0.5:11435/v1/models cannot be reached"
        await journal.entry("router.registered")


async def test_wrong_secret(house: House, router: FakeRouter, journal: Journal) -> None:
    """The log says what the router says, and which file is meant."""
    router.refusals.append((403, refusal("not this node's secret", "wrong_secret")))
    async with house.up():
        reason = str((await journal.entry("router.refused_us"))["reason"])
    assert "not this node's secret" in reason
    assert str(house.identity.path) in reason


@pytest.mark.parametrize("answer", [(404, b"<html>no such page"), (200, b"[]"), (502, b"bad gateway")])
async def test_something_else_than_a_router(
    house: House, router: FakeRouter, journal: Journal, answer: tuple[int, bytes]
) -> None:
    """What answers in another way is named as such, and tried again: it may be a proxy before a router that starts."""
    router.refusals.append(answer)
    async with house.up():
        entry = await journal.entry("router.unreachable")
        assert "does not answer as a router" in entry["reason"]
        await journal.entry("router.registered")


def test_delays_double_up_to_a_minute() -> None:
    """1 s doubling to 60 s, however long it takes (A7)."""
    almost_one = 1 - 2**-53
    assert [round(delay(n, almost_one), 6) for n in (1, 2, 3, 6, 7, 8, 5000)] == [1, 2, 4, 32, 60, 60, 60]


def test_delays_are_spread() -> None:
    """Nodes that lost one router do not all come back in the same moment."""
    assert [delay(1, chance) for chance in (0.0, 0.5)] == [0.5, 0.75]


async def test_the_number_of_the_catalogue_is_handed_on(house: House, router: FakeRouter) -> None:
    """C1: each heartbeat's answer says whether the router offers other models than before."""
    router.catalogue = 7
    async with house.up() as link:
        await router.next("heartbeat")
        router.catalogue = 8
        link.changed()
        await router.next("heartbeat")
    assert house.offered[0] == 7
    assert set(house.offered) <= {7, 8}
