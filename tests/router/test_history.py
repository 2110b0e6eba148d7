"""What is on record can be searched (requirement F4)."""

from typing import Any

import msgspec
import pytest
from tests.router.recording import record

from llm_router.router import history
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.queries import Event, EventFilter, News, RequestFilter

PLAIN = record(at=0.0, client="10.0.0.1", streamed=False)


async def write(database: Database, *differences: dict[str, Any]) -> None:
    """Requests 0, 1, 2, … at so many thousand seconds."""
    plain = (msgspec.structs.replace(PLAIN, id=f"r{n}", at=n * 1000.0) for n in range(len(differences)))
    await database.append([msgspec.structs.replace(p, **d) for p, d in zip(plain, differences, strict=True)])


async def ids(database: Database, which: RequestFilter, limit: int = 100, before: int = 0) -> list[str]:
    return [r.id async for page in history.requests(database, which, limit, before) for r in page]


@pytest.fixture(params=[1, 2, 1 << 20])
def searched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little is looked at in one go."""
    monkeypatch.setattr(history, "SEARCHED", request.param)
    monkeypatch.setattr(history, "READ", request.param)


@pytest.mark.usefixtures("searched")
async def test_requests_are_found_by_what_they_are(database: Database) -> None:
    """By each field, by several at once, by a part of a word in any of five of them, in whatever case."""
    await write(
        database,
        {"model": "Qwen3:8b"},
        {"client": "10.0.0.9", "status": 404},
        {"outcome": "failed", "status": 502, "error": "it died: 100% of it_"},
        {"node": "attic", "node_id": "n2"},
        {"status": 503},
    )
    for which, found in (
        (RequestFilter(), ["r4", "r3", "r2", "r1", "r0"]),
        (RequestFilter(model="Qwen3:8b"), ["r0"]),
        (RequestFilter(node="attic"), ["r3"]),
        (RequestFilter(node="n2"), ["r3"]),
        (RequestFilter(client="10.0.0.9"), ["r1"]),
        (RequestFilter(status=(404, 404)), ["r1"]),
        (RequestFilter(status=(500, 599)), ["r4", "r2"]),
        (RequestFilter(outcome="failed"), ["r2"]),
        (RequestFilter(since=2000.0), ["r4", "r3", "r2"]),
        (RequestFilter(until=2000.0), ["r1", "r0"]),
        (RequestFilter(since=1000.0, until=3000.0, status=(500, 599)), ["r2"]),
        (RequestFilter(q="QWEN"), ["r0"]),
        (RequestFilter(q="attic"), ["r3"]),
        (RequestFilter(q="0.0.9"), ["r1"]),
        (RequestFilter(q="100% of it_"), ["r2"]),
        (RequestFilter(q="100_"), []),
        (RequestFilter(q="r4"), ["r4"]),
        (RequestFilter(model="m", q="box"), ["r4", "r2", "r1"]),
    ):
        assert await ids(database, which) == found, which


@pytest.mark.usefixtures("searched")
async def test_pages_follow_one_another(database: Database) -> None:
    """The `seq` of a page's last one leads to the next, with a search or without."""
    await write(database, *({"model": "m" if n % 2 else "x", "error": "e" if n % 3 else ""} for n in range(12)))
    for which in (RequestFilter(), RequestFilter(model="m"), RequestFilter(q="e")):
        whole = await ids(database, which)
        pages: list[str] = []
        before = 0
        while True:
            page = [r async for part in history.requests(database, which, 2, before) for r in part]
            if not page:
                break
            pages += [r.id for r in page]
            before = page[-1].seq
        assert pages == whole
        assert whole


async def test_there_may_be_nothing(database: Database) -> None:
    """A router that was asked for nothing yet."""
    assert await ids(database, RequestFilter(since=1.0)) == []
    assert await history.request(database, "r1") is None


async def test_a_clock_that_was_set_hides_nothing(database: Database) -> None:
    """Times may step back a little from one request to the next."""
    await write(database, *({"at": at} for at in (100.0, 200.0, 150.0, 201.0)))
    assert await ids(database, RequestFilter(since=180.0)) == ["r3", "r1"]


@pytest.mark.usefixtures("searched")
async def test_one_request_is_found_by_its_id(database: Database) -> None:
    """The newest, where a client used an id twice."""
    await write(database, {}, {"id": "same"}, {"id": "same", "model": "later"}, {})
    found = await history.request(database, "same")
    assert found is not None
    assert (found.model, found.seq) == ("later", 3)
    assert await history.request(database, "none") is None


@pytest.mark.usefixtures("searched")
async def test_events_are_found_by_what_they_are(database: Database) -> None:
    """By their name or its beginning, by node, by words."""
    written = [
        Event(1.0, "node.online", "n1", "box", "models pulled"),
        Event(2.0, "node.offline", "n2", "attic", "silent: for 20 s"),
        Event(3.0, "key.created", "", "ci", "by this machine"),
    ]
    await database.run(queries.write, News(events=written))
    for which, found in (
        (EventFilter(), [3.0, 2.0, 1.0]),
        (EventFilter(event="node.online"), [1.0]),
        (EventFilter(event="node."), [2.0, 1.0]),
        (EventFilter(event="node"), []),
        (EventFilter(node="n2"), [2.0]),
        (EventFilter(node="box"), [1.0]),
        (EventFilter(q="PULLED"), [1.0]),
        (EventFilter(event="node.", q="20 s"), [2.0]),
    ):
        assert [e.at async for page in history.events(database, which) for e in page] == found, which
