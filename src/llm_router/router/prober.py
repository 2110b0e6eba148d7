"""Looks at nodes from outside: what they have, and whether they answer.

    who                       when
    a suspect                 at once
    an agent                  its list of models changed, or it is back and its models are unknown
    every stored agent        at the router's start (requirement A8)
    an attached server        every `probe_every` seconds, each on its own, so that a slow one delays nobody; of several
                              replicas by the one on duty, which tells the others
    silence                   every second, by the registry's clock
    an agent, without the     it was not heard for half of what makes it silent: others may hear it, and cannot say so
    database of replicas

Who waits for approval is not looked at.

Rule 1: one look at a node at a time. One that is asked for meanwhile follows when it is done.
Rule 2: what a look means is decided in `meaning`; the registry's table says what follows.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine

import aiohttp
import structlog

from llm_router.config import RouterConfig
from llm_router.contract import Address, Heartbeat, NodeKind
from llm_router.core.health import Signal, State
from llm_router.core.node import Node
from llm_router.core.registry import IN_ROTATION, Change, Registry
from llm_router.errors import UpstreamFailed
from llm_router.gateway.probe import Listing, pull_models
from llm_router.router.replicas.base import Replicas
from llm_router.router.replicas.messages import Looked

log = structlog.get_logger()

TICK = 1.0  # seconds: how exactly silence is noticed


class Prober:
    """The owner of every background look at a node. `start` before use, `stop` after."""

    def __init__(
        self,
        registry: Registry,
        session: aiohttp.ClientSession,
        config: RouterConfig,
        publish: Callable[[list[Change]], None],
        replicas: Replicas,
    ) -> None:
        self._registry = registry
        self._session = session
        self._config = config
        self._publish = publish
        self._replicas = replicas
        self._tasks: set[asyncio.Task[None]] = set()
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    def start(self) -> None:
        """Notice silence from now on, and look at every node that is known already."""
        self._spawn(self._tick_on())
        for node in list(self._registry):
            self.take_up(node, "router started")

    def take_up(self, node: Node, why: str) -> None:
        """Look at a node that is known from the database, and go on looking where that is needed."""
        if node.kind == "agent":
            self._publish(self._registry.signal(node.id, Signal.REGISTERED, time.monotonic(), why))
        else:
            self.watch(node.id)
        self.look(node.id)

    async def first_looks(self, quiet: float, most: float) -> None:
        """Wait until those who were known at the start have been looked at.

        But no longer than `quiet` seconds for the next answer, whosever it is, and `most` for all of them.
        """
        left = len(self._looks)
        another = asyncio.Event()

        def done(_look: asyncio.Task[None]) -> None:
            nonlocal left
            left -= 1
            another.set()

        for look in self._looks.values():
            look.add_done_callback(done)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most):
                while left:
                    another.clear()
                    async with asyncio.timeout(quiet):
                        await another.wait()

    async def stop(self) -> None:
        """End every task."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def pull(self, kind: NodeKind, address: Address, access: str = "") -> Listing:
        """What a server has; `access`: the token by which it lets us in.

        Raises:
            UpstreamFailed: it does not tell; the message says URL and reason.
        """
        return await pull_models(self._session, kind, address, self._config.pull_timeout, access)

    def look(self, node_id: str) -> None:
        """Look at a node soon; if somebody is looking already, once more when that is done."""
        if node_id in self._looks:
            self._again.add(node_id)
        else:
            self._looks[node_id] = self._spawn(self._look(node_id))

    async def looked(self, node_id: str) -> None:
        """Look at a node, and wait until a look that begins after this call is done."""
        self.look(node_id)
        await asyncio.wait([self._looks[node_id]])  # wait, not await: the look is not cancelled with us

    def watch(self, node_id: str) -> None:
        """Look at an attached server every `probe_every` seconds from now on, until it is removed."""
        if node_id not in self._watches:
            self._watches[node_id] = self._spawn(self._watch(node_id))

    def forget(self, node_id: str) -> None:
        """The node was removed."""
        watch = self._watches.pop(node_id, None)
        if watch is not None:
            watch.cancel()

    # -- tasks

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("prober.task_failed", exc_info=task.exception())

    async def _tick_on(self) -> None:
        while True:
            await asyncio.sleep(TICK)  # noqa: TID251 - a clock's tick: there is no event for "nothing came"
            now = time.monotonic()
            if self._replicas.trouble:
                self._look_at_the_quiet(now)
            self._publish(self._registry.tick(now))

    def _look_at_the_quiet(self, now: float) -> None:
        """They may be speaking to another replica, of which nobody hears: an answer counts as a word of theirs."""
        for node in self._registry:
            quiet = node.kind == "agent" and now - node.last_seen > self._config.silence / 2
            if quiet and node.state in IN_ROTATION and node.id not in self._looks:
                self.look(node.id)

    async def _watch(self, node_id: str) -> None:
        while True:
            await asyncio.sleep(self._config.probe_every)  # noqa: TID251 - the pause between two checks
            if self._replicas.on_duty:
                if node_id not in self._looks:
                    self.look(node_id)
                await asyncio.wait([self._looks[node_id]])  # wait, not await: the look is not cancelled with us

    async def _look(self, node_id: str) -> None:
        try:
            while await self._look_once(node_id):
                pass
        finally:
            del self._looks[node_id]
            self._again.discard(node_id)

    async def _look_once(self, node_id: str) -> bool:
        """Whether another look is needed: asked for meanwhile, or the node moved, or it is under suspicion now."""
        self._again.discard(node_id)
        node = self._registry.nodes.get(node_id)
        if node is None or node.address is None or node.state is State.PENDING:
            return False
        address = node.address
        try:
            seen: Listing | UpstreamFailed = await self.pull(node.kind, address, node.token)
        except UpstreamFailed as error:
            seen = error
        if self._registry.nodes.get(node_id) is not node or node.address != address:
            return True  # what was seen was not this node any more
        suspect = node.state is State.SUSPECT
        self._publish(self.conclude(node, seen))
        if node.kind != "agent" and self._replicas.on_duty:
            self._replicas.send(looked(node.id, seen))
        return node_id in self._again or (node.state is State.SUSPECT and not suspect)

    def conclude(self, node: Node, seen: Listing | UpstreamFailed) -> list[Change]:
        """What follows from a look at a node, of this replica's or another's."""
        now = time.monotonic()
        signal = meaning(node.kind, node.state, answered=isinstance(seen, Listing))
        if signal is None:
            return []
        if isinstance(seen, UpstreamFailed):
            return self._registry.signal(node.id, signal, now, seen.message)
        changes = self._registry.signal(node.id, signal, now)
        if node.kind != "agent":  # it cannot report, so this look is its report
            changes += self._registry.heartbeat(node.id, Heartbeat(loaded=list(seen.loaded)), now)
        return [*changes, *self._registry.list_models(node.id, seen.models, now, seen.entries)]


def meaning(kind: NodeKind, state: State, *, answered: bool) -> Signal | None:
    """What a look at a node in `state` says of it; None: nothing.

    An agent that is offline comes back by its own heartbeat: it may have said goodbye while somebody was looking.
    """
    if kind == "agent" and state is State.OFFLINE:
        return None
    if answered:
        return Signal.PROBE_OK
    return Signal.PULL_FAILED if state is State.REGISTERING else Signal.PROBE_FAILED


def looked(node_id: str, seen: Listing | UpstreamFailed) -> Looked:
    """What other replicas are told of a look at an attached server."""
    if isinstance(seen, UpstreamFailed):
        return Looked(node_id, error=seen.message)
    return Looked(node_id, entries=list(seen.entries), loaded=list(seen.loaded))
