"""The router, put together: what it is made of, in which order it starts, and how it ends.

It starts from the inside out (database, fleet, control app, gateway) and ends the other way round: requests in flight
are given their time first, and the ledger's last batch is written when nobody can add to it any more.
"""

import asyncio
import errno
import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import aiohttp
import structlog

from llm_router import __version__
from llm_router.config import RouterConfig
from llm_router.core.estimates import Estimates
from llm_router.core.policies import make_policy
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Scheduler
from llm_router.errors import ConfigError
from llm_router.gateway import log as logs
from llm_router.gateway.control import ControlServer
from llm_router.gateway.lag import LoopLag
from llm_router.gateway.plane import DataPlane
from llm_router.gateway.server import Gateway
from llm_router.gateway.signals import stop_requested
from llm_router.gateway.trust import Trust
from llm_router.gateway.upstream import Pool
from llm_router.router.access.access import Access, access_of
from llm_router.router.access.who import Who
from llm_router.router.announce import Announcement, addresses_of
from llm_router.router.api.events import Greeter
from llm_router.router.api.join import join_line
from llm_router.router.api.routes import all_routes
from llm_router.router.api.schema import documented
from llm_router.router.bodies import BodyLog
from llm_router.router.credentials import Credentials
from llm_router.router.feed import Feed
from llm_router.router.fleet import Fleet
from llm_router.router.greeting import Reach, greeting, is_read, open_to, say
from llm_router.router.joining import Door, JoinToken
from llm_router.router.ledger import Ledger
from llm_router.router.live import Live
from llm_router.router.metrics import Metrics
from llm_router.router.models.all import models_of
from llm_router.router.ollama_api.actions import Nodes
from llm_router.router.prober import Prober
from llm_router.router.publisher import Publisher
from llm_router.router.retention import Retention
from llm_router.router.rows import snapshot
from llm_router.router.store import queries
from llm_router.router.store.database import Database
from llm_router.router.telemetry import is_wanted, make_telemetry

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
        scheduler = _scheduler(config, registry)
        credentials = Credentials()
        ledger = Ledger(database, partial(snapshot, registry, credentials))
        _trace(registry, ledger, stack)
        ledger.start()
        stack.push_async_callback(ledger.stop)
        publish = Publisher(ledger)
        live = Live(Feed(registry, scheduler.queued, lambda: ledger.dropped), ledger, publish)
        access = await stack.enter_async_context(access_of(config, database, publish.tell))
        session = await stack.enter_async_context(_session())
        prober = Prober(registry, session, config, publish)
        stack.push_async_callback(prober.stop)
        door = Door(JoinToken(config.home / "router" / "join-token"), Trust(config.trust), config.join)
        fleet = Fleet(registry, credentials, prober, publish, ledger.touch, door)
        fleet.restore(await database.run(queries.load_nodes))
        asked = Nodes(registry, session, every=config.pull_to == "all", look=prober.looked)
        models = await stack.enter_async_context(models_of(config, database, session, registry, asked, publish.tell))
        reach = Reach(config)
        bodies = _bodies(config, database, stack)
        retention = Retention(database, config.retention_days)
        retention.start()
        stack.push_async_callback(retention.stop)
        lag = LoopLag()
        lag.start()
        stack.callback(lag.stop)
        routes = all_routes(
            registry=registry,
            scheduler=scheduler,
            policy=config.policy,
            fleet=fleet,
            ledger=ledger,
            database=database,
            bodies=bodies,
            live=live,
            greeter=Greeter(config, partial(join_line, door.token, reach)),
            metrics=Metrics(registry, scheduler, ledger, lag),
            access=access,
            models=models,
            credentials=credentials,
            token=door.token,
            reach=reach,
            tell=publish.tell,
        )
        control = ControlServer(documented(routes))
        stack.push_async_callback(control.stop)
        live.start()
        stack.push_async_callback(live.stop)  # before the control app, which would cut the streams
        plane = DataPlane(
            registry,
            scheduler,
            Pool(connect_timeout=config.connect_timeout),
            control=await control.start(),
            control_headers=control.headers,
            record=ledger.request,
            bodies=bodies,
            traced=is_wanted(os.environ),
            unloads=True,
            failed=fleet.request_failed,
            restored=fleet.trial_went_well,
            sign_every=SIGN_EVERY,
            answer_timeout=config.answer_timeout,
            token_timeout=config.token_timeout,
            fetch_timeout=config.fetch_timeout,
        )
        publish.also(plane.changed)
        gateway = Gateway(plane, config, access.guard)
        prober.start()
        await prober.first_looks(FIRST_LOOKS)
        reach.port = await _listen(gateway, config)
        stack.push_async_callback(gateway.drain, config.drain_timeout)
        await _announce(config, reach.port, stack)
        gc.freeze()  # what is there now stays: the collector need not look at all of it again and again
        await _greet(config, reach, door.token, access)
        yield reach.port


def _scheduler(config: RouterConfig, registry: Registry) -> Scheduler:
    estimates = Estimates()
    policy = make_policy(config.policy, estimates, config.decode_weight)
    return Scheduler(registry, policy, estimates, queue_size=config.queue_size, queue_timeout=config.queue_timeout)


def _bodies(config: RouterConfig, database: Database, stack: AsyncExitStack) -> BodyLog | None:
    """Keeps prompts and answers, where that is wanted."""
    if not config.log_bodies:
        return None
    bodies = BodyLog(database)
    bodies.start()
    stack.push_async_callback(bodies.stop)
    return bodies


def _trace(registry: Registry, ledger: Ledger, stack: AsyncExitStack) -> None:
    """Make traces of what the ledger takes, where the environment asks for them; to be ended after the ledger."""
    telemetry = make_telemetry(os.environ, lambda id_: node.address if (node := registry.nodes.get(id_)) else None)
    if telemetry is not None:
        ledger.watch(telemetry)
        stack.push_async_callback(asyncio.to_thread, telemetry.stop)  # it waits for the last spans


async def _announce(config: RouterConfig, port: int, stack: AsyncExitStack) -> None:
    if config.announce and (addresses := await addresses_of(config.host)):
        announcement = Announcement(addresses, port, log)
        announcement.start()
        stack.push_async_callback(announcement.stop)


async def _greet(config: RouterConfig, reach: Reach, token: JoinToken, access: Access) -> None:
    """Say where it is, and what is open to whom; secrets only where a person reads along."""
    log.info(
        "router.started",
        url=reach.here(),
        version=__version__,
        policy=config.policy,
        **await open_to(config, reach),
    )
    if config.auth == "off":
        log.warning("router.open", hint="--auth off: whoever reaches it may do everything")
    if is_read():
        path, _ = access.login_link(Who("local", "admin"))
        say(await greeting(config, reach, token.word, path))


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
