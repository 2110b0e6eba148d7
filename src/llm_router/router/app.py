"""The router, put together: what it is made of, in which order it starts, and how it ends.

It starts from the inside out (database, fleet, control app, gateway) and ends the other way round: requests in flight
are given their time first, and the ledger's last batch is written when nobody can add to it any more.
"""

import asyncio
import gc
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import structlog

from llm_router import __version__
from llm_router.config import RouterConfig
from llm_router.contract import Address
from llm_router.core.elsewhere import Elsewhere
from llm_router.core.estimates import Estimates
from llm_router.core.policies import make_policy
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Scheduler
from llm_router.core.usage import RequestRecord
from llm_router.errors import ConfigError, Unavailable
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
from llm_router.router.following.history import HistoryElsewhere
from llm_router.router.greeting import Reach, greeting, is_read, open_to, say
from llm_router.router.join_keeping import keeping_of
from llm_router.router.joining import Door, JoinToken
from llm_router.router.ledger import Ledger
from llm_router.router.live import Live
from llm_router.router.metrics import Metrics
from llm_router.router.models.all import models_of
from llm_router.router.ollama_api.actions import Nodes
from llm_router.router.ports import why_not
from llm_router.router.prober import Prober
from llm_router.router.publisher import Publisher
from llm_router.router.replicas.base import Alone
from llm_router.router.retention import Retention
from llm_router.router.rows import snapshot
from llm_router.router.store import queries
from llm_router.router.store.database import Database, database_of
from llm_router.router.telemetry import is_wanted, make_telemetry

if TYPE_CHECKING:
    from llm_router.router.replicas.among import Among

log = structlog.get_logger()

# Seconds that a restart waits for the next answer of the nodes it knows, and for all: whoever asks at once shall not
# hear that nobody has a model which nobody was asked for yet. Clients that find nobody listening try again.
FIRST_LOOKS = 1.0
MOST_FIRST_LOOKS = 10.0
SIGN_EVERY = 10.0  # seconds: what proxies and clients between us and a person wait for at least


async def run(config: RouterConfig, *, ready: Callable[[int], None], stop: asyncio.Event | None = None) -> None:
    """Serve until SIGINT or SIGTERM; a second one ends the process at once. `ready` is told the port.

    `stop`: serve until this is set instead, and leave signals alone.

    Raises:
        ConfigError: the port is taken, or the database cannot be used.
    """
    logs.configure(config.log_level, config.log_format)
    stop = stop or stop_requested()
    async with serving(config) as port:
        ready(port)
        await stop.wait()
        log.info("router.stopping", drain=config.drain_timeout)
    log.info("router.stopped")


