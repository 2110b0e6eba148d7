"""What is written can be read again."""

import asyncio
import itertools
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, text

from llm_router.contract import NodeSettings, RuntimeFacts
from llm_router.core.health import State
from llm_router.core.usage import RequestRecord
from llm_router.router.store import queries, schema, writer
from llm_router.router.store.database import Database
from llm_router.router.store.postgres import PostgresDatabase
from llm_router.router.store.queries import (
    Event,
    EventFilter,
    KeptEvent,
    KeptRequest,
    News,
    RequestFilter,
    SeenNode,
    StoredNode,
)
from llm_router.router.store.sqlite import SqliteDatabase
from llm_router.router.store.urls import dsn

NODE = StoredNode(
    id="n1",
    name="GPU box 東京",
    kind="agent",
    url="http://10.0.0.7:11435",
    runtimes=[RuntimeFacts("llamacpp", "b1234", 2)],
    slots=2,
    os="Linux",
    local=False,
    state=State.ONLINE,
    models=["llama3:8b", "qwen3"],
    last_seen=1_700_000_000.25,
    secret_hash="0" * 64,
    secret_proven=True,
    backend="cuda",
    settings=NodeSettings("東京 1", ["lab", "big"], "two\nlines", drain=True, changed=1_700_000_000.5),
    access="token",
    version="1.2.3",
    models_version=2**40,
    registered=1_700_000_000.75,
)


def request(number: int, model: str = "m", node: str = "n1") -> RequestRecord:
    return RequestRecord(
        id=f"r{number}",
        at=1_700_000_000.5 + number,
        client="10.0.0.1",
        operation="openai.chat",
        model=model,
        node_id=node,
        node=f"{node}'s machine",
        status=200,
        outcome="done",
        streamed=True,
        attempts=1,
        first_byte=0.25,
        seconds=1.5,
        prompt_tokens=10,
        completion_tokens=20,
        error="",
        waited=0.75,
    )


def kept(record: RequestRecord, seq: int) -> KeptRequest:
    return KeptRequest(**msgspec.structs.asdict(record), seq=seq)


async def test_a_node_comes_back_as_it_was(database: Database) -> None:
    """Requirement A8: a restart finds what was known."""
    await database.run(queries.write, News(nodes=[NODE]))
    assert await database.run(queries.load_nodes) == [NODE]


async def test_a_node_has_one_row(database: Database) -> None:
    """Written again it replaces itself; removed it is gone."""
    moved = msgspec.structs.replace(NODE, url="http://10.0.0.8:1", state=State.OFFLINE)
    await database.run(queries.write, News(nodes=[NODE]))
    await database.run(queries.write, News(nodes=[moved]))
    assert await database.run(queries.load_nodes) == [moved]
    await database.run(queries.write, News(removed=["n1", "never heard of"]))
    assert await database.run(queries.load_nodes) == []


async def test_some_nodes_are_read_without_the_others(database: Database) -> None:
    """A replica hears of a change by the node's id."""
    others = [msgspec.structs.replace(NODE, id=id_) for id_ in ("n3", "n2")]
    await database.run(queries.write, News(nodes=[*others, NODE]))
    assert await database.run(queries.load_nodes, {"n3", "n1", "never heard of"}) == [NODE, others[0]]
    assert await database.run(queries.load_nodes, []) == []


SEEN = SeenNode(
    id="n1",
    state=State.SUSPECT,
    models=["other"],
    models_version=2**40 + 1,
    slots=3,
    runtimes=[RuntimeFacts("ollama", "0.9", 1)],
    backend="rocm",
    last_seen=1_700_000_005.5,
)


async def test_what_was_seen_changes_a_node(database: Database) -> None:
    """And nothing else of it."""
    await database.run(queries.write, News(nodes=[NODE]))
    await database.run(queries.write, News(seen=[SEEN]))
    (node,) = await database.run(queries.load_nodes)
    assert node == msgspec.structs.replace(NODE, **msgspec.structs.asdict(SEEN))


async def test_what_was_seen_brings_no_node_back(database: Database) -> None:
    """Requirement A8: another replica has removed it meanwhile."""
    await database.run(queries.write, News(seen=[SEEN]))
    assert await database.run(queries.load_nodes) == []


def set_at(name: str, changed: float) -> StoredNode:
    return msgspec.structs.replace(NODE, settings=NodeSettings(name, changed=changed))


