"""The catalogue: the models that the router offers to its nodes (requirement H6).

Rule 1: what is read comes from memory. What operators do waits for the database: what they were told is done is done.
Rule 2: an entry is never changed, but replaced; `version` grows with each change, also over restarts, so that whoever
        remembers a version knows whether he has seen all.
Rule 3: a model is looked at where it lies before it is an entry: what is listed has been there, and could be run.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec

import aiohttp
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from llm_router.config import RouterConfig
from llm_router.errors import BadRequest, Conflict, ModelNotFound, Unavailable
from llm_router.models import names
from llm_router.models.manifest import Manifest
from llm_router.router.models import statements
from llm_router.router.models.choosing import default_name
from llm_router.router.models.entry import Entry, ModelChange, NewModel, changed
from llm_router.router.models.looking import RUNTIMES, Found, Looker
from llm_router.router.models.remote import memory
from llm_router.router.store.database import Database

P = ParamSpec("P")
Tell = Callable[[str, str, str], None]  # of an event: what happened, its subject's name, details

log = structlog.get_logger()

RESERVED = frozenset({"registry", "blob"})  # first parts of paths beside models' own: /v0/models/registry/…
MOST_MODELS = 10_000  # each is some kB of memory, and a line in what every node is told


class Catalogue:
    """The entries, by name. `changed`: called after each change."""

    def __init__(self, config: RouterConfig, database: Database, session: aiohttp.ClientSession, tell: Tell) -> None:
        """Raises ConfigError: an entry of `model_origins` makes no sense."""
        self.changed: list[Callable[[], None]] = []
        self.version = int(time.time() * 1000)  # more than any before a restart: nobody makes 1,000 changes a second
        self._entries: dict[str, Entry] = {}
        self._looker = Looker(config, session)
        self._database = database
        self._tell = tell
        self._writing = asyncio.Lock()

    def __iter__(self) -> Iterator[Entry]:
        """By name."""
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    async def restore(self) -> None:
        """Take over what the database has, which another replica may have changed."""
        async with self._writing:
            entries = {entry.name: entry for entry in await self._database.run(statements.load_models)}
            if entries != self._entries:
                self._entries = entries
                self.version += 1

    def find(self, name: str) -> Entry | None:
        """The model of this name; None: there is none."""
        return self._entries.get(name)

    def get(self, name: str) -> Entry:
        """The model of this name.

        Raises:
            ModelNotFound: there is none.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise ModelNotFound(f"the catalogue has no model {name!r:.200}: GET /v0/models lists what it has")
        return entry

    def manifest(self, name: str) -> Manifest | None:
        """What the model consists of; None: there is none of this name."""
        entry = self._entries.get(name)
        return entry.manifest if entry else None

    # -- what operators do

    async def add(self, new: NewModel, by: str) -> Entry:
        """Register a model, after a look at it.

        Raises:
            BadRequest: it is not said what, or cannot be had so; the message says what there is.
            Conflict: there is one of this name.
            DownloadFailed: an origin may not be asked, or does not answer.
            Unavailable: the database does not take it.
        """
        if new.name:
            self._check_new(names.check(new.name))
        found = await self._looker.look(new)
        entry = entry_of(new, found, time.time())
        async with self._writing:
            self._check_new(entry.name)
            await self._write(statements.put_model, entry)
            self._entries[entry.name] = entry
        self._publish("model.added", entry, f"by {by}: {entry.manifest.url}")
        return entry

    async def change(self, name: str, change: ModelChange, by: str) -> Entry:
        """Change where a model shall lie, or what it is called for people.

        Raises:
            ModelNotFound: there is none of this name.
            Unavailable: the database does not take it.
        """
        async with self._writing:
            before = self.get(name)
            entry = changed(before, change)
            if entry == before:
                return entry
            await self._write(statements.put_model, entry)
            self._entries[name] = entry
        self._publish("model.changed", entry, f"by {by}")
        return entry

    async def remove(self, name: str, by: str) -> Entry:
        """Forget a model, and say what it was; files on nodes stay. Raises as `change`."""
        async with self._writing:
            entry = self.get(name)
            await self._write(statements.remove_model, name)
            del self._entries[name]
        self._publish("model.removed", entry, f"by {by}")
        return entry

    def _check_new(self, name: str) -> None:
        if name.partition("/")[0] in RESERVED:
            raise BadRequest(f"{name!r:.200} cannot be a model's name here, since its path is another's: give `name`")
        if name in self._entries:
            raise Conflict(f"the catalogue has a model {name!r} already: remove it first, or give another `name`")
        if len(self._entries) >= MOST_MODELS:
            raise BadRequest(f"there are {MOST_MODELS} models in the catalogue: remove some first")

    def _publish(self, event: str, entry: Entry, detail: str) -> None:
        self.version += 1
        self._tell(event, entry.name, detail)
        for told in self.changed:
            told()

    async def _write(self, work: Callable[Concatenate[Connection, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await self._database.run(work, *args, **kwargs)
        except SQLAlchemyError as error:
            log.error("catalogue.not_written", error=str(error))  # noqa: TRY400 - what the database says is enough
            raise Unavailable(
                "the database cannot be written, so nothing was changed: the router's log says why"
            ) from error


def entry_of(new: NewModel, found: Found, now: float) -> Entry:
    """The entry for what was asked for, as it was found. `now`: seconds since the epoch.

    Raises:
        BadRequest: it needs a name.
    """
    manifest = Manifest(
        model=new.name or default_name(found.base, found.quantization if found.format == "gguf" else ""),
        format=found.format,
        files=found.files,
        runtimes=RUNTIMES[found.format],
        url=found.page,
        display_name=new.display_name.strip(),
        chat_template=new.chat_template,
        architectures=found.told.architectures,
        facts=found.told.facts if found.format == "gguf" else None,
    )
    return Entry(
        manifest=manifest,
        placement=new.placement,
        memory=memory(found.told, found.size),
        quantization=found.quantization,
        context=found.told.context,
        chat_template=bool(new.chat_template) or found.told.chat_template,
        created=now,
    )
