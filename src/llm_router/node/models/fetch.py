"""Fetches models that the router offers: one at a time, whoever asks, and each only once (requirement H4).

    who asks                                     what becomes of the download when they go away
    a request, through the runtime; `wanted`     it goes on: the next request finds it further on
    a person who watches (`follow`)              it ends with the last of them, if nobody else has asked

A download under way when the node ends is remembered in `fetching.json`, and gone on with when the model is offered
again after the next start; what is there of it lies beside its place (`llm_router.models.partial`).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import msgspec
from structlog.typing import FilteringBoundLogger
from yarl import URL

from llm_router.config import NodeConfig
from llm_router.contract import UNREADABLE, Progress
from llm_router.errors import RouterError, UpstreamFailed
from llm_router.gateway.private import write_private
from llm_router.models.allow import Allowlist
from llm_router.models.download import MODEL_PATIENCE, Patience, download, in_thread
from llm_router.models.failures import DownloadFailed, NoRoom, OriginDenied
from llm_router.models.manifest import Manifest, ModelFile
from llm_router.models.meter import Meter, Tenths
from llm_router.models.names import place_below
from llm_router.models.partial import check_room, partial_size
from llm_router.node.models.offers import Offers
from llm_router.node.models.resolve import Source, file_names, resolve, sources
from llm_router.node.models.store import Store

TELL_EVERY = 0.5  # seconds between two signs to somebody who watches
# Where there is another to ask, one that fails is not asked again, and one that is silent for half a minute is left.
ONE_OF_SEVERAL = Patience(retries=0, stall=30.0)
HUB = "huggingface.co"  # the setting `hf_token` is for nobody else


class Fetcher:
    """Everything that this node fetches of the router's catalogue."""

    def __init__(
        self,
        store: Store,
        offers: Offers,
        config: NodeConfig,
        session: aiohttp.ClientSession,
        log: FilteringBoundLogger,
        *,
        changed: Callable[[], None],
        arrived: Callable[[], Awaitable[None]],
    ) -> None:
        """Say where from and where to.

        Args:
            store: where models are put.
            offers: what there is, and the router.
            config: which origins the node itself may fetch from, and what Hugging Face is shown.
            session: for everything that is fetched.
            log: for how far it is.
            changed: called when a download begins or ends.
            arrived: called when a model is there, before those who wait for it hear of it.

        Raises:
            ConfigError: an entry of `model_origins` makes no sense.
        """
        self.offers = offers
        self._store = store
        self._session = session
        self._log = log
        self._allowed = Allowlist(config.model_origins, f"{config.prefix}MODEL_ORIGINS")
        self._hf_token = config.hf_token
        self._notes = config.home / "node" / "fetching.json"
        self._changed = changed
        self._arrived = arrived
        self._jobs: dict[str, Job] = {}  # by model, in the order in which they were asked for
        self._one_after_another = asyncio.Lock()
        self._closed = False
        self.interrupted = _read(self._notes)  # models that were under way when the node ended last

    async def get(self, model: str) -> None:
        """Have an offered model, and wait until it is stored. All who ask share one download.

        Raises:
            ModelNotFound: nobody offers it.
            UpstreamFailed: it was given up: the node stops, or it is offered no more.
            DownloadFailed: it could not be had; the message names hosts and reasons.
        """
        job = self._join(model)
        job.wanted = True
        await asyncio.wait({job.task})
        job.result()

    async def follow(self, model: str) -> AsyncGenerator[Progress, None]:
        """As `get`, and say how far it is: at once, twice a second, and when it is there. Raises as `get` does."""
        job = self._join(model)
        job.watchers += 1
        try:
            while not job.task.done():
                yield job.progress()
                await asyncio.wait({job.task}, timeout=TELL_EVERY)
            job.result()
            yield job.progress()
        finally:
            job.watchers -= 1
            if not job.watchers and not job.wanted:
                job.give_up("nobody waits for it any more")

    def progress(self) -> list[Progress]:
        """What is under way, or waits for its turn."""
        return [job.progress() for job in self._jobs.values()]

    def offered(self) -> None:
        """The router's offers have changed: what is offered no more is given up."""
        for job in self._jobs.values():
            if job.model not in self.offers.current:
                job.give_up("the router offers it no more")

    async def stop(self) -> None:
        """End what is under way; the next start goes on with it."""
        self._closed = True
        tasks = {job.task for job in self._jobs.values()}
        for job in self._jobs.values():
            job.give_up("this node is stopping")
        if tasks:
            await asyncio.wait(tasks)

    # -- one model after another

    def _join(self, model: str) -> "Job":
        """The download of this model that is under way, or a new one."""
        job = self._jobs.get(model)
        if job is not None and not job.given_up:
            return job
        if self._closed:
            raise UpstreamFailed(f"{model} is not fetched: this node is stopping")
        offer = resolve(model, {}, self.offers.current)
        job = self._jobs[model] = Job(model, offer.manifest.size)
        job.task = asyncio.create_task(self._run(job))
        job.task.add_done_callback(_seen)
        self._changed()
        return job

    async def _run(self, job: "Job") -> None:
        begin = time.monotonic()
        try:
            async with self._one_after_another:
                await self._note()
                self._log.info("model.fetching", model=job.model, bytes=job.meter.total)
                await self._fetch(job)
            self._log.info("model.fetched", model=job.model, seconds=round(time.monotonic() - begin, 1))
            await self._arrived()
        except RouterError as error:
            self._log.warning("model.not_fetched", model=job.model, reason=error.message)
            raise
        finally:
            if not self._closed:
                self.interrupted -= {job.model}
            if self._jobs[job.model] is job:  # or another one waits for this one's end
                del self._jobs[job.model]
            self._changed()
            await self._note()

    async def _note(self) -> None:
        """Tell the next start what is under way."""
        if self._closed:
            return
        try:
            await in_thread(write_private, self._notes, msgspec.json.encode(list(self._jobs)))
        except OSError as error:
            self._log.warning("model.fetch_not_remembered", path=str(self._notes), reason=error.strerror)

    # -- one model

    async def _fetch(self, job: "Job") -> None:
        """Have all its files; the chat template first, since with the last file it is a model."""
        manifest = await self._manifest(job.model)
        targets = await in_thread(self._targets, manifest)
        await in_thread(_check_room, manifest.files, targets)
        if manifest.chat_template:
            await in_thread(self._write_template, manifest)
        job.begin(manifest.size, Tenths(self._log, "model.fetching", model=job.model))
        self._changed()
        for file, target in zip(manifest.files, targets, strict=True):
            await self._file(job, file, target)
            job.next_file(file.size)

    def _write_template(self, manifest: Manifest) -> None:
        write_private(self._store.template(manifest.model), manifest.chat_template.encode())

    async def _manifest(self, model: str) -> Manifest:
        """What it consists of, asked for anew, since who has it changes; else as it was when it was offered."""
        try:
            return await self.offers.manifest(model)
        except UpstreamFailed as error:
            self._log.info("model.manifest_is_old", model=model, reason=error.message)
        return resolve(model, {}, self.offers.current).manifest

    def _targets(self, manifest: Manifest) -> list[Path]:
        """Where its files are put. It reads the disk."""
        names = file_names(manifest)
        if manifest.format == "gguf":
            return self._store.places(manifest.model, len(names))
        return [place_below(self._store.directory, manifest.model) / name for name in names]

    async def _file(self, job: "Job", file: ModelFile, target: Path) -> None:
        """Fetch one of its files, from the first source that has it.

        Raises:
            DownloadFailed: none has.
        """
        ways = sources(job.model, file, self.offers.router, self._allows)
        failures: list[DownloadFailed] = []
        for way in ways:
            try:
                await self._download(job, file, target, way, MODEL_PATIENCE if way is ways[-1] else ONE_OF_SEVERAL)
            except NoRoom:
                raise
            except DownloadFailed as error:
                failures.append(await self._explained(way, error))
                self._log.info("model.source_failed", model=job.model, source=way.kind, reason=failures[-1].message)
            else:
                return
        if not failures:
            raise OriginDenied(f"{job.model} could not be fetched: no source of {file.name} is allowed")
        reasons = "; ".join(failure.message for failure in failures)
        raise type(failures[-1])(f"{job.model} could not be fetched: {reasons}")

    async def _download(self, job: "Job", file: ModelFile, target: Path, way: Source, patience: Patience) -> None:
        await download(
            self._session,
            way.url,
            target,
            sha256=file.sha256,
            size=file.size,
            patience=patience,
            progress=job.note,
            waiting=job.waits,
            allow=self._limits(way),
            headers=self._headers(way),
            proxied=way.kind == "origin",  # what is near is where heartbeats go, too
        )

    def _limits(self, way: Source) -> Allowlist | None:
        """Where a source may lead. A peer leads nowhere else; one that goes by a name is known by its checksum alone.

        The router, and its word who the peers are, is trusted: these are private addresses as a rule.
        """
        if way.kind == "peer" and _is_address(URL(way.url).host or ""):
            return Allowlist([f"{URL(way.url).origin()}/*"])
        return self._allowed if way.kind == "origin" else None

    def _headers(self, way: Source) -> dict[str, str]:
        """Our secret is for the router alone, the token for the hub; a peer's URL says it all."""
        if way.kind == "router":
            return self.offers.headers()
        if way.kind == "origin" and self._hf_token and URL(way.url).host == HUB:
            return {"authorization": f"Bearer {self._hf_token}"}
        return {}

    async def _explained(self, way: Source, error: DownloadFailed) -> DownloadFailed:
        """A router's refusal says more than its status: why it could not have the file either."""
        reason = await self.offers.refusal(way.url) if way.kind == "router" else ""
        return type(error)(f"{error.message}: {reason}") if reason else error

    def _allows(self, url: str) -> bool:
        try:
            self._allowed.check(url)
        except OriginDenied:
            return False
        return True


