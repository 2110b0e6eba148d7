"""An Ollama of the agent's own: fetched where it is missing, started, watched, started again, given a first model.

    what there is               what happens
    no program                  it is fetched in the background, however often that fails (`errand.py`)
    a program, no process       it is started, and again whenever it ends; the pauses are those of `supervisor.py`
    a process                   `attached.py` looks at it every few seconds: which models it has, whether it answers;
                                one that does not is replaced (`supervisor.py`)
    no model in it              the default one is fetched, however often that fails; once, after the start

It is one upstream, `ollama`, whose address comes and goes with the process. A user's own Ollama is left alone: this one
has its own port, models and home (requirement A9), which is this directory:

    <home>/node/ollama/program    versions of the program, see `install.py`
    <home>/node/ollama/models     models, unless OLLAMA_MODELS names another directory
    <home>/node/ollama/.ollama    Ollama's key
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import aiohttp
from structlog.typing import FilteringBoundLogger

from llm_router.config import NodeConfig
from llm_router.contract import Address, Progress, RuntimeFacts
from llm_router.core.health import State
from llm_router.core.node import DEFAULT_SLOTS
from llm_router.core.registry import Registry
from llm_router.errors import UpstreamFailed
from llm_router.models.download import Patience
from llm_router.node.hardware import Hardware
from llm_router.node.runtimes.attached import Attached
from llm_router.node.runtimes.base import Runtime
from llm_router.node.runtimes.errand import Errand
from llm_router.node.runtimes.ollama.install import Install, Installer
from llm_router.node.runtimes.ollama.models import Fetch, choose
from llm_router.node.runtimes.ollama.process import NAME, OllamaProcess, Settings, port_of
from llm_router.node.runtimes.ollama.release import Source, this_machine
from llm_router.node.runtimes.supervisor import Supervisor

START_WITHIN = 3.0  # seconds that the agent waits for one that is installed, of the 5 it has to register (A2)
SEE_EVERY = 1.0  # seconds between looks whether it runs; whether it may be started now, the supervisor knows
TEGRA = Path("/etc/nv_tegra_release")  # says on Nvidia's Jetsons which libraries they need


class Ollama(Runtime):
    """The runtime `ollama`. See `base.Runtime`."""

    def __init__(
        self,
        registry: Registry,
        config: NodeConfig,
        session: aiohttp.ClientSession,
        log: FilteringBoundLogger,
        *,
        hardware: Hardware,
        changed: Callable[[], None],
        restarted: Callable[[], None],
    ) -> None:
        """Say where things are, and whom to tell.

        Args:
            registry: where its models are listed.
            config: the settings whose names begin with `ollama_`, and `keep_alive`.
            session: for looks at it, and for what is fetched.
            log: for what happens to it.
            hardware: what the program and the first model have to fit.
            changed: called when it went, came, or has other models, stored or in memory.
            restarted: called when it serves again after it had ended.

        Raises:
            ConfigError: a setting cannot be used.
        """
        self._registry = registry
        self._config = config
        self._session = session
        self._log = log.bind(runtime=NAME)
        self._hardware = hardware
        self._changed = changed
        self._restarted = restarted
        self._home = config.home.absolute() / "node" / NAME
        self._port = port_of(config.ollama_host)
        self._source = Source(config.ollama_download_url, config.ollama_version, config.ollama_verify_checksum)
        self._source.checked()
        self._looks = Attached(NAME, None, registry, session, log, self._on_looked, slots=_slots())
        self._errands: list[Errand] = []
        self._installer: Installer | None = None
        self._fetch: Fetch | None = None
        self._supervisor: Supervisor | None = None
        self._served = False
        self._listed = False
        self._started = asyncio.Event()  # as far as the agent waits for it
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bring it up in the background; if it is installed, wait a moment for its models to be listed."""
        await self._looks.start()
        self._tasks.append(asyncio.create_task(self._run()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_WITHIN):
                await self._started.wait()

    async def stop(self) -> None:
        """End it, or the attempt to fetch something for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._looks.stop()
        if self._supervisor is not None:
            await self._supervisor.end()

    def facts(self) -> RuntimeFacts:
        """As of the last look; no slots while it does not serve."""
        return self._looks.facts() if self._address else RuntimeFacts(NAME, slots=0)

    def loaded(self) -> list[str]:
        """What it held in memory at the last look."""
        return self._looks.loaded()

    def progress(self) -> list[Progress]:
        """Of the program or the model that is being fetched, or is to be tried again."""
        fetches = [fetch.progress() for fetch in (self._installer, self._fetch) if fetch is not None]
        return [step for step in (*fetches, *(errand.waiting for errand in self._errands)) if step is not None]

    async def wake(self, upstream_id: str) -> Address | None:
        """Start it where it has ended; None: not this upstream."""
        if upstream_id != self._looks.id:
            return None
        if self._supervisor is None:
            raise UpstreamFailed(f"{NAME} is not installed yet")
        return await self._supervisor.wake()

    async def check(self, upstream_id: str) -> None:
        """See whether it runs, and then whether it answers."""
        if upstream_id == self._looks.id and self._supervisor is not None:
            await self._supervisor.check()
            if self._address:
                await self._looks.check(upstream_id)

    async def rescan(self) -> None:
        """List what it has now."""
        await self._looks.rescan()

    @property
    def _address(self) -> Address | None:
        return self._supervisor.address if self._supervisor else None

    # -- the program and its process

    async def _run(self) -> None:
        """Have it run, until cancelled."""
        install = await self._errand("runtime", NAME).run(self._install)
        settings = Settings(
            binary=str(install.program),
            home=str(self._home),
            log=str(self._config.home / "node" / "logs" / f"{NAME}.log"),
            port=self._port,
            models=_directory(self._config.ollama_models),
            keep_alive=self._config.keep_alive,
            start_within=self._config.ollama_startup_timeout_secs,
        )
        supervisor = self._supervisor = Supervisor(
            "runtime",
            partial(OllamaProcess, settings, self._session),
            self._session,
            self._log,
            in_use=lambda: True,  # a server runs, whether or not it has a request
            moved=self._on_moved,
        )
        while True:
            try:
                await supervisor.wake()
            except UpstreamFailed:  # the supervisor has told
                self._started.set()
            await asyncio.sleep(SEE_EVERY)  # noqa: TID251 - the pause between two looks

    async def _install(self) -> Install:
        """The program, fetched where it is missing.

        Raises:
            RouterError: it cannot be had now.
        """
        tegra = await asyncio.to_thread(lambda: TEGRA.read_text("utf-8", "replace") if TEGRA.exists() else "")
        machine = this_machine(self._hardware.backend(), tegra)
        patience = Patience(self._config.ollama_download_max_retries, self._config.ollama_download_max_backoff_secs)
        where = self._home / "program"
        installer = Installer(where, machine, self._source, self._session, self._log, patience=patience)
        found = await installer.find()
        if found is not None:
            return found
        self._started.set()  # nothing that the agent could wait for
        self._installer = installer
        return await installer.install()

    def _on_moved(self, address: Address | None) -> None:
        if address is not None:
            if self._served:
                self._restarted()
            self._served = True
        self._looks.moved(address)

    # -- its models

    def _on_looked(self) -> None:
        upstream = self._registry.nodes[self._looks.id]
        if upstream.state is State.ONLINE and not self._listed:
            self._listed = True
            self._started.set()
            if not upstream.models:
                self._tasks.append(asyncio.create_task(self._get_default()))
        self._changed()

    async def _get_default(self) -> None:
        hardware = self._hardware
        model = choose(self._config.ollama_default_model, hardware.backend(), hardware.budget())
        if not model:
            self._log.info("model.none", hint="this Ollama has no model; OLLAMA_DEFAULT_MODEL names one to fetch")
            return
        self._log.info("model.fetching", model=model, hint="OLLAMA_DEFAULT_MODEL names another, or none")
        await self._errand("model", model).run(partial(self._pull, model))
        await self._looks.check(self._looks.id)

    async def _pull(self, model: str) -> None:
        if self._registry.nodes[self._looks.id].models:
            return  # somebody has brought one meanwhile
        if self._address is None:
            raise UpstreamFailed(f"{NAME} does not run")
        self._fetch = Fetch(model)
        try:
            await self._fetch.run(self._session, self._address)
        finally:
            self._fetch = None
        self._log.info("model.fetched", model=model)

    def _errand(self, kind: Literal["runtime", "model"], name: str) -> Errand:
        errand = Errand(kind, name, self._log)
        self._errands.append(errand)
        return errand


def _directory(named: str) -> str:
    return str(Path(named).expanduser().absolute()) if named else ""


def _slots() -> int:
    """Requests at once that it is told to answer; left to itself it answers as many as it sees fit."""
    told = os.environ.get("OLLAMA_NUM_PARALLEL", "")
    return int(told) if told.isdecimal() and int(told) else DEFAULT_SLOTS
