"""What happened is put on record once, and shown by all."""

import pytest
from structlog.testing import capture_logs
from tests.router.replicas.said import Said

from llm_router.core.registry import Change
from llm_router.router.ledger import Ledger
from llm_router.router.publisher import Publisher
from llm_router.router.replicas.messages import Happened
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.queries import Event

OFFLINE = Change("node.offline", "n1", "box", "no heartbeat")


class Stage:
    """A publisher, and all whom it tells."""

    def __init__(self, database: Database, *, kept: bool) -> None:
        self.database = database
        self.replicas = Said(kept=kept)
        self.ledger = Ledger(database, lambda _node_id: None)
        self.publish = Publisher(self.ledger, self.replicas)
        self.shown: list[Event] = []
        self.touched: list[str] = []
        self.rounds = 0
        self.publish.show(self.shown.append, self.touched.append)
        self.publish.also(self._then)

    def _then(self) -> None:
        self.rounds += 1

    async def recorded(self) -> list[str]:
        await self.ledger.flush()
        return [event.event for event in await self.database.run(queries.latest_events, 9)]

    def told(self) -> list[str]:
        return [message.event.event for message in self.replicas.said if isinstance(message, Happened)]


@pytest.fixture
def stage(database: Database) -> Stage:
    return Stage(database, kept=True)


@pytest.fixture
def another(database: Database) -> Stage:
    """That of a replica which does not keep the node."""
    return Stage(database, kept=False)


async def test_what_happened_here_is_told_to_everybody(another: Stage) -> None:
    """Whoever keeps the node: the call, or the request that failed, came here."""
    with capture_logs() as logged:
        another.publish([OFFLINE])
    assert [(line["event"], line["log_level"]) for line in logged] == [("node.offline", "warning")]
    assert [event.event for event in another.shown] == another.told() == ["node.offline"]
    assert another.rounds == 1
    assert await another.recorded() == ["node.offline"]


async def test_what_all_notice_is_told_by_the_one_that_keeps_the_node(stage: Stage, another: Stage) -> None:
    """The other's requests hear of it, and its dashboard looks at the node; its record and the log are spared."""
    with capture_logs() as logged:
        stage.publish.noticed([OFFLINE])
        another.publish.noticed([OFFLINE])
    assert [line["log_level"] for line in logged] == ["warning", "debug"]
    assert (stage.told(), another.told()) == (["node.offline"], [])
    assert ([event.event for event in stage.shown], another.shown) == (["node.offline"], [])
    assert another.touched == ["n1"]
    assert (stage.rounds, another.rounds) == (1, 1)
    assert await another.recorded() == []
    assert await stage.recorded() == ["node.offline"]


async def test_what_was_heard_is_neither_recorded_nor_told_on(stage: Stage) -> None:
    """Else it would go round."""
    stage.publish.heard([OFFLINE])
    assert (stage.told(), stage.shown, stage.touched, stage.rounds) == ([], [], ["n1"], 1)
    assert await stage.recorded() == []


async def test_what_another_has_put_on_record_is_shown(stage: Stage) -> None:
    """And no more than that."""
    event = Event(1.0, "node.offline", "n1", "box", "")
    stage.publish.shown(event)
    assert stage.shown == [event]
    assert (stage.told(), stage.rounds) == ([], 0)
    assert await stage.recorded() == []


async def test_nothing_is_nothing(stage: Stage) -> None:
    """Nobody who waits for a node looks again."""
    stage.publish([])
    stage.publish.noticed([])
    stage.publish.heard([])
    assert stage.rounds == 0


async def test_what_is_no_node_s_is_told_too(stage: Stage) -> None:
    """A key was made."""
    stage.publish.tell("key.created", "ci", "by key 'ops'")
    assert stage.told() == ["key.created"]
    assert await stage.recorded() == ["key.created"]
