"""What other replicas tell of nodes, applied to this one's."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.router.fake_node import FakeNode, fake_node
from tests.router.following.here import Here, row

from llm_router.config import RouterConfig
from llm_router.contract import Heartbeat, ModelEntry, NodeSettings
from llm_router.core.health import State
from llm_router.router.credentials import Credential
from llm_router.router.replicas.messages import Approved, Excluded, Fetching, Left, Lifted, Looked, Reported, Suspected
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.store.queries import News

NEW = "a hash of another secret"


@pytest.fixture
async def here(database: Database, session: aiohttp.ClientSession, config: RouterConfig) -> AsyncIterator[Here]:
    made = Here(database, session, config)
    yield made
    await made.prober.stop()


@pytest.fixture
async def known(here: Here, node: FakeNode) -> Here:
    """One that has taken in the node and seen it."""
    here.elsewhere.rows([row(node)], ["n1"])
    await here.becomes(State.ONLINE)
    return here


# -- rows


async def test_a_node_that_registered_elsewhere_is_taken_in_and_looked_at(known: Here, node: FakeNode) -> None:
    """With its secret, so it may speak to this one as well; who took it in first has put it on record."""
    assert node.looks == 1
    assert known.node().models == ("m",)
    assert known.node().slots == 3
    assert known.credentials.of("n1") == Credential("hash", proven=True)
    assert await known.events() == []
    assert await known.rows() == []


async def test_a_row_that_says_nothing_new_changes_nothing(known: Here, node: FakeNode) -> None:
    """Everything is read again every half minute."""
    before = known.node()
    known.elsewhere.rows([row(node, state=State.OFFLINE, models=["other"])], ["n1"])
    assert known.node() is before
    assert before.state is State.ONLINE
    assert before.models == ("m",)
    assert node.looks == 1


async def test_a_row_that_nobody_can_read_is_left_out(known: Here, node: FakeNode) -> None:
    """Written by hand, or by a newer version; of a known node and of a new one."""
    known.elsewhere.rows(
        [row(node, id="n2", url="ftp://host"), row(node, url="ftp://host", registered=200.0)], ["n1", "n2"]
    )
    assert list(known.registry.nodes) == ["n1"]
    assert known.node().state is State.ONLINE


async def test_settings_that_were_changed_last_count(known: Here, node: FakeNode) -> None:
    """Those of the row if they are newer; older ones are somebody's who has not heard of ours."""
    known.elsewhere.rows([row(node, settings=NodeSettings(drain=True, changed=5.0))], ["n1"])
    assert known.node().settings.drain
    assert "m" not in known.registry.online
    known.elsewhere.rows([row(node, settings=NodeSettings(changed=4.0))], ["n1"])
    assert known.node().settings.drain


async def test_an_agent_that_registered_again_elsewhere_is_where_it_is_now(known: Here) -> None:
    """And is looked at there, with what is known of it since."""
    async with fake_node() as moved:
        moved.models = ["other"]
        known.elsewhere.rows([row(moved, registered=200.0, version="2", secret_hash=NEW, access="token")], ["n1"])
        assert known.node().state is State.REGISTERING
        await known.becomes(State.ONLINE)
        assert known.node().address == moved.address
        assert known.node().models == ("other",)
        assert known.node().version == "2"
        assert known.credentials.of("n1").hash == NEW
        assert moved.shown == ["Bearer token"]
        known.elsewhere.rows([row(moved, registered=200.0)], ["n1"])
        assert moved.looks == 1  # once


