"""Prompts and answers on record."""

from llm_router.router.store.bodies import Body, add_bodies, latest_body
from llm_router.router.store.database import Database


async def test_a_body_is_found_by_its_request(database: Database) -> None:
    """As it was said, in every script; of an id that came twice, the newest."""
    asked = Body("r1", 2.0, "こんにちは\n", '{"content":"hello"}')
    await database.run(add_bodies, [Body("r1", 1.0, "first", ""), asked, Body("r2", 3.0, "", "")])
    assert await database.run(latest_body, "r1") == asked


async def test_nothing_is_found_of_what_is_not_kept(database: Database) -> None:
    """None, and no error."""
    assert await database.run(latest_body, "r1") is None
