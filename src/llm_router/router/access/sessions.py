"""People at the dashboard: one-time links by which they sign in, and the sessions that follow.

Rule 1: of both, only hashes are kept, and outlive a restart.
Rule 2: a link works once, within ten minutes: whoever deletes its row has used it, at whichever replica.
Rule 3: a session ends a week after it was last used.
"""

import secrets
from collections.abc import Iterable, Iterator
from hashlib import sha256

import msgspec

from llm_router.gateway.guard import Grant

LINK_LASTS = 600.0  # seconds: to carry it to another machine
SESSION_LASTS = 7 * 86_400.0  # seconds since its last use: who looks every week stays signed in
MAX_SESSIONS = 1000  # the last ones; people times browsers
# Seconds for which browsers keep the cookie: as long as they keep any. When a session ends is for the router to say.
COOKIE_LASTS = 400 * 86_400


class StoredLink(msgspec.Struct, frozen=True):
    """A link that has not been used; `name`: of the key that it was made with, "" for none."""

    hash: str
    name: str
    expires: float


class StoredSession(msgspec.Struct, frozen=True):
    """A session as the database keeps it; `name`: of the key that it came from, "" for none."""

    hash: str
    name: str
    created: float
    expires: float


class Session:
    """Somebody's session; `expires` moves on as it is used."""

    __slots__ = ("created", "expires", "grant", "hash")

    def __init__(self, stored: StoredSession) -> None:
        self.hash = stored.hash
        self.created = stored.created
        self.expires = stored.expires
        self.grant = Grant("session", "admin", stored.name)

    def used(self) -> float:
        """When it was used last, in seconds since the epoch."""
        return self.expires - SESSION_LASTS

    def stored(self) -> StoredSession:
        """As the database keeps it."""
        return StoredSession(self.hash, self.grant.name, self.created, self.expires)


class Sessions:
    """All sessions, and the cookie that carries one."""

    def __init__(self, port: int, *, tls: bool) -> None:
        """`port`: browsers keep one jar of cookies for all ports of a host, so it is part of the cookie's name."""
        self._by_hash: dict[str, Session] = {}
        self._tls = tls
        # `__Host-`: browsers take it from this host alone, over HTTPS alone (RFC 6265bis, section 4.1.3.2).
        self._cookie = f"{'__Host-' if tls else ''}llm-router-{port}"
        self._mark = f"{self._cookie}=".encode()

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_hash.values())

    def restore(self, stored: Iterable[StoredSession]) -> None:
        """Take over what the database has; a session that is in use here goes on as long as is known here."""
        before = self._by_hash
        self._by_hash = {session.hash: Session(session) for session in stored}
        for session in self:
            if session.hash in before:
                session.expires = max(session.expires, before[session.hash].expires)

    def begin(self, name: str, now: float) -> tuple[Session, str]:
        """A new session, and its token."""
        token = secrets.token_urlsafe(32)
        session = Session(StoredSession(hash_of(token), name, now, now + SESSION_LASTS))
        self._by_hash[session.hash] = session
        while len(self._by_hash) > MAX_SESSIONS:
            del self._by_hash[next(iter(self._by_hash))]
        return session, token

    def of(self, cookies: bytes, now: float) -> Session | None:
        """The session in a Cookie header; it goes on from now."""
        token = self._token(cookies)
        session = self._by_hash.get(hash_of(token)) if token else None
        if session is None:
            return None
        if now >= session.expires:
            del self._by_hash[session.hash]
            return None
        session.expires = now + SESSION_LASTS
        return session

    def end(self, cookies: bytes) -> Session | None:
        """Forget the session in a Cookie header; which one that was."""
        return self._by_hash.pop(hash_of(self._token(cookies)), None)

    def end_of(self, name: str) -> list[Session]:
        """Forget the sessions that came from the key of this name; which ones those were."""
        gone = [session for session in self if session.grant.name == name]
        for session in gone:
            del self._by_hash[session.hash]
        return gone

    def expired(self, now: float) -> list[Session]:
        """Forget those that are over; which ones those were."""
        gone = [session for session in self if now >= session.expires]
        for session in gone:
            del self._by_hash[session.hash]
        return gone

    def cookie(self, token: str) -> str:
        """What Set-Cookie says: no script reads it, no other site's page has it sent. Without a token: forget it."""
        lasts = COOKIE_LASTS if token else 0
        secure = "; Secure" if self._tls else ""
        return f"{self._cookie}={token}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}"

    def _token(self, cookies: bytes) -> str:
        for pair in cookies.split(b";"):
            pair = pair.strip()  # noqa: PLW2901 - the same pair
            if pair.startswith(self._mark):
                return pair[len(self._mark) :].decode("ascii", "replace")
        return ""


def hash_of(token: str) -> str:
    """What is kept of a token."""
    return sha256(token.encode()).hexdigest()