@asynccontextmanager
async def serving(config: RouterConfig) -> AsyncIterator[int]:
    """A running router; its port. Leaving the block drains and ends it. Raises as `run` does."""
    async with AsyncExitStack() as stack:
        name = secrets.token_hex(4)
        database = database_of(config, name)
        stack.push_async_callback(database.close)
        await database.open()
        registry = Registry(silence=config.silence, trial_after=config.trial_after)
        scheduler = _scheduler(config, registry)
        elsewhere = Elsewhere(registry, name, scheduler.queued)
        replicas = _replicas(database, name, elsewhere)
        credentials = Credentials()
        ledger = Ledger(database, partial(snapshot, registry, credentials))
        _trace(registry, ledger, stack)
        ledger.start()
        stack.push_async_callback(ledger.stop)
        publish = Publisher(ledger, replicas)
        feed = Feed(registry, scheduler.queued, lambda: ledger.dropped)
        live = Live(feed, ledger, publish, HistoryElsewhere(database, name) if database.shared else None)
        access = await stack.enter_async_context(access_of(config, database, publish.tell, replicas))
        session = await stack.enter_async_context(_session())
        prober = Prober(registry, session, config, publish.noticed, replicas)
        stack.push_async_callback(prober.stop)
        token = await _join_token(config, database)
        door = Door(token, Trust(config.trust), config.join)
        fleet = Fleet(registry, credentials, prober, publish, ledger=ledger, door=door, replicas=replicas)
        fleet.restore(await database.run(queries.load_nodes))
        asked = Nodes(registry, session, every=config.pull_to == "all", look=prober.looked)
        models = await stack.enter_async_context(
            models_of(config, database, session, registry, asked, tell=publish.tell, replicas=replicas)
        )
        reach = Reach(config)
        bodies = _bodies(config, database, stack)
        lag = _keep_house(config, database, replicas, stack)
        routes = all_routes(
            registry=registry,
            scheduler=scheduler,
            policy=config.policy,
            fleet=fleet,
            ledger=ledger,
            replicas=replicas,
            database=database,
            bodies=bodies,
            live=live,
            greeter=Greeter(config, partial(join_line, token, reach), replicas.name),
            metrics=Metrics(registry, scheduler, ledger, lag),
            access=access,
            models=models,
            credentials=credentials,
            token=token,
            reach=reach,
            tell=publish.tell,
        )
        control = ControlServer(documented(routes))
        stack.push_async_callback(control.stop)
        live.start()
        stack.push_async_callback(live.stop)  # before the control app, which would cut the streams
        plane = _plane(
            config,
            registry,
            scheduler,
            control=await control.start(),
            headers=control.headers,
            record=ledger.request,
            bodies=bodies,
            fleet=fleet,
        )
        publish.also(plane.changed)
        gateway = Gateway(plane, config, access.guard)
        prober.start()
        await prober.first_looks(FIRST_LOOKS, MOST_FIRST_LOOKS)
        if not isinstance(replicas, Alone):
            from llm_router.router.following.all import together  # noqa: PLC0415 - as of `_replicas`

            await stack.enter_async_context(
                together(
                    among=replicas,
                    registry=registry,
                    elsewhere=elsewhere,
                    credentials=credentials,
                    prober=prober,
                    database=database,
                    ledger=ledger,
                    access=access,
                    models=models,
                    token=token,
                    publisher=publish,
                    roomier=plane.changed,
                )
            )
        reach.port = await _listen(gateway, config)
        stack.push_async_callback(gateway.drain, config.drain_timeout)
        await _announce(config, reach.port, stack)
        gc.freeze()  # what is there now stays: the collector need not look at all of it again and again
        await _greet(config, reach, token, access)
        yield reach.port


def _replicas(database: Database, name: str, elsewhere: Elsewhere) -> "Alone | Among":
    """Whom else there is: others on the same database, or nobody."""
    if not database.shared:
        return Alone()
    # asyncpg takes 5 MB, for those who have PostgreSQL.
    from llm_router.router.replicas.among import Among  # noqa: PLC0415
    from llm_router.router.replicas.bus import Bus  # noqa: PLC0415

    return Among(Bus(database.url, name), elsewhere)


async def _join_token(config: RouterConfig, database: Database) -> JoinToken:
    token = JoinToken(keeping_of(config, database))
    await token.restore()
    return token


def _keep_house(config: RouterConfig, database: Database, replicas: "Alone | Among", stack: AsyncExitStack) -> LoopLag:
    """Old rows go, and the event loop is watched; the watch."""
    retention = Retention(database, config.retention_days, lambda: replicas.on_duty)
    retention.start()
    stack.push_async_callback(retention.stop)
    lag = LoopLag()
    lag.start()
    stack.callback(lag.stop)
    return lag


def _plane(
    config: RouterConfig,
    registry: Registry,
    scheduler: Scheduler,
    *,
    control: Address,
    headers: bytes,
    record: Callable[[RequestRecord], None],
    bodies: BodyLog | None,
    fleet: Fleet,
) -> DataPlane:
    return DataPlane(
        registry,
        scheduler,
        Pool(connect_timeout=config.connect_timeout),
        control=control,
        control_headers=headers,
        record=record,
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
        path = ""
        with suppress(Unavailable):  # keys and, here, everybody are let in without one
            path, _ = await access.login_link(Who("local", "admin"))
        say(await greeting(config, reach, token.word, path))


def _session() -> aiohttp.ClientSession:
    """For looks at nodes: a connection each, since a look shall show whether one can be made, and no limit."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))


async def _listen(gateway: Gateway, config: RouterConfig) -> int:
    try:
        return await gateway.start(shared=config.workers > 1)
    except OSError as error:
        raise ConfigError(why_not(error, config)) from error
