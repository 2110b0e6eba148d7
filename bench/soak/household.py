"""The processes of a run: a router, or several that are one; three agents, an attached server, and their runtimes.

`right` is never touched: a memory that grows needs long stretches to be seen.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPException
from itertools import cycle
from pathlib import Path

import msgspec
from tests.postgres import Cluster
from tests.system.harness import HELLO, House, Process, Router, call, eventually
from tests.system.rough import rough

from bench.soak.outages import ROUTER
from llm_router.contract import NodeView

STEADY, NARROW = "steady", "narrow"
# Who has which model; `steady` has three, of whom one is never touched.
HOLDERS = {STEADY: ("left", "right", "beside"), NARROW: ("beside",), HELLO: ("llama",)}
NODES = ("left", "right", "beside", "llama")
MODELS = {name: {model for model, holders in HOLDERS.items() if name in holders} for name in NODES}
SLOTS = 8  # of the attached server
QUIET = ("--log-level", "warning")  # a line for every request would fill the disk
BACK = 120.0  # seconds within which a process is online again


class Household:
    """Real processes in `home`, an empty directory. Everything here waits: it is called in a thread."""

    def __init__(self, home: Path, replicas: int) -> None:
        """`replicas`: how many routers there are; several share a PostgreSQL."""
        self._stack = ExitStack()
        self._house = House(home)
        self._replicas = replicas
        self._given_up = False
        self.routers: dict[str, Router] = {}
        self.members: dict[str, Process] = {}

    def open(self) -> None:
        """Start all of them; back when all are online."""
        house = self._house
        url = self._database() if self._replicas > 1 else ""
        self._stack.callback(house.close)
        self.routers = {router.name: router for router in self._start_routers(url)}
        router, *_ = self.routers.values()
        beside = rough(house, "beside", STEADY, NARROW)
        beside.command += ["--port", beside.url.rsplit(":", 1)[1]]  # the same when it is started again
        members: list[Process] = [*self.routers.values(), beside, house.node(router, "llama", *QUIET)]
        for name, its_router in zip(("left", "right"), cycle(reversed(self.routers.values()))):
            runtime = rough(house, f"behind-{name}", STEADY)
            members.append(house.node(its_router, name, "--runtime", f"ollama={runtime.url}", *QUIET))
        router.attach(beside, "ollama", SLOTS)
        self.members = {process.name: process for process in members}
        self.come_back(*MODELS)

    def _database(self) -> str:
        cluster = Cluster()
        self._stack.callback(cluster.close)
        return cluster.create()

    def _start_routers(self, database: str) -> Iterator[Router]:
        options = ("--announce", "false", *QUIET)
        if not database:
            yield self._house.router(*options)
            return
        for number in range(1, self._replicas + 1):
            yield self._house.replica(ROUTER if number == 1 else f"{ROUTER} {number}", database, *options)

    def come_back(self, *names: str) -> None:
        """Wait until every router has these nodes online, with all of their models, or nobody wants to wait any more.

        Raises:
            AssertionError: it did not within BACK.
        """
        eventually(lambda: self._given_up or self.online().issuperset(names), BACK)

    def online(self) -> set[str]:
        """Which nodes are as useful as they should be, by every router's words; none while one is away itself."""
        return set.intersection(*map(_seen_by, self.routers.values()))

    def unload(self) -> bool:
        """Have the real model leave the memory; the next question loads it. Whether it was."""
        url = self.routers[ROUTER].url
        try:
            answer = call(url, "POST", "/api/generate", {"model": HELLO, "keep_alive": 0, "stream": False})
        except (OSError, HTTPException):
            return False
        return answer.status == 200

    def give_up(self) -> None:
        """Wait for nobody any more."""
        self._given_up = True

    def close(self) -> None:
        """End all of them."""
        self._stack.close()

    def logs(self) -> dict[str, str]:
        """What each one logged."""
        return {process.name: process.text() for process in self._house.processes}


def _seen_by(router: Router) -> set[str]:
    try:
        nodes = router.nodes()
    except (OSError, HTTPException, msgspec.DecodeError):  # a router that starts or ends may answer an error
        return set()
    return {name for name, models in MODELS.items() if name in nodes and _useful(nodes[name], models)}


def _useful(node: NodeView, models: set[str]) -> bool:
    return node.state == "online" and models <= set(node.models) - set(node.excluded)
