"""The processes of a run: a router, three agents, an attached server, and the runtimes that some of them stand before.

`right` is never touched: a memory that grows needs long stretches to be seen.
"""

from http.client import HTTPException
from pathlib import Path

import msgspec
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

    def __init__(self, home: Path) -> None:
        self._house = House(home)
        self._given_up = False
        self.members: dict[str, Process] = {}

    @property
    def router(self) -> Router:
        """The one that runs now."""
        router = self.members[ROUTER]
        assert isinstance(router, Router)
        return router

    def open(self) -> None:
        """Start all of them; back when all are online."""
        house = self._house
        router = house.router("--announce", "false", *QUIET)
        beside = rough(house, "beside", STEADY, NARROW)
        beside.command += ["--port", beside.url.rsplit(":", 1)[1]]  # the same when it is started again
        members: list[Process] = [router, beside, house.node(router, "llama", *QUIET)]
        for name in ("left", "right"):
            runtime = rough(house, f"behind-{name}", STEADY)
            members.append(house.node(router, name, "--runtime", f"ollama={runtime.url}", *QUIET))
        router.attach(beside, "ollama", SLOTS)
        self.members = {process.name: process for process in members}
        self.come_back(*MODELS)

    def come_back(self, *names: str) -> None:
        """Wait until the router has these nodes online, with all of their models, or nobody wants to wait any more.

        Raises:
            AssertionError: it did not within BACK.
        """
        eventually(lambda: self._given_up or self.online().issuperset(names), BACK)

    def online(self) -> set[str]:
        """Which nodes are as useful as they should be, by the router's words; none while it is away itself."""
        try:
            nodes = self.router.nodes()
        except (OSError, HTTPException, msgspec.DecodeError):  # a router that starts or ends may answer an error
            return set()
        return {name for name, models in MODELS.items() if name in nodes and _useful(nodes[name], models)}

    def unload(self) -> bool:
        """Have the real model leave the memory; the next question loads it. Whether it was."""
        try:
            answer = call(self.router.url, "POST", "/api/generate", {"model": HELLO, "keep_alive": 0, "stream": False})
        except (OSError, HTTPException):
            return False
        return answer.status == 200

    def give_up(self) -> None:
        """Wait for nobody any more."""
        self._given_up = True

    def close(self) -> None:
        """End all of them."""
        self._house.close()

    def logs(self) -> dict[str, str]:
        """What each one logged."""
        return {process.name: process.text() for process in self._house.processes}


def _useful(node: NodeView, models: set[str]) -> bool:
    return node.state == "online" and models <= set(node.models) - set(node.excluded)
