"""What the bench asks, and when."""

from collections import Counter
from itertools import pairwise

import pytest
from bench.fleet.trace import (
    BYTES_PER_TOKEN,
    MODELS,
    MOST_TURNS,
    OUTPUT,
    Conversation,
    Turn,
    draw,
    filler,
    sizes,
    tokens_of,
)


def turns(trace: list[Conversation]) -> list[Turn]:
    return sorted((turn for c in trace for turn in c.turns), key=lambda turn: turn.at)


def test_a_seed_gives_the_same_trace_and_another_seed_another() -> None:
    """Two people who name the same seed measure the same thing."""
    assert draw(1.0, 200, seed=7) == draw(1.0, 200, seed=7)
    assert draw(1.0, 200, seed=7) != draw(1.0, 200, seed=8)


@pytest.mark.parametrize("rate", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_rate_is_the_one_asked_for(rate: float, seed: int) -> None:
    """So many requests come per second on the whole, and about as many in its first half as in its second."""
    times = [turn.at for turn in turns(draw(rate, 1000, seed))]
    assert len(times) == 1000
    assert len(times) / times[-1] == pytest.approx(rate, rel=0.1)
    assert sum(at < times[-1] / 2 for at in times) == pytest.approx(500, rel=0.35)


def test_conversations_grow() -> None:
    """A conversation has up to MOST_TURNS turns in the order of time, and a later one brings a longer prompt."""
    trace = draw(1.0, 600, seed=1)
    assert max(len(c.turns) for c in trace) > MOST_TURNS // 2
    for conversation in trace:
        assert len(conversation.turns) <= MOST_TURNS
        assert all(one.at < two.at for one, two in pairwise(conversation.turns))
        assert all(one < two for one, two in pairwise(sizes([conversation])))


def test_prompts_begin_small_and_become_thousands_of_tokens() -> None:
    """A first question with its instructions has some 200 tokens; the longest prompts have several thousand."""
    trace = draw(1.0, 600, seed=1)
    first = [sizes([c])[0] for c in trace if len(c.opening) == 1]
    assert sum(first) / len(first) == pytest.approx(220, rel=0.2)
    assert max(sizes(trace)) > 3000


def test_answers_are_300_tokens_on_average_and_within_bounds() -> None:
    """Most are shorter, some are much longer, none is out of bounds."""
    wanted = [turn.output for turn in turns(draw(1.0, 1000, seed=1))]
    assert sum(wanted) / len(wanted) == pytest.approx(OUTPUT.mean, rel=0.15)
    assert min(wanted) >= OUTPUT.fewest
    assert max(wanted) <= OUTPUT.most


def test_models_are_asked_for_by_zipfs_law() -> None:
    """The first model gets about twice what the second gets, and every one gets something."""
    asked = Counter(c.model for c in draw(1.0, 6000, seed=1))
    assert set(asked) == set(MODELS)
    assert asked[MODELS[0]] / asked[MODELS[1]] == pytest.approx(2.0, rel=0.3)


def test_no_two_conversations_share_a_message() -> None:
    """What a machine knows of one conversation is of no use for another."""
    said = Counter(m.content for c in draw(1.0, 300, seed=1) for m in (c.opening[0], *(t.question for t in c.turns)))
    assert set(said.values()) == {1}


def test_bytes_tell_tokens() -> None:
    """Filler of n tokens has n times BYTES_PER_TOKEN bytes, and counts as n."""
    for tokens in (1, 10, 333):
        text = filler("question 1 of 2", tokens)
        assert len(text.encode()) == tokens * BYTES_PER_TOKEN
        assert tokens_of(text) == tokens
