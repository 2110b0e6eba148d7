"""Being one of several replicas, put together: what is heard reaches whom it is for."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg

from llm_router.core.elsewhere import Elsewhere
from llm_router.core.registry import Registry
from llm_router.errors import ConfigError
from llm_router.router.access.access import Access
from llm_router.router.credentials import Credentials
from llm_router.router.following.counting import Counting
from llm_router.router.following.nodes import NodesElsewhere
from llm_router.router.following.tables import Tables
from llm_router.router.joining import JoinToken
from llm_router.router.ledger import Ledger
from llm_router.router.models.all import Models
from llm_router.router.prober import Prober
from llm_router.router.publisher import Publisher
from llm_router.router.replicas import messages
from llm_router.router.replicas.among import Among
from llm_router.router.replicas.messages import Message
from llm_router.router.store.database import Database

ACCESS, CATALOGUE, TOKEN = "access", "catalogue", "join token"  # what is read again as a whole


class Ear:
    """Told of every message; hands it on."""

    def __init__(
        self,
        *,
        registry: Registry,
        among: Among,
        nodes: NodesElsewhere,
        counting: Counting,
        tables: Tables,
        models: Models,
        publisher: Publisher,
    ) -> None:
        self._registry = registry
        self._among = among
        self._counting = counting
        self._tables = tables
        self._hears: dict[type, Callable[[Any], None]] = {
            messages.Rows: lambda message: tables.nodes(message.nodes),
            messages.Reported: nodes.reported,
            messages.Left: nodes.left,
            messages.Approved: nodes.approved,
            messages.Suspected: nodes.suspected,
            messages.Excluded: nodes.excluded,
            messages.Lifted: nodes.lifted,
            messages.Fetching: nodes.fetching,
            messages.Looked: nodes.looked,
            messages.AccessChanged: lambda _: tables.other(ACCESS),
            messages.TokenRotated: lambda _: tables.other(TOKEN),
            messages.CatalogueChanged: lambda _: tables.other(CATALOGUE),
            messages.Placed: lambda message: models.offers.decide(message.wanted),
            messages.Happened: lambda message: publisher.shown(message.event),
            messages.Hello: lambda _: self._welcome(),
        }

    def heard(self, sender: str, message: Message) -> None:
        """Another replica said this."""
        if isinstance(message, messages.Counted):
            self._counting.heard(sender, message.counts)
        elif isinstance(message, messages.Bye):
            self._counting.left(sender)
        else:
            for node_id in _speaks_to(message):
                self._among.reports_there(node_id, sender)
            self._hears[type(message)](message)

    def connected(self) -> None:
        """There is a connection, for the first time or again: anything may have happened meanwhile."""
        self._tables.everything()
        self._among.send(messages.Hello())
        self._counting.tell_all()

    def _welcome(self) -> None:
        """One has come who knows nothing but the tables; if it is back, we did not hear what it has written since."""
        self._tables.everything()
        self._counting.tell_all()
        if self._among.on_duty:
            for node in self._registry:
                for model, exclusion in node.excluded.items():
                    self._among.send(messages.Excluded(node.id, model, exclusion.reason, trial=False))


def _speaks_to(message: Message) -> Iterable[str]:
    """The nodes whose agents, as the message says, speak to its sender."""
    match message:
        case messages.Rows(kept=kept):
            return kept
        case messages.Reported(node=node):
            return (node,)
        case _:
            return ()


@asynccontextmanager
async def together(  # noqa: PLR0913 - as many as there are parts of a router that hear of others
    *,
    among: Among,
    registry: Registry,
    elsewhere: Elsewhere,
    credentials: Credentials,
    prober: Prober,
    database: Database,
    ledger: Ledger,
    access: Access,
    models: Models,
    token: JoinToken,
    publisher: Publisher,
    roomier: Callable[[], None],
) -> AsyncIterator[None]:
    """Within the block this router hears of the others, and they of it.

    Raises:
        ConfigError: the database cannot be listened to.
    """
    others = {ACCESS: access.restore, CATALOGUE: models.catalogue.restore, TOKEN: token.restore}
    nodes = NodesElsewhere(registry, credentials, prober, publisher, ledger)
    tables = Tables(database, ledger, nodes.rows, lambda: registry.nodes, others)
    counting = Counting(registry, elsewhere, among, models.offers, roomier)
    ear = Ear(
        registry=registry,
        among=among,
        nodes=nodes,
        counting=counting,
        tables=tables,
        models=models,
        publisher=publisher,
    )
    ledger.letters = lambda ids: [text for text, _ in messages.packed(among.name, messages.rows(ids, among.is_here))]
    async with AsyncExitStack() as stack:
        tables.start()
        stack.push_async_callback(tables.stop)
        try:
            await among.bus.start(ear.heard, ear.connected)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise ConfigError(f"the database cannot be listened to: {error}") from error
        stack.push_async_callback(among.bus.stop)
        counting.start()
        stack.push_async_callback(counting.stop)
        yield
        among.send(messages.Bye())
