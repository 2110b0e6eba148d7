"""What other replicas of the router have on our nodes, and so how many places there are ours.

Every replica takes requests to the same nodes. Four times a second each tells the others what changed (`own`), and
counts what they tell (`heard`). So all know of all requests but those of the last quarter of a second, and a node's
slots are exceeded by no more than what was sent there in that time.

Rule 1: places = slots, less what the others have there.
Rule 2: while others wait for a node, we have at most our share of its slots: whoever gives a place back hears of that
        first, and would take it again and again. What does not divide evenly goes to those who were served there
        longest ago. Nothing is taken away that a request of ours has.
Rule 3: every number is absolute, so a message that is lost, late or split does no lasting harm; who is silent is not
        counted. No clock is compared with another's.

Who waits for a place waits for one node (a claim), or else for whichever can run the model.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from heapq import nlargest
from itertools import islice
from operator import itemgetter

import msgspec

from llm_router.core.node import Node
from llm_router.core.registry import Registry

SILENT = 2.0  # seconds without news after which a replica is not counted: eight messages
# Seconds that a replica keeps a place to which it is no more entitled than others, and after which one that nobody
# takes is offered to the next as well: four messages, so that all have heard of it; with requests that are much
# shorter, most of the time is used (a place changes hands in a quarter of a second, or less).
TURN = 1.0
# Seconds by which the moments of two replicas have to differ for one to be before the other: what we know of others is
# up to a quarter of a second old. Of two that are closer, whoever was served less often is first.
UNSURE = 0.5
# Seconds for which a claim is remembered: a request that waits claims now this node, now that, as they are weighed.
CLAIMED = 2.0
NODES_TOLD = 64  # in one message: some 4 kB, since PostgreSQL's NOTIFY carries less than 8,000 bytes
MODELS_TOLD = 32  # that requests wait for, the longest queues first; who waits for another has no turns of its own
KEPT = 32  # silent replicas that may come back, and whose requests are not to be counted as done twice then

_NONE = (0, 0, 0, 0)


class Counts(msgspec.Struct, frozen=True):
    """One message of a replica: its own numbers.

    `nodes`: id -> requests in flight, done, failed, and waiting for this node alone; whom it does not name is as
    before. `waiting`: model -> requests that wait for any node that can run it, all of them; None: it does not say.
    """

    nodes: dict[str, tuple[int, int, int, int]]
    waiting: dict[str, int] | None = None


class _Replica:
    """Another one, as it was heard last.

    `waiting`: the models that requests wait for there; `claimed`: the nodes, and until when that counts; `served`: when
    it got a place last.
    """

    __slots__ = ("claimed", "heard", "name", "nodes", "served", "silent", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard = 0.0
        self.silent = False
        self.nodes: dict[Node, tuple[int, int, int, int]] = {}
        self.served: dict[Node, float] = {}
        self.claimed: dict[Node, float] = {}
        self.waiting: frozenset[str] = frozenset()

    def count(self, node: Node, counts: tuple[int, int, int, int], now: float) -> bool:
        """Count what it has there now; whether it has more or fewer requests under way.

        Fewer done than before are those of another life of that replica: it began to count anew.
        """
        in_flight, done, failed, claims = counts
        flew, did, lost, claimed = self.nodes.get(node, _NONE)
        self.nodes[node] = counts
        node.elsewhere += in_flight - flew
        node.done_elsewhere += done - did if done >= did else done
        node.failed_elsewhere += failed - lost if failed >= lost else failed
        if in_flight + done + failed > flew + did + lost:
            self.served[node] = now
        if claims:
            self.claimed[node] = math.inf
        elif claimed:
            self.claimed[node] = now + CLAIMED
        return in_flight != flew

    def wanted(self, now: float) -> tuple[frozenset[str], frozenset[Node]]:
        """The models and the nodes that requests wait for there."""
        if self.claimed:
            self.claimed = {node: until for node, until in self.claimed.items() if until > now}
        return self.waiting, frozenset(self.claimed)

    def forget(self) -> list[Node]:
        """Nothing of it is in flight or waits any more; the nodes that it had requests on."""
        self.silent = True
        self.claimed, self.waiting = {}, frozenset()
        held = [node for node, counts in self.nodes.items() if counts[0]]
        for node in held:
            in_flight, done, failed, _ = self.nodes[node]
            node.elsewhere -= in_flight
            self.nodes[node] = (0, done, failed, 0)
        return held

    def keep(self, nodes: Mapping[str, Node]) -> None:
        """Forget those that were removed."""
        if len(self.nodes) > len(nodes):
            self.nodes = {node: counts for node, counts in self.nodes.items() if nodes.get(node.id) is node}
            self.served = {node: when for node, when in self.served.items() if node in self.nodes}
            self.claimed = {node: until for node, until in self.claimed.items() if node in self.nodes}


_Wanted = dict[_Replica, tuple[frozenset[str], frozenset[Node]]]


class _Contest:
    """A node that `others` wait for.

    `chosen`: `last_chosen` of the node, as seen last; `served`: when we got a place there last, and `began`: when the
    first of our turn, None between turns. `free`: since when it has a free slot. `extra`: whether we may have one of
    the places that do not divide evenly.
    """

    __slots__ = ("began", "chosen", "extra", "free", "others", "served")

    def __init__(self) -> None:
        self.others: list[_Replica] = []
        self.chosen = 0
        self.served = 0.0
        self.began: float | None = None
        self.free: float | None = None
        self.extra = False

    def look(self, node: Node, now: float) -> None:
        """What has happened there."""
        served = node.last_chosen != self.chosen
        if served:
            self.chosen, self.served = node.last_chosen, now
        if self.began is None:
            self.began = now if served else None
        elif now - self.began >= TURN:
            self.began = None
        if node.in_flight >= node.slots:
            self.free = None
        elif self.free is None:
            self.free = now

    def share(self, node: Node, replica: str, now: float) -> int:
        """How many of its slots we may have, who are called `replica`.

        What does not divide evenly goes to whoever was served there longest ago; what is left of that although it is
        offered, to the next in line, and so on. What none of them takes is anybody's.
        """
        unused = 0 if self.free is None else int((now - self.free) / TURN)
        if unused > len(self.others):
            return node.slots
        sure, over = divmod(node.slots, len(self.others) + 1)
        left = node.slots - node.elsewhere - sure
        if not over or left <= 0:
            self.extra = False
        elif not self.extra or self.began is None:
            self.extra = self.ahead(node, replica, sure) < left + unused
        return sure + self.extra

    def ahead(self, node: Node, replica: str, sure: int) -> int:
        """How many places are to be left for others: what they have less than `sure`, and one for who is before us."""
        count = 0
        total = len(node.leases) + node.done + node.failed
        for other in self.others:
            in_flight, done, failed, _ = other.nodes.get(node, _NONE)
            if in_flight > sure:  # it has its place
                continue
            longer = self.served - other.served.get(node, 0.0)
            rarer = (in_flight + done + failed, other.name) < (total, replica)
            count += sure - in_flight + (longer > 0 if abs(longer) > UNSURE else rarer)
        return count


class Elsewhere:
    """Told of the other replicas' requests, it keeps the nodes' `places`, and says what ours are."""

    def __init__(self, registry: Registry, replica: str, queued: Callable[[], dict[str, int]]) -> None:
        """`replica` is our own name, `queued` the scheduler's: how many requests wait for each model."""
        self._registry = registry
        self._replica = replica
        self._queued = queued
        self._others: dict[str, _Replica] = {}
        self._said: dict[str, tuple[int, int, int, int]] = {}
        self._contests: dict[Node, _Contest] = {}
        self._found: tuple[_Wanted, float] = ({}, 0.0)  # from what they were found, and when

    @property
    def replicas(self) -> list[str]:
        """Which others were heard of lately."""
        return sorted(name for name, other in self._others.items() if not other.silent)

    # -- what we say

    def own(self, *, whole: bool = False) -> list[Counts]:
        """What is to be told now: what changed since the last call, or all; at least one message, as a sign of life."""
        said = {node.id: (len(node.leases), node.done, node.failed, len(node.claims)) for node in self._registry}
        news = (
            said
            if whole
            else {node_id: counts for node_id, counts in said.items() if self._said.get(node_id) != counts}
        )
        self._said = said
        rest = iter(news.items())
        messages = [Counts(dict(islice(rest, NODES_TOLD)), self._waiting())]
        while more := dict(islice(rest, NODES_TOLD)):
            messages.append(Counts(more))
        return messages

    def _waiting(self) -> dict[str, int]:
        """Who waits for no node in particular."""
        waiting = dict(self._queued())
        if waiting:
            for ask in (ask for node in self._registry for ask in node.claims):
                waiting[ask.model] -= 1
        told = ((model, count) for model, count in waiting.items() if count > 0)
        return dict(nlargest(MODELS_TOLD, told, key=itemgetter(1)))

    # -- what we hear; each returns whether a node has room that it had not: then the scheduler is to offer it

    def heard(self, replica: str, news: Counts, now: float) -> bool:
        """A message came. What it says of requests in flight holds at once, who waits from the next tick on.

        A node that we do not know (yet) is left out: all are told again every few seconds.
        """
        if replica == self._replica:  # our own comes back, as from any who shout into a room
            return False
        other = self._others.get(replica)
        if other is None:
            other = self._others[replica] = _Replica(replica)
        other.heard, other.silent = now, False
        if news.waiting is not None:
            other.waiting = frozenset(news.waiting)
        nodes = self._registry.nodes
        told = [(nodes[node_id], counts) for node_id, counts in news.nodes.items() if node_id in nodes]
        return self._settle([node for node, counts in told if other.count(node, counts, now)], now)

    def gone(self, replica: str, now: float) -> bool:
        """It said goodbye. What it has done stays done."""
        other = self._others.pop(replica, None)
        return other is not None and self._settle({*other.forget(), *self._contend(now)}, now)

    def tick(self, now: float) -> bool:
        """Time passed: to be called four times a second."""
        fell_silent = [o for o in self._others.values() if not o.silent and now - o.heard > SILENT]
        touched = {node for other in fell_silent for node in other.forget()}
        self._tidy()
        touched |= self._contend(now)
        return self._settle(touched, now)

    def _tidy(self) -> None:
        """Forget who has been silent for longest, where there are many, and nodes that were removed."""
        silent = sorted((o for o in self._others.values() if o.silent), key=lambda o: o.heard)
        for other in silent[: max(0, len(silent) - KEPT)]:
            del self._others[other.name]
        for other in self._others.values():
            other.keep(self._registry.nodes)

    # -- our share

    def _contend(self, now: float) -> set[Node]:
        """Whom others wait for; the nodes whose places may be others for it.

        Found out when they wait for something else, and once in a turn: what changes at our nodes in between can wait.
        """
        seen = {other: wanted for other in self._others.values() if any(wanted := other.wanted(now))}
        before, when = self._found
        if seen == before and now - when < TURN:
            return set(self._contests)
        self._found = seen, now
        ended, self._contests = self._contests, {}
        for node, others in _wanted(self._registry, seen).items():
            contest = ended.pop(node) if node in ended else _Contest()
            contest.others = others
            self._contests[node] = contest
        return {*ended, *self._contests}

    def _settle(self, nodes: Iterable[Node], now: float) -> bool:
        """Work out their places again; whether one has room that it had not."""
        grew = False
        for node in nodes:
            places = node.slots - node.elsewhere
            contest = self._contests.get(node)
            if contest is not None:
                contest.look(node, now)
                places = min(places, contest.share(node, self._replica, now))
            if places != node.places:
                grew = grew or node.places <= len(node.leases) < places
                node.allot(places)
        return grew


def _wanted(registry: Registry, waits: _Wanted) -> dict[Node, list[_Replica]]:
    """Who waits for which node: the candidates of the scheduler's step 4, for those that claim none."""
    found: dict[Node, list[_Replica]] = {}
    for other, (models, claimed) in waits.items():
        nodes = set(claimed)
        for model in models:
            nodes.update(
                registry.online.get(model) or registry.suspects.get(model) or registry.offered.get(model) or ()
            )
        for node in nodes:
            found.setdefault(node, []).append(other)
    return found
