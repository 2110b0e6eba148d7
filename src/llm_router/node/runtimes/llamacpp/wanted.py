"""Offered models that this node shall have without being asked: those the router wants here, and those cut off.

what                                             what follows
wanted, or under way when the node ended last    it is fetched in the background, however often that fails
to be preloaded, and stored                      it is loaded, once
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Mapping
from functools import partial

from structlog.typing import FilteringBoundLogger

from llm_router.contract import Progress
from llm_router.models.manifest import Offer
from llm_router.node.runtimes.errand import Errand


class Wanted:
    """What is to be done, and is being done."""

    def __init__(
        self,
        have: Callable[[str], Awaitable[None]],
        load: Callable[[str], Awaitable[None]],
        log: FilteringBoundLogger,
    ) -> None:
        """`have` fetches the model of an upstream, and raises RouterError; `load` loads a model, if it can."""
        self._have = have
        self._load = load
        self._log = log
        self._errands: dict[str, tuple[Errand, asyncio.Task[None]]] = {}  # by model
        self._loads: dict[str, asyncio.Task[None]] = {}  # by model

    def settle(
        self,
        offers: Mapping[str, Offer],
        absent: Mapping[str, str],
        stored: Container[str],
        interrupted: Container[str],
    ) -> None:
        """This is how things are.

        Args:
            offers: what the router offers, by model.
            absent: models that could be fetched and run here, and their upstreams.
            stored: models that are here.
            interrupted: models that were under way when the node ended last.
        """
        wanted = {m for m in absent.keys() & offers.keys() if _is_wanted(offers[m]) or m in interrupted}
        for model in self._errands.keys() - wanted:
            self._errands.pop(model)[1].cancel()
        for model in sorted(wanted - self._errands.keys()):
            errand = Errand("model", model, self._log)
            run = errand.run(partial(self._have, absent[model]))
            self._errands[model] = (errand, asyncio.create_task(run))
        preload = {m for m, offer in offers.items() if offer.preload}
        for model in self._loads.keys() - preload:
            self._loads.pop(model)
        for model in sorted(preload - self._loads.keys()):
            if model in stored:
                self._loads[model] = asyncio.create_task(_run(self._load(model)))

    def progress(self) -> list[Progress]:
        """What waits for another attempt."""
        return [errand.waiting for errand, _ in self._errands.values() if errand.waiting is not None]

    async def stop(self) -> None:
        """End all of it."""
        tasks = {*(task for _, task in self._errands.values()), *self._loads.values()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _is_wanted(offer: Offer) -> bool:
    return offer.wanted or offer.preload


async def _run(work: Awaitable[None]) -> None:
    await work
