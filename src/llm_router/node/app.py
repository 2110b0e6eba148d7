"""The agent, put together: runtimes, the gateway in front of them, the control app, the link to the router.

It ends in the reverse order: goodbye to the router, then the requests under way, then the runtimes.
"""

import asyncio
import errno
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

import aiohttp
import msgspec
import structlog
from litestar.handlers import HTTPRouteHandler

from llm_router import __version__
from llm_router.config import NodeConfig
from llm_router.contract import Address, Heartbeat, ModelEntry, Registration, parse_router
from llm_router.core.estimates import Estimates
from llm_router.core.health import Signal
from llm_router.core.node import Lease
from llm_router.core.policies import LeastRequests
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Scheduler
from llm_router.core.usage import RequestRecord
from llm_router.errors import BadRequest, ConfigError
from llm_router.gateway.control import ControlServer
from llm_router.gateway.log import configure
from llm_router.gateway.plane import DataPlane
from llm_router.gateway.server import Gateway
from llm_router.gateway.signals import stop_requested
from llm_router.gateway.trust import Trust
from llm_router.gateway.upstream import Pool
from llm_router.node import logs
from llm_router.node.bars import watch
from llm_router.node.control import node_control
from llm_router.node.discovery import find_router
from llm_router.node.files import file_routes
from llm_router.node.gate import Gate
from llm_router.node.hardware import Hardware, machine_name
from llm_router.node.identity import Identity
from llm_router.node.link import Link
from llm_router.node.models.offers import Offers
from llm_router.node.ollama_api import Pulls, node_ollama_routes
from llm_router.node.runtimes.all import make_runtimes

log = structlog.get_logger()

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # the router may be anywhere, and the gate lets in nobody else


def placed(config: NodeConfig) -> NodeConfig:
    """With the address to listen on decided, where none was given.

    It is this machine's alone if the router is said to be on this machine; else the router has to get in from outside.

    Raises:
        ConfigError: the router's URL is none.
    """
    if config.host:
        return config
    here = bool(config.router) and _is_loopback(_router(config.router)[0].host)
    return msgspec.structs.replace(config, host=LOOPBACK if here else EVERYWHERE)


async def run(config: NodeConfig, *, ready: Callable[[int], None]) -> None:
    """Be an agent until SIGTERM or Ctrl-C. `ready` is called with the port once it listens and the models are listed.

    Raises:
        ConfigError: a setting cannot be used, or the port is taken.
    """
    configure(config.log_level, config.log_format)
    stop = stop_requested()
    async with AsyncExitStack() as stack:
        stack.enter_context(logs.kept(config.home, config.log_format))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        agent = Agent(config, session)
        bars = asyncio.create_task(watch(agent.runtimes.progress))
        stack.callback(bars.cancel)
        port = await agent.start(stack)
        ready(port)
        agent.join_router(stack, port)
        await stop.wait()
        log.info("node.stopping", in_flight=agent.in_flight())


