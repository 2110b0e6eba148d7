"""The catalogue: versions, callbacks, names that are taken at the same moment (requirements H5, H6)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import text
from tests.doubles.hub import Hub
from tests.models import ggufs

from llm_router.config import RouterConfig
from llm_router.errors import BadRequest, Conflict, ModelNotFound, Unavailable
from llm_router.router.models.catalogue import Catalogue
from llm_router.router.models.entry import Entry, ModelChange, NewModel, Placement
from llm_router.router.store.database import Database

REPO = "org/tiny"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with Hub(tmp_path / "hub") as running:
        running.put(REPO, {"m.gguf": ggufs.write(tmp_path / "m.gguf").read_bytes()})
        yield running


@pytest.fixture
def catalogue(hub: Hub, database: Database, session: aiohttp.ClientSession, tmp_path: Path) -> Catalogue:
    config = RouterConfig(home=tmp_path, hf_endpoint=hub.url, model_origins=hub.origins)
    return Catalogue(config, database, session, lambda *_: None)


def new(name: str = "m") -> NewModel:
    return NewModel(repo=REPO, name=name)


async def test_each_change_has_a_version(catalogue: Catalogue) -> None:
    """It grows, and whoever wants to know is told after it has; what changes nothing is no change."""
    seen: list[tuple[int, list[str]]] = []
    catalogue.changed.append(lambda: seen.append((catalogue.version, [entry.name for entry in catalogue])))
    first = catalogue.version
    await catalogue.add(new(), "me")
    await catalogue.change("m", ModelChange(placement=Placement(2)), "me")
    await catalogue.change("m", ModelChange(placement=Placement(2)), "me")
    assert catalogue.get("m").placement == Placement(2)
    await catalogue.remove("m", "me")
    assert seen == [(first + 1, ["m"]), (first + 2, ["m"]), (first + 3, [])]


async def test_a_name_is_given_once(catalogue: Catalogue) -> None:
    """Of several that register the same name at the same moment, one does."""
    tried = await asyncio.gather(*(catalogue.add(new(), "me") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(one, Entry) for one in tried) == 1
    assert all(isinstance(one, Conflict) for one in tried if not isinstance(one, Entry))


async def test_what_is_not_there(catalogue: Catalogue) -> None:
    """The error says where the list is; those who only look get nothing."""
    with pytest.raises(ModelNotFound, match="GET /v0/models"):
        catalogue.get("m")
    assert (catalogue.find("m"), catalogue.manifest("m"), "m" in catalogue) == (None, None, False)


async def test_what_cannot_be_kept_is_not_there(catalogue: Catalogue, database: Database) -> None:
    """An operator who is told that it failed finds nothing changed."""
    await database.run(lambda connection: connection.execute(text("DROP TABLE models")))
    with pytest.raises(Unavailable, match="nothing was changed"):
        await catalogue.add(new(), "me")
    assert list(catalogue) == []


@pytest.mark.parametrize("name", ["registry", "registry/m", "blob/m"])
async def test_names_that_are_paths_of_others(catalogue: Catalogue, name: str) -> None:
    """They are refused: what is there could not be told from them (H6)."""
    with pytest.raises(BadRequest, match="its path is another's"):
        await catalogue.add(new(name), "me")
