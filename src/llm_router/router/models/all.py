"""Everything about models that is the router's: what there is, who shall have it, its files on their way."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import msgspec
import structlog

from llm_router.config import RouterConfig
from llm_router.core.registry import Registry
from llm_router.errors import ModelNotFound
from llm_router.models.allow import Allowlist
from llm_router.models.download import MODEL_PATIENCE, download
from llm_router.models.meter import Tenths
from llm_router.router.models.catalogue import Catalogue
from llm_router.router.models.depot import Depot
from llm_router.router.models.offers import Offers
from llm_router.router.ollama_api.actions import Nodes, RouterActions
from llm_router.router.replicas.base import Replicas
from llm_router.router.replicas.messages import CatalogueChanged
from llm_router.router.store.database import Database

SETTING = "LLM_ROUTER_MODEL_ORIGINS"  # as an operator who is refused something has to change it

log = structlog.get_logger()


class Models(msgspec.Struct, frozen=True):
    """`nodes`: those that are asked to fetch, copy or delete."""

    catalogue: Catalogue
    offers: Offers
    depot: Depot
    nodes: Nodes

    async def drop_files(self, model: str) -> None:
        """Have every node that has this model delete it."""
        body = msgspec.json.encode({"model": model})
        try:
            await RouterActions(self.nodes, "", "").delete(body)
        except ModelNotFound:  # nobody has it
            return


@asynccontextmanager
async def models_of(
    config: RouterConfig,
    database: Database,
    session: aiohttp.ClientSession,
    registry: Registry,
    nodes: Nodes,
    *,
    tell: Callable[[str, str, str], None],
    replicas: Replicas,
) -> AsyncIterator[Models]:
    """In use within the block. `tell` is told of events.

    Raises:
        ConfigError: an entry of `model_origins` makes no sense.
    """
    catalogue = Catalogue(config, database, session, tell)
    await catalogue.restore()
    catalogue.changed.append(lambda: replicas.send(CatalogueChanged()))
    depot = Depot(
        config.home / "router" / "models", partial(_fetch, config, session, _allowed(config)), keep=config.keep_models
    )
    depot.start()
    try:
        yield Models(catalogue, Offers(catalogue, registry, decides=lambda: replicas.on_duty), depot, nodes)
    finally:
        await depot.stop()


def _allowed(config: RouterConfig) -> Allowlist:
    return Allowlist(config.model_origins, SETTING)


async def _fetch(
    config: RouterConfig,
    session: aiohttp.ClientSession,
    allow: Allowlist,
    url: str,
    target: Path,
    *,
    sha256: str,
    size: int,
    progress: Callable[[int, int], None],
) -> None:
    """A file from its origin, as `Depot` wants it. The hub's token is shown to the hub alone."""
    tenths = Tenths(log, "depot.fetching", file=target.name)

    def note(done: int, total: int) -> None:
        tenths.note(done, total)
        progress(done, total)

    await download(
        session,
        url,
        target,
        sha256=sha256,
        size=size,
        patience=MODEL_PATIENCE,
        progress=note,
        allow=allow,
        headers=_credentials(config, url),
    )


def _credentials(config: RouterConfig, url: str) -> dict[str, str]:
    hub = config.hf_endpoint.rstrip("/") + "/"
    return {"authorization": f"Bearer {config.hf_token}"} if config.hf_token and url.startswith(hub) else {}
