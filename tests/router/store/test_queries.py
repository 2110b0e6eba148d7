"""What is written can be read again."""

import itertools
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine

from llm_router.contract import NodeSettings, RuntimeFacts
from llm_router.core.health import State
from llm_router.core.usage import RequestRecord
from llm_router.router.store import queries, schema, writer
from llm_router.router.store.database import Database
from llm_router.router.store.queries import Event, KeptEvent, KeptRequest, News, RequestFilter, StoredNode

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


async def test_a_page_costs_the_blocks_that_it_is_found_in(database: Database) -> None:
    """Not the whole history, and no sorting of it: also for names, and for what was seen once, long ago."""
    blocks = 20
    written = [request(number, "m", f"n{number % 3}") for number in range(blocks * schema.BLOCK)]
    written[5] = request(5, "once", "gone")
    await database.append(written)
    one_block = 12 * schema.BLOCK // 1000  # a row that is looked at takes SQLite about ten instructions
    for model, node in (
        ("", ""),
        ("m", ""),
        ("", "n1"),
        ("m", "n1's machine"),
        ("once", ""),
        ("once", "gone's machine"),
    ):
        assert await database.run(steps_of, model, node) <= one_block, (model, node)


async def test_events_are_shown_newest_first(database: Database) -> None:
    """Requirement F4."""
    events = [Event(float(i), "node.online", "n1", "box", f"{i} models") for i in range(3)]
    await database.run(queries.write, News(events=events))
    shown = await database.run(queries.latest_events, 2)
    assert shown == [KeptEvent(**msgspec.structs.asdict(events[at]), seq=at + 1) for at in (2, 1)]


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
