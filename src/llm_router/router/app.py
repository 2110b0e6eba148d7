"""The router, put together: what it is made of, in which order it starts, and how it ends.

It starts from the inside out (database, fleet, control app, gateway) and ends the other way round: requests in flight
are given their time first, and the ledger's last batch is written when nobody can add to it any more.
"""

import errno
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import aiohttp
import structlog
from litestar.handlers import HTTPRouteHandler

from llm_router import __version__
from llm_router.config import RouterConfig
from llm_router.contract import Address
from llm_router.core.estimates import Estimates
from llm_router.core.policies import make_policy
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Scheduler
from llm_router.errors import ConfigError
from llm_router.gateway import log as logs
from llm_router.gateway.control import ControlServer
from llm_router.gateway.control_app import control_app
from llm_router.gateway.lists import list_routes
from llm_router.gateway.plane import DataPlane
from llm_router.gateway.server import Gateway
from llm_router.gateway.signals import stop_requested
from llm_router.gateway.upstream import Pool
from llm_router.router.announce import Announcement, addresses_of
from llm_router.router.api.events import event_routes
from llm_router.router.api.health import health_routes
from llm_router.router.api.nodes import node_routes
from llm_router.router.api.requests import request_routes
from llm_router.router.api.routing import routing_routes
from llm_router.router.credentials import Credentials
from llm_router.router.fleet import Fleet
from llm_router.router.ledger import Ledger
from llm_router.router.prober import Prober
from llm_router.router.publisher import Publisher
from llm_router.router.rows import snapshot
from llm_router.router.store import queries
from llm_router.router.store.database import Database

log = structlog.get_logger()

# Seconds that a restart waits for the nodes it knows: whoever asks at once shall not hear that all are offline. Clients
# that find nobody listening try again.
FIRST_LOOKS = 1.0
SIGN_EVERY = 10.0  # seconds: what proxies and clients between us and a person wait for at least


async def run(config: RouterConfig, *, ready: Callable[[int], None]) -> None:
    """Serve until SIGINT or SIGTERM; a second one ends the process at once. `ready` is told the port.

    Raises:
        ConfigError: the port is taken, or the database cannot be used.
    """
    logs.configure(config.log_level, config.log_format)
    stop = stop_requested()
    async with serving(config) as port:
        ready(port)
        await stop.wait()
        log.info("router.stopping", drain=config.drain_timeout)
    log.info("router.stopped")


@asynccontextmanager
async def serving(config: RouterConfig) -> AsyncIterator[int]:
    """A running router; its port. Leaving the block drains and ends it. Raises as `run` does."""
    async with AsyncExitStack() as stack:
        database = Database(config.home / "router" / "router.db")
        stack.push_async_callback(database.close)
        await database.open()
        registry = Registry(silence=config.silence, trial_after=config.trial_after)
        estimates = Estimates()
        scheduler = Scheduler(
            registry,
            make_policy(config.policy, estimates, config.decode_weight),
            estimates,
            queue_size=config.queue_size,
            queue_timeout=config.queue_timeout,
        )
        credentials = Credentials()
        ledger = Ledger(database, partial(snapshot, registry, credentials))
        ledger.start()
        stack.push_async_callback(ledger.stop)
        publish = Publisher(ledger)
        session = await stack.enter_async_context(_session())
        prober = Prober(registry, session, config, publish)
        stack.push_async_callback(prober.stop)
        fleet = Fleet(registry, credentials, prober, publish, ledger.touch)
        fleet.restore(await database.run(queries.load_nodes))
        routes = [*_routes(fleet, database, ledger), *routing_routes(registry, scheduler, config.policy)]
        control = ControlServer(control_app(routes))
        stack.push_async_callback(control.stop)
        plane = DataPlane(
            registry,
            scheduler,
            Pool(connect_timeout=config.connect_timeout),
            control=await control.start(),
            control_headers=control.headers,
            record=ledger.request,
            failed=fleet.request_failed,
            restored=fleet.trial_went_well,
            sign_every=SIGN_EVERY,
            answer_timeout=config.answer_timeout,
            token_timeout=config.token_timeout,
        )
        publish.also(plane.changed)
        gateway = Gateway(plane, config)
        prober.start()
        await prober.first_looks(FIRST_LOOKS)
        port = await _listen(gateway, config)
        stack.push_async_callback(gateway.drain, config.drain_timeout)
        if config.announce and (addresses := await addresses_of(config.host)):
            announcement = Announcement(addresses, port, log)
            announcement.start()
            stack.push_async_callback(announcement.stop)
        gc.freeze()  # what is there now stays: the collector need not look at all of it again and again
        url = Address(config.host, port).url
        log.info("router.started", url=url, version=__version__, policy=config.policy, nodes=len(registry.nodes))
        yield port


def _routes(fleet: Fleet, database: Database, ledger: Ledger) -> list[HTTPRouteHandler]:
    return [
        *node_routes(fleet, ledger),
        *request_routes(database, ledger),
        *event_routes(database, ledger),
        *health_routes(fleet.registry),
        *list_routes(fleet.registry),
    ]


def _session() -> aiohttp.ClientSession:
    """For looks at nodes: a connection each, since a look shall show whether one can be made, and no limit."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))


async def _listen(gateway: Gateway, config: RouterConfig) -> int:
    try:
        return await gateway.start()
    except OSError as error:
        raise ConfigError(_why_not(error, config)) from error


def _why_not(error: OSError, config: RouterConfig) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {config.port} of {config.host} is taken: stop what uses it, or choose another with --port"
    return f"cannot listen on port {config.port} of {config.host}: {error}; choose another with --port or --host"
