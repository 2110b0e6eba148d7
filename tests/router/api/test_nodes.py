"""`/v0/nodes` of a running router, over its public port."""

import asyncio
from typing import Any, Literal
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
from tests.doubles.fake_runtime import FakeRuntime, Faults, Options
from tests.router.fake_node import FakeNode

from llm_router.config import RouterConfig
from llm_router.contract import Attach, Heartbeat, NodeSettings, NodeView, Registered, Seen
from llm_router.router.app import serving
from llm_router.router.store import queries
from llm_router.router.store.sqlite import SqliteDatabase

Reply = tuple[int, Any]


async def call(api: aiohttp.ClientSession, method: str, path: str, body: object = None, secret: str = "") -> Reply:
    """Status and decoded body."""
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    data = None if body is None else msgspec.json.encode(body)
    async with api.request(method, path, data=data, headers=headers) as response:
        raw = await response.read()
        return response.status, msgspec.json.decode(raw) if raw else None


async def register(api: aiohttp.ClientSession, node: FakeNode, node_id: str = "n1", secret: str = "") -> Reply:
    return await call(api, "POST", "/v0/nodes", node.registration(node_id), secret)


async def joined(api: aiohttp.ClientSession, node: FakeNode, node_id: str = "n1") -> Registered:
    status, answer = await register(api, node, node_id)
    assert status == 201
    return msgspec.convert(answer, Registered)


async def shown(api: aiohttp.ClientSession, node_id: str = "n1") -> NodeView:
    status, answer = await call(api, "GET", f"/v0/nodes/{node_id}")
    assert status == 200
    return msgspec.convert(answer, NodeView)


def code(reply: Reply) -> tuple[int, str]:
    return reply[0], reply[1]["error"]["code"]


async def test_a_new_node_is_in_use_when_its_registration_is_answered(
    api: aiohttp.ClientSession, node: FakeNode
) -> None:
    """Requirements A3, A4 and A6: at the address it called from, with its models, shown as local."""
    answer = await joined(api, node)
    assert (answer.node_id, answer.state) == ("n1", "online")
    view = await shown(api)
    assert (view.name, view.url, view.local) == ("fake machine", f"http://127.0.0.1:{node.port}", True)
    assert view.models == ["m"]
    _, listed = await call(api, "GET", "/v1/models")
    assert [m["id"] for m in listed["data"]] == ["m"]


