"""How fast each node runs each model, learned from the requests that it answered."""

import pytest
from tests.core.making import lease_on, make_node, sample, teach

from llm_router.core.ask import Ask
from llm_router.core.estimates import LARGEST_PROMPT, OUTPUT, UNKNOWN, Estimates
from llm_router.core.node import Lease, Node
from llm_router.core.rates import Rates


def rates(estimates: Estimates, node: Node, model: str = "m") -> Rates:
    return estimates.of(node, estimates.model(model))


def test_a_model_that_nobody_has_run_is_taken_for_a_small_one() -> None:
    """The same is assumed of every node, so that it does not tell them apart."""
    found = rates(Estimates(), make_node())
    assert (found.prefill, found.decode, 1 / found.load) == UNKNOWN


def test_what_the_runtime_says_of_its_times_is_taken() -> None:
    """Rule 3: prompt, answer and load, each by its own clock; what was seen from outside counts for nothing then."""
    estimates, node = Estimates(), make_node()
    told = sample(
        prompt_tokens=1000,
        evaluated=1000,
        prompt_seconds=2.0,
        completion_tokens=90,
        completion_seconds=3.0,
        load_seconds=7.0,
        first_byte=50.0,
        seconds=100.0,
    )
    estimates.learn(lease_on(node, cold=True), told)
    assert (rates(estimates, node).prefill, rates(estimates, node).decode) == (500.0, 30.0)
    assert rates(estimates, node).load == pytest.approx(7.0)


def test_a_cached_prompt_counts_as_far_as_it_was_evaluated() -> None:
    """A runtime that tells how many tokens it did not have to look at is believed."""
    estimates, node = Estimates(), make_node()
    lease = lease_on(node)
    lease.ask.held = 0.9
    estimates.learn(lease, sample(prompt_tokens=1000, evaluated=100, prompt_seconds=0.2))
    assert rates(estimates, node).prefill == 500.0


@pytest.mark.parametrize("prompt_seconds", [0.01, 0.0])
def test_a_cached_prompt_that_looks_evaluated_says_nothing(prompt_seconds: float) -> None:
    """1,000 tokens in 10 ms are a cache, not a fast machine."""
    estimates, node = Estimates(), make_node()
    lease = lease_on(node)
    lease.ask.held = 0.9
    estimates.learn(
        lease, sample(prompt_tokens=1000, evaluated=1000, prompt_seconds=prompt_seconds, first_byte=0.01, seconds=1.0)
    )
    assert rates(estimates, node).prefill == UNKNOWN[0]


def test_a_stream_shows_its_rates_from_outside() -> None:
    """The first byte comes after the prompt, the others after a token each."""
    estimates, node = Estimates(), make_node()
    estimates.learn(
        lease_on(node), sample(prompt_tokens=800, completion_tokens=101, first_byte=2.0, seconds=12.0, streamed=True)
    )
    assert (rates(estimates, node).prefill, rates(estimates, node).decode) == (400.0, 10.0)


def test_a_cold_stream_shows_the_load() -> None:
    """What the prompt does not explain of the first byte's time was the load; of the prompt nothing is learned."""
    estimates, node = Estimates(), make_node()
    teach(estimates, node, prefill=500.0, decode=25.0)
    estimates.learn(
        lease_on(node, cold=True), sample(prompt_tokens=1000, completion_tokens=26, first_byte=8.0, seconds=9.0)
    )
    assert rates(estimates, node).load == pytest.approx(6.0)
    assert rates(estimates, node).prefill == 500.0


def test_a_whole_answer_shows_the_decode_rate() -> None:
    """What the prompt does not explain of its time."""
    estimates, node = Estimates(), make_node()
    teach(estimates, node, prefill=500.0)
    estimates.learn(
        lease_on(node),
        sample(prompt_tokens=1000, completion_tokens=100, first_byte=7.0, seconds=7.0, streamed=False),
    )
    assert (rates(estimates, node).prefill, rates(estimates, node).decode) == (500.0, 20.0)