async def test_of_two_replicas_settings_those_changed_later_stay(postgres: PostgresDatabase) -> None:
    """Requirement F3: the one that writes last may know the older ones."""
    for name, changed in (("first", 1.0), ("last", 3.0), ("late", 2.0)):
        await postgres.run(queries.write, News(nodes=[set_at(name, changed)]))
    assert await postgres.run(queries.load_nodes) == [set_at("last", 3.0)]


async def test_replicas_hear_of_news_that_can_be_read(postgres: PostgresDatabase) -> None:
    """Messages come in their order, when what they are about is there."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    listening = await asyncpg.connect(dsn(postgres.url))
    await listening.add_listener(schema.CHANNEL, lambda *told: heard.put_nowait(str(told[3])))
    await postgres.run(queries.write, News(nodes=[NODE], messages=["one", "two 東京", "it's \\ 3"]))
    assert [await heard.get() for _ in range(3)] == ["one", "two 東京", "it's \\ 3"]
    await listening.close()


async def test_requests_of_other_replicas_are_read_as_they_come(postgres: PostgresDatabase) -> None:
    """The newest of them, the oldest first; one's own are known."""
    other = PostgresDatabase(postgres.url, "r2")
    assert await postgres.run(queries.last_request) == 0
    await other.append([request(1), request(2)])
    await postgres.append([request(3)])
    await other.append([request(4)])
    assert await postgres.run(queries.last_request) == 4

    async def newer(after: int, limit: int = 10) -> list[str]:
        return [r.id for r in await postgres.run(queries.newer_requests, after, "r1", limit)]

    assert await newer(0) == ["r1", "r2", "r4"]
    assert await newer(1) == await newer(0, limit=2) == ["r2", "r4"]
    assert await newer(4) == []
    await other.close()


async def test_requests_are_shown_newest_first(database: Database) -> None:
    """Requirement F4: with a limit, and narrowed down to a model, or to a node by its id or its name."""
    written = [request(1), request(2, model="other"), request(3, node="n2"), request(4)]
    await database.append(written)

    async def found(limit: int, model: str = "", node: str = "") -> list[str]:
        which = RequestFilter(model=model, node=node)
        return [r.id for r in await database.run(queries.latest_requests, limit, which)]

    assert await database.run(queries.latest_requests, 1) == [kept(request(4), 4)]
    assert await found(10) == ["r4", "r3", "r2", "r1"]
    assert await found(2) == ["r4", "r3"]
    assert await found(10, model="other") == ["r2"]
    assert await found(10, node="n2") == await found(10, node="n2's machine") == ["r3"]
    assert await found(10, model="other", node="n2") == []


async def test_requests_are_found_wherever_they_are(database: Database) -> None:
    """Requirement F4: blocks of requests are the database's own business, and so is which batch they came with."""
    rare = {3, schema.BLOCK - 1, schema.BLOCK, 2 * schema.BLOCK + 5}
    written = [
        request(number, *(("rare", "n2") if number in rare else ("m", "n1"))) for number in range(3 * schema.BLOCK)
    ]
    for start in range(0, len(written), 500):
        await database.append(written[start : start + 500])

    async def found(limit: int, model: str = "", node: str = "") -> list[int]:
        which = RequestFilter(model=model, node=node)
        return [int(r.id[1:]) for r in await database.run(queries.latest_requests, limit, which)]

    newest_first = sorted(rare, reverse=True)
    assert await found(10, model="rare") == await found(10, node="n2") == newest_first
    assert await found(10, model="rare", node="n2's machine") == newest_first
    assert await found(2, node="n2's machine") == newest_first[:2]
    assert await found(1000, model="m") == [n for n in range(3 * schema.BLOCK - 1, -1, -1) if n not in rare][:1000]
    assert await found(10, model="never asked for") == await found(10, model="m", node="n2") == []


def steps_of(connection: Connection, model: str, node: str) -> int:
    """SQLite's own measure of its work for a page of 10, in thousands of its instructions."""
    steps = itertools.count()
    driver: Any = connection.connection.dbapi_connection
    driver.set_progress_handler(lambda: next(steps) < 0, 1000)
    which = RequestFilter(model=model, node=node)
    queries.latest_requests(connection, 10, which, queries.whole(connection, which))
    driver.set_progress_handler(None, 0)
    return next(steps)


SOUGHT = (("", ""), ("m", ""), ("", "n1"), ("m", "n1's machine"), ("once", ""), ("once", "gone's machine"))


