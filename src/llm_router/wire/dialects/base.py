"""What the gateway asks of an API's dialect.

A dialect knows its inference paths, its shape of an error, how a stream that breaks is ended, and where the token
counts stand. Everything else of a request is passed on unread.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from llm_router.errors import RouterError

# Tokens, or what an upstream says of them: beyond what any number of them can be, it is not to be believed.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Operation(msgspec.Struct, frozen=True):
    """One inference route. `streams`: what it does when the body does not say; None: it never streams.

    `looks`: it asks what a model is, and does not run it.
    """

    dialect: "Dialect"
    name: str
    streams: bool | None
    looks: bool = False


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What the last record of an answer says: tokens, and seconds where the runtime tells them (else 0).

    `evaluated`: tokens of the prompt that `prompt_seconds` were spent on; the others were cached.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    evaluated: int = 0
    prompt_seconds: float = 0.0
    completion_seconds: float = 0.0
    load_seconds: float = 0.0


class Dialect:
    """One API. An instance has no state: `OLLAMA`, `OPENAI`, `ANTHROPIC`."""

    name: ClassVar[str]
    stream_type: ClassVar[str]  # content type of a stream
    record_end: ClassVar[bytes] = b"\n\n"  # what ends one of its records; server-sent events unless said otherwise
    error_mark: ClassVar[bytes]  # how the record begins that `broken` writes; JSON's quoting keeps it out of any text
    tags: ClassVar[bool] = False  # whether a model name without a tag means `:latest`

    @property
    def operations(self) -> Mapping[bytes, Operation]:
        """Path -> operation."""
        raise NotImplementedError

    def error(self, error: RouterError) -> bytes:
        """The JSON body of an error answer."""
        raise NotImplementedError

    def broken(self, error: RouterError, *, mid_record: bool) -> bytes:
        """The record that tells the client of a stream that it broke. `mid_record`: the last record was cut in two."""
        raise NotImplementedError

    def sign_of_life(
        self,
        operation: Operation,  # noqa: ARG002 - NDJSON needs it
        model: str,  # noqa: ARG002 - as above
        now: float,  # noqa: ARG002 - as above
        step: str = "",
    ) -> bytes:
        """A record without content, for a client that waits for its stream to begin. `now`: seconds since 1970.

        `step`: what is waited for, where that is known. A comment: what follows a colon at the beginning of a line is
        ignored (WHATWG HTML, §9.2.6).
        """
        return b": %b\n\n" % (step.encode() or b"waiting")

    def usage(self, tail: bytes) -> Usage | None:
        """Token counts from the end of an answer's bytes (framing included), whole or streamed; None: it has none."""
        raise NotImplementedError
