"""Which node holds a conversation's prefix.

Chat APIs have no conversations: each request repeats all messages so far. A runtime keeps what it computed for them, so
the node that answered the last turn has least to do for the next. A conversation is known by its messages: each
prefix of them has a mark, and the marks of a request that continues it contain the mark of the request before.
"""

from collections import OrderedDict
from collections.abc import Iterable

# Prefixes of a request that are looked up, longest first: the turn before ends two messages back (answer, question);
# calls of tools and their results put some more in between.
LOOK_BACK = 12
CONVERSATIONS = 20_000  # remembered at once; some 5 MB
FORGET_AFTER = 600.0  # seconds; by then a runtime has most likely given the memory to others

Conversation = tuple[tuple[int, int], ...]  # mark and bytes of each prefix of the messages, shortest first


def conversation(model: str, messages: Iterable[bytes]) -> Conversation:
    """The marks of a request's messages, each as its bytes of JSON."""
    mark, size, marks = hash(model), 0, []
    for message in messages:
        mark = hash((mark, message))
        size += len(message)
        marks.append((mark, size))
    return tuple(marks)


class Affinity:
    """Remembers who answered which conversation last."""

    def __init__(self) -> None:
        self._holders: OrderedDict[int, tuple[str, float]] = OrderedDict()

    def remember(self, asked: Conversation, node_id: str, now: float) -> None:
        """The node answered this; what an earlier turn said is of no use any more."""
        mark = asked[-1][0]
        for earlier, _ in asked[-LOOK_BACK:-1]:
            self._holders.pop(earlier, None)
        self._holders[mark] = (node_id, now)
        self._holders.move_to_end(mark)
        if len(self._holders) > CONVERSATIONS:
            self._holders.popitem(last=False)

    def find(self, asked: Conversation, now: float) -> tuple[str, float]:
        """The node that holds most of this, and the share of the bytes that it holds; "" and 0 where none does."""
        for mark, size in reversed(asked[-LOOK_BACK:]):
            held = self._holders.get(mark)
            if held is not None and now - held[1] < FORGET_AFTER:
                return held[0], size / asked[-1][1]
        return "", 0.0