def history(blocks: int) -> list[RequestRecord]:
    """Of three nodes and one model, but for one request of long ago."""
    written = [request(number, "m", f"n{number % 3}") for number in range(blocks * schema.BLOCK)]
    written[5] = request(5, "once", "gone")
    return written


async def test_a_page_costs_the_blocks_that_it_is_found_in(sqlite: SqliteDatabase) -> None:
    """Not the whole history, and no sorting of it: also for names, and for what was seen once, long ago."""
    await sqlite.append(history(20))
    one_block = 12 * schema.BLOCK // 1000  # a row that is looked at takes SQLite about ten instructions
    for model, node in SOUGHT:
        assert await sqlite.run(steps_of, model, node) <= one_block, (model, node)


def rows_of(connection: Connection, model: str, node: str) -> int:
    """PostgreSQL's own count of the requests that it looks at for a page of 10."""
    seen = text(
        "SELECT pg_stat_get_xact_tuples_fetched(t) + pg_stat_get_xact_tuples_returned(t) "
        "FROM CAST('requests' AS regclass) AS t"
    )
    which = RequestFilter(model=model, node=node)
    window = queries.whole(connection, which)
    before = connection.execute(seen).scalar_one()
    queries.latest_requests(connection, 10, which, window)
    return int(connection.execute(seen).scalar_one() - before)


@pytest.mark.parametrize("known", [False, True])
async def test_so_it_does_for_postgresql(postgres: PostgresDatabase, known: bool) -> None:  # noqa: FBT001 - a case
    """However often it is asked, and whether or not it has counted what there is."""
    await postgres.append(history(20))
    if known:
        await postgres.run(lambda connection: connection.execute(text("ANALYZE")))
    for model, node in SOUGHT * 6:  # PostgreSQL has another plan for what it is asked again and again
        assert await postgres.run(rows_of, model, node) <= 2 * schema.BLOCK, (model, node)


async def test_events_are_shown_newest_first(database: Database) -> None:
    """Requirement F4."""
    events = [Event(float(i), "node.online", "n1", "box", f"{i} models") for i in range(3)]
    await database.run(queries.write, News(events=events))
    shown = await database.run(queries.latest_events, 2)
    assert shown == [KeptEvent(**msgspec.structs.asdict(events[at]), seq=at + 1) for at in (2, 1)]


@pytest.mark.parametrize("q", ["GPU", "gpu", "Gpu box", "10.0.0"])
async def test_a_search_does_not_mind_capitals(database: Database, q: str) -> None:
    """Requirement F4: nobody knows how they were written; `%` and `_` are what they are."""
    await database.append([request(1, node="a gPu box"), request(2, node="10_0_0")])
    await database.run(queries.write, News(events=[Event(1.0, "node.online", "n1", "gpu BOX 10.0.0", "")]))
    assert [r.id for r in await database.run(queries.latest_requests, 9, RequestFilter(q="GPU"))] == ["r1"]
    assert [r.id for r in await database.run(queries.latest_requests, 9, RequestFilter(q="0_0"))] == ["r2"]
    assert len(await database.run(queries.latest_events, 9, EventFilter(q=q))) == 1
    assert await database.run(queries.latest_events, 9, EventFilter(q="G%U")) == []


async def test_times_are_kept_to_the_microsecond(database: Database) -> None:
    """Requirement F4: people read them."""
    await database.append([msgspec.structs.replace(request(1), first_byte=1 / 3, seconds=2 / 3, waited=1e-7)])
    (found,) = await database.run(queries.latest_requests, 1)
    assert (found.first_byte, found.seconds, found.waited) == (0.333333, 0.666667, 0.0)


TEXT = st.text(st.characters(codec="utf-8"))


@settings(deadline=None, max_examples=40)
@given(client=TEXT, model=TEXT, error=TEXT, seconds=st.floats(0, 1e9), tokens=st.integers(0, 2**63 - 1))
def test_whatever_a_client_sends_can_be_kept(client: str, model: str, error: str, seconds: float, tokens: int) -> None:
    """Quotes, NULs and every script: what comes back is what was written."""
    strange = msgspec.structs.replace(
        request(1), client=client, model=model, error=error, seconds=round(seconds, 6), prompt_tokens=tokens
    )
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        schema.metadata.create_all(connection)
        connection.commit()
        driver: Any = connection.connection.dbapi_connection
        writer.write(driver, queries.appending([strange]))
        assert queries.latest_requests(connection, 1) == [kept(strange, 1)]
    engine.dispose()
