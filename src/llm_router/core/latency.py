"""The policy `expected-latency`: whoever is likely to answer soonest.

    cost = wait for a slot + a share of load if cold + prefill of what is not cached + a share of decode     (seconds)

Decode counts for less than it takes, because the first token is waited for and the rest is read as it comes. A load
counts for less, because those who come after profit from it; and for as much again as the model that has to go for it
is in use, because that one will have to come back. Nodes about as good as the best take turns.

A request may rather wait for a busy node than take a free one: it is noted on that node as a claim, so that those
behind it see a longer wait there. Without that, load on a fleet of unequal machines drives models out of the memory of
the fast ones again and again (docs/design.md has the figures).
"""

import math
from collections.abc import Sequence

import msgspec

from llm_router.core.ask import Ask
from llm_router.core.estimates import Estimates, Model
from llm_router.core.node import BUSY_CPU, Lease, Node

LOAD_WEIGHT = 0.3  # of a second of loading; less than a half suits light load, more than a half heavy load
DISPLACED_WEIGHT = 3.0  # of a second of loading that drives out a model which is in use
IDLE_LOADS = 3.0  # a model unused for so many times the load's seconds is hardly missed
EQUAL_SHARE, EQUAL_SECONDS = 1.15, 0.05  # within this of the best counts as equal (design.md §5)
LOOK_AGAIN = 0.1  # seconds for which candidates that are far apart are taken to stay so
AFTER_ALL = 1 << 60  # turns; a busy node comes after any free one that is about as good
OVERDUE = 0.25  # of the time that a request has taken so far, once it takes longer than expected: what is still to come


class _Spread(msgspec.Struct, frozen=True, gc=False):
    """How far apart so many candidates are, whose last change is `newest`; `until`: not worth a look before."""

    count: int
    newest: int
    per_byte: float  # seconds for each byte of a prompt
    per_answer: float  # seconds
    until: float


