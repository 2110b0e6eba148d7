"""How fast one node runs one model, by what was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.core.rates import Rate

POSITIVE = st.floats(1e-3, 1e6)


def test_a_rate_is_unknown_until_there_was_a_sample() -> None:
    """0 stands for unknown."""
    assert Rate().value == 0.0


def test_a_rate_is_amount_by_time() -> None:
    """One sample says it all when it is the only one."""
    rate = Rate()
    rate.add(300.0, 2.0)
    assert rate.value == 150.0


def test_a_long_prompt_says_more_than_a_short_one() -> None:
    """Sums are divided, not quotients averaged: ten tokens in a bad second do not halve the rate."""
    rate = Rate()
    rate.add(10_000.0, 10.0)
    rate.add(10.0, 1.0)
    assert rate.value == pytest.approx(8010 / 9)


def test_the_past_fades() -> None:
    """A machine that became ten times slower is known as such a few requests later."""
    rate = Rate()
    for _ in range(100):
        rate.add(1000.0, 1.0)
    for _ in range(10):
        rate.add(1000.0, 10.0)
    assert rate.value == pytest.approx(100.0, rel=0.15)


@pytest.mark.parametrize(("amount", "time"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, -0.5)])
def test_nothing_is_learned_from_nothing(amount: float, time: float) -> None:
    """No tokens, no time, or what subtraction made less than that, changes nothing."""
    rate = Rate()
    rate.add(5.0, 1.0)
    rate.add(amount, time)
    assert rate.value == 5.0


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=20))
def test_a_rate_lies_between_the_slowest_and_the_fastest_sample(samples: list[tuple[float, float]]) -> None:
    """Whatever came in."""
    rate = Rate()
    for amount, time in samples:
        rate.add(amount, time)
    seen = [amount / time for amount, time in samples]
    assert min(seen) * 0.999 <= rate.value <= max(seen) * 1.001
