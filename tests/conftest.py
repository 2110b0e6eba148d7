"""What tests in several processes (`pytest -n`) share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def quiet_network() -> Iterator[None]:
    """Nobody else announces a router or listens for one meanwhile: on one machine, all would hear each other."""
    fcntl = pytest.importorskip("fcntl", reason="no way to wait for other processes here")
    with (Path(tempfile.gettempdir()) / "llm-router-tests-mdns.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
