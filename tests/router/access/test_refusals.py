"""Which refusals operators are told of."""

from llm_router.router.access.refusals import ADDRESSES, EVERY, PER_MINUTE, Refusals


def test_the_first_is_told_and_the_others_are_counted() -> None:
    """One line a minute about one address says how many there were."""
    refusals = Refusals()
    assert refusals.line("a", "/v0/nodes", "invalid_api_key", 0.0) == "/v0/nodes: invalid_api_key"
    for second in range(1, 60):
        assert refusals.line("a", "/v0/nodes", "invalid_api_key", float(second)) is None
    assert refusals.line("a", "/x", "forbidden", EVERY) == "/x: forbidden (and 59 more before)"
    assert refusals.line("a", "/x", "forbidden", 2 * EVERY) == "/x: forbidden"


def test_many_addresses_do_not_fill_the_log() -> None:
    """So many lines a minute, whoever they are about."""
    refusals = Refusals()
    told = [refusals.line(f"client {n}", "/", "no", 0.0) for n in range(ADDRESSES + 10)]
    assert sum(line is not None for line in told) == PER_MINUTE
    assert refusals.line("another", "/", "no", EVERY) is not None


def test_a_long_path_is_cut() -> None:
    """It is a stranger's to choose."""
    line = Refusals().line("a", "/" * 60_000, "no", 0.0)
    assert line is not None
    assert len(line) < 200
