"""The Ollama API: paths under /api, NDJSON, nanoseconds.

Sources: ollama/ollama `docs/api.md` (routes, records, counts), `api/types.go` (order and types of the fields),
`server/routes.go` (errors are `{"error": "text"}`, in a stream as well).
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256

import msgspec

from llm_router.contract import ModelDetails, ModelEntry
from llm_router.errors import RouterError
from llm_router.wire.dialects.base import Count, Dialect, Operation, Usage
from llm_router.wire.stream import unchunked

NANOSECONDS = 1e9  # in a second: the unit of all of Ollama's durations


class Ollama(Dialect):
    """`/api/*`."""

    name = "ollama"
    stream_type = "application/x-ndjson"
    error_mark = b'{"error":'
    record_end = b"\n"
    tags = True

    @property
    def operations(self) -> Mapping[bytes, Operation]:
        """Path -> operation."""
        return _OPERATIONS

    def error(self, error: RouterError) -> bytes:
        """`{"error": "text"}`."""
        return failure(error.message)

    def broken(self, error: RouterError, *, mid_record: bool) -> bytes:
        """A last line with the error, as Ollama itself ends a stream that fails."""
        return (b"\n" if mid_record else b"") + failure(error.message) + b"\n"

    def sign_of_life(self, operation: Operation, model: str, now: float) -> bytes:
        """A record with empty content: NDJSON has no comments, and clients append what they are told."""
        at = datetime.fromtimestamp(now, UTC)
        if operation.name == "ollama.chat":
            return _ENCODER.encode(_Waiting(model, at, message=_Nothing())) + b"\n"
        return _ENCODER.encode(_Waiting(model, at, response="")) + b"\n"

    def usage(self, tail: bytes) -> Usage | None:
        """The counts of the final record.

        They are its last fields, flat, and `total_duration` is their first (`Metrics` in api/types.go; Go writes fields
        in the order of declaration), so they can be cut out of a record whose beginning is not in `tail`.
        """
        start = tail.rfind(b'"total_duration"')
        end = tail.find(b"}", start)
        if start < 0 or end < 0:
            return None
        try:
            counts = _COUNTS.decode(b"{" + unchunked(tail[start:end]) + b"}")
        except msgspec.DecodeError:
            return None
        return Usage(
            prompt_tokens=counts.prompt_eval_count,
            completion_tokens=counts.eval_count,
            evaluated=counts.prompt_eval_count,
            prompt_seconds=counts.prompt_eval_duration / NANOSECONDS,
            completion_seconds=counts.eval_duration / NANOSECONDS,
            load_seconds=counts.load_duration / NANOSECONDS,
        )


class _Nothing(msgspec.Struct, gc=False):
    role: str = "assistant"
    content: str = ""


class _Waiting(msgspec.Struct, gc=False):
    model: str
    created_at: datetime
    message: _Nothing | msgspec.UnsetType = msgspec.UNSET
    response: str | msgspec.UnsetType = msgspec.UNSET
    done: bool = False


class _Counts(msgspec.Struct, gc=False):
    prompt_eval_count: Count = 0
    eval_count: Count = 0
    prompt_eval_duration: Count = 0
    eval_duration: Count = 0
    load_duration: Count = 0


class TagsModel(msgspec.Struct, frozen=True):
    """One model of `GET /api/tags`. `modified_at` is RFC 3339; `size` in bytes."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails


class Tags(msgspec.Struct, frozen=True):
    """The answer of `GET /api/tags`."""

    models: list[TagsModel]


class PsModel(msgspec.Struct, frozen=True):
    """One model of `GET /api/ps`. `expires_at` is RFC 3339; sizes in bytes."""

    name: str
    model: str
    size: int
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int


class Ps(msgspec.Struct, frozen=True):
    """The answer of `GET /api/ps`."""

    models: list[PsModel]


class _Failure(msgspec.Struct, gc=False):
    error: str


def failure(message: str) -> bytes:
    """The JSON body of an error, also the last record of a stream."""
    return _ENCODER.encode(_Failure(message))


def tags(models: Iterable[ModelEntry], modified_at: str) -> Tags:
    """The list of models as `GET /api/tags` answers it. `modified_at`: RFC 3339, the same for all."""
    return Tags([TagsModel(m.id, m.id, modified_at, m.size, digest(m.id), ModelDetails()) for m in models])


def ps(models: Iterable[ModelEntry], expires_at: str) -> Ps:
    """The models in memory as `GET /api/ps` answers them. `expires_at`: RFC 3339, the same for all."""
    return Ps([PsModel(m.id, m.id, m.size, digest(m.id), ModelDetails(), expires_at, 0) for m in models])


def digest(name: str) -> str:
    """A stand-in for the digest of a model's manifest: stable per name, and more than the 12 that clients show."""
    return sha256(name.encode()).hexdigest()


OLLAMA = Ollama()
_OPERATIONS: Mapping[bytes, Operation] = {
    b"/api/chat": Operation(OLLAMA, "ollama.chat", streams=True),
    b"/api/generate": Operation(OLLAMA, "ollama.generate", streams=True),
    b"/api/embed": Operation(OLLAMA, "ollama.embed", streams=None),
    b"/api/embeddings": Operation(OLLAMA, "ollama.embeddings", streams=None),
    # No inference, but a question to whoever has the model: `ollama run` asks it first.
    b"/api/show": Operation(OLLAMA, "ollama.show", streams=None),
}
_ENCODER = msgspec.json.Encoder()
_COUNTS = msgspec.json.Decoder(_Counts)
