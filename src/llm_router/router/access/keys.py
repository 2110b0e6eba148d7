"""API keys: known by their hashes, checked from memory.

Rule 1: a key leaves here once, when it is made; what is kept is its SHA-256. It has 256 bits by chance, so a slow hash
        would make nothing safer.
Rule 2: a key that was shown once is remembered as it is, so that the next check is one look into a dict. Dicts compare
        hashes with a secret seed before bytes: the time that takes tells nothing about a key.
Rule 3: what is revoked or expired fails at once.
"""

import re
import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

import msgspec

from llm_router.errors import BadRequest, ClientError
from llm_router.gateway.guard import Grant

KeyScope = Literal["inference", "admin"]

PREFIX = "lr-"  # so that a key in a log or a repository is seen for what it is
BYTES = 32  # by chance; 43 characters that need no quoting in URLs and headers
LENGTH = len(PREFIX) + 43
MAX_KEYS = 10_000  # more than a person can name; each is half a kB of memory
MAX_NAME = 64
MAX_MODELS = 1000
MAX_MODEL_NAME = 256

_MARK = PREFIX.encode()
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DURATION = re.compile(r"([0-9]{1,6})\s*([smhdwy])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}


class KeyNotFound(ClientError):
    """There is no such key."""

    status = 404
    code = "key_not_found"
    kind = "not_found_error"


class StoredKey(msgspec.Struct, frozen=True):
    """A key as the database keeps it: `hash` in hex; times in seconds since the epoch, 0 is never."""

    id: str
    name: str
    hash: str
    scope: KeyScope
    models: list[str]
    created: float
    expires: float = 0.0
    last_used: float = 0.0


class KeyView(msgspec.Struct, frozen=True):
    """A key as the API shows it: not the key itself. Times in seconds since the epoch, 0 is never."""

    id: str
    name: str
    scope: KeyScope
    models: list[str]
    created: float
    expires: float
    last_used: float


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wanted of a new key. `expires`: a date, or a time from now like `30d`; "" is never. No models: all."""

    name: str
    scope: KeyScope = "inference"
    expires: str = ""
    models: list[str] = []


class Key:
    """A key that is in use; `grant` is what it may do, `used` when it was last seen."""

    __slots__ = ("expires", "grant", "stored", "used")

    def __init__(self, stored: StoredKey) -> None:
        self.stored = stored
        self.grant = Grant("key", stored.scope, stored.name, _as_asked(stored.models))
        self.expires = stored.expires or float("inf")
        self.used = stored.last_used

    def view(self) -> KeyView:
        """What the API shows."""
        stored = self.stored
        return KeyView(stored.id, stored.name, stored.scope, stored.models, stored.created, stored.expires, self.used)


class Keys:
    """All keys."""

    def __init__(self) -> None:
        self._by_hash: dict[bytes, Key] = {}
        self._seen: dict[bytes, Key] = {}  # the same, by the bytes that clients show; no more than there are keys

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_hash.values())

    def restore(self, stored: Iterable[StoredKey]) -> None:
        """Take over what the database has."""
        before = self._by_hash
        self._by_hash = {bytes.fromhex(key.hash): Key(key) for key in stored}
        self._seen.clear()
        for hash_, key in self._by_hash.items():
            if hash_ in before:
                key.used = max(key.used, before[hash_].used)

    def find(self, shown: bytes, now: float) -> Key | None:
        """The key that these bytes are; None: none, or one that has expired."""
        key = self._seen.get(shown) or self._find(shown)
        if key is None or now >= key.expires:
            return None
        key.used = now
        return key

    def _find(self, shown: bytes) -> Key | None:
        key = self._by_hash.get(sha256(shown).digest()) if is_ours(shown) else None
        if key is not None:
            self._seen[shown] = key
        return key

    def make(self, wanted: NewKey, now: float) -> tuple[Key, str]:
        """A new key, which is not in use before `add`, and the secret that is shown once.

        Raises:
            BadRequest: what is wanted cannot be had; the message says why.
        """
        _check(wanted)
        if len(self._by_hash) >= MAX_KEYS:
            raise BadRequest(f"there are {MAX_KEYS} keys: revoke some first")
        if any(wanted.name in (key.stored.name, key.stored.id) for key in self):
            raise BadRequest(f"name: there is a key '{wanted.name}' already: revoke it first, or choose another name")
        secret = PREFIX + secrets.token_urlsafe(BYTES)
        id_ = f"key-{secrets.token_hex(4)}"
        hash_ = sha256(secret.encode()).hexdigest()
        expires = parse_expiry(wanted.expires, now)
        return Key(StoredKey(id_, wanted.name, hash_, wanted.scope, wanted.models, now, expires)), secret

    def add(self, key: Key) -> None:
        """It is in use from now on."""
        self._by_hash[bytes.fromhex(key.stored.hash)] = key

    def named(self, name: str) -> Key:
        """The key with this id or name.

        Raises:
            KeyNotFound: there is none.
        """
        for key in self:
            if name in (key.stored.id, key.stored.name):
                return key
        raise KeyNotFound(f"there is no key '{name}'")

    def drop(self, key: Key) -> None:
        """It is of no use any more."""
        self._by_hash.pop(bytes.fromhex(key.stored.hash), None)
        self._seen = {shown: other for shown, other in self._seen.items() if other is not key}


def is_ours(shown: bytes) -> bool:
    """Whether this looks like a key of a router: whoever shows it means it, as a client's placeholder does not."""
    return len(shown) == LENGTH and shown.startswith(_MARK)


def parse_expiry(text: str, now: float) -> float:
    """When a key ends, in seconds since the epoch: a date, a date with a time, or a time from now like `12h`, `30d`.

    A date without a time ends with that day; without a zone it is UTC. "" is 0: never.

    Raises:
        BadRequest: it is none of these, or past.
    """
    text = text.strip()
    if not text:
        return 0.0
    duration = _DURATION.fullmatch(text)
    expires = now + int(duration[1]) * _SECONDS[duration[2]] if duration else _date(text)
    if expires <= now:
        raise BadRequest(f"expires: '{text}' is past")
    return expires


def _date(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = moment.timestamp()
    except (ValueError, OverflowError) as error:  # a year that has no seconds since the epoch
        raise BadRequest(
            f"expires: '{text}' is no date like 2030-12-31 and no time from now like 30d or 12h"
        ) from error
    return seconds + _SECONDS["d"] if len(text) <= len("2030-12-31") else seconds


def _check(wanted: NewKey) -> None:
    if not _is_name(wanted.name, MAX_NAME) or "/" in wanted.name:  # it stands in the path of what revokes it
        raise BadRequest(f"name: 1 to {MAX_NAME} characters without slashes are wanted, to know the key by")
    if len(wanted.models) > MAX_MODELS:
        raise BadRequest(f"models: {MAX_MODELS} at most")
    if not all(_is_name(model, MAX_MODEL_NAME) for model in wanted.models):
        raise BadRequest(f"models: each is a name of up to {MAX_MODEL_NAME} characters")


def _is_name(text: str, longest: int) -> bool:
    return 0 < len(text.strip()) <= len(text) <= longest and not _UNPRINTABLE.search(text)


def _as_asked(models: Iterable[str]) -> frozenset[str]:
    """The names that requests are known by: for the Ollama API, a name without a tag means `:latest`."""
    return frozenset(name for model in models for name in (model, f"{model}:latest" if ":" not in model else model))
