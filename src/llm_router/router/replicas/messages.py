"""What replicas tell each other, and how it travels.

A letter is what one notification of PostgreSQL carries: a sender and its messages, as JSON. What does not fit into one
lies in the table `bulletins`, and the letter says where.

Rule 1: a message says what happened, not what to do: each replica draws its own conclusions.
Rule 2: any of them may be lost, doubled or late. What must not be is in tables, which are read again (`following`).
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from llm_router.contract import Heartbeat, ModelEntry
from llm_router.core.elsewhere import Counts
from llm_router.router.store.queries import Event

# Bytes of a letter. PostgreSQL takes "shorter than 8000 bytes" in its default configuration (NOTIFY, "payload").
LONGEST = 7900
NAMED = 25  # nodes that one message names, twice: 7 kB with the longest ids


class Rows(msgspec.Struct, frozen=True, tag="rows"):
    """These nodes' rows were written, or deleted; of `kept`, the agents speak to the sender."""

    nodes: list[str]
    kept: list[str] = []


class Reported(msgspec.Struct, frozen=True, tag="reported"):
    """An agent's heartbeat arrived."""

    node: str
    report: Heartbeat


class Left(msgspec.Struct, frozen=True, tag="left"):
    """An agent said goodbye."""

    node: str


class Approved(msgspec.Struct, frozen=True, tag="approved"):
    """An operator let an agent in."""

    node: str


class Suspected(msgspec.Struct, frozen=True, tag="suspected"):
    """A request failed in a way that makes it doubtful whether the node is there."""

    node: str
    reason: str


class Excluded(msgspec.Struct, frozen=True, tag="excluded"):
    """A model failed on a node; `trial`: while it was being tried again."""

    node: str
    model: str
    reason: str
    trial: bool


class Lifted(msgspec.Struct, frozen=True, tag="lifted"):
    """A model may be asked of a node again."""

    node: str
    model: str
    reason: str


class Fetching(msgspec.Struct, frozen=True, tag="fetching"):
    """A node was asked for a model whose files it has to fetch first: who wants it waits for this node."""

    node: str
    model: str


class Looked(msgspec.Struct, frozen=True, tag="looked"):
    """An attached server was looked at: what it has, or why it does not tell."""

    node: str
    error: str = ""
    entries: list[ModelEntry] = []
    loaded: list[str] = []


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """What the sender has on which nodes, and what waits there."""

    counts: Counts


class AccessChanged(msgspec.Struct, frozen=True, tag="access"):
    """Keys or sessions were made, or are no good any more."""


class TokenRotated(msgspec.Struct, frozen=True, tag="token"):
    """There is another join token."""


class CatalogueChanged(msgspec.Struct, frozen=True, tag="catalogue"):
    """A model was added, changed or removed."""


class Placed(msgspec.Struct, frozen=True, tag="placed"):
    """Which nodes shall have which models, as the replica on duty has decided."""

    wanted: dict[str, list[str]]


class Happened(msgspec.Struct, frozen=True, tag="happened"):
    """Something was added to the events."""

    event: Event


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The sender has just come, or come back: it knows the tables, and nothing else."""


class Bye(msgspec.Struct, frozen=True, tag="bye"):
    """The sender is about to stop."""


Message = (
    Rows
    | Reported
    | Left
    | Approved
    | Suspected
    | Excluded
    | Lifted
    | Fetching
    | Looked
    | Counted
    | AccessChanged
    | TokenRotated
    | CatalogueChanged
    | Placed
    | Happened
    | Hello
    | Bye
)


class Letter(msgspec.Struct, frozen=True):
    """`bulletin`: the row in which the messages stand, which are too long for a letter; 0: they stand here."""

    sender: str
    messages: list[msgspec.Raw] = []
    bulletin: int = 0


_encode = msgspec.json.Encoder().encode
_read_letter = msgspec.json.Decoder(Letter).decode
_read_message = msgspec.json.Decoder(Message).decode


def packed(sender: str, messages: Iterable[Message]) -> Iterator[tuple[str, bool]]:
    """The letters that carry these, in their order. The bool: it is too long, and goes as a bulletin."""
    room = LONGEST - len(_encode(Letter(sender)))
    waiting: list[msgspec.Raw] = []
    size = 0
    for message in messages:
        raw = msgspec.Raw(_encode(message))
        length = len(bytes(raw)) + 1  # a comma
        if waiting and size + length > room:
            yield _letter(sender, waiting), size > room
            waiting, size = [], 0
        waiting.append(raw)
        size += length
    if waiting:
        yield _letter(sender, waiting), size > room


def _letter(sender: str, messages: list[msgspec.Raw]) -> str:
    return _encode(Letter(sender, messages)).decode()


def pointer(sender: str, bulletin: int) -> str:
    """The letter that says where a long one lies."""
    return _encode(Letter(sender, bulletin=bulletin)).decode()


def opened(text: str) -> Letter | None:
    """A letter; None: it is none that we can read, as of a router that is older or newer."""
    try:
        return _read_letter(text)
    except msgspec.DecodeError:
        return None


def messages_of(letter: Letter) -> Iterator[Message]:
    """What it says; messages of other versions, which nobody here knows, are passed over."""
    for raw in letter.messages:
        try:
            yield _read_message(raw)
        except msgspec.DecodeError:
            continue


def rows(nodes: Iterable[str], is_kept: Callable[[str], bool]) -> Iterator[Rows]:
    """That these nodes' rows were written, in messages that fit into letters."""
    ids = list(nodes)
    for start in range(0, len(ids), NAMED):
        some = ids[start : start + NAMED]
        yield Rows(some, [id_ for id_ in some if is_kept(id_)])
