"""What the router offers this node of its catalogue (requirement C1), and how it is asked for it.

The router says by a number in a heartbeat's answer (`Seen.catalogue`) that the list is another one; then it is asked
for. Where that fails, the next heartbeat asks again. While the router is away, what it said last counts.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import aiohttp
import msgspec
from structlog.typing import FilteringBoundLogger

from llm_router.contract import NODES, UNREADABLE, Address, ErrorBody
from llm_router.errors import RouterError, UpstreamFailed
from llm_router.gateway.probe import read_whole, why
from llm_router.models.manifest import NODE_ID, Manifest, Offer
from llm_router.models.names import is_name
from llm_router.node.identity import Identity
from llm_router.node.models.resolve import manifest_url

ANSWER_WITHIN = 15.0  # seconds, as for the other calls to the router
LARGEST = 64_000_000  # bytes; a manifest has some kB, a catalogue some hundred of them

NONE_HEARD = -1  # the number of no list

T = TypeVar("T")


class Offers:
    """`current`: what is offered, by model."""

    def __init__(
        self, identity: Identity, session: aiohttp.ClientSession, log: FilteringBoundLogger, changed: Callable[[], None]
    ) -> None:
        """`changed` is called when `current` has become another."""
        self.current: dict[str, Offer] = {}
        self.router = ""  # its URL, once there is one
        self._identity = identity
        self._session = session
        self._log = log
        self._changed = changed
        self._number = 0  # of the list that `current` is
        self._asking: asyncio.Task[None] | None = None

    def connect(self, router: Address) -> None:
        """This is the router."""
        self.router = router.url

    def hear(self, number: int) -> None:
        """A heartbeat was answered; the number is `Seen.catalogue`."""
        if not number:
            self._take([], number)
        elif number != self._number and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask(number))

    def let_go(self, model_id: str) -> None:
        """Somebody has deleted it here: whether it shall come back, the router says when it is asked anew."""
        offer = self.current.get(model_id)
        if offer is not None and offer.wanted:
            self.current[model_id] = msgspec.structs.replace(offer, wanted=False, preload=False)
            self._number = NONE_HEARD

    async def stop(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    def headers(self) -> dict[str, str]:
        """What says to the router who asks."""
        secret = self._identity.secret(self.router)
        return {"authorization": f"Bearer {secret}", NODE_ID: self._identity.node_id}

    async def manifest(self, model_id: str) -> Manifest:
        """What an offered model consists of, and who has it now.

        Raises:
            UpstreamFailed: the router cannot be asked, or tells of none.
        """
        return await self._get(manifest_url(self.router, model_id), Manifest)

    async def refusal(self, url: str) -> str:
        """Why the router refuses this, in its own words; "": it does not, or does not say."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN)
        try:
            async with self._session.get(url, headers=self.headers(), timeout=timeout, allow_redirects=False) as answer:
                return (
                    ""
                    if answer.ok
                    else msgspec.json.decode(await read_whole(answer, LARGEST), type=ErrorBody).error.message
                )
        except (TimeoutError, aiohttp.ClientError, UpstreamFailed, *UNREADABLE):
            return ""

    async def _ask(self, number: int) -> None:
        try:
            found = await self._get(f"{self.router}{NODES}/{self._identity.node_id}/models", list[Offer])
        except RouterError as error:
            self._log.warning("offers.unknown", router=self.router, reason=error.message)
            return
        self._take(found, number)

    def _take(self, found: list[Offer], number: int) -> None:
        before, self._number = self.current, number
        self.current = {offer.manifest.model: offer for offer in found if is_name(offer.manifest.model)}
        if self.current != before:
            self._log.info("offers.changed", models=len(self.current))
            self._changed()

    async def _get(self, url: str, kind: type[T]) -> T:
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN)
        try:
            async with self._session.get(url, headers=self.headers(), timeout=timeout, allow_redirects=False) as answer:
                body = await read_whole(answer, LARGEST)
        except TimeoutError as error:
            raise UpstreamFailed(f"{url}: no answer within {ANSWER_WITHIN:g} s") from error
        except aiohttp.ClientError as error:
            raise UpstreamFailed(f"{url}: {why(error)}") from error
        if answer.status != 200:
            raise UpstreamFailed(f"{url} answered with status {answer.status}")
        try:
            return msgspec.json.decode(body, type=kind)
        except UNREADABLE as error:
            raise UpstreamFailed(f"{url} does not answer as a router does: {error}") from error