def test_a_cold_whole_answer_shows_the_load_where_the_rates_are_known() -> None:
    """Of prompt and answer nothing is learned then."""
    estimates, node = Estimates(), make_node()
    teach(estimates, node, prefill=500.0, decode=20.0)
    estimates.learn(
        lease_on(node, cold=True),
        sample(prompt_tokens=1000, completion_tokens=100, first_byte=11.0, seconds=11.0, streamed=False),
    )
    found = rates(estimates, node)
    assert (found.prefill, found.decode) == (500.0, 20.0)
    assert found.load == pytest.approx(4.0)


def test_a_model_that_was_there_at_once_was_not_loaded() -> None:
    """The router thought it cold; a load of no time is none."""
    estimates, node = Estimates(), make_node()
    teach(estimates, node, prefill=500.0, decode=25.0, load=9.0)
    estimates.learn(
        lease_on(node, cold=True), sample(prompt_tokens=1000, completion_tokens=26, first_byte=2.04, seconds=3.0)
    )
    assert rates(estimates, node).load == pytest.approx(9.0)


def test_a_new_node_is_assumed_as_good_as_the_best() -> None:
    """design.md §5: until it was measured."""
    estimates, fast, slow = Estimates(), make_node("fast"), make_node("slow")
    teach(estimates, slow, prefill=100.0, decode=10.0, load=20.0)
    teach(estimates, fast, prefill=900.0, decode=90.0, load=2.0)
    found = rates(estimates, make_node("new"))
    assert (found.prefill, found.decode, found.load) == pytest.approx((900.0, 90.0, 2.0))


def test_a_node_that_is_slow_with_one_model_is_assumed_slow_with_the_next() -> None:
    """Rule 2: it is compared with the fastest where both were measured."""
    estimates, fast, slow = Estimates(), make_node("fast"), make_node("slow")
    teach(estimates, fast, "m", prefill=1000.0, decode=100.0, load=2.0)
    teach(estimates, slow, "m", prefill=250.0, decode=50.0, load=6.0)
    teach(estimates, fast, "n", prefill=800.0, decode=80.0, load=1.0)
    found = rates(estimates, slow, "n")
    assert (found.prefill, found.decode, found.load) == pytest.approx((200.0, 40.0, 3.0))


def test_a_model_that_only_one_node_has_run_compares_it_with_nobody() -> None:
    """To be the fastest of one says nothing."""
    estimates, fast, slow = Estimates(), make_node("fast"), make_node("slow")
    teach(estimates, fast, "m", decode=100.0)
    teach(estimates, slow, "m", decode=50.0)
    teach(estimates, fast, "n", decode=80.0)
    teach(estimates, slow, "alone", decode=70.0)
    assert rates(estimates, slow, "n").decode == pytest.approx(40.0)


def test_a_node_that_proves_slow_is_assumed_slow_from_then_on() -> None:
    """Rates that were looked up before are not stale."""
    estimates, fast, slow = Estimates(), make_node("fast"), make_node("slow")
    teach(estimates, fast, "m", decode=100.0)
    teach(estimates, fast, "n", decode=80.0)
    assert rates(estimates, slow, "n").decode == 80.0
    teach(estimates, slow, "m", decode=50.0)
    assert rates(estimates, slow, "n").decode == pytest.approx(40.0)


def test_what_was_assumed_gives_way_to_what_is_measured() -> None:
    """And part by part: a rate that was not seen stays assumed."""
    estimates, fast, other = Estimates(), make_node("fast"), make_node("other")
    teach(estimates, fast, prefill=1000.0, decode=100.0, load=2.0)
    assert rates(estimates, other).decode == 100.0
    teach(estimates, other, decode=99.0)
    found = rates(estimates, other)
    assert (found.prefill, found.decode, found.load) == pytest.approx((1000.0, 99.0, 2.0))


def test_a_faster_node_raises_what_is_assumed_of_all_that_were_not_measured() -> None:
    """Rates that were looked up before are not stale."""
    estimates, first, new = Estimates(), make_node("first"), make_node("new")
    teach(estimates, first, prefill=100.0)
    assert rates(estimates, new).prefill == 100.0
    teach(estimates, make_node("fast"), prefill=900.0)
    assert rates(estimates, new).prefill == 900.0
    assert rates(estimates, first).prefill == 100.0


