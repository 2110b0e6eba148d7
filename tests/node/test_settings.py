"""The node's copy of what operators set of it (requirement F3)."""

import asyncio
from pathlib import Path

import pytest
from tests.node.conftest import Journal

from llm_router.contract import NodeSettings
from llm_router.node.settings import KeptSettings

SET = NodeSettings("box", ["lab"], "two\nlines 東京", drain=True, changed=5.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "settings.json"


async def test_kept_over_restarts(path: Path, journal: Journal) -> None:
    """What the router said is there again, and the log says what was changed."""
    kept = KeptSettings.load(path, journal.log)
    assert kept.current == NodeSettings()
    await kept.take(SET)
    assert kept.current == KeptSettings.load(path, journal.log).current == SET
    (entry,) = journal.find("settings.changed")
    assert (entry["name"], entry["tags"], entry["drain"]) == ("box", ["lab"], True)


@pytest.mark.parametrize("other", [SET, NodeSettings(), NodeSettings("old", changed=4.9)])
async def test_what_is_no_news(path: Path, journal: Journal, other: NodeSettings) -> None:
    """The same again, and what was set earlier, change nothing."""
    kept = KeptSettings.load(path, journal.log)
    await kept.take(SET)
    await kept.take(other)
    assert kept.current == KeptSettings.load(path, journal.log).current == SET
    assert len(journal.find("settings.changed")) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b'{"name": 5}', b"\xff"])
def test_a_broken_copy_is_done_without(path: Path, content: bytes) -> None:
    """The router has the settings; the log names the file, and the next change replaces it."""
    path.parent.mkdir()
    path.write_bytes(content)
    journal = Journal()
    kept = KeptSettings.load(path, journal.log)
    assert kept.current == NodeSettings()
    assert journal.find("settings.unreadable")[0]["path"] == str(path)
    asyncio.run(kept.take(SET))
    assert KeptSettings.load(path, journal.log).current == SET


async def test_a_home_that_cannot_be_written(path: Path, journal: Journal) -> None:
    """The settings hold until the node ends; the log says that they are not kept, and why."""
    path.parent.write_bytes(b"a file where a directory should be")
    kept = KeptSettings(path, NodeSettings(), journal.log)
    await kept.take(SET)
    assert kept.current == SET
    assert journal.find("settings.not_kept")[0]["path"] == str(path)