async def test_a_node_without_a_reachable_list_is_refused(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement A4: it is told the URL, the error, and that a firewall may be the cause; nothing of it stays."""
    await node.stop()
    reply = await register(api, node)
    assert code(reply) == (400, "model_list_unavailable")
    message = reply[1]["error"]["message"]
    assert f"http://127.0.0.1:{node.port}/v1/models" in message
    assert "firewall" in message
    assert await call(api, "GET", "/v0/nodes") == (200, [])


@pytest.mark.parametrize("models", [[], [""], [7, None]])
async def test_a_node_without_models_is_refused(api: aiohttp.ClientSession, node: FakeNode, models: list[Any]) -> None:
    """Requirement A4: an entry needs a non-empty string for an id."""
    node.models = models
    assert code(await register(api, node)) == (400, "no_executable_models")


async def test_bad_entries_are_skipped(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement A4: what can be used of a list is used."""
    node.models = ["b", "", "a", "b", None]  # type: ignore[list-item]
    await joined(api, node)
    assert (await shown(api)).models == ["b", "a"]


async def test_a_list_that_does_not_come_is_waited_for_a_while(config: RouterConfig, node: FakeNode) -> None:
    """Requirement A4: there is a time limit to the pull."""
    node.held = asyncio.Event()
    impatient = msgspec.structs.replace(config, pull_timeout=0.2)
    async with serving(impatient) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        reply = await register(api, node)
    assert code(reply) == (400, "model_list_unavailable")
    assert "within 0.2 s" in reply[1]["error"]["message"]


async def test_coming_back_needs_the_secret(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """design.md §8: 200 and the same secret with it; 403 and what to do without it, once it was used."""
    secret = (await joined(api, node)).node_secret
    assert (await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(), secret))[0] == 200
    status, answer = await register(api, node, secret=secret)
    assert (status, answer["node_secret"], answer["state"]) == (200, secret, "online")
    for wrong in ("", "guessed"):
        reply = await register(api, node, secret=wrong)
        assert code(reply) == (403, "wrong_secret")
        assert "llm-router nodes remove n1" in reply[1]["error"]["message"]


async def test_a_node_that_never_got_its_secret_may_ask_again(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """The answer to a registration can be lost on its way."""
    await joined(api, node)
    status, answer = await register(api, node)
    assert status == 200
    reply = await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(), answer["node_secret"])
    assert (reply[0], reply[1]["state"]) == (200, "online")


async def test_a_restarted_node_that_cannot_be_reached_any_more_is_out(
    api: aiohttp.ClientSession, node: FakeNode
) -> None:
    """Requirement A4: a registration that is refused leaves a known node known, and offline."""
    secret = (await joined(api, node)).node_secret
    await node.stop()
    assert code(await register(api, node, secret=secret)) == (400, "model_list_unavailable")
    assert (await shown(api)).state == "offline"


async def test_heartbeats_are_shown(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement D1."""
    secret = (await joined(api, node)).node_secret
    report = Heartbeat(cpu=31.5, memory=40.0, loaded=["m"])
    assert (await call(api, "POST", "/v0/nodes/n1/heartbeat", report, secret))[0] == 200
    view = await shown(api)
    assert (view.cpu, view.memory, view.loaded) == (31.5, 40.0, ["m"])


async def test_calls_of_a_node_need_its_secret(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement A10: nobody speaks for another node."""
    await joined(api, node)
    for path in ("heartbeat", "goodbye"):
        for secret in ("", "guessed"):
            reply = await call(api, "POST", f"/v0/nodes/n1/{path}", Heartbeat(), secret)
            assert code(reply) == (403, "wrong_secret")
    assert (await shown(api)).state == "online"


async def test_an_unknown_node_is_told_to_register(api: aiohttp.ClientSession) -> None:
    """design.md §8: 404 is what makes an agent register again."""
    for path in ("heartbeat", "goodbye"):
        assert code(await call(api, "POST", f"/v0/nodes/who/{path}", Heartbeat(), "s")) == (404, "node_not_found")
    for method in ("GET", "DELETE"):
        assert code(await call(api, method, "/v0/nodes/who")) == (404, "node_not_found")


async def test_changed_models_are_pulled(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement C8: the heartbeat says that the list is another one; the same version again pulls nothing."""
    secret = (await joined(api, node)).node_secret
    node.models = ["m", "fresh"]
    node.looked.clear()
    await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(models_version=1), secret)
    await node.looked.wait()
    while (await shown(api)).models != ["m", "fresh"]:
        pass
    looks = node.looks
    await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(models_version=1), secret)
    await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(models_version=1), secret)
    assert node.looks == looks


async def test_goodbye_takes_the_node_out_at_once_and_a_heartbeat_brings_it_back(
    api: aiohttp.ClientSession, node: FakeNode
) -> None:
    """Requirements A5, C9 and E3."""
    secret = (await joined(api, node)).node_secret
    assert (await call(api, "POST", "/v0/nodes/n1/goodbye", secret=secret))[0] == 204
    assert (await shown(api)).state == "offline"
    assert (await call(api, "GET", "/v1/models"))[1]["data"] == []
    node.models = ["other"]
    await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(), secret)
    while (await shown(api)).state != "online":
        pass
    assert [m["id"] for m in (await call(api, "GET", "/v1/models"))[1]["data"]] == ["other"]


async def test_a_removed_node_is_gone_until_it_registers(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """An agent that still runs gets 404 for its next heartbeat, and a new secret for its registration."""
    secret = (await joined(api, node)).node_secret
    await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(), secret)
    assert (await call(api, "DELETE", "/v0/nodes/n1"))[0] == 204
    assert code(await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(), secret)) == (404, "node_not_found")
    status, answer = await register(api, node, secret=secret)
    assert status == 201
    assert answer["node_secret"] != secret


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'{"node_id": "n1"}',
        b'{"node_id": "../x", "machine_name": "m", "port": 1}',
        b'{"node_id": "", "machine_name": "m", "port": 1}',
        b'{"node_id": "n1", "machine_name": "m", "port": 0}',
        b'{"node_id": "n1", "machine_name": "m", "port": 70000}',
        b'{"node_id": "n1", "machine_name": "m", "port": -1}',
        b'{"node_id": "n1", "machine_name": "m", "port": 1, "address": "ftp://x"}',
    ],
)
async def test_a_malformed_registration_is_the_callers_mistake(api: aiohttp.ClientSession, body: bytes) -> None:
    """400, in the shape of this API, and nobody is registered."""
    async with api.post("/v0/nodes", data=body) as response:
        answer = msgspec.json.decode(await response.read())
        assert (response.status, answer["error"]["code"]) == (400, "invalid_request")
    assert await call(api, "GET", "/v0/nodes") == (200, [])


@pytest.mark.parametrize("kind", ["ollama", "openai"])
async def test_a_server_without_an_agent_is_attached(
    api: aiohttp.ClientSession, node: FakeNode, kind: Literal["ollama", "openai"]
) -> None:
    """It is looked at at once, in its own API, and named by its address where nobody names it."""
    reply = await call(api, "POST", "/v0/nodes/attach", Attach(f"http://127.0.0.1:{node.port}/v1/", kind, slots=2))
    assert reply[0] == 201
    view = msgspec.convert(reply[1], NodeView)
    assert (view.kind, view.state, view.models, view.slots) == (kind, "online", ["m"], 2)
    assert (view.name, view.url) == (f"127.0.0.1:{node.port}", f"http://127.0.0.1:{node.port}")


async def test_one_server_is_attached_once(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """The second time it is shown as it is."""
    _, first = await call(api, "POST", "/v0/nodes/attach", Attach(node.address.url, "openai", name="lab"))
    status, second = await call(api, "POST", "/v0/nodes/attach", Attach(f"127.0.0.1:{node.port}", "openai"))
    assert (status, second["id"], second["name"]) == (200, first["id"], "lab")


async def test_an_attached_server_is_nobodys_agent(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Registering under its id takes nothing over."""
    _, attached = await call(api, "POST", "/v0/nodes/attach", Attach(node.address.url, "openai"))
    assert code(await register(api, node, node_id=attached["id"])) == (403, "wrong_secret")


async def test_a_server_that_is_not_there_is_not_attached(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """The operator sees the reason; nothing stays."""
    await node.stop()
    reply = await call(api, "POST", "/v0/nodes/attach", Attach(node.address.url, "ollama"))
    assert code(reply) == (400, "server_unreachable")
    assert f"{node.address.url}/api/tags" in reply[1]["error"]["message"]
    assert await call(api, "GET", "/v0/nodes") == (200, [])


@pytest.mark.parametrize("wrong", [Attach("no address!", "openai"), Attach("127.0.0.1:1", "openai", slots=0)])
async def test_a_malformed_attachment_is_the_callers_mistake(api: aiohttp.ClientSession, wrong: Attach) -> None:
    """400 invalid_request."""
    assert code(await call(api, "POST", "/v0/nodes/attach", wrong)) == (400, "invalid_request")


@pytest.mark.parametrize("model", ["org/m:1", "/data/models/m", "東京 m?"])
async def test_an_exclusion_is_shown_and_can_be_lifted(api: aiohttp.ClientSession, model: str) -> None:
    """Requirements C6 and C7: whatever characters the model's id has; a second time there is nothing to lift."""
    async with FakeRuntime(Options(models=[model])) as runtime:
        runtime.faults = Faults(status=500)
        _, attached = await call(api, "POST", "/v0/nodes/attach", Attach(runtime.url, "openai"))
        body = msgspec.json.encode({"model": model, "messages": []})
        async with api.post("/v1/chat/completions", data=body) as response:
            assert response.status >= 500

        (exclusion,) = (await shown(api, attached["id"])).exclusions
        assert exclusion.model == model
        assert "500" in exclusion.reason
        assert exclusion.until > exclusion.since > 1_500_000_000
        path = f"/v0/nodes/{attached['id']}/exclusions/{quote(model, safe='/')}"
        assert await call(api, "DELETE", path) == (204, None)
        assert (await shown(api, attached["id"])).exclusions == []
        assert code(await call(api, "DELETE", path)) == (404, "not_excluded")


async def test_an_exclusion_of_an_unknown_node_cannot_be_lifted(api: aiohttp.ClientSession) -> None:
    """404 that says which is unknown."""
    assert code(await call(api, "DELETE", "/v0/nodes/nobody/exclusions/m")) == (404, "node_not_found")


async def test_settings_are_changed_told_and_shown(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement F3: the answer is the node as it is now; it hears of it with its next heartbeat; it is on record."""
    secret = (await joined(api, node)).node_secret
    before = (await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(), secret))[1]
    assert msgspec.convert(before, Seen) == Seen("online")
    status, answer = await call(api, "PATCH", "/v0/nodes/n1", {"name": "GPU box 東京", "tags": ["lab"]})
    assert status == 200
    view = msgspec.convert(answer, NodeView)
    assert (view.name, view.settings.tags, view.settings.drain) == ("GPU box 東京", ["lab"], False)
    assert view.settings.changed > 1_500_000_000
    after = (await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(), secret))[1]
    assert msgspec.convert(after, Seen) == Seen("online", view.settings)
    again = await shown(api)
    assert (again.name, again.settings) == (view.name, view.settings)
    _, events = await call(api, "GET", "/v0/events?limit=1")
    assert (events[0]["event"], events[0]["name"]) == ("node.changed", "GPU box 東京")
    assert events[0]["detail"] == "name 'GPU box 東京'; tags lab, by this machine"


async def test_an_empty_name_gives_the_machines_own_back(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement F3: and what was set besides stays."""
    await joined(api, node)
    await call(api, "PATCH", "/v0/nodes/n1", {"name": "box", "notes": "ask Mia"})
    assert (await shown(api)).name == "box"
    _, answer = await call(api, "PATCH", "/v0/nodes/n1", {"name": ""})
    assert (answer["name"], answer["settings"]["notes"]) == ("fake machine", "ask Mia")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"nmae": "x", "slots": 4}, "nmae, slots"),
        ({"name": "box", "changed": 5.0}, "changed"),
        ({"name": "x" * 101}, "100 characters"),
        ({"name": 5}, "name"),
        ({"name": None}, "name"),
        ({"drain": "yes"}, "drain"),
        ({"tags": "lab"}, "tags"),
        ({"tags": ["a,b"]}, "commas"),
        ([], "object"),
    ],
)
async def test_settings_that_cannot_be_are_refused(
    api: aiohttp.ClientSession, node: FakeNode, body: object, word: str
) -> None:
    """400 that says what is wrong, and nothing is changed, not even what could have been."""
    await joined(api, node)
    reply = await call(api, "PATCH", "/v0/nodes/n1", body)
    assert code(reply) == (400, "invalid_request")
    assert word in reply[1]["error"]["message"]
    assert (await shown(api)).settings == NodeSettings()


async def test_settings_of_an_unknown_node(api: aiohttp.ClientSession) -> None:
    """404."""
    assert code(await call(api, "PATCH", "/v0/nodes/nobody", {"drain": True})) == (404, "node_not_found")


async def test_a_drained_node_is_asked_for_nothing(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirements F3 and B3: its models are not listed, a request for one is told why; until it is used again."""
    await joined(api, node)
    await call(api, "PATCH", "/v0/nodes/n1", {"drain": True})
    assert (await shown(api)).state == "online"
    assert (await call(api, "GET", "/v1/models"))[1]["data"] == []
    status, answer = await call(api, "POST", "/v1/chat/completions", {"model": "m", "messages": []})
    assert (status, answer["error"]["code"]) == (503, "no_capable_nodes")
    assert "drained by an operator: 'fake machine'" in answer["error"]["message"]
    await call(api, "PATCH", "/v0/nodes/n1", {"drain": False})
    assert [m["id"] for m in (await call(api, "GET", "/v1/models"))[1]["data"]] == ["m"]


async def test_settings_outlive_the_router(config: RouterConfig, node: FakeNode) -> None:
    """Requirements A8 and F3: those of an agent and of an attached server, from the moment at which they were set."""
    settings = {"name": "box", "tags": ["lab"], "notes": "ask Mia", "drain": True}
    ids = []
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        ids = [(await joined(api, node)).node_id]
        ids.append((await call(api, "POST", "/v0/nodes/attach", Attach(node.address.url, "openai")))[1]["id"])
        views = [msgspec.convert((await call(api, "PATCH", f"/v0/nodes/{i}", settings))[1], NodeView) for i in ids]
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        for node_id, view in zip(ids, views, strict=True):
            again = await shown(api, node_id)
            assert (again.name, again.settings) == ("box", view.settings)
            while (await shown(api, node_id)).state != "online":
                pass
        assert (await call(api, "GET", "/v1/models"))[1]["data"] == []


async def test_a_router_without_its_database_has_them_from_the_node(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """Requirement F3: the copy comes with the registration; one that could not have been set here is left aside."""
    copy = NodeSettings("box", ["lab"], drain=True, changed=1_700_000_000.0)
    message = msgspec.structs.replace(node.registration(), settings=copy)
    assert (await call(api, "POST", "/v0/nodes", message))[0] == 201
    assert ((await shown(api)).name, (await shown(api)).settings) == ("box", copy)
    bad = msgspec.structs.replace(node.registration("n2"), settings=NodeSettings("x" * 101, changed=1.0))
    assert (await call(api, "POST", "/v0/nodes", bad))[0] == 201
    assert ((await shown(api, "n2")).name, (await shown(api, "n2")).settings) == ("fake machine", NodeSettings())


async def test_nodes_are_listed_by_name(api: aiohttp.ClientSession, node: FakeNode) -> None:
    """And their last_seen is a time of day, not of the router's own clock."""
    await joined(api, node)
    await call(api, "POST", "/v0/nodes/attach", Attach(node.address.url, "openai", name="attached"))
    _, listed = await call(api, "GET", "/v0/nodes")
    assert [n["name"] for n in listed] == ["attached", "fake machine"]
    assert all(n["last_seen"] > 1_500_000_000 for n in listed)


async def test_a_restart_forgets_nothing(config: RouterConfig, node: FakeNode) -> None:
    """Requirement A8: nodes, models and secrets are back, with no node doing anything."""
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        secret = (await joined(api, node)).node_secret
        await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(), secret)
        attached = (await call(api, "POST", "/v0/nodes/attach", Attach(f"localhost:{node.port}", "ollama", slots=3)))[1]
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        for node_id in ("n1", attached["id"]):
            while (await shown(api, node_id)).state != "online":
                pass
        assert (await shown(api, attached["id"])).slots == 3
        assert code(await register(api, node)) == (403, "wrong_secret")
        assert (await call(api, "POST", "/v0/nodes/n1/heartbeat", Heartbeat(), secret))[0] == 200


async def test_secrets_are_not_in_the_database(config: RouterConfig, node: FakeNode) -> None:
    """Who reads the file cannot speak for a node."""
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
        secret = (await joined(api, node)).node_secret
    database = SqliteDatabase(config.home / "router" / "router.db")
    (row,) = await database.run(queries.load_nodes)
    await database.close()
    assert secret not in msgspec.json.encode(row).decode()
    assert row.secret_hash
