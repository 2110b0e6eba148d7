"""The Ollama API: paths under /api, NDJSON, nanoseconds.

Sources: ollama/ollama `docs/api.md` (routes, records, counts), `api/types.go` (order and types of the fields),
`server/routes.go` (errors are `{"error": "text"}`, in a stream as well).
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal

import msgspec

from llm_router.contract import ModelDetails, ModelEntry
from llm_router.errors import RouterError
from llm_router.wire.dialects.base import Count, Dialect, Operation, Usage
from llm_router.wire.stream import unchunked

BLOBS = b"/api/blobs/"  # where files are sent to, for models to be made of
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

    def sign_of_life(self, operation: Operation, model: str, now: float, step: str = "") -> bytes:
        """A record with empty content: NDJSON has no comments, and clients append what they are told.

        `status` is where Ollama itself says how far it is, when it fetches a model.
        """
        at, status = datetime.fromtimestamp(now, UTC), step or msgspec.UNSET
        if operation.name == "ollama.chat":
            return _ENCODER.encode(_Waiting(model, at, message=Silence(), status=status)) + b"\n"
        return _ENCODER.encode(_Waiting(model, at, response="", status=status)) + b"\n"

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


class Silence(msgspec.Struct, gc=False):
    """A message that says nothing."""

    role: str = "assistant"
    content: str = ""


class _Waiting(msgspec.Struct, gc=False):
    model: str
    created_at: datetime
    message: Silence | msgspec.UnsetType = msgspec.UNSET
    response: str | msgspec.UnsetType = msgspec.UNSET
    status: str | msgspec.UnsetType = msgspec.UNSET
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
    """One model of `GET /api/ps`. `expires_at` is RFC 3339; sizes in bytes; older releases have no `context_length`."""

    name: str
    model: str
    size: int
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int
    context_length: int | msgspec.UnsetType = msgspec.UNSET


class Ps(msgspec.Struct, frozen=True):
    """The answer of `GET /api/ps`."""

    models: list[PsModel]


class Unloaded(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The answer to a request that only takes a model out of memory (`server/routes.go`: `keep_alive` 0, no prompt)."""

    model: str
    created_at: datetime
    response: str | msgspec.UnsetType = msgspec.UNSET
    message: Silence | msgspec.UnsetType = msgspec.UNSET
    done: Literal[True]
    done_reason: str

    @classmethod
    def of(cls, model: str, now: datetime, *, chat: bool) -> "Unloaded":
        """Of `/api/chat`, or of `/api/generate`."""
        said: dict[str, Any] = {"message": Silence()} if chat else {"response": ""}
        return cls(model=model, created_at=now, done=True, done_reason="unload", **said)


class _Failure(msgspec.Struct, gc=False):
    error: str


def failure(message: str) -> bytes:
    """The JSON body of an error, also the last record of a stream."""
    return _ENCODER.encode(_Failure(message))


def tags(models: Iterable[ModelEntry], modified_at: str) -> Tags:
    """The list of models as `GET /api/tags` answers it, the newest first; stand-ins for what nobody has told.

    `modified_at`: RFC 3339, for those of which it is not known.
    """
    found = [
        TagsModel(m.id, m.id, m.modified or modified_at, m.size, m.digest or digest(m.id), m.details or ModelDetails())
        for m in models
    ]
    return Tags(sorted(found, key=lambda model: moment(model.modified_at), reverse=True))


def ps_model(model: ModelEntry, expires_at: str) -> PsModel:
    """A model in memory of which only this is known, as `GET /api/ps` lists it. `expires_at`: RFC 3339."""
    return PsModel(
        model.id,
        model.id,
        model.size,
        model.digest or digest(model.id),
        model.details or ModelDetails(),
        expires_at,
        0,
    )


def ps(models: Iterable[PsModel]) -> Ps:
    """The models in memory as `GET /api/ps` answers them: each once, the one that stays longest first."""
    found: dict[str, PsModel] = {}
    for model in sorted(models, key=lambda model: moment(model.expires_at), reverse=True):
        found.setdefault(model.name, model)
    return Ps(list(found.values()))


def moment(text: str) -> float:
    """A time of RFC 3339, in seconds since the epoch; 0: it is none."""
    try:
        return msgspec.convert(text, datetime).timestamp()
    except (msgspec.ValidationError, ValueError, OverflowError):  # a year that this machine's clock does not have
        return 0.0


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
    b"/api/show": Operation(OLLAMA, "ollama.show", streams=None, looks=True),
}
_ENCODER = msgspec.json.Encoder()
_COUNTS = msgspec.json.Decoder(_Counts)
