"""Who may join, at a running router (requirement A10). Clients of this machine are taken for others: `trust`."""

import asyncio

import aiohttp
import msgspec
import pytest
from tests.router.api.test_nodes import call, code, register, shown
from tests.router.fake_node import FakeNode

from llm_router.config import RouterConfig
from llm_router.contract import Heartbeat, JoinLine, Registered
from llm_router.router.app import serving
from llm_router.router.joining import PENDING_LIMIT


@pytest.fixture
def config(config: RouterConfig) -> RouterConfig:
    """Whoever calls may do everything, but is not on this machine."""
    return msgspec.structs.replace(config, trust=["127.0.0.9"], auth="off")


async def waiting(api: aiohttp.ClientSession, node: FakeNode, node_id: str = "n1") -> str:
    """The secret of a node that has registered and may not join."""
    status, answer = await register(api, node, node_id)
    assert (status, answer["state"]) == (201, "pending")
    return msgspec.convert(answer, Registered).node_secret


async def beat(api: aiohttp.ClientSession, secret: str, node_id: str = "n1") -> tuple[int, str]:
    status, answer = await call(api, "POST", f"/v0/nodes/{node_id}/heartbeat", Heartbeat(models_version=5), secret)
    return status, answer["state"]


async def approve(api: aiohttp.ClientSession, node_id: str = "n1") -> None:
    assert (await call(api, "POST", f"/v0/nodes/{node_id}/approve"))[0] == 200


async def until(api: aiohttp.ClientSession, state: str, node_id: str = "n1") -> None:
    async with asyncio.timeout(30):
        while (await shown(api, node_id)).state != state:
            pass


async def token(api: aiohttp.ClientSession) -> str:
    return msgspec.convert((await call(api, "GET", "/v0/join"))[1], JoinLine).token


