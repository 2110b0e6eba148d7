"""How llama.cpp runs a stored model: what it takes, and with which settings its process is started."""

import asyncio
import math
import os
from collections.abc import Callable
from functools import partial

import aiohttp
from structlog.typing import FilteringBoundLogger

from llm_router.config import NodeConfig
from llm_router.contract import Address
from llm_router.core.node import Node
from llm_router.models import memory
from llm_router.node.logs import file_name
from llm_router.node.models.store import StoredModel
from llm_router.node.runtimes.llamacpp.child import Settings
from llm_router.node.runtimes.llamacpp.llama_server import Build, LlamaServer, choose
from llm_router.node.runtimes.llamacpp.loader import Recipe
from llm_router.node.runtimes.llamacpp.process import ModelProcess
from llm_router.node.runtimes.process import Moved, ServerProcess
from llm_router.node.runtimes.supervisor import Supervisor

MIB = 1 << 20
LARGEST_CACHE = 512 * MIB  # of conversations that no slot holds; at 128 kB a token, as an 8B model's, 4,096 of them


class Cook:
    """Makes recipes, for one llama.cpp."""

    def __init__(
        self,
        config: NodeConfig,
        session: aiohttp.ClientSession,
        log: FilteringBoundLogger,
        moved: Callable[[str, Address | None], None],
    ) -> None:
        """`moved` is told of an upstream where its process serves; None: nowhere, since it ended by itself."""
        self.build = Build.of_wheel()
        self.budget = math.inf  # bytes that models may take together
        self._config = config
        self._session = session
        self._log = log
        self._moved = moved
        self._logs = config.home / "node" / "logs"
        self._threads = config.threads or max(1, (os.cpu_count() or 1) // 2)

    async def prepare(self, budget: Callable[[bool], float]) -> None:
        """Settle which llama.cpp it is, and how much memory there is for it.

        Raises:
            ConfigError: the setting `llama_server` names no such program.
        """
        self.build = await choose(self._config.llama_server)
        self.budget = budget(self.build.gpu)
        await asyncio.to_thread(self._logs.mkdir, parents=True, exist_ok=True)

    def recipe(self, upstream: Node, stored: StoredModel) -> Recipe:
        """How to run this model."""
        most = (stored.facts.context if stored.facts else 0) or self._config.context
        return Recipe(
            context=min(self._config.context, most),
            most=most,
            need=partial(self._need, stored),
            make=partial(self._make, upstream, stored),
        )

    def _need(self, stored: StoredModel, context: int) -> int:
        """Bytes that it takes with so much context for each request."""
        return self._to_run(stored, context) + self._cache(stored)

    def _to_run(self, stored: StoredModel, context: int) -> int:
        if stored.facts is None:
            return stored.size
        return memory.need(stored.facts, stored.size, context=context, parallel=self._config.parallel).total

    def _cache(self, stored: StoredModel) -> int:
        """Bytes for conversations that no slot holds: as large as the model at most, and no more than there is."""
        room = self.budget - self._to_run(stored, self._config.context)
        return int(max(0, min(LARGEST_CACHE, stored.size, room)))

    def _make(self, upstream: Node, stored: StoredModel, context: int) -> Supervisor:
        facts = stored.facts
        settings = Settings(
            id=stored.id,
            path=str(stored.path),
            log=str(self._logs / file_name(stored.id)),
            parallel=self._config.parallel,
            context=context,
            threads=self._threads,
            cache=self._cache(stored) // MIB,
            pools=facts is not None and facts.pooling is not None,
            template=str(stored.template or ""),
        )
        in_use = lambda: upstream.in_flight > 0  # noqa: E731 - a question, asked in one place
        return Supervisor(
            "model",
            partial(self._process, settings),
            self._session,
            self._log,
            in_use=in_use,
            moved=partial(self._moved, upstream.id),
        )

    def _process(self, settings: Settings, moved: Moved) -> ServerProcess:
        if self.build.path:
            return LlamaServer(self.build, settings, self._session, moved)
        return ModelProcess(settings, moved)
