"""A whole router that is one of several, and another one that says what it likes (requirements A8, I1)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, get_args

import aiohttp
import msgspec
import pytest
from sqlalchemy import Connection, text
from tests.router.fake_node import FakeNode
from tests.router.following.here import row
from tests.router.recording import record

from llm_router.config import RouterConfig
from llm_router.contract import Heartbeat
from llm_router.core.elsewhere import Counts
from llm_router.router.access import statements
from llm_router.router.access.keys import StoredKey
from llm_router.router.app import serving
from llm_router.router.replicas import messages
from llm_router.router.replicas.bus import Bus
from llm_router.router.replicas.messages import Message
from llm_router.router.store import queries
from llm_router.router.store.postgres import PostgresDatabase
from llm_router.router.store.queries import Event, News

KEY = "lr-" + "k" * 43
NODE = "unknown"
EVERY_KIND: list[Message] = [
    messages.Rows([NODE], [NODE]),
    messages.Reported(NODE, Heartbeat()),
    messages.Left(NODE),
    messages.Approved(NODE),
    messages.Suspected(NODE, "x"),
    messages.Excluded(NODE, "m", "x", trial=False),
    messages.Lifted(NODE, "m", "x"),
    messages.Fetching(NODE, "m"),
    messages.Looked(NODE),
    messages.Counted(Counts({NODE: (1, 1, 1, 1)}, {"m": 1})),
    messages.AccessChanged(),
    messages.TokenRotated(),
    messages.CatalogueChanged(),
    messages.Placed({"m": [NODE]}),
    messages.Happened(Event(1.0, "node.online", NODE, NODE, "")),
    messages.Hello(),
    messages.Bye(),
]


class Another:
    """Another replica, as far as it is heard, with its database."""

    def __init__(self, url: str) -> None:
        self.bus = Bus(url, "another")
        self.database = PostgresDatabase(url, "another")
        self.heard: list[Message] = []
        self._changed = asyncio.Event()

    def hears(self, _sender: str, message: Message) -> None:
        self.heard.append(message)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


@pytest.fixture
async def another(postgres_place: str) -> AsyncIterator[Another]:
    made = Another(postgres_place)
    await made.bus.start(made.hears, lambda: None)
    yield made
    await made.bus.stop()
    await made.database.close()


@pytest.fixture
def shared(config: RouterConfig, postgres_place: str) -> RouterConfig:
    return msgspec.structs.replace(config, database_url=postgres_place)


@asynccontextmanager
async def router(config: RouterConfig) -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(config) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        yield client


async def health(api: aiohttp.ClientSession) -> dict[str, Any]:
    async with api.get("/health") as answer:
        return dict(await answer.json())


async def lets_in(api: aiohttp.ClientSession, key: str) -> bool:
    async with api.get("/v1/models", headers={"authorization": f"Bearer {key}"}) as answer:
        return answer.status == 200


async def test_every_kind_of_message_is_understood(another: Another, shared: RouterConfig) -> None:
    """Also where it is about a node that is not known: no fault of ours follows from it."""
    assert {type(message) for message in EVERY_KIND} == set(get_args(Message))
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, fault: faults.append(fault))
    async with router(shared) as api:
        for message in EVERY_KIND:
            another.bus.send(message)
        while (await health(api))["replicas"] != ["another"]:
            another.bus.send(messages.Counted(Counts({})))  # after its goodbye; who is silent for long is not shown
        assert (await health(api))["status"] == "ok"
    assert faults == []


async def test_whoever_is_back_may_have_written_what_it_could_not_tell(another: Another, shared: RouterConfig) -> None:
    """A key that was made while its connection was lost is good here as soon as it says hello."""
    async with router(shared) as api:
        stored = StoredKey("k1", "ci", sha256(KEY.encode()).hexdigest(), "inference", [], created=time.time())
        await another.database.run(statements.add_key, stored)
        another.bus.send(messages.Hello())
        while not await lets_in(api, KEY):
            pass
        await another.database.run(statements.remove, ["k1"], [])
        another.bus.send(messages.AccessChanged())
        while await lets_in(api, KEY):
            pass


def is_taken(connection: Connection) -> bool:
    """Whether somebody is on duty."""
    locks = "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database"
    held = text(f"{locks} WHERE locktype = 'advisory' AND granted AND datname = current_database()")
    return bool(connection.execute(held).scalar_one())


async def test_who_comes_is_told_what_no_table_has(postgres_place: str, shared: RouterConfig, node: FakeNode) -> None:
    """Models that are excluded: by the one on duty."""
    another = Another(postgres_place)
    await another.database.run(queries.write, News(nodes=[row(node)]))
    async with router(shared) as api:
        while (await health(api))["online"] != 1 or not await another.database.run(is_taken):
            pass
        await another.bus.start(another.hears, lambda: None)
        excluded = messages.Excluded("n1", "m", "500", trial=False)
        another.bus.send(excluded)
        another.bus.send(messages.Hello())
        await another.until(lambda: excluded in another.heard)
    await another.bus.stop()
    await another.database.close()


async def test_who_stops_says_so_last(another: Another, shared: RouterConfig) -> None:
    """After everything that it was asked for: nobody counts its requests, or waits for two seconds to find out."""
    async with router(shared):
        await another.until(lambda: messages.Hello() in another.heard)
    await another.until(lambda: messages.Bye() in another.heard)
    assert another.heard[-1] == messages.Bye()


async def test_who_watches_hears_of_all_from_the_greeting_on(another: Another, shared: RouterConfig) -> None:
    """Nothing that another replica answers after it is missed (requirement F2)."""
    await another.database.append([record(id="before")])  # it is connected, and can be quick
    async with router(shared) as api, api.get("/v0/events", headers={"accept": "text/event-stream"}) as stream:
        while not (await stream.content.readline()).startswith(b"event: rates"):
            pass
        await another.database.append([record(id="theirs")])
        while b'"theirs"' not in await stream.content.readline():
            pass


async def test_a_node_of_another_s_is_used_here(another: Another, shared: RouterConfig, node: FakeNode) -> None:
    """Its row is written and told of: it is taken in, looked at, and forgotten when it is removed there."""
    async with router(shared) as api:
        letter = [text for text, _ in messages.packed("another", messages.rows(["n1"], lambda _id: True))]
        await another.database.run(queries.write, News(nodes=[row(node)], messages=letter))
        while (await health(api))["online"] != 1:
            pass
        await another.database.run(queries.write, News(removed=["n1"], messages=letter))
        while (await health(api))["nodes"]:
            pass
