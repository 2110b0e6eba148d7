"""`--log-bodies`: prompts and answers are kept for who wants that, and for nobody else (issue's item 3)."""

import aiohttp
import msgspec
from sqlalchemy import Connection, text
from structlog.testing import capture_logs
from tests.doubles.fake_runtime import FakeRuntime, Options

from llm_router.config import RouterConfig
from llm_router.contract import Attach
from llm_router.router import bodies as logs
from llm_router.router.app import serving
from llm_router.router.bodies import BodyLog
from llm_router.router.store.bodies import latest_body
from llm_router.router.store.database import Database

PROMPT = b'{"model":"tiny","messages":[{"role":"user","content":"a secret of mine"}]}'


async def say(api: aiohttp.ClientSession) -> None:
    async with api.post("/v1/chat/completions", data=PROMPT, headers={"x-request-id": "r1"}) as response:
        assert response.status == 200
        await response.read()


async def test_what_was_said_can_be_read_where_it_is_kept(config: RouterConfig) -> None:
    """Right after the answer, by the request's id."""
    keeping = msgspec.structs.replace(config, log_bodies=True)
    async with (
        FakeRuntime(Options(kind="openai", models=["tiny"], tokens=3)) as runtime,
        serving(keeping) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api,
    ):
        async with api.post("/v0/nodes/attach", data=msgspec.json.encode(Attach(runtime.url, "openai"))):
            pass
        await say(api)
        async with api.get("/v0/requests/r1/body") as response:
            body = msgspec.json.decode(await response.read())
        async with api.get("/v0/requests/r2/body") as response:
            assert response.status == 404
    assert body["prompt"] == PROMPT.decode()
    assert "one two three" in body["answer"]


async def test_by_default_nothing_is_kept(config: RouterConfig) -> None:
    """Not in the database, nor in its journal."""
    async with (
        FakeRuntime(Options(kind="openai", models=["tiny"], tokens=3)) as runtime,
        serving(config) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api,
    ):
        async with api.post("/v0/nodes/attach", data=msgspec.json.encode(Attach(runtime.url, "openai"))):
            pass
        await say(api)
        async with api.get("/v0/requests/r1/body") as response:
            assert response.status == 404
        files = [file.read_bytes() for file in (config.home / "router").iterdir()]
    assert not any(b"a secret of mine" in file for file in files)


async def test_a_clean_stop_loses_nothing(database: Database) -> None:
    """What waits is written."""
    log = BodyLog(database)
    log.start()
    log("r1", b"p", b"a")
    await log.stop()
    body = await database.run(latest_body, "r1")
    assert body is not None
    assert (body.prompt, body.answer) == ("p", "a")


async def test_what_cannot_be_written_now_is_written_later(database: Database) -> None:
    """And what the log says of it is not what was said."""
    log = BodyLog(database)
    await database.run(sql, "ALTER TABLE request_bodies RENAME TO elsewhere")
    with capture_logs() as logged:
        log("r1", b"a secret of mine", b"a")
        await log.flush()
    assert [line["event"] for line in logged] == ["bodies.delayed"]
    assert "secret" not in str(logged)
    await database.run(sql, "ALTER TABLE elsewhere RENAME TO request_bodies")
    await log.flush()
    assert await database.run(latest_body, "r1") is not None


async def test_what_waits_is_bounded(database: Database) -> None:
    """A database that is gone does not fill the memory."""
    log = BodyLog(database)
    piece = b"x" * (logs.LIMIT // 10)
    for _ in range(12):
        log("r1", piece, b"")
    assert log.lost == 2
    await log.flush()
    log("r1", piece, b"")
    assert log.lost == 2


def sql(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))
