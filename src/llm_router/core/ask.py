"""One request that wants a place: what the decisions need to know of it, and what they note on it."""

from llm_router.core.affinity import Conversation


class Ask:
    """A request for a model, from its arrival until it is answered; it may be placed more than once.

    `arrived` orders those who wait. `size` is the prompt in bytes, `conversation` what `affinity` makes of its
    messages. `tried` are the ids of nodes that have failed it. `owner` is the gateway's, and never looked at here.
    """

    __slots__ = (
        "arrived",
        "conversation",
        "held",
        "holder",
        "model",
        "owner",
        "queued",
        "size",
        "target",
        "tried",
    )

    def __init__(
        self, model: str, arrived: float, *, size: int = 0, conversation: Conversation = (), owner: object = None
    ) -> None:
        self.model = model
        self.arrived = arrived
        self.size = size
        self.conversation = conversation
        self.owner = owner
        self.tried: frozenset[str] = frozenset()
        self.queued = 0.0  # since when it waits, or waited last; its owner sets it back
        self.holder = ""  # id of the node that holds the conversation so far
        self.held = 0.0  # share of the prompt that it holds, 0 to 1
        self.target = ""  # id of the node that it would rather wait for