async def test_a_row_of_before_the_last_registration_is_put_right(known: Here, node: FakeNode) -> None:
    """Whoever wrote it had not heard of that: where the agent is and what its secret is must not be lost."""
    known.elsewhere.rows([row(node, registered=200.0, secret_hash=NEW)], ["n1"])
    await known.becomes(State.ONLINE)
    stale = row(node, url="http://127.0.0.1:1", settings=NodeSettings(notes="x", changed=5.0))
    await known.database.run(queries.write, News(nodes=[stale]))
    known.elsewhere.rows([stale], ["n1"])
    assert known.credentials.of("n1").hash == NEW
    assert known.node().address == node.address
    (written,) = await known.rows()
    assert (written.url, written.secret_hash, written.registered) == (node.address.url, NEW, 200.0)
    assert written.settings.notes == "x"  # what was newer in it


async def test_who_has_no_row_any_more_is_forgotten(known: Here, node: FakeNode) -> None:
    """With its secret; only those that were asked for."""
    known.elsewhere.rows([row(node, id="n2")], ["n2", "n3"])
    assert set(known.registry.nodes) == {"n1", "n2"}
    known.elsewhere.rows([], ["n2"])
    assert set(known.registry.nodes) == {"n1"}
    known.elsewhere.rows([], ["n1"])
    assert not known.registry.nodes
    assert known.credentials.of("n1") == Credential()


async def test_what_this_one_has_to_write_counts(known: Here, node: FakeNode) -> None:
    """Its own changes are neither taken back nor removed by what was read before they were written."""
    known.publish(known.registry.configure("n1", NodeSettings(notes="mine", changed=5.0)))
    known.elsewhere.rows([row(node, settings=NodeSettings(notes="theirs", changed=6.0), registered=200.0)], ["n1"])
    assert known.node().settings.notes == "mine"
    assert known.node().state is State.ONLINE
    known.elsewhere.rows([], ["n1"])
    assert known.node().settings.notes == "mine"
    (written,) = await known.rows()
    assert written.settings.notes == "mine"
    known.elsewhere.rows([row(node, settings=NodeSettings(notes="theirs", changed=6.0))], ["n1"])
    assert known.node().settings.notes == "theirs"


async def test_one_that_was_removed_here_is_not_taken_in_again(known: Here, node: FakeNode) -> None:
    """By a row that is about to go."""
    known.publish(known.registry.remove("n1"))
    known.elsewhere.rows([row(node)], ["n1"])
    assert not known.registry.nodes
    assert await known.rows() == []


# -- who waits for approval


@pytest.fixture
async def waiting(here: Here, node: FakeNode) -> Here:
    here.elsewhere.rows([row(node, state=State.PENDING)], ["n1"])
    return here


async def test_who_waits_elsewhere_waits_here(waiting: Here, node: FakeNode) -> None:
    """Nobody looks at it."""
    await asyncio.sleep(0)  # noqa: TID251 - its turn
    assert waiting.node().state is State.PENDING
    assert node.looks == 0


async def test_an_approval_counts_here_too(waiting: Here) -> None:
    """Said by the one to which the operator spoke."""
    waiting.elsewhere.approved(Approved("n1"))
    await waiting.becomes(State.ONLINE)
    assert await waiting.events() == []


async def test_an_approval_that_nobody_heard_is_read(waiting: Here, node: FakeNode) -> None:
    """From its row."""
    waiting.elsewhere.rows([row(node, state=State.OFFLINE)], ["n1"])
    await waiting.becomes(State.ONLINE)


# -- messages


async def test_a_heartbeat_that_another_heard(known: Here, node: FakeNode) -> None:
    """Counts as one of ours; models that changed are pulled by everybody."""
    known.elsewhere.reported(Reported("n1", Heartbeat(cpu=50.0, loaded=["m"], slots=5)))
    assert (known.node().slots, list(known.registry.warm)) == (5, ["m"])
    assert node.looks == 1
    node.models = ["m", "new"]
    known.elsewhere.reported(Reported("n1", Heartbeat(models_version=1)))
    await known.until(lambda: "new" in known.registry)
    assert known.node().models_version == 1


