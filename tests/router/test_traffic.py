"""What requests add up to, and that it stays bounded."""

from copy import copy

from tests.router.recording import record

from llm_router.router.traffic import LIMIT, OTHER, Times, Traffic


def test_requests_are_counted_by_how_they_ended() -> None:
    """Model, node, operation, status and outcome."""
    traffic = Traffic({"m"})
    traffic([record(), record(), record(status=502, outcome="failed")])
    assert traffic.requests == {
        ("m", "box", "n1", "openai.chat", 200, "done"): 2,
        ("m", "box", "n1", "openai.chat", 502, "failed"): 1,
    }


def test_tokens_and_times_are_those_of_answers() -> None:
    """A failure at once would make a node look quick."""
    traffic = Traffic({"m"})
    traffic([record(), record(first_byte=0.5, seconds=4.0), record(status=502, outcome="failed", seconds=0.001)])
    answers = traffic.answers["m", "box", "n1"]
    assert (answers.prompt_tokens, answers.completion_tokens) == (20, 40)
    assert (sum(answers.first.counts), answers.first.total) == (2, 0.8)
    assert (sum(answers.whole.counts), answers.whole.total) == (2, 6.0)


def test_only_streams_have_a_first_token() -> None:
    """The first byte of a whole answer is its last one."""
    traffic = Traffic({"m"})
    traffic([record(streamed=False)])
    assert sum(traffic.answers["m", "box", "n1"].first.counts) == 0


def test_a_broken_answer_has_a_first_token_and_no_end() -> None:
    """What was seen of it counts."""
    traffic = Traffic({"m"})
    traffic([record(outcome="broken")])
    answers = traffic.answers["m", "box", "n1"]
    assert (sum(answers.first.counts), sum(answers.whole.counts)) == (1, 0)


def test_waits_are_those_of_requests_that_came_as_far_as_the_queue() -> None:
    """Also of one that left it with nothing."""
    traffic = Traffic({"m"})
    refused = {"node_id": "", "node": "", "outcome": "refused", "status": 429}
    traffic([record(), record(waited=3.0), record(**refused), record(**refused, waited=60.0)])
    assert (sum(traffic.waits["m"].counts), traffic.waits["m"].total) == (3, 63.0)


def test_a_name_that_no_node_lists_is_no_label() -> None:
    """Clients can think of any: they count as one."""
    traffic = Traffic({"m"})
    traffic([record(model=f"made up {n}", node_id="", node="", status=404, outcome="refused") for n in range(9)])
    assert traffic.requests == {(OTHER, "", "", "openai.chat", 404, "refused"): 9}


def test_labels_are_bounded() -> None:
    """Over LIMIT combinations the new ones count as one, and no request goes uncounted."""
    models = [f"m{n}" for n in range(LIMIT + 50)]
    traffic = Traffic(models)
    for _ in range(2):
        traffic([record(model=model, waited=1.0) for model in models])
    assert sum(traffic.requests.values()) == 2 * len(models)
    assert len(traffic.requests) == len(traffic.answers) == len(traffic.waits) == LIMIT + 1
    assert sum(traffic.answers[OTHER, OTHER, OTHER].whole.counts) == 100
    assert sum(sum(times.counts) for times in traffic.waits.values()) == 2 * len(models)


def test_a_copy_stays_as_it_is() -> None:
    """Another thread writes it down while requests go on."""
    traffic = Traffic({"m"})
    traffic([record(waited=1.0)])
    then = copy(traffic)
    traffic([record(waited=1.0)])
    assert (sum(then.requests.values()), sum(traffic.requests.values())) == (1, 2)
    assert (then.answers["m", "box", "n1"].whole.total, then.waits["m"].total) == (2.0, 1.0)


def test_a_time_is_in_the_bucket_that_ends_with_it() -> None:
    """Prometheus' `le`: less or equal."""
    times = Times()
    for seconds in (0.0, 0.01, 0.0100001, 656.0):
        times.add(seconds)
    assert (times.counts[0], times.counts[1], times.counts[-1]) == (2, 1, 1)
