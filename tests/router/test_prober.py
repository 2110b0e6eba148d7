"""Looks at nodes from outside, at real servers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import aiohttp.web
import msgspec
import pytest
from tests.router.fake_node import FakeNode, fake_node
from tests.router.replicas.said import Said

from llm_router.config import RouterConfig
from llm_router.contract import NodeKind
from llm_router.core.health import Signal, State
from llm_router.core.node import DIALECTS, Node
from llm_router.core.registry import Change, Registry
from llm_router.router.prober import Prober, meaning
from llm_router.router.replicas.base import Alone, Replicas


class Story:
    """A registry and its prober, and what was published; `until` waits for the next change."""

    def __init__(
        self, registry: Registry, session: aiohttp.ClientSession, config: RouterConfig, replicas: Replicas
    ) -> None:
        self.registry = registry
        self.prober = Prober(registry, session, config, self.publish, replicas)
        self.events: list[str] = []
        self._changed = asyncio.Event()

    def publish(self, changes: list[Change]) -> None:
        self.events += [change.event for change in changes]
        if changes:
            self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def add(self, fake: FakeNode, node_id: str = "n1", kind: NodeKind = "agent", state: State = State.OFFLINE) -> Node:
        node = Node(node_id, node_id, kind, fake.address, dialects=DIALECTS[kind], state=state, models=("old",))
        self.registry.add(node, asyncio.get_running_loop().time())
        return node


@pytest.fixture
async def story(session: aiohttp.ClientSession, config: RouterConfig) -> AsyncIterator[Story]:
    async with telling(session, config) as told:
        yield told


@asynccontextmanager
async def telling(
    session: aiohttp.ClientSession,
    config: RouterConfig,
    replicas: Replicas = Alone(),  # noqa: B008 - it has no state
) -> AsyncIterator[Story]:
    told = Story(Registry(silence=config.silence), session, config, replicas)
    try:
        yield told
    finally:
        await told.prober.stop()


def suspect(story: Story, node: Node) -> None:
    story.publish(story.registry.signal(node.id, Signal.REQUEST_FAILED, 0.0, "connection refused"))
    story.prober.look(node.id)


async def test_stored_agents_are_back_by_themselves(story: Story, node: FakeNode) -> None:
    """Requirement A8: after the router's restart their models are pulled at once; no node does anything."""
    stored = story.add(node)
    node.models = ["new"]
    story.prober.start()
    await story.until(lambda: stored.state is State.ONLINE)
    assert list(story.registry.available()) == ["new"]


async def test_a_stored_agent_that_is_gone_is_offline(story: Story, node: FakeNode) -> None:
    """Requirement A8: and its heartbeat brings it back, as any time."""
    stored = story.add(node)
    await node.stop()
    story.prober.start()
    await story.until(lambda: stored.state is State.OFFLINE and "node.offline" in story.events)
    assert not story.registry.available()


async def test_a_start_waits_for_all_who_answer(story: Story, node: FakeNode) -> None:
    """One after the other: a model is not said to be unknown because its node was not asked yet (A8)."""
    node.held = asyncio.Event()
    async with fake_node() as slower:
        slower.held = asyncio.Event()
        story.add(node)
        story.add(slower, "n2")
        story.prober.start()
        waiting = asyncio.create_task(story.prober.first_looks(quiet=30, most=60))
        node.held.set()
        await story.until(lambda: story.registry.nodes["n1"].state is State.ONLINE)
        assert not waiting.done()
        slower.held.set()
        await waiting
        assert story.registry.nodes["n2"].state is State.ONLINE


@pytest.mark.parametrize(("quiet", "most"), [(0.05, 60), (30, 0.05)])
async def test_a_start_does_not_wait_for_who_does_not_answer(
    story: Story, node: FakeNode, quiet: float, most: float
) -> None:
    """A machine that is switched off keeps nobody from using the others."""
    node.held = asyncio.Event()
    story.add(node)
    story.prober.start()
    await story.prober.first_looks(quiet, most)
    assert story.registry.nodes["n1"].state is State.REGISTERING


async def test_a_slow_node_delays_nobody(story: Story, node: FakeNode) -> None:
    """One server that takes its time is looked at on its own."""
    async with fake_node() as slow:
        slow.held = asyncio.Event()
        story.add(slow, "slow", "openai")
        quick = story.add(node, "quick", "openai")
        story.prober.start()
        await story.until(lambda: quick.state is State.ONLINE)
        while node.looks < 3:
            node.looked.clear()
            await node.looked.wait()
        assert slow.most_open == 1


async def test_a_suspect_that_answers_is_trusted_again(story: Story, node: FakeNode) -> None:
    """design.md §5: a failed request triggers an immediate probe; its list of models comes with it."""
    suspected = story.add(node, state=State.ONLINE)
    suspect(story, suspected)
    assert suspected.state is State.SUSPECT
    await story.until(lambda: suspected.state is State.ONLINE)
    assert list(story.registry.available()) == ["m"]


async def test_a_suspect_that_does_not_answer_is_offline(story: Story, node: FakeNode) -> None:
    """Requirement E1: a killed node is offline as soon as the probe has failed."""
    suspected = story.add(node, state=State.ONLINE)
    await node.stop()
    suspect(story, suspected)
    await story.until(lambda: suspected.state is State.OFFLINE)
    assert story.events == ["node.suspect", "node.offline"]


