"""The limit of open files: raised as far as the system lets us, and how many clients it is enough for."""

import sys
from typing import Any

import pytest

from llm_router.gateway import files

resource: Any = pytest.importorskip("resource", reason="Windows has no such limit")
NONE = resource.RLIM_INFINITY


class System:
    """One with other limits than this one. `most`: what its kernel gives to anybody."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.soft, self.hard, self.most = 1024, 4096, 10**9
        monkeypatch.setattr(resource, "getrlimit", lambda _: (self.soft, self.hard))
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, _which: int, limits: tuple[int, int]) -> None:
        if limits[0] > self.most or (self.hard != NONE and limits[0] > self.hard):
            raise ValueError("current limit exceeds maximum limit")
        self.soft, self.hard = limits


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    return System(monkeypatch)


@pytest.mark.parametrize(
    ("soft", "hard", "most", "raised"),
    [
        (1024, 4096, 10**9, 4096),
        (1024, 524_288, 10**9, 524_288),
        (1024, 1024, 10**9, 1024),
        (1024, 10**9, 10**9, files.ENOUGH),
        (2_000_000, 3_000_000, 10**9, 2_000_000),
        (256, NONE, 10_240, files.MODEST),
        (256, NONE, 10**9, files.ENOUGH),
        (256, NONE, 1000, 256),
        (NONE, NONE, 10**9, NONE),
    ],
)
def test_it_is_raised_and_never_lowered(system: System, soft: int, hard: int, most: int, raised: int) -> None:
    """To the hard limit, or what is enough; where a system has "no limit" and means less, to that."""
    system.soft, system.hard, system.most = soft, hard, most
    files.raise_limit()
    assert (system.soft, system.hard) == (raised, hard)


@pytest.mark.parametrize(("soft", "clients"), [(1024, 448), (524_288, 262_080), (128, 1), (20, 1), (NONE, sys.maxsize)])
def test_it_is_enough_for_half_as_many_clients(system: System, soft: int, clients: int) -> None:
    """Each may need a connection upstream; some files are our own."""
    system.soft = soft
    assert files.connections() == clients
