"""What is remembered of one request."""

from typing import Literal

import msgspec

Outcome = Literal["done", "failed", "broken", "refused", "cancelled"]


class RequestRecord(msgspec.Struct, frozen=True, gc=False):
    """One request, as it ended. Times in seconds; tokens 0 where the answer did not say.

    `outcome`: done (the client has its answer, whatever its status), failed (no node could answer), broken (cut off
    after the first byte), refused (never reached a node), cancelled (the client went away). `waited` is the part of
    `seconds` that it spent in the queue.
    """

    id: str
    at: float  # seconds since the epoch at which the request was complete
    client: str
    operation: str  # "openai.chat"
    model: str
    node_id: str
    node: str
    status: int
    outcome: Outcome
    streamed: bool
    attempts: int
    first_byte: float
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    error: str
    waited: float = 0.0
    trace: str = ""  # the client's `traceparent`, where it sent one and traces are made
