"""The agent's calls to its router: register, a heartbeat every 5 seconds, goodbye.

It carries what operators set of the node both ways: our copy with a registration, the router's in a heartbeat's answer.
That also says whether the router offers other models than before.

register ── accepted ──▶ heartbeat at once and every HEARTBEAT_EVERY ── 404 ──▶ register, at once
   ▲                         │
   └── whatever fails is tried again after 1 s, doubling to 60 s, with jitter, forever (requirement A7)

Where the answer is that an operator has to approve us (requirement A10) we go on as usual, and hear of it by heartbeat.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Callable
from typing import TypeVar

import aiohttp
import msgspec
from structlog.typing import FilteringBoundLogger

from llm_router.contract import (
    HEARTBEAT_EVERY,
    NODES,
    UNREADABLE,
    Address,
    ErrorBody,
    Heartbeat,
    Registered,
    Registration,
    Seen,
)
from llm_router.core.health import State
from llm_router.errors import NodeNotFound, RegistrationRefused, RouterError, UpstreamFailed, WrongSecret
from llm_router.gateway.probe import why
from llm_router.node.identity import Identity
from llm_router.node.settings import KeptSettings

T = TypeVar("T")

FIRST_DELAY = 1.0  # seconds (requirement A7)
LONGEST_DELAY = 60.0
ANSWER_WITHIN = 15.0  # seconds; before it answers a registration the router pulls our models, for at most 5
GOODBYE_WITHIN = 2.0  # seconds; a router that is gone must not keep us from ending


def delay(failures: int, chance: float) -> float:
    """Seconds to wait after `failures` in a row, 1 or more. `chance` in [0, 1) spreads nodes that fail together."""
    longest = min(LONGEST_DELAY, math.ldexp(FIRST_DELAY, min(failures - 1, 10)))  # doubled each time
    return longest * (0.5 + chance / 2)


class Link:
    """One agent's tie to one router. `introduce` and `report` are asked at each call."""

    def __init__(
        self,
        router: Address,
        identity: Identity,
        session: aiohttp.ClientSession,
        *,
        introduce: Callable[[], Registration],
        report: Callable[[], Heartbeat],
        offered: Callable[[int], None],
        log: FilteringBoundLogger,
    ) -> None:
        """`offered` is told `Seen.catalogue` with each heartbeat. The copy of the settings lies beside the identity."""
        self._router = router.url
        self._identity = identity
        self._session = session
        self._introduce = introduce
        self._report = report
        self._offered = offered
        self._log = log.bind(router=router.url)
        self._settings = KeptSettings.load(identity.path.with_name("settings.json"), self._log)
        self._registered = False
        self._pending = False
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Stay registered until cancelled."""
        failures = 0
        while True:
            try:
                await self._call()
            except RouterError as error:
                failures += 1
                wait = delay(failures, random.random())  # noqa: S311 - spreads load, guards nothing
                self._tell(error, failures, wait)
            else:
                failures, wait = 0, HEARTBEAT_EVERY
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it can swallow a cancellation that comes with the event.
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            self._changed.clear()

    def changed(self) -> None:
        """There is news: do not wait until the next heartbeat is due."""
        self._changed.set()

    async def goodbye(self) -> None:
        """Tell the router that we go. If it does not hear us, it learns from our silence."""
        if not self._registered:
            return
        self._registered = False
        with contextlib.suppress(RouterError):
            await self._post(f"{NODES}/{self._identity.node_id}/goodbye", b"", GOODBYE_WITHIN)

    async def _call(self) -> None:
        if self._registered:
            try:
                await self._beat()
            except NodeNotFound:  # the router was restarted without its database, or somebody removed us
                self._log.info("router.forgot_us")
                self._registered = False
        if not self._registered:
            await self._register()
            await self._beat()  # so that load and loaded models are known from the start

    async def _register(self) -> None:
        message = msgspec.structs.replace(self._introduce(), settings=self._settings.current)
        answer = await self._post(NODES, msgspec.json.encode(message), ANSWER_WITHIN)
        registered = self._read(NODES, answer, Registered)
        await asyncio.to_thread(self._identity.keep, self._router, registered.node_secret)
        self._registered = True
        self._log.info("router.registered", node_id=registered.node_id, state=registered.state)
        self._hear_of_approval(registered.state)

    async def _beat(self) -> None:
        path = f"{NODES}/{self._identity.node_id}/heartbeat"
        answer = await self._post(path, msgspec.json.encode(self._report()), ANSWER_WITHIN)
        seen = self._read(path, answer, Seen)
        self._hear_of_approval(seen.state)
        await self._settings.take(seen.settings)
        self._offered(seen.catalogue)

    def _hear_of_approval(self, state: str) -> None:
        """Say that we wait for it, and when it has come."""
        was, self._pending = self._pending, state == State.PENDING.value
        if self._pending and not was:
            command = f"llm-router nodes approve {self._identity.node_id}"
            hint = f"approve it on the router's dashboard or with `{command}`; or start it as `llm-router join` says"
            self._log.warning("router.approval_needed", hint=hint)
        elif was and not self._pending:
            self._log.info("router.approved", state=state)

    def _read(self, path: str, answer: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer, type=kind)
        except UNREADABLE as error:
            raise UpstreamFailed(f"{self._router}{path} does not answer as a router does: {error}") from error

    async def _post(self, path: str, body: bytes, seconds: float) -> bytes:
        headers = {"content-type": "application/json"}
        if secret := self._identity.secret(self._router):
            headers["authorization"] = f"Bearer {secret}"
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.post(self._router + path, data=body, headers=headers, timeout=timeout) as response:
                answer = await response.read()
        except TimeoutError as error:
            raise UpstreamFailed(f"no answer within {seconds:g} s") from error
        except aiohttp.ClientError as error:
            raise UpstreamFailed(why(error)) from error
        if response.status >= 400:
            raise self._refusal(response.status, answer)
        return answer

    def _refusal(self, status: int, body: bytes) -> RouterError:
        try:
            detail = msgspec.json.decode(body, type=ErrorBody).error
        except UNREADABLE:
            return UpstreamFailed(f"status {status} from {self._router}, which does not answer as a router does")
        if status == 404 and detail.code == NodeNotFound.code:
            return NodeNotFound(detail.message)
        if status == 403:
            where = self._identity.path
            return WrongSecret(
                f"{detail.message}. It lies in {where}; without that file this machine joins as a new node"
            )
        return RegistrationRefused(detail.message, detail.code) if status < 500 else UpstreamFailed(detail.message)

    def _tell(self, error: RouterError, failures: int, wait: float) -> None:
        event = "router.unreachable" if isinstance(error, UpstreamFailed) else "router.refused_us"
        self._log.warning(event, reason=error.message, failures=failures, retry_in=round(wait, 1))