async def test_a_goodbye_and_a_return(known: Here) -> None:
    """Offline without waiting for silence, and back with the first heartbeat."""
    known.elsewhere.left(Left("n1"))
    assert known.node().state is State.OFFLINE
    known.elsewhere.reported(Reported("n1", Heartbeat()))
    await known.becomes(State.ONLINE)
    assert await known.events() == []


async def test_a_suspicion_is_shared_and_looked_into(known: Here, node: FakeNode) -> None:
    """Whether the node can be reached from here is for this one to see: networks differ."""
    known.elsewhere.suspected(Suspected("n1", "connection refused"))
    assert known.node().state is State.SUSPECT
    await known.becomes(State.ONLINE)
    await node.stop()
    known.elsewhere.suspected(Suspected("n1", "connection refused"))
    await known.becomes(State.OFFLINE)


async def test_an_exclusion_and_its_end(known: Here) -> None:
    """Said once more while it was tried again, it lasts longer; what is said twice is nothing new."""
    known.elsewhere.excluded(Excluded("n1", "m", "500", trial=False))
    exclusion = known.node().excluded["m"]
    assert "m" not in known.registry.online
    first = exclusion.delay
    known.elsewhere.excluded(Excluded("n1", "m", "500", trial=False))
    assert exclusion.delay == first
    known.elsewhere.excluded(Excluded("n1", "m", "500", trial=True))
    assert exclusion.delay > first
    known.elsewhere.lifted(Lifted("n1", "m", "by an operator"))
    known.elsewhere.lifted(Lifted("n1", "m", "by an operator"))
    assert "m" in known.registry.online
    assert await known.events() == []


async def test_a_model_on_its_way(known: Here) -> None:
    """Who wants it waits for the node that another replica has asked to fetch it."""
    entries = [ModelEntry("m", stored=False)]
    known.elsewhere.looked(Looked("n1", entries=entries))
    assert known.registry.fetcher("m") is None
    known.elsewhere.fetching(Fetching("n1", "m"))
    assert known.registry.fetcher("m") is known.node()


async def test_a_look_at_an_attached_server(here: Here, node: FakeNode) -> None:
    """One replica looks, all know: its models, those in memory, and that it does not answer."""
    here.elsewhere.rows([row(node, "ollama")], ["n1"])
    await here.becomes(State.ONLINE)
    looks = node.looks
    here.elsewhere.looked(Looked("n1", entries=[ModelEntry("new")], loaded=["new"]))
    assert list(here.registry.available()) == list(here.registry.warm) == ["new"]
    assert node.looks == looks
    here.elsewhere.looked(Looked("n1", error="connection refused"))
    here.elsewhere.looked(Looked("n1", error="connection refused"))
    assert here.node().state is State.OFFLINE


async def test_of_a_node_that_is_not_known_nothing_is_heard(here: Here, node: FakeNode) -> None:
    """Its row comes later, and with it all that lasts: its state is seen, its models are pulled."""
    elsewhere = here.elsewhere
    elsewhere.reported(Reported("n1", Heartbeat()))
    elsewhere.left(Left("n1"))
    elsewhere.approved(Approved("n1"))
    elsewhere.suspected(Suspected("n1", "x"))
    elsewhere.excluded(Excluded("n1", "m", "x", trial=False))
    elsewhere.lifted(Lifted("n1", "m", "x"))
    elsewhere.fetching(Fetching("n1", "m"))
    elsewhere.looked(Looked("n1"))
    elsewhere.rows([], ["n1"])
    assert not here.registry.nodes
    elsewhere.rows([row(node)], ["n1"])
    await here.becomes(State.ONLINE)


async def test_what_was_approved_before_its_row_was_read_is_not_kept_waiting(here: Here, node: FakeNode) -> None:
    """The row that says so comes with the next reading of all."""
    here.elsewhere.approved(Approved("n1"))
    here.elsewhere.rows([row(node, state=State.PENDING)], ["n1"])
    here.elsewhere.rows([row(node, state=State.REGISTERING)], ["n1"])
    await here.becomes(State.ONLINE)
