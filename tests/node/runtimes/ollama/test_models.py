"""Which model comes first, and how it is fetched (requirement G6)."""

from pathlib import Path

import aiohttp
import pytest
from tests.doubles.fake_ollama import SIZES, FakeOllama

from llm_router.contract import Address, Backend, Progress
from llm_router.errors import UpstreamFailed
from llm_router.node.runtimes.ollama.models import CHOICES, GB, Fetch, choose


@pytest.mark.parametrize(
    ("backend", "budget", "name"),
    [
        ("cuda", 23 * GB, "qwen3:30b"),
        ("cuda", 8 * (1 << 30), "qwen3:8b"),
        ("metal", 12 * GB, "qwen3:14b"),
        ("cpu", 100 * GB, "llama3.2:3b"),
        ("cpu", 3 * GB, "llama3.2:1b"),
        ("rocm", 2 * GB, "llama3.2:1b"),
        ("cpu", 1 * GB, "qwen2.5:0.5b"),
        ("cpu", 0, ""),
    ],
)
def test_one_that_fits(backend: Backend, budget: int, name: str) -> None:
    """The best one for this memory; without a GPU none that answers more slowly than one reads."""
    assert choose("", backend, budget) == name


def test_the_setting_overrides() -> None:
    """A name is taken as it is, whether or not it is in the table or fits; `none` is none."""
    assert choose("mine:7b", "cpu", 0) == "mine:7b"
    assert choose("none", "cuda", 100 * GB) == ""


def test_the_table_is_in_order() -> None:
    """From the largest to the smallest, each once: the first that fits is the best that does."""
    assert [c.memory for c in CHOICES] == sorted({c.memory for c in CHOICES}, reverse=True)
    assert len({c.name for c in CHOICES}) == len(CHOICES)


class TestFetch:
    """With a server that fetches two files."""

    @pytest.fixture
    def models(self, tmp_path: Path) -> Path:
        (tmp_path / "models").mkdir()
        return tmp_path / "models"

    async def test_it_comes(self, models: Path, session: aiohttp.ClientSession) -> None:
        """How far it is, is the sum over its files."""
        fetch = Fetch("tiny")
        assert fetch.progress() == Progress("model", "tiny", "looking for it")
        async with FakeOllama("127.0.0.1", 0, models.parent, models) as fake:
            await fetch.run(session, Address("127.0.0.1", fake.port))
        after = fetch.progress()
        assert (models / "tiny").exists()
        assert (after.step, after.done, after.total) == ("success", sum(SIZES.values()), sum(SIZES.values()))

    async def test_it_cannot_be_had(self, models: Path, session: aiohttp.ClientSession) -> None:
        """Ollama's own reason is passed on, though the status is 200."""
        (models.parent / "offline").touch()
        async with FakeOllama("127.0.0.1", 0, models.parent, models) as fake:
            with pytest.raises(UpstreamFailed, match="tiny was not fetched: pull model manifest: no such host"):
                await Fetch("tiny").run(session, Address("127.0.0.1", fake.port))

    async def test_the_server_goes(self, models: Path, session: aiohttp.ClientSession) -> None:
        """A connection that cannot be made, or breaks, is said with the server's address."""
        async with FakeOllama("127.0.0.1", 0, models.parent, models) as fake:
            address = Address("127.0.0.1", fake.port)
            fake.faults.refuse = True
            with pytest.raises(UpstreamFailed, match=f"{address.url} was to fetch tiny: "):
                await Fetch("tiny").run(session, address)
        with pytest.raises(UpstreamFailed, match="Connection refused"):
            await Fetch("tiny").run(session, address)

    async def test_it_is_no_ollama(self, models: Path, session: aiohttp.ClientSession) -> None:
        """What is no record is an error, not a model."""
        async with FakeOllama("127.0.0.1", 0, models.parent, models) as fake:
            address = Address("127.0.0.1", fake.port, prefix="/elsewhere")
            with pytest.raises(UpstreamFailed, match="does not answer as Ollama does"):
                await Fetch("tiny").run(session, address)
