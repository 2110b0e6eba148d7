"""The policy `expected-latency`: whoever is likely to answer soonest (design.md §5)."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.making import DECODE_WEIGHT, make_node, occupy, teach

from llm_router.contract import Heartbeat
from llm_router.core.ask import Ask
from llm_router.core.estimates import Estimates
from llm_router.core.latency import (
    DISPLACED_WEIGHT,
    EQUAL_SECONDS,
    EQUAL_SHARE,
    IDLE_LOADS,
    LOAD_WEIGHT,
    OVERDUE,
    ExpectedLatency,
)
from llm_router.core.node import Node

NOW = 100.0
CLAIMS = st.integers(0, 3)


class House:
    """Nodes of known speed under one policy; all have the model `m` in memory unless told otherwise."""

    def __init__(self, decode_weight: float = DECODE_WEIGHT) -> None:
        self.estimates = Estimates()
        self.policy = ExpectedLatency(self.estimates, decode_weight)
        self.nodes: list[Node] = []
        self.asked = 0

    def add(
        self,
        node_id: str,
        *,
        prefill: float = 1000.0,
        decode: float = 50.0,
        load: float = 10.0,
        slots: int = 1,
        cold: bool = False,
        cpu: float = 10.0,
    ) -> Node:
        node = make_node(node_id, ("m", "n"), slots=slots, cpu=cpu)
        teach(self.estimates, node, prefill=prefill, decode=decode, load=load)
        if not cold:
            node.warm_up("m", 0.0)
        node.last_chosen = len(self.nodes)
        self.nodes.append(node)
        return node

    def ask(self, *, tokens: int = 1000, holder: str = "", held: float = 0.0) -> Ask:
        self.asked += 1
        ask = Ask("m", NOW + self.asked / 1e6, size=4 * tokens)
        ask.holder, ask.held = holder, held
        return ask

    def choose(self, ask: Ask | None = None) -> str | None:
        node = self.policy.choose(ask or self.ask(), self.nodes, NOW)
        return node.id if node else None

    def costs(self, ask: Ask | None = None) -> dict[str, dict[str, float]]:
        costs = self.policy.costs(ask or self.ask(), self.nodes, NOW)
        return {node.id: cost for node, cost in zip(self.nodes, costs, strict=True)}


# -- the parts of a cost


def test_an_idle_node_costs_prefill_and_a_share_of_decode() -> None:
    """1,000 tokens at 1,000 per second, 200 tokens at 50 per second: 1 s, and 4 s that count for less."""
    house = House(decode_weight=0.25)
    house.add("a")
    assert house.costs()["a"] == pytest.approx(
        {"cost": 2.0, "wait": 0.0, "load": 0.0, "prefill": 1.0, "decode": 1.0, "credit": 0.0}
    )


def test_the_decode_weight_turns_from_a_quick_first_token_to_a_quick_answer() -> None:
    """design.md §5: the one knob."""
    chosen = {}
    for weight in (0.0, 1.0):
        house = House(decode_weight=weight)
        house.add("reads fast", prefill=4000.0, decode=20.0)
        house.add("writes fast", prefill=1000.0, decode=100.0)
        chosen[weight] = house.choose()
    assert chosen == {0.0: "reads fast", 1.0: "writes fast"}


def test_a_cold_node_costs_a_share_of_the_load() -> None:
    """Where there is room, nothing is displaced: those who come after profit from it."""
    house = House()
    house.add("a", load=10.0, cold=True)
    assert house.costs()["a"]["load"] == pytest.approx(10.0 * LOAD_WEIGHT)


def test_a_load_under_way_costs_what_is_left_of_it() -> None:
    """Weighed as a load is, so that who comes next for the same model does not have it loaded somewhere else too."""
    house = House()
    house.add("a").warm_up("m", NOW + 3.0)
    assert house.costs()["a"]["load"] == pytest.approx(3.0 * LOAD_WEIGHT)
    house.add("b", load=4.0, cold=True)
    assert house.choose() == "a"


def test_displacing_a_model_in_use_costs_its_load_as_well() -> None:
    """It will have to come back; the longer nobody has asked for it, the less it is missed."""
    house = House()
    node = house.add("a", load=10.0, cold=True)
    node.holds = 1
    node.warm_up("n", 0.0)
    costs = []
    for unused in (0.0, IDLE_LOADS * 10.0, 1000 * IDLE_LOADS):
        node.touch("n", NOW - unused)
        costs.append(house.costs()["a"]["load"])
    assert costs == pytest.approx([
        10.0 * (LOAD_WEIGHT + DISPLACED_WEIGHT),
        10.0 * (LOAD_WEIGHT + DISPLACED_WEIGHT / 2.718281828),
        10.0 * LOAD_WEIGHT,
    ])  # fmt: skip


def test_where_every_model_is_being_asked_the_load_waits_for_room() -> None:
    """The one that is free first has to go, and no sooner."""
    house = House()
    node = house.add("a", load=10.0, cold=True, slots=4)
    node.holds = 1
    node.warm_up("n", 0.0)
    occupy(node, "n", since=NOW - 1, until=NOW + 7.0)
    occupy(node, "n", since=NOW - 1, until=NOW + 5.0)
    assert house.costs()["a"]["load"] == pytest.approx(10.0 * (LOAD_WEIGHT + DISPLACED_WEIGHT) + 5.0)


def test_a_full_node_costs_the_wait_for_its_first_free_slot() -> None:
    """The lease that is expected to end first."""
    house = House()
    node = house.add("a", slots=2)
    occupy(node, since=NOW - 1, until=NOW + 9.0)
    occupy(node, since=NOW - 1, until=NOW + 4.0)
    assert house.costs()["a"]["wait"] == pytest.approx(4.0)


def test_a_node_with_a_free_slot_has_no_wait() -> None:
    """However busy the others are."""
    house = House()
    occupy(house.add("a", slots=2), since=NOW - 1, until=NOW + 9.0)
    assert house.costs()["a"]["wait"] == 0.0


def test_a_request_that_is_overdue_may_take_a_while_still() -> None:
    """A share of what it has taken so far: not gone at once, as one would think of it by the clock."""
    house = House()
    occupy(house.add("a"), since=NOW - 20.0, until=NOW - 4.0)
    assert house.costs()["a"]["wait"] == pytest.approx(OVERDUE * 20.0)


def test_claims_lengthen_the_wait() -> None:
    """Those who wait for the node already and came before are served first: slot by slot, then round by round."""
    house = House()
    node = house.add("a", slots=2)
    occupy(node, since=NOW - 1, until=NOW + 4.0)
    occupy(node, since=NOW - 1, until=NOW + 9.0)
    house.estimates.model("m").seconds = 10.0
    waits = []
    for _ in range(4):
        waits.append(house.costs()["a"]["wait"])
        node.claims.add(house.ask())
    assert waits == pytest.approx([4.0, 9.0, 14.0, 19.0])
    first = Ask("m", NOW - 5.0, size=4000)
    assert house.costs(first)["a"]["wait"] == pytest.approx(4.0)


def test_after_a_node_lost_slots_the_surplus_has_to_end_first() -> None:
    """Four are under way on what has two slots now: the third that ends makes room."""
    house = House()
    node = house.add("a", slots=2)
    for i in range(4):
        occupy(node, since=NOW - 1, until=NOW + 1.0 + i)
    assert house.costs()["a"]["wait"] == pytest.approx(3.0)


def test_the_holder_of_a_conversation_is_credited_what_it_need_not_read() -> None:
    """design.md §5: the cached prefill, no more."""
    house = House()
    house.add("a")
    house.add("b")
    costs = house.costs(house.ask(holder="a", held=0.75))
    assert costs["a"]["credit"] == pytest.approx(-0.75)
    assert costs["b"]["credit"] == 0.0


def test_a_holder_that_unloaded_the_model_holds_nothing() -> None:
    """What it had computed went with the model."""
    house = House()
    house.add("a", cold=True)
    assert house.costs(house.ask(holder="a", held=0.75))["a"]["credit"] == 0.0


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.floats(10, 5000)), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_a_cost_is_the_sum_of_its_parts_and_never_below_zero(facts: list[tuple[bool, int, float]], held: float) -> None:
    """Whatever the fleet looks like."""
    house = House()
    for i, (cold, leases, prefill) in enumerate(facts):
        occupy(house.add(f"n{i}", prefill=prefill, cold=cold, slots=2), times=leases, since=NOW - 1, until=NOW + i)
    for cost in house.costs(house.ask(holder="n0", held=held)).values():
        assert cost["cost"] == pytest.approx(sum(cost.values()) - cost["cost"])
        assert cost["cost"] >= 0


# -- who is chosen


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(10, 5000)), min_size=2, max_size=6),
    st.integers(0, 5),
    st.floats(0, 1),
)
def test_the_costs_decide(facts: list[tuple[bool, bool, float]], holder: int, held: float) -> None:
    """Nobody is chosen, or waited for, who costs noticeably more than the cheapest."""
    house = House()
    for i, (cold, full, prefill) in enumerate(facts):
        occupy(house.add(f"n{i}", prefill=prefill, cold=cold), times=full, since=NOW - 1, until=NOW + i)
    ask = house.ask(holder=f"n{holder}", held=held)
    costs = {node_id: cost["cost"] for node_id, cost in house.costs(ask).items()}
    wanted = house.choose(ask) or ask.target
    least = min(costs.values())
    assert costs[wanted] <= max(least * EQUAL_SHARE, least + EQUAL_SECONDS)


def heats(_house: House, node: Node) -> None:
    node.report = Heartbeat(cpu=95.0)
    node.change()


def unloads(_house: House, node: Node) -> None:
    if "m" in node.warm:
        node.cool("m")


def loads(_house: House, node: Node) -> None:
    node.warm_up("m", NOW + 5.0)


def slows(house: House, node: Node) -> None:
    teach(house.estimates, node, prefill=100.0, decode=5.0, load=10.0)


def fills(_house: House, node: Node) -> None:
    occupy(node, since=NOW, until=NOW + 50.0)


CHANGES = (heats, unloads, loads, slows, fills)


@given(st.integers(2, 5), st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 4)), max_size=5))
def test_a_change_counts_from_the_next_request_on(count: int, changes: list[tuple[Callable[..., None], int]]) -> None:
    """What is kept of equals is never out of date: a request goes where weighing them all anew would send it."""
    house = House()
    for i in range(count):
        house.add(f"n{i}", slots=1)
    for change, place in changes:
        house.choose()
        change(house, house.nodes[place % count])
        fresh = ExpectedLatency(house.estimates, DECODE_WEIGHT)
        assert house.choose() == getattr(fresh.choose(house.ask(), house.nodes, NOW), "id", None)


def test_the_faster_is_preferred_when_idle_and_the_next_takes_over_when_it_is_busy() -> None:
    """Requirement D3."""
    house = House()
    house.add("slow", prefill=500.0, decode=25.0)
    fast = house.add("fast", prefill=1000.0, decode=50.0)
    assert house.choose() == "fast"
    occupy(fast, since=NOW, until=NOW + 20.0)
    assert house.choose() == "slow"


def test_equals_take_turns() -> None:
    """Requirement D3: within 15 % of the best, whoever was chosen longest ago."""
    house = House()
    first = house.add("first", prefill=900.0, decode=46.0)
    house.add("second")
    assert house.choose() == "first"
    first.last_chosen = 9
    assert house.choose() == "second"


def test_fifty_milliseconds_are_no_difference() -> None:
    """design.md §5: for short requests 15 % of the cost is less than the noise."""
    house = House(decode_weight=0.0)
    house.add("a bit slower", prefill=1000.0)
    house.add("faster", prefill=4000.0)
    assert house.choose(house.ask(tokens=60)) == "a bit slower"
    assert house.choose(house.ask(tokens=600)) == "faster"


def test_of_equals_one_with_a_free_slot_is_taken() -> None:
    """To wait for one no better than another that is free would be folly."""
    house = House()
    full = house.add("full")
    house.add("free", prefill=950.0)
    occupy(full, since=NOW - 5.0, until=NOW + 0.01)
    ask = house.ask()
    assert house.choose(ask) == "free"
    assert ask.target == ""


def test_warm_comes_before_cold() -> None:
    """A load of 10 s is worth a machine that is somewhat slower."""
    house = House()
    house.add("cold", load=10.0, cold=True)
    house.add("warm", prefill=700.0, decode=35.0)
    assert house.choose() == "warm"


def test_the_holder_of_a_conversation_gets_its_next_turn() -> None:
    """It was chosen last, and is still the first to be asked."""
    house = House()
    house.add("other")
    house.add("holder")
    assert house.choose() == "other"
    assert house.choose(house.ask(tokens=8000, holder="holder", held=0.9)) == "holder"


def test_a_busy_holder_is_not_waited_for_when_another_is_sooner() -> None:
    """design.md §5: what it holds is worth 7 s here, not 20."""
    house = House()
    house.add("other")
    occupy(house.add("holder"), since=NOW, until=NOW + 20.0)
    ask = house.ask(tokens=8000, holder="holder", held=0.9)
    assert house.choose(ask) == "other"
    assert ask.target == ""


def test_a_busy_cpu_comes_last() -> None:
    """Requirement D1: above 80 %, only when no other can; even a much slower one can."""
    house = House()
    busy = house.add("busy", cpu=80.1)
    slow = house.add("slow", prefill=50.0, decode=3.0, cold=True, cpu=80.0)
    assert house.choose() == "slow"
    occupy(slow, since=NOW, until=NOW + 1.0)
    assert house.choose() == "busy"
    occupy(busy, since=NOW, until=NOW + 30.0)
    assert house.choose() is None


def test_machines_that_are_all_busy_are_compared_as_ever() -> None:
    """Requirement D1: nobody else can."""
    house = House()
    house.add("slow", prefill=300.0, decode=15.0, cpu=99.0)
    house.add("fast", cpu=99.0)
    assert house.choose() == "fast"


def test_a_fast_node_that_is_soon_free_is_waited_for_rather_than_a_slow_cold_one_taken() -> None:
    """Late binding: the wish is noted on both sides, as a claim."""
    house = House()
    house.add("slow", prefill=200.0, decode=10.0, load=20.0, cold=True)
    fast = house.add("fast")
    occupy(fast, since=NOW - 5.0, until=NOW + 1.0)
    ask = house.ask()
    assert house.choose(ask) is None
    assert (ask.target, fast.claims) == ("fast", {ask})


def test_those_who_come_later_see_the_claims_and_take_the_slow_one() -> None:
    """A crowd does not wait for one node while another stands idle."""
    house = House()
    house.add("slow", prefill=200.0, decode=10.0, load=20.0, cold=True)
    occupy(house.add("fast"), since=NOW - 5.0, until=NOW + 1.0)
    house.estimates.model("m").seconds = 8.0
    chosen = [house.choose(house.ask()) for _ in range(4)]
    assert chosen[0] is None
    assert chosen[-1] == "slow"


def test_the_only_candidate_is_waited_for_without_a_claim() -> None:
    """There is nothing to compare."""
    house = House()
    node = house.add("only")
    occupy(node, since=NOW - 1, until=NOW + 9.0)
    ask = house.ask()
    assert house.choose(ask) is None
    assert (ask.target, node.claims) == ("", set())


def test_a_busy_node_is_free_when_what_it_has_is_loaded_read_and_written() -> None:
    """Load, what is not cached of the prompt, and the whole answer, none of it weighted."""
    house = House(decode_weight=0.1)
    node = house.add("a", load=10.0, cold=True)
    (lease,) = occupy(node, since=NOW)
    lease.ask.size, lease.cold = 4000, True
    node.warm_up("m", NOW + 10.0)
    assert house.costs()["a"]["wait"] == pytest.approx(10.0 + 1.0 + 4.0)
    node.touch("m", NOW)
    lease.until, lease.cold = 0.0, False
    lease.ask.holder, lease.ask.held = "a", 0.75
    node.warm_up("m", 0.0)
    assert house.costs()["a"]["wait"] == pytest.approx(0.25 + 4.0)


def test_weighing_leaves_everything_as_it_was() -> None:
    """What is shown to an operator changes no decision."""
    house = House()
    fast = house.add("fast")
    occupy(fast, since=NOW - 5.0, until=NOW + 1.0)
    house.add("slow", load=20.0, cold=True)
    ask = house.ask()
    house.costs(ask)
    assert (ask.target, fast.claims) == ("", set())


# -- where other replicas have the places


def test_a_node_that_is_full_elsewhere_is_waited_for() -> None:
    """Nothing is known of those requests: they are as long as usual, and end evenly spread."""
    house = House()
    node = house.add("a", slots=2)
    house.estimates.model("m").seconds = 12.0
    node.elsewhere = 2
    node.allot(0)
    assert house.costs()["a"]["wait"] == pytest.approx(4.0)
    node.elsewhere = 3
    node.allot(-1)
    assert house.costs()["a"]["wait"] == pytest.approx(6.0)


def test_the_first_to_end_may_be_anybodys() -> None:
    """Ours, if it is expected before; one more that waits for the node waits for the next."""
    house = House()
    node = house.add("a", slots=2)
    house.estimates.model("m").seconds = 10.0
    node.elsewhere = 1
    occupy(node, since=NOW - 1.0, until=NOW + 2.0)
    node.allot(1)
    assert house.costs()["a"]["wait"] == pytest.approx(2.0)
    node.claims.add(house.ask())
    assert house.costs()["a"]["wait"] == pytest.approx(5.0)


def test_before_anything_was_answered_a_request_elsewhere_takes_what_its_answer_is_assumed_to() -> None:
    """200 tokens at 50 per second, of which the half is over."""
    house = House()
    node = house.add("a", decode=50.0)
    house.estimates.model("m").seconds = 0.0
    node.elsewhere = 1
    node.allot(0)
    assert house.costs()["a"]["wait"] == pytest.approx(2.0)


@given(
    slots=st.integers(0, 3), ours=st.integers(0, 4), elsewhere=st.integers(0, 5), share=st.integers(0, 3), busy=CLAIMS
)
def test_every_full_node_has_a_wait(slots: int, ours: int, elsewhere: int, share: int, busy: int) -> None:
    """Full of ours, of others', kept for others, closed: it is a number of seconds, none below 0."""
    house = House()
    node, other = house.add("a", slots=1), house.add("b", slots=1)
    node.resize(slots)
    node.elsewhere = elsewhere
    node.allot(min(slots - elsewhere, share))
    occupy(node, times=ours, since=NOW - 9.0)
    occupy(other, since=NOW - 9.0)
    node.claims = {house.ask() for _ in range(busy)}
    if not node.has_room():
        assert 0.0 <= house.costs()["a"]["wait"] < math.inf
        assert house.choose() is None
