"""Access, put together: keys, sessions and links with the database that keeps them and the log that tells of them.

Rule 1: no request waits for the database. What operators do waits for it: what they were told is done is done.
Rule 2: a key is in use only when it is written, and of no use before its row is gone.
Rule 3: what operators are told is done holds at all replicas: they may be at another one with their next request.
Rule 4: secrets never get into a log line, an event or an error.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Concatenate, ParamSpec, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from llm_router.config import RouterConfig
from llm_router.errors import RouterError, TooManyAttempts, Unauthorized, Unavailable
from llm_router.router.access import statements
from llm_router.router.access.guard import RouterGuard, SignIn
from llm_router.router.access.keys import Keys, KeyView, NewKey
from llm_router.router.access.refusals import Refusals
from llm_router.router.access.sessions import LINK_LASTS, Session, Sessions, StoredLink, hash_of
from llm_router.router.access.throttle import Throttle
from llm_router.router.access.who import Who
from llm_router.router.replicas.base import Replicas
from llm_router.router.replicas.messages import AccessChanged
from llm_router.router.store.database import Database

P = ParamSpec("P")
T = TypeVar("T")
Tell = Callable[[str, str, str], None]  # of an event: what happened, its subject's name, details

log = structlog.get_logger()

WRITE_EVERY = 60.0  # seconds: how exactly the database knows when a key or a session was last used


class Access:
    """Who may do what, and the changes to that. `access_of` makes one."""

    def __init__(self, config: RouterConfig, database: Database, tell: Tell, replicas: Replicas) -> None:
        self._database = database
        self._tell = tell
        self._replicas = replicas
        self._owed: tuple[set[str], set[str]] = set(), set()  # keys and sessions that the database has, and should not
        self._begun: dict[str, Session] = {}  # sessions that it should have, and has not, by their hashes
        self._changing = asyncio.Lock()  # memory and database are changed together, and read again when both agree
        self.keys = Keys()
        self.sessions = Sessions(config.port, tls=bool(config.tls_cert))
        self._throttle = Throttle()
        self._refusals = Refusals()
        self.guard = RouterGuard(config, self.keys, self.sessions, self._throttle, self._refused)
        self._written = time.time()

    async def restore(self) -> None:
        """Take over what the database has, which another replica may have changed."""
        async with self._changing:
            await self._pay()
            self.keys.restore(await self._database.run(statements.load_keys))
            self.sessions.restore(await self._database.run(statements.load_sessions))

    # -- keys

    async def create(self, wanted: NewKey, by: Who) -> tuple[KeyView, str]:
        """A new key, and the secret that is shown this once.

        Raises:
            BadRequest: what is wanted cannot be had.
            Unavailable: the database does not take it.
        """
        key, secret = self.keys.make(wanted, time.time())
        async with self._changing:
            await self._write(statements.add_key, key.stored)
            self.keys.add(key)
        stored = key.stored
        models = f", models {', '.join(stored.models)}" if stored.models else ""
        self._tell("key.created", stored.name, f"by {by}: {stored.id}, scope {stored.scope}{models}")
        await self._replicas.acted()
        return key.view(), secret

    async def revoke(self, name: str, by: Who) -> None:
        """The key with this id or name fails from now on, and so do the links and sessions that came from it.

        Raises:
            KeyNotFound: there is none.
            Unavailable: the database does not take it now; it is tried again, and until then a restart brings it back.
        """
        async with self._changing:
            key = self.keys.named(name)
            self.keys.drop(key)
            ended = self.sessions.end_of(key.stored.name)
            self._tell("key.revoked", key.stored.name, f"by {by}: {key.stored.id}")
            await self._remove([key.stored.id], [session.hash for session in ended])
        await self._replicas.acted()

    # -- sessions

    async def login_link(self, by: Who) -> tuple[str, float]:
        """The path of a page that signs in whoever opens it first, and when that ends (seconds since the epoch).

        Raises:
            Unavailable: the database does not take it.
        """
        token, now = secrets.token_urlsafe(32), time.time()
        link = StoredLink(hash_of(token), by.name, now + LINK_LASTS)
        await self._ask(statements.add_link, link, now)
        self._tell("login.link_made", by.name, f"by {by}")
        return f"/login?token={token}", link.expires

    async def sign_in(self, token: str, client: str) -> str:
        """What Set-Cookie shall say, for the token of a link, or an admin's key.

        Raises:
            Unauthorized: it is neither, or has been used, or is over.
            TooManyAttempts: too many of that came from this address.
            Unavailable: it is no key, and the database does not say whether it is a link's.
        """
        now = time.time()
        name = await self._proven(token.strip(), now)
        if name is None:
            raise self._wrong(client, now)
        self._tell("login.done", name, f"from {client}")
        async with self._changing:
            session, secret = self.sessions.begin(name, now)
            self._begun[session.hash] = session
            with contextlib.suppress(Unavailable):  # until it is written, a restart ends it
                await self._pay()
        await self._replicas.acted()
        return self.sessions.cookie(secret)

    async def sign_out(self, cookies: bytes) -> str:
        """What Set-Cookie shall say; the session in this Cookie header, if there is one, is over.

        Raises:
            Unavailable: as of `revoke`.
        """
        async with self._changing:
            session = self.sessions.end(cookies)
            if session is not None:
                await self._remove([], [session.hash])
        await self._replicas.acted()
        return self.sessions.cookie("")

    async def _proven(self, token: str, now: float) -> str | None:
        """The name of the key that stands behind a token, "" for none; None: it is no good."""
        key = self.keys.find(token.encode(), now)
        if key is not None:
            return key.stored.name if key.stored.scope == "admin" else None
        async with self._changing:
            await self._pay()  # the links of keys that were revoked while the database was away
        return await self._ask(statements.use_link, hash_of(token), now)

    def _wrong(self, client: str, now: float) -> RouterError:
        error: RouterError = Unauthorized("this link or key is wrong, was used before, or is over")
        if wait := self._throttle.wait(client, now):
            error = TooManyAttempts(f"too many attempts: try again in {wait} s", retry_after=wait)
        else:
            self._throttle.failed(client, now)
        self._refused(client, "/login", error)
        return error

    # -- the log and the database

    def _refused(self, client: str, path: str, error: RouterError) -> None:
        if not isinstance(error, SignIn):
            line = self._refusals.line(client, path, error.code, time.monotonic())
            if line is not None:
                self._tell("access.refused", client, line)

    async def _write(self, work: Callable[Concatenate[Connection, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Change what all replicas keep in memory."""
        await self._ask(work, *args, **kwargs)
        self._replicas.send(AccessChanged())

    async def _ask(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._database.run(work, *args, **kwargs)
        except SQLAlchemyError as error:
            log.error("access.no_database", error=str(error))  # noqa: TRY400 - what the database says is enough
            raise Unavailable("the database cannot be written now: try again; the router's log says why") from error

    async def _remove(self, keys: Iterable[str], sessions: Iterable[str]) -> None:
        self._owed[0].update(keys)
        self._owed[1].update(sessions)
        for hash_ in self._owed[1]:
            self._begun.pop(hash_, None)
        try:
            await self._pay()
        except Unavailable as error:
            raise Unavailable(
                "it is of no use any more, but the database cannot be written now, and a restart before it can would "
                "bring it back: the router's log says why"
            ) from error

    async def _pay(self) -> None:
        """Have the database keep and forget what it should; what it does not do now, it shall the next time."""
        if self._begun:
            await self._write(statements.put_sessions, [session.stored() for session in self._begun.values()])
            self._begun.clear()
        keys, sessions = self._owed
        if keys or sessions:
            await self._write(statements.remove, list(keys), list(sessions))
            keys.clear()
            sessions.clear()

    async def write_uses(self) -> None:
        """Write when keys and sessions were last used, and forget the sessions that are over."""
        now, since = time.time(), self._written
        over = [session.hash for session in self.sessions.expired(now)]
        keys = {key.stored.id: key.used for key in self.keys if key.used >= since}
        sessions = [session.stored() for session in self.sessions if session.used() >= since]
        if not (over or keys or sessions):
            self._written = now
            return
        try:
            await self._database.run(statements.note_uses, keys, sessions, over)
        except SQLAlchemyError as error:  # it is tried again with the next ones
            log.warning("access.uses_not_written", error=str(error))
        else:
            self._written = now

    async def write_on(self, stopping: asyncio.Event) -> None:
        """Do that now and then, and once at the end."""
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_EVERY):
                    await stopping.wait()
            await self.write_uses()


@asynccontextmanager
async def access_of(config: RouterConfig, database: Database, tell: Tell, replicas: Replicas) -> AsyncIterator[Access]:
    """Access as the database remembers it. Leaving the block writes what is left.

    Raises:
        ConfigError: an address in `trust` is none.
    """
    access = Access(config, database, tell, replicas)
    await access.restore()
    if config.auth == "off":
        log.warning("access.off", meaning="everybody who reaches the router may do everything")
    stopping = asyncio.Event()
    task = asyncio.create_task(access.write_on(stopping))
    try:
        yield access
    finally:
        stopping.set()
        await task
