"""Requests whose model a node has to fetch first: what their clients hear meanwhile, and how long they wait."""

from pathlib import Path

import msgspec
import pytest
from tests.gateway.conftest import BODY, STREAM, WHOLE, Client, Held, House, opened, post, until, whole

from llm_router.contract import Heartbeat, ModelEntry, Progress

FAR = Progress("model", "m", "downloading", 1_700_000_000, 4_100_000_000, 100_000_000.0)


async def fetching(house: House, script: Held, progress: Progress | None = FAR, name: str = "one") -> None:
    """A node that lists `m` and does not have it; `progress` is what it reports once it was asked."""
    await house.node(name, script, slots=1)
    house.registry.list_models(name, ("m",), 0.0, [ModelEntry("m", stored=False)])
    if progress is not None:
        house.registry.nodes[name].report = Heartbeat(progress=[progress])


async def sign(client: Client) -> bytes:
    """The first record of a stream."""
    assert (await client.head())[0] == 200
    return await client.chunk()


async def test_streams_hear_how_far_it_is(tmp_path: Path) -> None:
    """Issue 8: a sign of life has the percentage, where the protocol has a place for it."""
    async with opened(tmp_path, sign_every=0.02) as house:
        script = Held(whole())
        await fetching(house, script)
        first = await post(house, STREAM)
        await script.asked.wait()
        waiting = await post(house, STREAM, "/api/chat")
        await house.waiting(1)
        house.look(1.0)
        assert await sign(first) == b": fetching m: 41 % of 4.1 GB\n\n"
        record = msgspec.json.decode(await sign(waiting))
        assert (record["status"], record["message"]["content"]) == ("fetching m: 41 % of 4.1 GB", "")


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (None, "it has begun"),
        (Progress("model", "m", "downloading", 12_300_000), "12.3 MB so far"),
        (Progress("model", "other", "downloading", 1, 2), "it has begun"),
    ],
)
async def test_little_is_known(tmp_path: Path, progress: Progress | None, said: str) -> None:
    """A server that does not say how long the file is, a node that has not reported since."""
    async with opened(tmp_path, sign_every=0.02) as house:
        script = Held(whole())
        await fetching(house, script, progress)
        client = await post(house, STREAM)
        await script.asked.wait()
        house.look(1.0)
        assert await sign(client) == f": fetching m: {said}\n\n".encode()


async def test_who_wants_no_stream_waits_so_long_and_no_longer(house: House) -> None:
    """504 with how far it is, for the one that was sent on as for the one that waits; nobody is blamed."""
    house.plane.fetch_timeout = 300.0
    script = Held(whole())
    await fetching(house, script)
    sent = await post(house, BODY)
    await script.asked.wait()
    waiting = await post(house, BODY)
    await house.waiting(1)
    house.look(299.0)
    assert house.plane.under_way == 2
    house.look(301.0)
    for client in (sent, waiting):
        status, headers, body = await client.answer()
        error = msgspec.json.decode(body)["error"]
        assert (status, error["code"], headers["retry-after"]) == (504, "model_being_fetched", "24")
        assert "node 'one' (41 % of 4.1 GB)" in error["message"]
    assert [record.status for record in await house.settled(2)] == [504, 504]
    assert house.failures == []
    assert list(house.registry.online) == ["m"]


async def test_a_limit_of_nothing_is_none(house: House) -> None:
    """0: as long as it takes."""
    house.plane.fetch_timeout = 0.0
    script = Held(whole())
    await fetching(house, script)
    client = await post(house, BODY)
    await script.asked.wait()
    house.look(100_000.0)
    script.go.set()
    assert (await client.answer())[2] == WHOLE


async def test_what_answered_is_there(house: House) -> None:
    """The node has the model from then on; how long it took says nothing about how fast it loads."""
    script = Held(whole())
    await fetching(house, script)
    client = await post(house, BODY)
    await script.asked.wait()
    script.go.set()
    await client.answer()
    await house.settled()
    node = house.registry.nodes["one"]
    assert (node.absent, node.fetching) == (frozenset(), set())
    assert node.rates["m"].learned == 0.0


async def test_a_client_that_leaves_leaves_the_node_at_it(house: House) -> None:
    """Requirement B6, and a download that others may want: the node says itself whether it goes on."""
    script = Held(whole())
    await fetching(house, script)
    client = await post(house, BODY)
    await script.asked.wait()
    client.abort()
    await until(lambda: not house.plane.under_way)
    assert house.registry.fetcher("m") is house.registry.nodes["one"]
