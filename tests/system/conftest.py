"""Houses for the tests: one that lasts for the session, and one of a test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.harness import HELLO, House, Process, Router, eventually, house_in


class Fleet:
    """A router with three equal nodes that run the built-in model on llama.cpp.

    Its policy looks at requests alone: how fast and how busy this machine is at the moment says nothing about equals.
    """

    names = ("node-a", "node-b", "node-c")

    def __init__(self, house: House) -> None:
        self.house = house
        self.router: Router = house.router("--policy", "least-requests")
        self.nodes: list[Process] = [house.node(self.router, name) for name in self.names]
        eventually(lambda: self.router.is_online(*self.names, model=HELLO), 60)

    @property
    def url(self) -> str:
        return self.router.url


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """For tests that leave everything as it was."""
    with house_in(tmp_path_factory.mktemp("fleet")) as house:
        yield Fleet(house)


@pytest.fixture
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    """For tests that break things."""
    with house_in(tmp_path) as house:
        yield house
        if request.session.testsfailed:
            print(house.logs())  # noqa: T201 - pytest shows it with the failure