class Agent:
    """Everything of one agent. What it starts is ended by the stack it is given."""

    def __init__(self, config: NodeConfig, session: aiohttp.ClientSession) -> None:
        self.config = config
        self.session = session
        self.router: Address | None = None
        self._invitation = ""  # the token to join it by
        if config.router:
            self.router, self._invitation = _router(config.router)
        self.gate = Gate(Trust(config.trust))
        self.identity = Identity.load(config.home / "node" / "identity.json")
        self.registry = Registry()
        self.hardware = Hardware()
        self.models_version = ModelsVersion(time.time_ns() // 1_000_000)
        self.offers = Offers(self.identity, session, log, changed=self.on_offered)
        self.pulls = Pulls()
        self.runtimes = make_runtimes(
            self.registry,
            config,
            session,
            log,
            hardware=self.hardware,
            offers=self.offers,
            changed=self.on_changed,
            restarted=self.models_version.bump,
        )
        self.gateway: Gateway
        self.link: Link | None = None
        self._access = ""  # what the router is let in by
        self._checks: set[asyncio.Task[None]] = set()

    # -- start and end

    async def start(self, stack: AsyncExitStack) -> int:
        """Listen, then list what the runtimes have; the port."""
        control = ControlServer(node_control(self.registry, self.runtimes.describe, self._model_routes()))
        stack.push_async_callback(control.stop)
        self.gateway = Gateway(self._plane(control, await control.start()), self.config, self.gate)
        stack.callback(self.hardware.stop)
        stack.push_async_callback(self.runtimes.stop)
        stack.push_async_callback(self.offers.stop)
        port = await self._listen()
        stack.push_async_callback(self.gateway.drain, self.config.drain_timeout)
        await self.hardware.start()  # first: what there is room for depends on it
        await self.runtimes.start()
        models = sorted(self.registry.available())
        log.info(
            "node.started",
            url=Address(self.config.host, port, bool(self.config.tls_cert)).url,
            backend=self.hardware.backend(),
            models=models,
        )
        return port

    def _model_routes(self) -> list[HTTPRouteHandler]:
        """What is done to models here, and where other nodes fetch their files from."""
        directories = self.runtimes.store.directories
        return [
            *node_ollama_routes(self.registry, self.runtimes, self.session, self.pulls),
            *file_routes(lambda: directories, lambda: self._access),
        ]

    def _plane(self, control: ControlServer, where: Address) -> DataPlane:
        config = self.config
        return DataPlane(
            self.registry,
            Scheduler(
                self.registry,
                LeastRequests(),
                Estimates(),
                queue_size=config.queue_size,
                queue_timeout=config.queue_timeout,
            ),
            Pool(connect_timeout=config.connect_timeout),
            control=where,
            control_headers=control.headers,
            record=self.on_ended,
            failed=self.on_failed,
            unloads=True,
            shows=True,
            wake=self.runtimes.wake,
            prepare=self.runtimes.prepare,
            answer_timeout=config.answer_timeout,
            token_timeout=config.token_timeout,
            fetch_timeout=config.fetch_timeout,
        )

    async def _listen(self) -> int:
        try:
            return await self.gateway.start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            where = f"port {self.config.port} of {self.config.host}"
            raise ConfigError(f"{where} is taken: stop what uses it, or choose another with --port") from error

    def join_router(self, stack: AsyncExitStack, port: int) -> None:
        """Find the router where none was given, register, and stay registered until the stack ends."""
        task = asyncio.create_task(self._stay_registered(port))

        async def leave() -> None:
            task.cancel()
            await asyncio.wait({task})
            if self.link is not None:
                await self.link.goodbye()

        stack.push_async_callback(leave)

    async def _stay_registered(self, port: int) -> None:
        is_known = lambda url: bool(self.identity.secret(url))  # noqa: E731 - a question, asked in one place
        router = self.router or await find_router(self.session, is_known, log)
        if _is_loopback(self.config.host) and not _is_loopback(router.host) and not self.config.advertise:
            hint = "the router cannot reach this address; choose another with --host, or --host 0.0.0.0 for all"
            log.warning("node.hidden", host=self.config.host, router=router.url, hint=hint)
        access = self._access = await asyncio.to_thread(self.identity.access, router.url)
        join = await asyncio.to_thread(self.identity.join_token, router.url, self._invitation)
        self.gate.open_to(access)
        self.offers.connect(router)
        self.link = Link(
            router,
            self.identity,
            self.session,
            introduce=lambda: msgspec.structs.replace(self.introduce(port), access=access, join=join),
            report=self.report,
            offered=self.offers.hear,
            log=log,
        )
        await self.link.run()

    # -- what the gateway tells

    def on_failed(self, lease: Lease, reason: str, unreachable: bool) -> None:  # noqa: FBT001 - DataPlane's call
        """A request to this upstream failed: it is looked at, unless it has answered, if only with an error.

        Nothing is excluded here: that is the router's to do, which has other nodes to send a request to.
        """
        if not unreachable:
            return
        upstream = lease.node
        log.warning("runtime.request_failed", upstream=upstream.id, reason=reason)
        self.registry.signal(upstream.id, Signal.REQUEST_FAILED, time.monotonic())
        check = asyncio.create_task(self.runtimes.check(upstream.id))
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)

    def on_ended(self, record: RequestRecord) -> None:
        """A request is over."""
        self.runtimes.served(record.node_id)
        _note(record)

    def on_changed(self) -> None:
        """The models may be others, or others in memory: the router shall hear of it now, since it chooses by both."""
        if self.link is not None:
            self.link.changed()

    def on_offered(self) -> None:
        """The router offers other models than before."""
        self.runtimes.offered()

    # -- what the router is told

    def in_flight(self) -> int:
        """Inference requests under way."""
        return sum(upstream.in_flight for upstream in self.registry)

    def introduce(self, port: int) -> Registration:
        """The registration."""
        return Registration(
            node_id=self.identity.node_id,
            machine_name=self.config.name or machine_name(),
            port=port,
            address=self.config.advertise,
            protocol="https" if self.config.tls_cert else "http",
            runtimes=self.runtimes.facts(),
            gpus=self.hardware.gpus(),
            backend=self.hardware.backend(),
            os=self.hardware.os(),
            version=__version__,
            models_version=self.models_version.of(self.runtimes.listing()),
        )

    def report(self) -> Heartbeat:
        """The heartbeat."""
        load = self.hardware.load()
        return Heartbeat(
            models_version=self.models_version.of(self.runtimes.listing()),
            cpu=load.cpu,
            memory=load.memory,
            memory_total=load.memory_total,
            in_flight=self.in_flight(),
            slots=self.runtimes.slots(),
            loaded=self.runtimes.loaded(),
            runtimes=self.runtimes.facts(),
            gpus=self.hardware.gpus(),
            backend=self.hardware.backend(),
            progress=[*self.runtimes.progress(), *self.pulls.progress()],
        )


class ModelsVersion:
    """A number that changes with what is told of models, or what runs them; with a restart too: it starts at the time.

    So it changes when an offered model is stored.
    """

    def __init__(self, start: int) -> None:
        self._number = start
        self._models: dict[str, ModelEntry] = {}

    def bump(self) -> None:
        """What runs a model is another process now: what the router holds against it is out of date."""
        self._number += 1

    def of(self, models: Mapping[str, ModelEntry]) -> int:
        """The number of this list."""
        if models != self._models:
            self._models = dict(models)
            self._number += 1
        return self._number


def _router(url: str) -> tuple[Address, str]:
    """Its address, and the token to join it by."""
    try:
        return parse_router(url)
    except BadRequest as error:
        raise ConfigError(f"--router: {error.message}") from error


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _note(record: RequestRecord) -> None:
    log.debug(
        "request.ended",
        id=record.id,
        operation=record.operation,
        model=record.model,
        status=record.status,
        outcome=record.outcome,
        seconds=round(record.seconds, 3),
        error=record.error,
    )