def test_bytes_become_tokens_as_they_did_before() -> None:
    """A language or an encoding that takes more bytes per token is learned, of the model as a whole."""
    estimates = Estimates()
    model = estimates.model("m")
    assert estimates.tokens(model, 400) == 100.0
    for _ in range(30):
        estimates.learn(lease_on(make_node(), size=200), sample(prompt_tokens=100))
    assert estimates.tokens(model, 400) == pytest.approx(200.0, rel=0.01)


def test_a_request_of_unknown_size_says_nothing_of_bytes() -> None:
    """However many there are of them."""
    estimates = Estimates()
    for _ in range(5000):
        estimates.learn(Lease(make_node(), Ask("m", 0.0), 0.0), sample(prompt_tokens=100))
    assert estimates.tokens(estimates.model("m"), 400) == 100.0


def test_a_picture_is_not_a_prompt_beyond_all_contexts() -> None:
    """20 MB of base64 count as the largest prompt there is."""
    estimates = Estimates()
    assert estimates.tokens(estimates.model("m"), 20_000_000) == LARGEST_PROMPT


def test_the_length_of_answers_is_learned() -> None:
    """Of the model as a whole; an answer that told no tokens says nothing."""
    estimates = Estimates()
    assert estimates.model("m").output == OUTPUT
    for _ in range(30):
        estimates.learn(lease_on(make_node()), sample(completion_tokens=1000, seconds=5.0))
    assert estimates.model("m").output == pytest.approx(1000.0, rel=0.01)
    estimates.learn(lease_on(make_node()), sample(seconds=5.0))
    assert estimates.model("m").output == pytest.approx(1000.0, rel=0.01)


def test_how_long_a_request_takes_is_learned() -> None:
    """It says how long a client that is refused should wait: unknown, then as the first one, then as those of late."""
    estimates = Estimates()
    assert estimates.model("m").seconds == 0.0
    estimates.learn(lease_on(make_node()), sample(seconds=10.0))
    assert estimates.model("m").seconds == 10.0
    for _ in range(30):
        estimates.learn(lease_on(make_node()), sample(seconds=2.0))
    assert estimates.model("m").seconds == pytest.approx(2.0, rel=0.01)


def test_one_lucky_measurement_is_not_the_best_for_ever() -> None:
    """A rate that nobody reaches any more is not assumed of nodes that were never measured."""
    estimates, node = Estimates(), make_node()
    estimates.learn(lease_on(node), sample(completion_tokens=50, completion_seconds=0.001, seconds=1.0))
    for _ in range(100):
        estimates.learn(lease_on(node), sample(completion_tokens=50, completion_seconds=2.0, seconds=2.0))
    assert rates(estimates, node).decode == pytest.approx(25.0, rel=0.06)
    assert rates(estimates, make_node("new")).decode == pytest.approx(25.0, rel=0.06)


def test_when_the_fastest_gets_slow_the_next_is_the_measure() -> None:
    """What is assumed of others follows what the fastest does now, not what it did once."""
    estimates, fast, second = Estimates(), make_node("fast"), make_node("second")
    teach(estimates, second, decode=50.0)
    teach(estimates, fast, decode=100.0)
    for _ in range(40):
        teach(estimates, fast, decode=10.0)
    assert rates(estimates, make_node("new")).decode == pytest.approx(50.0, rel=0.06)


def test_the_measure_is_never_what_nobody_reaches_any_more() -> None:
    """However rates crept before: when the fastest falls back, and the next one after it, what is assumed follows."""
    estimates, fast, second = Estimates(), make_node("fast"), make_node("second")
    teach(estimates, second, decode=100.0)
    teach(estimates, second, decode=104.0)
    teach(estimates, fast, decode=200.0)
    for node in (fast, second):
        for _ in range(40):
            teach(estimates, node, decode=10.0)
    assert rates(estimates, make_node("new")).decode == pytest.approx(10.0, rel=0.06)
