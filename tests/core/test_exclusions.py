"""How long a model that failed is kept from a node (requirements C6, C7)."""

from llm_router.core.exclusions import LONGEST, Exclusion


def test_a_trial_is_due_after_the_delay_and_not_before() -> None:
    """Requirement C7: after 30 s."""
    exclusion = Exclusion("500", now=100.0, delay=30.0)
    assert not exclusion.is_due(129.9)
    assert exclusion.is_due(130.0)


def test_one_trial_at_a_time() -> None:
    """Requirement C7: one request is let through."""
    exclusion = Exclusion("500", now=0.0, delay=30.0)
    exclusion.trial = True
    assert not exclusion.is_due(1000.0)


def test_each_failed_trial_doubles_the_delay_up_to_ten_minutes() -> None:
    """Requirement C7: 30 s, doubling to 10 min."""
    exclusion, delays = Exclusion("500", now=0.0, delay=30.0), []
    for _ in range(6):
        exclusion.again("502", now=1000.0)
        delays.append(exclusion.until - 1000.0)
    assert delays == [60.0, 120.0, 240.0, 480.0, LONGEST, LONGEST]
    assert LONGEST == 600.0


def test_a_failed_trial_is_over_and_says_why_it_failed() -> None:
    """The reason is the latest one, the beginning the first; the next trial may come once its time has."""
    exclusion = Exclusion("500", now=7.0, delay=30.0)
    exclusion.trial = True
    exclusion.again("connection refused", now=40.0)
    assert (exclusion.reason, exclusion.since, exclusion.trial) == ("connection refused", 7.0, False)
    assert exclusion.is_due(100.0)
