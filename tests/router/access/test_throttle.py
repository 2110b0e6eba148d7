"""How many wrong keys one address may show."""

from llm_router.router.access.throttle import ADDRESSES, BURST, PER_SECOND, Throttle


def exhausted(client: str) -> Throttle:
    throttle = Throttle()
    while not throttle.wait(client, 0.0):
        throttle.failed(client, 0.0)
    return throttle


def test_attempts_come_back() -> None:
    """One by one, and never more than at the beginning."""
    throttle = Throttle()
    for _ in range(int(BURST)):
        assert throttle.wait("a", 0.0) == 0
        throttle.failed("a", 0.0)
    assert throttle.wait("a", 0.0) == 1 / PER_SECOND
    assert throttle.wait("a", 1 / PER_SECOND) == 0
    throttle.failed("a", 1e9)
    assert throttle.wait("a", 1e9) == 0


def test_addresses_do_not_share() -> None:
    """But those that one person has by the billion do."""
    assert exhausted("10.0.0.1").wait("10.0.0.2", 0.0) == 0
    assert exhausted("2001:db8::1").wait("2001:db8::2:3:4", 0.0) > 0
    assert exhausted("fe80::1%eth0").wait("fe80::1%eth0", 0.0) > 0
    assert exhausted("2001:db8::1").wait("2001:db8:0:1::1", 0.0) == 0


def test_a_clock_that_is_set_back_forgives_nothing() -> None:
    """And punishes nobody longer."""
    assert exhausted("a").wait("a", -1000.0) == 1 / PER_SECOND


def test_memory_is_bounded() -> None:
    """The last addresses are remembered, the oldest is forgotten."""
    throttle = exhausted("first")
    for number in range(ADDRESSES):
        assert throttle.wait("first", 0.0) > 0
        throttle.failed(f"client {number}", 0.0)
    assert throttle.wait("first", 0.0) == 0