async def test_a_node_from_elsewhere_waits(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """It is shown, its heartbeats are answered, and nothing is sent to it, whatever it does."""
    secret = await waiting(api, node)
    assert await beat(api, secret) == (200, "pending")
    assert (await call(api, "POST", "/v0/nodes/n1/goodbye", secret=secret))[0] == 204
    assert await beat(api, secret) == (200, "pending")
    status, answer = await register(api, node, secret=secret)
    assert (status, answer["state"]) == (200, "pending")
    assert ((await shown(api)).state, (await shown(api)).models, node.looks) == ("pending", [], 0)
    assert (await call(api, "GET", "/v1/models"))[1]["data"] == []


async def test_an_operator_approves_it(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """It is in use with no further doing of its own; who let it in is on record; once more changes nothing."""
    secret = await waiting(api, node)
    await approve(api)
    await until(api, "online")
    assert (await shown(api)).models == ["m"]
    assert (await beat(api, secret))[0] == 200
    await approve(api)
    await until(api, "online")
    _, events = await call(api, "GET", "/v0/events")
    details = [e["detail"] for e in events if e["event"] == "node.registering"]
    assert details[-1].startswith("approved: by ")


async def test_an_approved_node_that_has_left_comes_by_its_heartbeat(
    api: aiohttp.ClientSession, node: FakeNode
) -> None:
    """Nobody has to be there at the same time."""
    secret = await waiting(api, node)
    await node.stop()
    await approve(api)
    await until(api, "offline")
    await node.start()
    assert (await beat(api, secret))[0] == 200
    await until(api, "online")


async def test_the_join_token_lets_it_in(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """At once; a wrong one does not, and is not what it is told off for."""
    message = msgspec.structs.replace(node.registration(), join=await token(api))
    assert (await call(api, "POST", "/v0/nodes", message))[1]["state"] == "online"
    wrong = msgspec.structs.replace(node.registration("n2"), join="guessed")
    assert (await call(api, "POST", "/v0/nodes", wrong))[1]["state"] == "pending"


async def test_a_waiting_node_may_bring_the_token(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """It is started again with it, and is in."""
    secret = await waiting(api, node)
    assert await beat(api, secret) == (200, "pending")
    message = msgspec.structs.replace(node.registration(), join=await token(api))
    status, answer = await call(api, "POST", "/v0/nodes", message, secret)
    assert (status, answer["state"]) == (200, "online")


async def test_a_node_that_has_joined_needs_its_secret_alone(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Also when the token has changed meanwhile."""
    message = msgspec.structs.replace(node.registration(), join=await token(api))
    secret = (await call(api, "POST", "/v0/nodes", message))[1]["node_secret"]
    assert (await call(api, "POST", "/v0/join/rotate"))[0] == 200
    status, answer = await register(api, node, secret=secret)
    assert (status, answer["state"]) == (200, "online")


async def test_a_lost_answer_is_no_way_in(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Knowing the id of a node that has just joined is not enough to take its place; one that waits may ask again."""
    message = msgspec.structs.replace(node.registration(), join=await token(api))
    assert (await call(api, "POST", "/v0/nodes", message))[0] == 201
    assert code(await register(api, node)) == (403, "wrong_secret")
    await waiting(api, node, "n2")
    status, answer = await register(api, node, "n2")
    assert (status, answer["state"]) == (200, "pending")
    assert await beat(api, answer["node_secret"], "n2") == (200, "pending")


async def test_a_secret_is_bound_to_its_node(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Nobody speaks for another node by its own secret."""
    first, second = await waiting(api, node, "n1"), await waiting(api, node, "n2")
    for path in ("heartbeat", "goodbye"):
        reply = await call(api, "POST", f"/v0/nodes/n1/{path}", Heartbeat(), second)
        assert code(reply) == (403, "wrong_secret")
    assert await beat(api, first, "n1") == await beat(api, second, "n2") == (200, "pending")
    assert code(await register(api, node, "n1", second)) == (403, "wrong_secret")


async def test_a_new_token_replaces_the_old(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """It is on record that it was changed, and neither token is."""
    old = await token(api)
    _, answer = await call(api, "POST", "/v0/join/rotate")
    line = msgspec.convert(answer, JoinLine)
    assert (line.token, line.token != old) == (await token(api), True)
    assert line.command == f"ROUTER_URL=http://{line.token}@{line.url.removeprefix('http://')} llm-router node"
    assert await approved_by(api, node, "n1", old) == "pending"
    assert await approved_by(api, node, "n2", line.token) == "online"
    _, events = await call(api, "GET", "/v0/events")
    assert "join.token_rotated" in {e["event"] for e in events}
    assert old not in str(events)
    assert line.token not in str(events)


async def approved_by(api: aiohttp.ClientSession, node: FakeNode, node_id: str, word: str) -> str:
    message = msgspec.structs.replace(node.registration(node_id), join=word)
    return str((await call(api, "POST", "/v0/nodes", message))[1]["state"])


async def test_an_open_door(config: RouterConfig, node: FakeNode) -> None:
    """`--join open`: everybody is in."""
    open_to_all = msgspec.structs.replace(config, join="open")
    async with serving(open_to_all) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        assert (await register(api, node))[1]["state"] == "online"


async def test_who_comes_through_a_proxy_is_not_here(config: RouterConfig, node: FakeNode) -> None:
    """Though the proxy is on this machine, and nodes of this machine are let in at once."""
    trusting = msgspec.structs.replace(config, trust=["127.0.0.0/8"])
    async with serving(trusting) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        headers = {"x-forwarded-for": "203.0.113.9"}
        body = msgspec.json.encode(node.registration())
        async with api.post("/v0/nodes", data=body, headers=headers) as response:
            assert msgspec.json.decode(await response.read())["state"] == "pending"
        assert (await register(api, node, "n2"))[1]["state"] == "online"


async def test_who_waits_still_waits_after_a_restart(config: RouterConfig, node: FakeNode) -> None:
    """The router's restart approves nobody and looks at nobody; approval works as before."""
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        secret = await waiting(api, node)
        assert await beat(api, secret) == (200, "pending")
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        assert ((await shown(api)).state, node.looks) == ("pending", 0)
        assert await beat(api, secret) == (200, "pending")
        await approve(api)
        await until(api, "online")


async def test_as_many_may_wait_and_no_more(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Who was not heard of for longest is forgotten, and may come again; who has joined is none of them."""
    message = msgspec.structs.replace(node.registration("in"), join=await token(api))
    assert (await call(api, "POST", "/v0/nodes", message))[1]["state"] == "online"
    secrets = [await waiting(api, node, f"n{i}") for i in range(PENDING_LIMIT)]
    assert await beat(api, secrets[0], "n0") == (200, "pending")
    await waiting(api, node, "one-more")
    _, listed = await call(api, "GET", "/v0/nodes")
    ids = {n["id"] for n in listed}
    assert (len(ids), {"in", "n0", "one-more"} <= ids, "n1" in ids) == (PENDING_LIMIT + 1, True, False)
    await waiting(api, node, "n1")


async def test_a_removed_node_may_come_again(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """As a new one, and waits again."""
    secret = await waiting(api, node)
    assert (await call(api, "DELETE", "/v0/nodes/n1"))[0] == 204
    assert (await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(), secret))[0] == 404
    assert await waiting(api, node) != secret


async def test_approving_nobody(api: aiohttp.ClientSession) -> None:
    """404."""
    assert code(await call(api, "POST", "/v0/nodes/nobody/approve")) == (404, "node_not_found")


async def test_a_nodes_own_token_is_shown_to_it(config: RouterConfig, node: FakeNode) -> None:
    """With each look, after a restart of the router too; nobody else sees it."""
    message = msgspec.structs.replace(node.registration(), access="by-this-you-may-ask")
    local = msgspec.structs.replace(config, trust=["127.0.0.0/8"])
    async with serving(local) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        assert (await call(api, "POST", "/v0/nodes", message))[1]["state"] == "online"
        for path in ("/v0/nodes", "/v0/nodes/n1", "/v0/events"):
            assert message.access not in str(await call(api, "GET", path))
    async with serving(local) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        await until(api, "online")
    assert set(node.shown) == {f"Bearer {message.access}"}


@pytest.mark.parametrize("access", ["a b", "a\r\nx-more: 1", "x" * 300, "é"])
async def test_a_token_that_is_none(api: aiohttp.ClientSession, node: FakeNode, access: str) -> None:
    """It would stand in a header, and not alone."""
    message = msgspec.structs.replace(node.registration(), access=access)
    assert code(await call(api, "POST", "/v0/nodes", message)) == (400, "invalid_request")


async def test_a_registration_has_its_limit(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Anybody may send one: 413 for what no machine would have to say."""
    message = msgspec.structs.replace(node.registration(), os="x" * 300_000)
    assert (await call(api, "POST", "/v0/nodes", message))[0] == 413
