"""How the suite is spread over processes (`pytest -n`)."""

import pytest

TOGETHER = {  # of these files, only one at a time: they would hear each other in the network
    "tests/node/test_discovery.py": "mdns",
    "tests/router/test_announce.py": "mdns",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file stays in one process: its tests share what they started."""
    for item in items:
        file = item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(TOGETHER.get(file, file)))
