"""What tests in several processes (`pytest -n`) share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.postgres import Cluster

# A machine that stands still for a moment makes no example wrong; what takes for ever, pytest's own limit ends.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first: nobody waits for it at the end, when all others are done."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="module")
def quiet_network() -> Iterator[None]:
    """Nobody else announces a router or listens for one meanwhile: on one machine, all would hear each other."""
    fcntl = pytest.importorskip("fcntl", reason="no way to wait for other processes here")
    with (Path(tempfile.gettempdir()) / "llm-router-tests-mdns.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def cluster() -> Iterator["Cluster"]:
    """A PostgreSQL for as long as the tests of this process run; the first that wants it waits two seconds."""
    from tests.postgres import Cluster, NotInstalled  # noqa: PLC0415 - Unix only, and only for who wants it

    try:
        running = Cluster()
    except NotInstalled as missing:
        pytest.fail(str(missing))
    yield running
    running.close()


@pytest.fixture
def postgres_url(cluster: "Cluster") -> Iterator[str]:
    """A database of the test's own, without tables."""
    url = cluster.create()
    yield url
    cluster.drop(url)