async def test_an_online_node_that_does_not_answer_gets_a_second_look(story: Story, node: FakeNode) -> None:
    """One failed look makes a suspect, two at once an offline node."""
    watched = story.add(node, state=State.ONLINE)
    await node.stop()
    story.prober.look(watched.id)
    await story.until(lambda: watched.state is State.OFFLINE)
    assert story.events == ["node.suspect", "node.offline"]


async def test_an_attached_server_comes_and_goes_unasked(story: Story, node: FakeNode) -> None:
    """Requirement E3: it has no heartbeat, so it is looked at every `probe_every` seconds."""
    attached = story.add(node, kind="ollama")
    story.prober.start()
    await story.until(lambda: attached.state is State.ONLINE)
    assert attached.report.loaded == ["m"]
    await node.stop()
    await story.until(lambda: attached.state is State.OFFLINE)
    assert not story.registry.available()
    node.models = ["m", "n"]
    await node.start()
    await story.until(lambda: attached.state is State.ONLINE)
    assert list(story.registry.available()) == ["m", "n"]


async def test_one_look_at_a_time_and_one_more_if_asked(story: Story, node: FakeNode) -> None:
    """A hundred failed requests are two looks: the one that is under way, and one that began after the last failure."""
    node.held = asyncio.Event()
    suspected = story.add(node, state=State.ONLINE)
    suspect(story, suspected)
    await node.looked.wait()
    for _ in range(100):
        story.prober.look(suspected.id)
    node.held.set()
    await story.until(lambda: suspected.state is State.ONLINE)
    while node.looks < 2:
        node.looked.clear()
        await node.looked.wait()
    assert (node.looks, node.most_open) == (2, 1)


async def test_a_goodbye_is_final_for_a_look_under_way(story: Story, node: FakeNode) -> None:
    """Requirement A5: an agent that answers a look while it shuts down is offline nonetheless."""
    node.held = asyncio.Event()
    leaving = story.add(node, state=State.ONLINE)
    suspect(story, leaving)
    await node.looked.wait()
    story.publish(story.registry.signal(leaving.id, Signal.GOODBYE, 0.0))
    another = story.add(node, "n2", state=State.ONLINE)
    suspect(story, another)
    node.held.set()
    await story.until(lambda: another.state is State.ONLINE)
    assert leaving.state is State.OFFLINE


async def test_what_was_seen_at_an_old_address_does_not_count(story: Story, node: FakeNode) -> None:
    """A node that moved while somebody looked is looked at again, where it is now."""
    node.held = asyncio.Event()
    async with fake_node() as elsewhere:
        elsewhere.models = ["there"]
        moving = story.add(node, state=State.ONLINE)
        suspect(story, moving)
        await node.looked.wait()
        story.registry.relocate(moving.id, elsewhere.address)
        node.held.set()
        await story.until(lambda: moving.state is State.ONLINE)
        assert list(story.registry.available()) == ["there"]


async def test_a_removed_server_is_not_watched_any_more(story: Story, node: FakeNode) -> None:
    """And taking it in again watches it again."""
    story.add(node, kind="openai")
    story.prober.start()
    await story.until(lambda: "node.online" in story.events)
    story.registry.remove("n1")
    story.prober.forget("n1")
    again = story.add(node, kind="openai")
    story.prober.watch("n1")
    await story.until(lambda: again.state is State.ONLINE)


async def test_silence_is_noticed(session: aiohttp.ClientSession, config: RouterConfig, node: FakeNode) -> None:
    """Requirement A5: without any heartbeat an agent goes offline by the clock alone."""
    impatient = msgspec.structs.replace(config, silence=0.5)
    async with telling(session, impatient) as story:
        story.prober.start()
        quiet = story.add(node, state=State.ONLINE)
        await story.until(lambda: quiet.state is State.OFFLINE)


@pytest.mark.parametrize("body", [b"no json", b"[]", b'{"data": 1}'])
async def test_what_is_no_list_of_models_is_no_answer(story: Story, node: FakeNode, body: bytes) -> None:
    """Requirement A4: something else listens on that port now."""
    node.answer = lambda: aiohttp.web.Response(body=body)
    suspected = story.add(node, state=State.ONLINE)
    suspect(story, suspected)
    await story.until(lambda: suspected.state is State.OFFLINE)


@pytest.mark.parametrize("state", State)
def test_looks_never_revive_an_agent_that_is_offline(state: State) -> None:
    """For an agent only its own heartbeat does; every other look says something."""
    for answered in (True, False):
        assert (meaning("agent", state, answered=answered) is None) == (state is State.OFFLINE)
        assert meaning("ollama", state, answered=answered) is not None


async def test_replicas_without_their_database_ask_agents_themselves(
    session: aiohttp.ClientSession, config: RouterConfig, node: FakeNode
) -> None:
    """An agent that speaks to another replica is not silent only because nobody can tell; one that is gone is gone."""
    alone = Said()
    alone.trouble = "connection refused"
    async with telling(session, config, alone) as story:
        story.prober.start()
        known = story.add(node, state=State.ONLINE)
        known.last_seen = quiet = time.monotonic() - 0.6 * config.silence
        await node.looked.wait()
        while known.last_seen == quiet:  # noqa: ASYNC110 - that it is well is no change
            await asyncio.sleep(0.01)  # noqa: TID251 - as above
        await node.stop()
        known.last_seen = quiet
        await story.until(lambda: known.state is State.OFFLINE)
        assert "node.offline" in story.events
