"""Which models stay in memory and which have to go (issue 6: three models, room for two)."""

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.node.runtimes.llamacpp.residency import Held, closing, expired, next_look, victims


def held(id: str, need: int = 10, used: float = 0.0, **facts: float) -> Held:  # noqa: A002 - Held's
    return Held(id, need, used, **facts)  # type: ignore[arg-type]  # bool is a number


def test_nothing_goes_while_there_is_room() -> None:
    """What fits beside the others is loaded beside them."""
    assert victims(10, 30, [held("a"), held("b")]) == []
    assert victims(10, math.inf, [held("a")]) == []


def test_the_least_recently_used_goes() -> None:
    """Three models, room for two: the third takes the place of the one that was used longest ago."""
    assert victims(10, 20, [held("a", used=2.0), held("b", used=1.0)]) == ["b"]


def test_one_in_use_never_goes() -> None:
    """However long ago it was asked for; if only it could make room, nobody goes, and the request waits."""
    busy = held("a", used=1.0, idle=False)
    assert victims(10, 20, [busy, held("b", used=2.0)]) == ["b"]
    assert victims(20, 20, [busy, held("b", used=2.0)]) is None


def test_one_on_its_way_in_or_out_counts_and_stays() -> None:
    """Its memory is taken, and it cannot be unloaded now."""
    assert victims(10, 20, [held("a", movable=False), held("b", used=9.0)]) == ["b"]
    assert victims(10, 10, [held("a", movable=False)]) is None


def test_what_need_not_go_is_spared() -> None:
    """A small one that was used longest ago is left where a large one has to go anyway and is enough."""
    assert victims(10, 14, [held("small", 2, used=1.0), held("large", 12, used=2.0)]) == ["large"]


def test_who_has_to_become_idle() -> None:
    """Where models in use take the room: those that were used longest ago, busy or not."""
    a, b = held("a", used=1.0, idle=False), held("b", used=2.0, idle=False)
    assert closing(10, 20, [a, b]) == ["a"]
    assert closing(10, 20, [held("c", movable=False), held("d", movable=False)]) == []


def test_unused_for_long_enough() -> None:
    """Each after its own time; one in use never, and one that stays for ever neither."""
    models = [
        held("old", used=0.0, keep=5.0),
        held("young", used=8.0, keep=5.0),
        held("busy", keep=5.0, idle=False),
        held("at once", used=10.0, keep=0.0),
        held("for ever"),
    ]
    assert expired(models, 10.0) == ["old", "at once"]


def test_when_to_look_again() -> None:
    """When the next one can have expired; one in use can be idle from now on, and is not asked again all the time."""
    assert next_look([held("a", used=8.0, keep=5.0), held("b", used=9.0, keep=9.0)], 10.0) == pytest.approx(3.0)
    assert next_look([held("a", keep=5.0, idle=False)], 10.0) == pytest.approx(5.0)
    assert next_look([held("a", keep=0.0, idle=False)], 10.0) > 0
    assert next_look([held("a", used=1.0, keep=1.0)], 10.0) == 0.0
    assert next_look([held("a")], 10.0) == math.inf
    assert next_look([], 10.0) == math.inf


@given(
    need=st.integers(1, 30),
    budget=st.integers(0, 60),
    models=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 5), st.booleans(), st.booleans()), max_size=6),
)
def test_as_few_as_suffice(need: int, budget: int, models: list[tuple[int, int, bool, bool]]) -> None:
    """What goes is idle and suffices, and none of it could stay; where nothing goes, nothing would suffice."""
    all_held = [
        Held(str(i), size, float(used), idle=idle, movable=movable)
        for i, (size, used, idle, movable) in enumerate(models)
    ]
    may = {h.id: h.need for h in all_held if h.idle and h.movable}
    taken = sum(h.need for h in all_held)
    gone = victims(need, budget, all_held)
    if gone is None:
        assert taken - sum(may.values()) + need > budget
        return
    assert set(gone) <= may.keys()
    for stays in [*combinations(gone, len(gone) - 1)] if gone else []:
        assert taken - sum(may[i] for i in stays) + need > budget
    assert taken - sum(may[i] for i in gone) + need <= budget
