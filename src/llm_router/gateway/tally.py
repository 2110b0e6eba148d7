"""Step 9 of `inference.py`: what an answer says about itself, for the scheduler to learn from and for the history."""

from collections.abc import Sequence

from llm_router.core.rates import Sample
from llm_router.wire.dialects.base import Dialect, Usage

# Pieces of a stream that are kept for its token counts: the record with them, [DONE] and the last chunk may come apart.
TAIL = 4
TAIL_BYTES = 8 * 1024  # of each such piece; a record with counts is below 2 kB


def usage(dialect: Dialect, tail: Sequence[bytes]) -> Usage | None:
    """Token counts as the last pieces of an answer have them."""
    if not tail:
        return None
    return dialect.usage(tail[0] if len(tail) == 1 else b"".join(tail))


def sample(counts: Usage, first_byte: float, seconds: float, streamed: bool) -> Sample:  # noqa: FBT001 - dear by name
    """What can be learned of an answer. Seconds begin with the lease."""
    return Sample(
        counts.prompt_tokens,
        counts.completion_tokens,
        counts.evaluated,
        counts.prompt_seconds,
        counts.completion_seconds,
        counts.load_seconds,
        first_byte,
        seconds,
        streamed,
    )