class ExpectedLatency:
    """See above. `decode_weight`: what a second of decode counts, between a quick first token and a quick answer."""

    def __init__(self, estimates: Estimates, decode_weight: float) -> None:
        self._estimates = estimates
        self._decode_weight = decode_weight
        self._spreads: dict[str, _Spread] = {}

    def choose(self, ask: Ask, candidates: Sequence[Node], now: float) -> Node | None:
        """The cheapest, if it has a slot; else None, and the claim is noted."""
        if len(candidates) == 1:
            node = candidates[0]
            return node if node.has_room() else None
        if not ask.holder and (alike := self._in_turn(ask, candidates, now)) is not None:
            return alike
        for node in candidates:
            if node.report.cpu > BUSY_CPU:
                candidates = _spared(candidates)
                break
        best = self._cheapest(ask, candidates, now)
        if len(best.leases) < best.places:
            return best
        best.claims.add(ask)
        ask.target = best.id
        return None

    def costs(self, ask: Ask, candidates: Sequence[Node], now: float) -> list[dict[str, float]]:
        """Seconds, each part as it counts; `credit` is what the cached part of the prompt saves."""
        found = []
        for node in candidates:
            parts = self._parts(ask, node, now)
            found.append({"cost": sum(parts.values())} | parts)
        return found

    def _in_turn(self, ask: Ask, candidates: Sequence[Node], now: float) -> Node | None:
        """Whoever has a free slot and was chosen longest ago, if all candidates are about as good; else None.

        In a fleet of equal machines that is what weighing them comes to, request after request. So how far apart they
        are is kept until one of them changes.
        """
        spread = self._spreads.get(ask.model)
        if spread is not None and now < spread.until:  # far apart, and so they were a moment ago
            return None
        best, first, newest = None, AFTER_ALL, 0
        for node in candidates:
            if node.changed > newest:  # noqa: PLR1730 - max() is a call, and every request comes here
                newest = node.changed
            if node.last_chosen < first and len(node.leases) < node.places:
                best, first = node, node.last_chosen
        if spread is None or spread.newest != newest or spread.count != len(candidates):
            spread = self._spreads[ask.model] = self._spread(ask.model, candidates, newest, now)
        return best if ask.size * spread.per_byte + spread.per_answer <= EQUAL_SECONDS else None

    def _spread(self, name: str, candidates: Sequence[Node], newest: int, now: float) -> "_Spread":
        """How many seconds the best and the worst are apart, where all are warm and none is busy."""
        model = self._estimates.model(name)
        rates = [self._estimates.of(node, model) for node in candidates]
        newest = max(newest, *(node.changed for node in candidates))  # what was assumed anew is a change
        if any(n.report.cpu > BUSY_CPU or n.warm.get(name, math.inf) > now for n in candidates):
            return _Spread(len(candidates), newest, math.inf, math.inf, now + LOOK_AGAIN)
        prefill = 1 / min(r.prefill for r in rates) - 1 / max(r.prefill for r in rates)
        decode = 1 / min(r.decode for r in rates) - 1 / max(r.decode for r in rates)
        per_answer = decode * self._decode_weight * model.output
        until = now + LOOK_AGAIN if per_answer > EQUAL_SECONDS else 0.0
        return _Spread(len(candidates), newest, prefill / model.bytes_per_token, per_answer, until)

    def _cheapest(self, ask: Ask, candidates: Sequence[Node], now: float) -> Node:
        """Whoever costs least; of those about as good, one with a free slot, and whoever was chosen longest ago.

        Every request comes here with up to 32 candidates, so the parts of `_parts` are summed up in one loop.
        """
        estimates, name, holder = self._estimates, ask.model, ask.holder
        model = estimates.model(name)
        tokens = estimates.tokens(model, ask.size)
        held, output = tokens * ask.held, self._decode_weight * model.output
        costs = []
        for node in candidates:
            rates = node.rates.get(name)
            if rates is None or rates.version != model.version:
                rates = estimates.of(node, model)
            cost = tokens / rates.prefill + output / rates.decode
            ready = node.warm.get(name)
            if ready is None:
                cost += self._load(node, rates.load, now)
            else:
                if ready > now:
                    cost += LOAD_WEIGHT * (ready - now)
                if node.id == holder:
                    cost -= held / rates.prefill
            if len(node.leases) >= node.places:
                cost += self._wait(ask, node, model, now)
            costs.append(cost)
        least = min(costs)
        limit = max(least * EQUAL_SHARE, least + EQUAL_SECONDS)
        best, first = candidates[0], math.inf
        for node, cost in zip(candidates, costs):  # noqa: B905 - as long as each other; to check it takes time
            if cost <= limit:
                turn = node.last_chosen if len(node.leases) < node.places else node.last_chosen + AFTER_ALL
                if turn < first:
                    best, first = node, turn
        return best

    def _parts(self, ask: Ask, node: Node, now: float) -> dict[str, float]:
        """What a candidate costs, part by part."""
        model = self._estimates.model(ask.model)
        rates = self._estimates.of(node, model)
        tokens = self._estimates.tokens(model, ask.size)
        ready = node.warm.get(ask.model)
        holds = node.id == ask.holder and ready is not None
        return {
            "wait": 0.0 if node.has_room() else self._wait(ask, node, model, now),
            "load": self._load(node, rates.load, now) if ready is None else LOAD_WEIGHT * max(0.0, ready - now),
            "prefill": tokens / rates.prefill,
            "decode": self._decode_weight * model.output / rates.decode,
            "credit": 0.0 - tokens * ask.held / rates.prefill if holds else 0.0,
        }

    def _wait(self, ask: Ask, node: Node, model: Model, now: float) -> float:
        """Seconds until a busy node has a slot for one more than claim one already and came before."""
        leases = node.leases
        turn = len(leases) - node.places + sum(claim.arrived < ask.arrived for claim in node.claims)
        if not turn and node.soonest > now:
            return node.soonest - now
        ends = [self._remaining(lease, now) for lease in leases]
        node.soonest = min([lease.until for lease in leases], default=0.0)
        if node.places < node.slots or not ends:
            ends += self._ends_elsewhere(node, model)
            node.soonest = now + min(ends)
        ends.sort()
        rounds, turn = divmod(turn, len(ends))
        return ends[turn] + rounds * model.seconds

    def _ends_elsewhere(self, node: Node, model: Model) -> list[float]:
        """Seconds until each of the requests ends that have the places which are not ours.

        All that is known of them is their number. So they are taken to be as long as those of this model usually are,
        and to have begun at any time: the first of n is then expected to end after 1/(n+1) of that, and so on; the only
        one after a half. A place that is kept for one that waits elsewhere counts as taken by it.
        """
        usual = model.seconds or model.output / self._estimates.of(node, model).decode
        count = max(1, node.slots - node.places)
        return [usual * i / (count + 1) for i in range(1, count + 1)]

    def _load(self, node: Node, seconds: float, now: float) -> float:
        """What a load counts, with what it displaces; with the wait for room where every model there is in use."""
        idle_since = node.idle_since()
        if idle_since is None:  # room enough
            return seconds * LOAD_WEIGHT
        if idle_since > now:
            wait = min(self._remaining(lease, now) for lease in node.leases)
            return seconds * (LOAD_WEIGHT + DISPLACED_WEIGHT) + wait
        missed = math.exp((idle_since - now) / (IDLE_LOADS * seconds))
        return seconds * (LOAD_WEIGHT + DISPLACED_WEIGHT * missed)

    def _remaining(self, lease: Lease, now: float) -> float:
        """Seconds until a request is likely to be answered."""
        if not lease.until:
            lease.until = self._end(lease)
        left = lease.until - now
        return left if left > 0 else OVERDUE * (now - lease.since)

    def _end(self, lease: Lease) -> float:
        """When a request is expected to be answered; asked only where somebody might have to wait for it."""
        node, ask = lease.node, lease.ask
        model = self._estimates.model(lease.model)
        rates = self._estimates.of(node, model)
        begin = max(lease.since, node.warm.get(lease.model, 0.0))  # where it is cold: when it will have been loaded
        share = 1 - ask.held if node.id == ask.holder and not lease.cold else 1.0
        return begin + share * self._estimates.tokens(model, ask.size) / rates.prefill + model.output / rates.decode


def _spared(candidates: Sequence[Node]) -> Sequence[Node]:
    """Without the machines that are busy, unless no other has a free slot (requirement D1)."""
    calm = [n for n in candidates if n.report.cpu <= BUSY_CPU]
    if any(n.has_room() for n in calm):
        return calm
    return [n for n in candidates if n.has_room()] or candidates
