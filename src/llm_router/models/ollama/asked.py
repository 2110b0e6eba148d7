"""What Ollama's model endpoints are asked, as far as we look: which model, which files, and how to answer.

Rule 1: every name and every digest is checked before anything is done with it (requirement H7).
Rule 2: a body is passed on as it came, but for the fields that we set: whoever answers it may know more of them.

Sources: ollama/ollama `api/types.go` (fields), `server/routes.go` (what is refused, and in which words).
"""

import re
from collections.abc import Container
from typing import TypeVar

import msgspec

from llm_router.contract import UNREADABLE
from llm_router.core.catalog import resolve
from llm_router.errors import BadRequest
from llm_router.models.names import check, check_foreign

_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
_SCHEME = re.compile(r"https?://", re.IGNORECASE)  # of a registry, before its name
# A name within `files`: Go's fs.ValidPath, and nothing that Windows takes for another separator or a drive.
_NOT_IN_FILES = re.compile(r"[\\:\x00]|^/|/$|//|(^|/)\.\.?(/|$)")

_A = TypeVar("_A", bound="Asked")


class Asked(msgspec.Struct):
    """Any of them. `stream`: None is yes."""

    stream: bool | None = None

    @property
    def streams(self) -> bool:
        """Whether the answer shall come piece by piece."""
        return self.stream is not False

    def check(self) -> None:
        """Look at every name in it.

        Raises:
            BadRequest: one is none.
        """


class Named(Asked):
    """`pull`, `push`, `delete`, and what loads or unloads. `name` is what `model` was called first."""

    model: str | None = None
    name: str | None = None

    @property
    def wanted(self) -> str:
        """The model's name, as the client writes it."""
        return self.model or self.name or ""

    def check(self) -> None:
        """See `Asked`."""
        checked(self.wanted)


class Copy(Asked):
    """`copy`."""

    source: str = ""
    destination: str = ""

    def check(self) -> None:
        """See `Asked`."""
        checked(self.source)
        checked(self.destination)


class Create(Named):
    """`create`. `files` and `adapters`: file names, and the digests of blobs that were sent before."""

    from_: str | None = msgspec.field(default=None, name="from")
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None

    @property
    def digests(self) -> list[str]:
        """Of all blobs that it needs."""
        return sorted({*(self.files or {}).values(), *(self.adapters or {}).values()})

    def check(self) -> None:
        """See `Asked`."""
        super().check()
        if self.from_:
            checked(self.from_)
        for file in (*(self.files or ()), *(self.adapters or ())):
            _check_file(file)
        for digest in self.digests:
            checked_digest(digest)


def read(body: bytes, kind: type[_A]) -> _A:
    """What a body asks.

    Raises:
        BadRequest: it cannot be read, or a name in it is none.
    """
    if not body.strip():
        raise BadRequest("missing request body")
    try:
        asked = msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise BadRequest(f"the body cannot be read: {error}") from error
    asked.check()
    return asked


def checked(name: str) -> str:
    """The name, if it may be one of Ollama's; before it may stand the scheme of a registry.

    Raises:
        BadRequest: it may not.
    """
    bare = _bare(name)
    if bare.isascii():  # other letters may have an ASCII one as their lower case
        check_foreign(bare)
    else:
        check(bare)
    return name


def resolved(name: str, known: Container[str]) -> str:
    """The id of the model that a client calls so: the first spelling that is known, else the name itself."""
    return resolve(_bare(name), known, tags=True)


def checked_digest(digest: str) -> str:
    """The digest of a blob, if it is one.

    Raises:
        BadRequest: it is none.
    """
    if not _DIGEST.fullmatch(digest):
        raise BadRequest("invalid digest format")
    return digest


def with_fields(body: bytes, **fields: object) -> bytes:
    """A body that was read before, with these fields in it."""
    given = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return msgspec.json.encode(given | fields)


def _bare(name: str) -> str:
    """Without the scheme, which says how a registry is to be asked, and is no part of what a model is called."""
    return _SCHEME.sub("", name, count=1) if _SCHEME.match(name) else name


def _check_file(name: str) -> None:
    if not name or _NOT_IN_FILES.search(name):
        raise BadRequest(f"{name[:80]!r} is no name of a file: it is relative, without .. and with / alone")
