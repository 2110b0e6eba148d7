"""What is tried until it works."""

import asyncio

import pytest
import structlog
from structlog.testing import capture_logs
from tests.node.conftest import Journal

from llm_router.contract import Progress
from llm_router.errors import UpstreamFailed
from llm_router.node.runtimes import errand
from llm_router.node.runtimes.errand import Errand, pause


def test_pauses() -> None:
    """A minute, doubling to an hour, however often."""
    assert [pause(n) for n in (1, 2, 3, 6, 7, 2000)] == [60, 120, 240, 1920, 3600, 3600]


async def test_until_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason is said once, a new one again; what the last attempt returns is returned."""
    monkeypatch.setattr(errand, "FIRST_PAUSE", 0.0)
    reasons = iter(["no network", "no network", "wrong sum"])

    async def attempt() -> str:
        for reason in reasons:
            raise UpstreamFailed(reason)
        return "there"

    with capture_logs() as entries:
        assert await Errand("model", "m", structlog.get_logger()).run(attempt) == "there"
    said = [(entry["log_level"], entry["reason"]) for entry in entries]
    assert said == [("warning", "no network"), ("debug", "no network"), ("warning", "wrong sum")]


async def test_what_people_see_meanwhile(journal: Journal) -> None:
    """Between two attempts it is known that there will be another one; during one, that it is under way."""
    begun, fail = asyncio.Event(), asyncio.Event()
    thing = Errand("runtime", "ollama", journal.log)

    async def attempt() -> None:
        begun.set()
        await fail.wait()
        raise UpstreamFailed("no network")

    task = asyncio.create_task(thing.run(attempt))
    await begun.wait()
    before = thing.waiting
    fail.set()
    entry = await journal.entry("runtime.fetch_failed")
    assert entry["retry_in"] == 60
    assert (before, thing.waiting) == (None, Progress("runtime", "ollama", errand.WAITING))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
