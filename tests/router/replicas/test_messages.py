"""What replicas tell each other arrives as it was said, in letters that PostgreSQL carries."""

import types
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_router.core.elsewhere import NODES_TOLD, Counts
from llm_router.router.replicas import messages
from llm_router.router.replicas.messages import LONGEST, Counted, Left, Message, Placed, Suspected, opened, packed

if TYPE_CHECKING:
    from collections.abc import Callable

ME = "0123abcd"
KINDS = get_args(Message)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    type(None): st.none(),
    msgspec.UnsetType: st.just(msgspec.UNSET),
}


def any_of(kind: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401 - a type, or what stands for one
    """Values of a type, as messages are made of."""
    origin, of = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.builds(kind, **{field.name: any_of(field.type) for field in msgspec.structs.fields(kind)})
    if origin is types.UnionType:
        return st.one_of(*map(any_of, of))
    if origin is Literal:
        return st.sampled_from(of)
    makers: dict[Any, Callable[..., st.SearchStrategy[Any]]] = {
        list: lambda item: st.lists(any_of(item), max_size=3),
        dict: lambda key, value: st.dictionaries(any_of(key), any_of(value), max_size=3),
        tuple: lambda *items: st.tuples(*map(any_of, items)),
    }
    return makers[origin](*of) if origin else PLAIN[kind]


MESSAGES = st.one_of(*map(any_of, KINDS))


def delivered(said: list[Message]) -> list[Message]:
    """What arrives of it."""
    letters = [opened(text) for text, _ in packed(ME, said)]
    assert all(letter is not None and letter.sender == ME for letter in letters)
    return [message for letter in letters if letter is not None for message in messages.messages_of(letter)]


@settings(max_examples=40)
@given(st.lists(MESSAGES, max_size=20))
def test_what_is_said_arrives(said: list[Message]) -> None:
    """Of every kind, with all that it holds, in the same order, however it is packed."""
    assert delivered(said) == said


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_name_of_its_own(kind: type[msgspec.Struct]) -> None:
    """By which another version can tell it from what it does not know."""
    names = [other.__struct_config__.tag for other in KINDS]
    assert names.count(kind.__struct_config__.tag) == 1


@given(st.lists(st.integers(0, 2 * LONGEST), max_size=20))
def test_letters_are_full_and_no_longer_than_they_may_be(sizes: list[int]) -> None:
    """A message that is too long alone has one to itself, which is marked: it goes as a bulletin."""
    said: list[Message] = [Suspected("n", "x" * size) for size in sizes]
    letters = list(packed(ME, said))
    for text, is_long in letters:
        letter = opened(text)
        assert letter is not None
        assert is_long == (len(text.encode()) > LONGEST)
        assert not is_long or len(letter.messages) == 1
    for (text, _), (following, _) in pairwise(letters):
        letter = opened(following)
        assert letter is not None
        assert len(text) + len(bytes(letter.messages[0])) >= LONGEST  # what follows had no more room in it


def test_bytes_are_counted() -> None:
    """Not characters: PostgreSQL counts bytes of UTF-8."""
    said: list[Message] = [Suspected("n", "東" * 2000), Suspected("n", "京" * 2000)]
    assert [len(text.encode()) < LONGEST for text, _ in packed(ME, said)] == [True, True]


def test_the_longest_counts_fit_into_a_letter() -> None:
    """Four times a second, nothing has to be put up elsewhere."""
    nodes = {f"attached-{number:012}": (10**4, 10**8, 10**6, 10**4) for number in range(NODES_TOLD)}
    ((_, is_long),) = packed(ME, [Counted(Counts(nodes))])
    assert not is_long


def test_rows_of_any_number_of_nodes_fit_into_letters() -> None:
    """With the longest ids; each is named once, and which of them are kept."""
    ids = [f"{number:0128}" for number in range(60)]
    said = list(messages.rows(ids, lambda id_: id_ < ids[30]))
    assert not any(is_long for _, is_long in packed(ME, said))
    assert [id_ for message in said for id_ in message.nodes] == ids
    assert [id_ for message in said for id_ in message.kept] == ids[:30]


def test_a_pointer_is_a_letter() -> None:
    """It names the row in which the messages stand."""
    letter = opened(messages.pointer(ME, 7))
    assert letter is not None
    assert (letter.sender, letter.bulletin, list(messages.messages_of(letter))) == (ME, 7, [])


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"sender":1}', '{"sender":"a","messages":1}', '{"sender":"a'])
def test_what_is_no_letter_is_passed_over(text: str) -> None:
    """Whoever may connect to the database can put anything there."""
    assert opened(text) is None


def test_what_another_version_says_is_passed_over() -> None:
    """Messages that nobody here knows, or that hold something else; what we know of the same letter is heard."""
    known = msgspec.json.encode(Left("n")).decode()
    strange = ['{"type":"sung","song":"x"}', '{"type":"left"}', '{"type":"left","node":1}', "7", "null"]
    text = f'{{"sender":"other","mood":"good","messages":[{",".join([*strange, known])}]}}'
    letter = opened(text)
    assert letter is not None
    assert list(messages.messages_of(letter)) == [Left("n")]
    more = opened('{"sender":"other","messages":[{"type":"placed","wanted":{"m":["n"]},"since":1}]}')
    assert more is not None
    assert list(messages.messages_of(more)) == [Placed({"m": ["n"]})]