class Job:
    """One model on its way. `wanted`: it goes on though nobody waits; `watchers`: who looks on; `given_up`: why."""

    task: asyncio.Task[None]

    def __init__(self, model: str, size: int) -> None:
        """`size` in bytes, 0 where nobody knows."""
        self.model = model
        self.wanted = False
        self.watchers = 0
        self.meter = Meter()
        self.meter.total = size
        self._step = "waiting for its turn"
        self._before = 0  # bytes of the files that are there already
        self._tenths: Tenths | None = None
        self.given_up = ""

    def progress(self) -> Progress:
        """As the heartbeat has it."""
        meter = self.meter
        return Progress(
            "model", self.model, self._step, meter.done, meter.total, round(meter.rate(time.monotonic()), 1)
        )

    def begin(self, size: int, tenths: Tenths) -> None:
        """It is its turn."""
        self.meter.total = size
        self._tenths = tenths
        self._step = "downloading"

    def note(self, done: int, _total: int) -> None:
        """So many bytes of the present file are there."""
        self._step = "downloading"
        meter = self.meter
        meter.note(self._before + done, max(meter.total, self._before + done), time.monotonic())
        if self._tenths is not None:
            self._tenths.note(meter.done, meter.total)

    def waits(self, _reason: str, _seconds: float) -> None:
        """An attempt failed, and there is another."""
        self._step = "is tried again"

    def next_file(self, size: int) -> None:
        """The present file is there as a whole."""
        self.note(size, size)
        self._before += size

    def give_up(self, reason: str) -> None:
        """End it, if it has not ended."""
        self.given_up = self.given_up or reason
        self.task.cancel()

    def result(self) -> None:
        """Nothing, if it went well.

        Raises:
            RouterError: it did not.
        """
        if self.task.cancelled():
            raise UpstreamFailed(f"{self.model} is not fetched any more: {self.given_up}")
        self.task.result()


def _check_room(files: list[ModelFile], targets: list[Path]) -> None:
    """Look whether the disk takes all of it, before anything is fetched.

    Raises:
        NoRoom: it does not.
    """
    there = sum(target.stat().st_size if target.exists() else partial_size(target) for target in targets)
    check_room(targets[0], sum(file.size for file in files) - there)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _read(notes: Path) -> frozenset[str]:
    """What was under way. Without the file, or with one that cannot be read, nothing was."""
    try:
        return frozenset(msgspec.json.decode(notes.read_bytes(), type=list[str]))
    except (OSError, *UNREADABLE):
        return frozenset()


def _seen(task: asyncio.Task[None]) -> None:
    """It is logged, whether or not anybody waits for it."""
    if not task.cancelled():
        task.exception()
