"""Records of requests, as tests want them."""

import msgspec

from llm_router.core.usage import RequestRecord

ANSWERED = RequestRecord(
    id="r1",
    at=1_800_000_000.0,
    client="127.0.0.1",
    operation="openai.chat",
    model="m",
    node_id="n1",
    node="box",
    status=200,
    outcome="done",
    streamed=True,
    attempts=1,
    first_byte=0.3,
    seconds=2.0,
    prompt_tokens=10,
    completion_tokens=20,
    error="",
)


def record(**different: object) -> RequestRecord:
    """A streamed request that was answered well, but for what is `different`."""
    return msgspec.structs.replace(ANSWERED, **different)
