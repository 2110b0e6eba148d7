"""What the network hears of the router (requirement A1)."""

import asyncio
import gc
from collections.abc import Iterable

import pytest
from tests.node.conftest import Journal
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from llm_router import __version__
from llm_router.contract import SERVICE
from llm_router.router.announce import Announcement, addresses_of, reachable

pytestmark = pytest.mark.usefixtures("quiet_network")

LOOPBACK = ["127.0.0.1"]
OWN = ["127.0.0.1", "192.168.1.5", "10.0.0.5", "169.254.7.7", "::1", "fd00::5", "fe80::5%eth0", "02:fc:00:00:00:01"]


@pytest.mark.parametrize(
    ("bound", "heard"),
    [
        (["127.0.0.1"], []),
        (["::1", "127.0.0.1"], []),
        (["192.168.1.5"], ["192.168.1.5"]),
        (["0.0.0.0"], ["192.168.1.5", "10.0.0.5", "169.254.7.7"]),
        (["::"], ["fd00::5"]),
        (["0.0.0.0", "::"], ["192.168.1.5", "10.0.0.5", "169.254.7.7", "fd00::5"]),
        (["fe80::5%eth0"], []),
    ],
)
def test_what_others_reach_is_announced(bound: list[str], heard: list[str]) -> None:
    """Every address that is listened on, none that only this machine can use."""
    assert reachable(bound, lambda: OWN) == heard


async def test_a_router_for_this_machine_alone_is_not_announced() -> None:
    """Requirement A1: nobody is told of what they cannot reach."""
    for host in ("127.0.0.1", "::1", "localhost", "no-such-host.invalid"):
        assert await addresses_of(host) == []


async def heard(listener: AsyncZeroconf, names: Iterable[str]) -> list[AsyncServiceInfo]:
    """What is announced under these names, once all are."""
    found = [AsyncServiceInfo(SERVICE, f"{name}.{SERVICE}") for name in names]
    async with asyncio.timeout(30):
        for info in found:
            while not await info.async_request(listener.zeroconf, 1000):
                pass
    return found


async def test_announced_with_what_a_node_needs() -> None:
    """Its addresses, its port, its version and the path of its API; a second one on this machine has another name."""
    journal, listener = Journal(), AsyncZeroconf(interfaces=LOOPBACK)
    first = Announcement(["192.0.2.7", "2001:db8::7"], 8080, journal.log, LOOPBACK)
    second = Announcement(["192.0.2.7"], 8081, journal.log, LOOPBACK)
    first.start()
    name = (await journal.entry("router.announced"))["name"].removesuffix(f".{SERVICE}")
    second.start()
    assert (await journal.entry("router.announced", 2))["name"] == f"{name}-2.{SERVICE}"
    one, other = await heard(listener, [name, f"{name}-2"])
    assert (one.port, other.port) == (8080, 8081)
    assert sorted(one.parsed_addresses()) == ["192.0.2.7", "2001:db8::7"]
    assert one.decoded_properties == {"version": __version__, "path": "/"}
    for end in (first, second, listener):
        await (end.async_close() if isinstance(end, AsyncZeroconf) else end.stop())


async def test_stopped_at_once() -> None:
    """A router that ends as soon as it began leaves nothing behind."""
    announcement = Announcement(["192.0.2.7"], 8080, Journal().log, LOOPBACK)
    announcement.start()
    await announcement.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")  # which zeroconf leaves to the garbage collector
async def test_a_network_that_will_not_hear_it() -> None:
    """Is no reason not to run: the log says so, and what nodes need then."""
    journal = Journal()
    announcement = Announcement(["192.0.2.7"], 8080, journal.log, ["203.0.113.9"])  # none of this machine's
    announcement.start()
    assert "--router" in (await journal.entry("router.not_announced"))["hint"]
    await announcement.stop()
    gc.collect()
