"""What the gateway reads of a request's body, and what it leaves alone."""

from collections.abc import Sequence

import msgspec
import pytest

from llm_router.core.affinity import LOOK_BACK, Affinity
from llm_router.errors import BadRequest
from llm_router.gateway.peek import MARKED_FROM, MARKED_TO, peek
from llm_router.wire.dialects import OPERATIONS

CHAT = OPERATIONS[b"/api/chat"]
COMPLETIONS = OPERATIONS[b"/v1/chat/completions"]
EMBED = OPERATIONS[b"/api/embed"]
Message = dict[str, str]


def question(text: str) -> Message:
    return {"role": "user", "content": text}


def answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def chat(messages: Sequence[Message], model: str = "m") -> bytes:
    return msgspec.json.encode({"model": model, "messages": messages})


def of_size(size: int) -> bytes:
    """A chat whose body has so many bytes."""
    return chat([question("x" * (size - len(chat([question("")]))))])


@pytest.mark.parametrize(
    ("size", "marks"), [(MARKED_FROM - 1, 0), (MARKED_FROM, 1), (MARKED_TO, 1), (MARKED_TO + 1, 0)]
)
def test_messages_are_marked_where_it_pays(size: int, marks: int) -> None:
    """D2, affinity: from 1,000 bytes on, and up to 1,000,000."""
    body = of_size(size)
    assert len(body) == size
    assert len(peek(body, COMPLETIONS).conversation) == marks


def test_a_continued_conversation_has_the_mark_of_the_turn_before() -> None:
    """D2, affinity: whoever answered that turn is found again, and the share that it holds is told in bytes."""
    first = [question("long " * 300), answer("yes"), question("more")]
    second = [*first, answer("no"), question("why")]
    before, after = peek(chat(first)).conversation, peek(chat(second)).conversation
    assert (len(before), len(after)) == (3, 5)
    assert before[-1] in after
    affinity = Affinity()
    affinity.remember(before, "one", 0.0)
    holder, share = affinity.find(after, 1.0)
    assert holder == "one"
    assert share == sum(len(msgspec.json.encode(m)) for m in first) / sum(len(msgspec.json.encode(m)) for m in second)


def test_tools_between_two_turns_do_not_hide_the_conversation() -> None:
    """D2, affinity: an agent's calls and their results, up to LOOK_BACK messages."""
    first = [question("long " * 300)]
    second = [*first, *(answer(str(i)) for i in range(LOOK_BACK - 1))]
    affinity = Affinity()
    affinity.remember(peek(chat(first)).conversation, "one", 0.0)
    assert affinity.find(peek(chat(second)).conversation, 1.0)[0] == "one"


def test_another_beginning_or_another_model_is_another_conversation() -> None:
    """D2, affinity: nothing of it is in anybody's memory."""
    messages = [question("long " * 300), answer("yes"), question("more")]
    marks = set(peek(chat(messages)).conversation)
    assert marks.isdisjoint(peek(chat([question("a system prompt"), *messages])).conversation)
    assert marks.isdisjoint(peek(chat(messages, model="n")).conversation)


@pytest.mark.parametrize("messages", [b'"hello"', b"null", b"7", b'{"role":"user"}', b"[]"])
@pytest.mark.parametrize("padding", [0, 2 * MARKED_FROM])
def test_messages_of_another_kind_are_no_error_here(messages: bytes, padding: int) -> None:
    """B1: whoever answers says what it thinks of them."""
    body = b'{"model":"m","messages":%b,"stream":true,"pad":"%b"}' % (messages, b"x" * padding)
    peeked = peek(body, COMPLETIONS)
    assert (peeked.model, peeked.streams, peeked.conversation) == ("m", True, ())


@pytest.mark.parametrize(
    ("fields", "streams"),
    [
        ({}, (True, False, False, False)),
        ({"stream": None}, (True, False, False, False)),
        ({"stream": True}, (True, True, False, True)),
        ({"stream": False}, (False, False, False, False)),
    ],
)
def test_a_stream_is_what_the_api_means_by_it(fields: dict[str, bool | None], streams: tuple[bool, ...]) -> None:
    """B2: by default for /api/chat, when asked for elsewhere, never for embeddings; the body alone without an API."""
    body = msgspec.json.encode({"model": "m", **fields})
    assert tuple(peek(body, operation).streams for operation in (CHAT, COMPLETIONS, EMBED, None)) == streams


def test_the_old_name_of_the_field_is_read() -> None:
    """Ollama's command sends `name` and an empty `model`."""
    assert peek(b'{"model":"","name":"m"}').model == "m"


@pytest.mark.parametrize("padding", [0, 2 * MARKED_FROM])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"messages":[],"pad":"%b"}', "'model' is missing"),
        (b'{"model":"","pad":"%b"}', "'model' is missing"),
        (b'{"model":7,"pad":"%b"}', r"\$\.model"),
        (b'{"model":"m","stream":"yes","pad":"%b"}', r"\$\.stream"),
        (b'["%b"]', "object"),
        (b'{"model":"m","pad":"%b"', r"truncated \(after byte \d+\)"),
        (b'{"model":"m","pad":"%b",}', "byte"),
        (b'{"model":"m","messages":[{]},"pad":"%b"}', "byte"),
        (b'{"model":"\xff","pad":"%b"}', "utf-8"),
    ],
)
def test_what_cannot_be_read_is_the_callers_fault(body: bytes, says: str, padding: int) -> None:
    """B3: and the message says where, whether the messages are looked at or not."""
    with pytest.raises(BadRequest, match=says):
        peek(body % (b"x" * padding), COMPLETIONS)
