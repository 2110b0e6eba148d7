"""What the gateway reads of a request's body: step 4 of `inference.py`. Everything else passes unread."""

import msgspec

from llm_router.contract import UNREADABLE
from llm_router.core.affinity import Conversation, conversation
from llm_router.errors import BadRequest
from llm_router.wire.dialects.base import Operation

# Bodies whose messages are looked at, in bytes (design.md §5): below, there is too little computed to come back for;
# above, it is images, and marking them would take longer than a request should be held up.
MARKED_FROM, MARKED_TO = 1_000, 1_000_000


class Peeked(msgspec.Struct, frozen=True, gc=False):
    """The model as the request names it, whether it wants a stream, and the marks of its messages."""

    model: str
    streams: bool
    conversation: Conversation


class _Short(msgspec.Struct, gc=False):
    model: str = ""
    name: str = ""  # what Ollama called it first; its own command still does (api/types.go, ShowRequest)
    stream: bool | None = None


class _Long(_Short):
    messages: list[msgspec.Raw] = []


_short = msgspec.json.Decoder(_Short).decode
_long = msgspec.json.Decoder(_Long).decode


def peek(body: bytes, operation: Operation | None = None) -> Peeked:
    """Read model, stream and messages. Without `operation`, a stream is what the body says.

    Raises:
        BadRequest: the body is not JSON, or names no model; the message says where it goes wrong.
    """
    marks: Conversation = ()
    if MARKED_FROM <= len(body) <= MARKED_TO:
        read, marks = _read_long(body)
    else:
        read = _read(body)
    model = read.model or read.name
    if not model:
        raise BadRequest("'model' is missing: name the model that shall answer")
    streams = operation.streams if operation is not None else False
    if streams is not None and read.stream is not None:
        streams = read.stream
    return Peeked(model, streams or False, marks)


def _read_long(body: bytes) -> tuple[_Short, Conversation]:
    try:
        read = _long(body)
    except UNREADABLE:  # its messages are not what they should be: whoever answers it will say so
        return _read(body), ()
    return read, conversation(read.model or read.name, map(bytes, read.messages)) if read.messages else ()


def _read(body: bytes) -> _Short:
    try:
        return _short(body)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None
    except UNREADABLE as error:
        where = f" (after byte {len(body)})" if "truncated" in str(error) else ""  # elsewhere msgspec says it itself
        raise BadRequest(f"the body is not valid JSON: {error}{where}") from None
