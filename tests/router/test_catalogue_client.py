"""`llm-router models` against a running router (requirements C8, F3, G5, H6)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from tests.doubles.hub import Hub
from tests.models import ggufs

from llm_router.catalogue_client import Placement, Registered, Row, rows_of
from llm_router.cli import commands
from llm_router.config import RouterConfig
from llm_router.contract import NodeSettings, NodeView
from llm_router.router.app import serving


async def run(*arguments: str, router: str) -> Result:
    """A command, in a thread: the router is in this one."""
    return await asyncio.to_thread(
        CliRunner().invoke, commands, [*arguments, "--router", router], prog_name="llm-router"
    )


def said(result: Result) -> str:
    """The command's last line; before it may be what the router logs meanwhile."""
    return result.output.splitlines()[-1]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with Hub(tmp_path / "hub") as running:
        model = ggufs.write(tmp_path / "m.gguf").read_bytes()
        running.put("org/Tiny", {"tiny-Q4_0.gguf": model, "tiny-Q8_0.gguf": model + bytes(32)})
        yield running


@pytest.fixture
async def router(config: RouterConfig, hub: Hub) -> AsyncIterator[str]:
    config = msgspec.structs.replace(config, hf_endpoint=hub.url, model_origins=hub.origins)
    async with serving(config) as port:
        yield f"http://127.0.0.1:{port}"


async def test_add_list_remove(router: str) -> None:
    """A repository is registered with a placement, is in the list, and is not after it was removed."""
    options = ["--policy", "quality", "--nodes", "2", "--pin", "n1", "--preload"]
    added = await run("models", "add", "org/Tiny", *options, router=router)
    assert said(added) == "registered tiny:q8_0 (0.0 MB, takes 66.6 MB of memory): 2 nodes, 1 pinned, preloaded"
    listed = await run("models", router=router)
    assert "tiny:q8_0" in listed.output
    (row,) = msgspec.json.decode((await run("models", "list", "--json", router=router)).output, type=list[Row])
    assert (row.model, row.nodes, row.placement) == ("tiny:q8_0", [], "2 nodes, 1 pinned, preloaded")
    removed = await run("models", "rm", "tiny:q8_0", router=router)
    assert (removed.exit_code, said(removed)) == (0, "removed tiny:q8_0")
    assert "tiny" not in (await run("models", router=router)).output


async def test_add_a_url(router: str, hub: Hub) -> None:
    """A URL is one; what it is called can be said."""
    added = await run("models", "add", f"{hub.cdn}/org/Tiny/tiny-Q4_0.gguf", "--name", "team/x", router=router)
    assert (added.exit_code, said(added).split()[1]) == (0, "team/x")


async def test_what_the_router_refuses(router: str) -> None:
    """Its words and status 1: here, what there is to choose from."""
    refused = await run("models", "add", "org/Tiny", router=router)
    assert refused.exit_code == 1
    assert "tiny-Q4_0.gguf" in refused.output
    assert (await run("models", "rm", "other", router=router)).exit_code == 1


@pytest.mark.parametrize(
    ("last", "status", "words"),
    [({"status": "success"}, 0, "pulled m"), ({"error": "no node can run it"}, 1, "no node")],
)
async def test_pull(last: dict[str, str], status: int, words: str) -> None:
    """What happens is told line by line, and at the end whether it went well; the node is the one that was named."""
    asked: list[tuple[str, object]] = []

    async def pull(request: web.Request) -> web.Response:
        asked.append((request.path_qs, msgspec.json.decode(await request.read())))
        progress = {"status": "pulling abc", "digest": "sha256:abc", "total": 10, "completed": 5}
        lines = [{"status": "pulling manifest"}, progress, last]
        return web.Response(body=b"\n".join(msgspec.json.encode(line) for line in lines))

    app = web.Application()
    app.router.add_post("/api/pull", pull)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    pulled = await run("models", "pull", "m", "--node", "ate lier", router=url)
    await runner.cleanup()
    assert asked == [("/api/pull?node=ate+lier", {"model": "m", "stream": True})]
    assert pulled.exit_code == status
    assert "pulling manifest" in pulled.output
    assert words in pulled.output


def node(name: str, models: list[str], offered: list[str], state: str = "online") -> NodeView:
    return NodeView(
        id=name,
        name=name,
        kind="agent",
        state=state,
        url="http://box:1",
        local=False,
        runtimes=[],
        models=models,
        loaded=models[:1],
        excluded=[],
        exclusions=[],
        slots=4,
        in_flight=0,
        done=0,
        failed=0,
        cpu=0.0,
        memory=0.0,
        gpus=[],
        backend="cpu",
        progress=[],
        settings=NodeSettings(),
        os="",
        last_seen=0.0,
        offered=offered,
    )


def test_rows() -> None:
    """A model is with the nodes that hold it, apart from those that could fetch it, and without any if registered."""
    nodes = [node("a", ["m", "n"], []), node("b", ["o", "m"], ["m"]), node("c", ["m"], [], state="offline")]
    assert rows_of(nodes, [Registered("m", 5, 9, Placement(2)), Registered("z", 1, 0, Placement())]) == [
        Row("m", ["a"], ["a"], ["b"], 5, "2 nodes"),
        Row("n", ["a"], [], []),
        Row("o", ["b"], ["b"], []),
        Row("z", [], [], [], 1, "on demand"),
    ]
