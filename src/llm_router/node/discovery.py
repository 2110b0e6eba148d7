"""Finds the router where nobody said which (requirement A1).

1  one that answers on this machine, at its usual port
2  one that is announced in the network by multicast DNS (`router/announce.py`) and answers
   2a  of several, one that has given us a secret; else the first by name; a warning lists them all
3  none: said in the log, again and again at growing intervals; what is announced meanwhile is looked at at once
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from structlog.typing import FilteringBoundLogger

from llm_router.config import DEFAULT_ROUTER_PORT
from llm_router.contract import SERVICE, UNREADABLE, Address
from llm_router.node.link import delay

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncZeroconf

HERE = Address("127.0.0.1", DEFAULT_ROUTER_PORT)
LOOK_WITHIN = 2.0  # seconds; a router in the same network answers in milliseconds
# Seconds until it is said that there is none. Answers to a query come within 0.12 s, and it is asked again after 1 s
# (RFC 6762, sections 5.2 and 6).
FIRST_LISTEN = 2.5
OTHERS_WITHIN = 0.5  # seconds from the first that is heard, in which others that were asked too have answered
USABLE = frozenset({"ok", "degraded"})  # what a router says of its health: it answers, if it keeps no history just now
RESOLVE_WITHIN = 3000  # milliseconds; what was announced is in the cache, unless a packet was lost


class Found(msgspec.Struct, frozen=True):
    """A router that answers. `known`: it has given us a secret."""

    name: str
    address: Address
    known: bool


async def find_router(
    session: aiohttp.ClientSession,
    known: Callable[[str], bool],
    log: FilteringBoundLogger,
    *,
    here: Address = HERE,
    interfaces: Sequence[str] = (),
) -> Address:
    """The address of a router, as soon as there is one.

    Args:
        session: to look whether a router answers.
        known: whether the router with this URL has given us a secret.
        log: hears what is waited for, and between which routers was chosen.
        here: where one is looked for on this machine.
        interfaces: addresses of those to listen on; all where not given.
    """
    if await _is_router(session, here):
        return here
    async with _listening(interfaces, log) as heard:
        wait, failures = FIRST_LISTEN, 0
        while True:
            await heard.news(wait)
            found = await _answering(session, await heard.announced(), known)
            if found:
                return _choose(found, log)
            if await _is_router(session, here):
                return here
            failures += 1
            wait = delay(failures, random.random())  # noqa: S311 - spreads load, guards nothing
            _tell(log, heard, here, wait)


def choose(found: Iterable[Found]) -> Found:
    """Step 2a."""
    return min(found, key=lambda f: (not f.known, f.name))


def _choose(found: list[Found], log: FilteringBoundLogger) -> Address:
    chosen = choose(found)
    if len(found) > 1:
        routers = [f"{f.name} at {f.address.url}" for f in sorted(found, key=lambda f: f.name)]
        hint = "--router URL or ROUTER_URL decides for another"
        log.warning("router.several_found", chosen=chosen.address.url, routers=routers, hint=hint)
    log.info("router.found", name=chosen.name, url=chosen.address.url)
    return chosen.address


def _tell(log: FilteringBoundLogger, heard: "_Heard", here: Address, wait: float) -> None:
    """Requirement A7: the log says what is waited for, and what can be done."""
    log.warning(
        "router.not_found",
        looked_at=here.url,
        silent=sorted(heard.names),  # announced, but no answer
        hint="give its address with --router URL or ROUTER_URL, or start one that listens in this network",
        retry_in=round(wait, 1),
    )


# -- looking


class _Health(msgspec.Struct):
    """What `GET /health` of a router has; other servers have less."""

    status: str
    version: str
    nodes: int
    online: int


async def _is_router(session: aiohttp.ClientSession, address: Address) -> bool:
    timeout = aiohttp.ClientTimeout(total=LOOK_WITHIN)
    try:
        async with session.get(f"{address.url}/health", timeout=timeout) as response:
            return msgspec.json.decode(await response.read(), type=_Health).status in USABLE
    except (TimeoutError, aiohttp.ClientError, *UNREADABLE):
        return False


async def _answering(
    session: aiohttp.ClientSession, announced: dict[str, list[Address]], known: Callable[[str], bool]
) -> list[Found]:
    """Of each router the first of its addresses that answers, of those by which we are known if there is one."""
    places = [(name, address) for name, addresses in announced.items() for address in addresses]
    answers = await asyncio.gather(*(_is_router(session, address) for _, address in places))
    found: dict[str, Found] = {}
    for (name, address), answered in zip(places, answers, strict=True):
        new = Found(name, address, known(address.url))
        if answered and (name not in found or (new.known and not found[name].known)):
            found[name] = new
    return list(found.values())


# -- listening


class _Heard:
    """The routers that are announced now, by their names."""

    def __init__(self, zeroconf: "AsyncZeroconf | None" = None) -> None:
        self.names: set[str] = set()
        self._zeroconf = zeroconf
        self._news = asyncio.Event()

    def on_change(self, **change: Any) -> None:  # noqa: ANN401 - zeroconf's types, which are not loaded yet
        """One came, changed or went (ServiceBrowser's call, with `name` and `state_change`)."""
        if change["state_change"].name == "Removed":
            self.names.discard(change["name"])
        else:
            self.names.add(change["name"])
            self._news.set()

    async def news(self, seconds: float) -> None:
        """Wait until one comes, and a little for others; at most so long."""
        with contextlib.suppress(TimeoutError):
            # Not `wait_for`: before Python 3.12 it can swallow a cancellation that comes with the event.
            async with asyncio.timeout(seconds):
                await self._news.wait()
            await asyncio.sleep(OTHERS_WITHIN)  # noqa: TID251 - nothing says that nobody else will answer
        self._news.clear()

    async def announced(self) -> dict[str, list[Address]]:
        """Where each of them says it is."""
        names = sorted(self.names)
        places = await asyncio.gather(*(self._resolve(name) for name in names))
        return {name.removesuffix(f".{SERVICE}"): found for name, found in zip(names, places, strict=True)}

    async def _resolve(self, name: str) -> list[Address]:
        from zeroconf import IPVersion  # noqa: PLC0415 - loaded already, as it has heard something
        from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415 - as above

        info = AsyncServiceInfo(SERVICE, name)
        if self._zeroconf is None or not await info.async_request(self._zeroconf.zeroconf, RESOLVE_WITHIN):
            return []
        prefix = (info.decoded_properties.get("path") or "").rstrip("/")
        hosts = [h for v in (IPVersion.V4Only, IPVersion.V6Only) for h in info.parsed_scoped_addresses(v)]
        return [Address(host, info.port, prefix=prefix) for host in hosts if info.port]


@asynccontextmanager
async def _listening(interfaces: Sequence[str], log: FilteringBoundLogger) -> AsyncIterator[_Heard]:
    """Hear what is announced; where the network does not let us, hear nothing."""
    from zeroconf import InterfaceChoice  # noqa: PLC0415 - 4 MB that a node which knows its router does not need
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf  # noqa: PLC0415 - as above

    try:
        zeroconf = AsyncZeroconf(interfaces=list(interfaces) or InterfaceChoice.All)
    except (OSError, RuntimeError) as error:  # RuntimeError: no interface to listen on
        log.warning("discovery.deaf", reason=str(error))
        yield _Heard()
        return
    heard = _Heard(zeroconf)
    browser = AsyncServiceBrowser(zeroconf.zeroconf, [SERVICE], handlers=[heard.on_change])
    try:
        yield heard
    finally:
        await browser.async_cancel()
        await zeroconf.async_close()
