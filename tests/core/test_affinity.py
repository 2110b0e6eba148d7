"""Which node holds a conversation's prefix (design.md §5, Affinity)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.core.affinity import CONVERSATIONS, FORGET_AFTER, LOOK_BACK, Affinity, conversation

QUESTION, ANSWER, NEXT = b'"What is a node?"', b'"A machine."', b'"And a slot?"'
FIRST = conversation("m", [QUESTION])
SECOND = conversation("m", [QUESTION, ANSWER, NEXT])


def test_a_conversation_that_nobody_answered_is_held_by_nobody() -> None:
    """An id that is no node's, and a share of nothing."""
    assert Affinity().find(FIRST, 0.0) == ("", 0.0)


def test_who_answered_the_last_turn_holds_the_beginning_of_the_next() -> None:
    """The share is the part of the bytes that the two have in common."""
    affinity = Affinity()
    affinity.remember(FIRST, "a", 0.0)
    node, share = affinity.find(SECOND, 1.0)
    assert node == "a"
    assert share == pytest.approx(len(QUESTION) / len(QUESTION + ANSWER + NEXT))


def test_the_same_request_again_is_held_whole() -> None:
    """Somebody asks for another answer."""
    affinity = Affinity()
    affinity.remember(SECOND, "a", 0.0)
    assert affinity.find(SECOND, 1.0) == ("a", 1.0)


@pytest.mark.parametrize(
    "other",
    [
        conversation("another model", [QUESTION, ANSWER, NEXT]),
        conversation("m", [ANSWER, QUESTION, NEXT]),
        conversation("m", [NEXT, QUESTION, ANSWER]),
    ],
)
def test_what_differs_from_the_first_message_on_is_another_conversation(other: tuple[tuple[int, int], ...]) -> None:
    """A cached prefix is one of the same model, from the beginning, in the same order."""
    affinity = Affinity()
    affinity.remember(FIRST, "a", 0.0)
    assert affinity.find(other, 1.0) == ("", 0.0)


def test_who_holds_more_is_found() -> None:
    """Two nodes answered two branches of one conversation: the one that shares more of it counts."""
    affinity = Affinity()
    affinity.remember(conversation("m", [QUESTION, ANSWER, NEXT]), "b", 0.0)
    affinity.remember(conversation("m", [QUESTION]), "a", 1.0)
    assert affinity.find(conversation("m", [QUESTION, ANSWER, NEXT, ANSWER, NEXT]), 2.0)[0] == "b"
    assert affinity.find(conversation("m", [QUESTION, ANSWER, ANSWER]), 2.0)[0] == "a"


def test_a_turn_that_was_continued_is_forgotten() -> None:
    """One conversation takes one place: whoever answered the later turn holds the earlier ones too."""
    affinity = Affinity()
    affinity.remember(FIRST, "a", 0.0)
    affinity.remember(SECOND, "b", 1.0)
    assert affinity.find(FIRST, 2.0) == ("", 0.0)
    assert affinity.find(SECOND, 2.0) == ("b", 1.0)


def test_a_conversation_is_forgotten_after_a_while() -> None:
    """By then the runtime has most likely given its memory to others."""
    affinity = Affinity()
    affinity.remember(FIRST, "a", 100.0)
    assert affinity.find(FIRST, 100.0 + FORGET_AFTER - 0.1)[0] == "a"
    assert affinity.find(FIRST, 100.0 + FORGET_AFTER) == ("", 0.0)


def test_the_oldest_conversations_make_room() -> None:
    """However many there are, memory stays flat (requirement I2)."""
    affinity = Affinity()
    talks = [conversation("m", [b"%d" % i]) for i in range(CONVERSATIONS + 2)]
    for talk in talks[:-1]:
        affinity.remember(talk, "a", 0.0)
    affinity.remember(talks[1], "a", 0.0)  # the oldest but for this: it speaks again
    affinity.remember(talks[-1], "a", 0.0)
    assert [bool(affinity.find(talk, 1.0)[0]) for talk in talks[:4]] == [False, True, False, True]


@given(st.lists(st.binary(min_size=1, max_size=4), min_size=1, max_size=20), st.integers(0, LOOK_BACK - 1))
def test_tools_may_put_messages_between_two_turns(messages: list[bytes], more: int) -> None:
    """A turn is found again below LOOK_BACK messages later, whatever they are."""
    affinity = Affinity()
    affinity.remember(conversation("m", messages), "a", 0.0)
    node, share = affinity.find(conversation("m", [*messages, *(b"tool result" for _ in range(more))]), 1.0)
    size = sum(map(len, messages))
    assert node == "a"
    assert share == pytest.approx(size / (size + more * len(b"tool result")))


def test_a_turn_too_far_back_is_not_looked_for() -> None:
    """A request with a thousand messages costs a dozen look-ups."""
    affinity = Affinity()
    affinity.remember(FIRST, "a", 0.0)
    assert affinity.find(conversation("m", [QUESTION, *[ANSWER] * LOOK_BACK]), 1.0) == ("", 0.0)
