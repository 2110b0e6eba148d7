"""The catalogue as the database keeps it (requirement H6)."""

from llm_router.models.gguf import Facts
from llm_router.models.manifest import Manifest, ModelFile
from llm_router.router.models.entry import Entry, Placement
from llm_router.router.models.statements import load_models, put_model, remove_model
from llm_router.router.store.database import Database


def entry(name: str, nodes: int = 1) -> Entry:
    files = [ModelFile("m.gguf", 5 << 40, "ab" * 32, "https://host/m.gguf")]
    facts = Facts(version=3, architecture="llama", context=2048)
    manifest = Manifest(
        name, "gguf", files, ["llamacpp"], architectures=["llama"], chat_template="{{ x }}", facts=facts
    )
    return Entry(
        manifest=manifest,
        placement=Placement(nodes, ["n1"]),
        memory=6 << 40,
        quantization="Q4_K_M",
        chat_template=True,
        context=2048,
        created=1.5,
    )


async def test_entries_come_back_as_they_were(database: Database) -> None:
    """By name, with everything; sizes may be beyond 32 bits."""
    await database.run(put_model, entry("b"))
    await database.run(put_model, entry("a/b:c"))
    assert await database.run(load_models) == [entry("a/b:c"), entry("b")]


async def test_the_latest_counts(database: Database) -> None:
    """An entry that is put again replaces the one before; a removed one is gone."""
    await database.run(put_model, entry("m"))
    await database.run(put_model, entry("m", nodes=3))
    assert await database.run(load_models) == [entry("m", nodes=3)]
    await database.run(remove_model, "m")
    assert await database.run(load_models) == []
