"""One request that wants a place: what the decisions need to know of it, and what they note on it."""

import msgspec

from llm_router.core.affinity import Conversation


class Ask(msgspec.Struct, eq=False):
    """A request for a model, from its arrival until it is answered; it may be placed more than once.

    `arrived` orders those who wait. `size` is the prompt in bytes, `conversation` what `affinity` makes of its
    messages. `looks`: it asks what the model is, and does not run it. `owner` is the gateway's, and never looked at
    here. `tried` are the ids of nodes that have failed it. `queued`: since when it waits, or waited last; its owner
    sets it back; `fetching`: when it last waited for its model to be fetched. `holder` is the id of the node that holds
    the conversation so far, `held` the share of the prompt that it holds, 0 to 1; `target` the id of the node that it
    would rather wait for.
    """

    model: str
    arrived: float
    size: int = 0
    conversation: Conversation = ()
    owner: object = None
    looks: bool = False
    tried: frozenset[str] = frozenset()
    queued: float = 0.0
    fetching: float = 0.0
    holder: str = ""
    held: float = 0.0
    target: str = ""
