"""llama.cpp's own server instead of the wheel's: when it is used, how it is started, how it ends."""

import asyncio
import os
import shlex
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from msgspec.structs import replace
from tests.node.conftest import Journal, runtimes_processes

from llm_router.config import NodeConfig
from llm_router.core.registry import Registry
from llm_router.errors import ConfigError, UpstreamFailed
from llm_router.node.models.builtin import NAME, SENTENCE, model_bytes, write
from llm_router.node.models.store import Store
from llm_router.node.runtimes.llamacpp.child import Settings
from llm_router.node.runtimes.llamacpp.llama_server import Build, arguments, choose, environment
from llm_router.node.runtimes.llamacpp.runtime import LlamaCpp

DOUBLE = Path(__file__).parents[3] / "doubles" / "llama_server.py"
GPU = "CUDA0: Some Card (24124 MiB, 23700 MiB free)"
WHEEL = Build.of_wheel().number

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the double is started by a shell script")


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A `llama-server`, in a directory of its own."""
    path = tmp_path / "bin" / "llama-server"
    path.parent.mkdir()
    write_script(path, f'exec {shlex.quote(sys.executable)} -P {shlex.quote(str(DOUBLE))} "$@"')
    return path


def write_script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@pytest.fixture
def on_path(server: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{server.parent}{os.pathsep}{os.environ['PATH']}")
    return server


# -- which one


@pytest.mark.parametrize(
    ("build", "devices", "chosen"),
    [(WHEEL + 1, "", True), (WHEEL, "", False), (WHEEL - 1, "", False), (WHEEL - 1, GPU, True), (WHEEL + 1, GPU, True)],
)
async def test_the_better_one_is_used(
    on_path: Path, monkeypatch: pytest.MonkeyPatch, *, build: int, devices: str, chosen: bool
) -> None:
    """One on PATH is used when its build is newer than the wheel's, or uses the GPU where the wheel does not."""
    monkeypatch.setenv("DOUBLE_BUILD", str(build))
    monkeypatch.setenv("DOUBLE_DEVICES", devices)
    found = await choose("")
    assert (found.path == str(on_path), found.path == "") == (chosen, not chosen)
    if chosen:
        assert (found.version, found.gpu) == (f"b{build}", devices != "")


async def test_without_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The wheel's is used, and nothing is started to find that out."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = await choose("")
    assert (found.path, found.number) == ("", WHEEL)
    assert found.version.endswith(str(WHEEL))


async def test_one_that_is_asked_for(server: Path) -> None:
    """It is used, old as it may be."""
    assert (await choose(str(server))).path == str(server)


@pytest.mark.parametrize("name", ["/bin/true", "/nowhere/llama-server"])
async def test_one_that_is_none(name: str) -> None:
    """What the setting names has to be llama.cpp's server; the error says which setting."""
    with pytest.raises(ConfigError, match="--llama-server"):
        await choose(name)


async def test_one_on_the_path_that_is_none(on_path: Path) -> None:
    """It is passed over."""
    write_script(on_path, "echo something else")
    assert (await choose("")).path == ""


@pytest.mark.parametrize(
    "text", ["version: 0.6.0 (build 11476, commit 8a3d2f1)", "version: 11476 (8a3d2f1)", "version: 11476 (unknown)"]
)
async def test_how_builds_say_their_number(server: Path, text: str) -> None:
    """Newer ones have a version beside it."""
    write_script(server, f"echo {shlex.quote(text)} >&2")
    assert (await choose(str(server))).number == 11476


def test_what_it_is_told() -> None:
    """Context is for all requests together; only what old builds may not know is said in variables."""
    settings = Settings("m", "/m.gguf", "/m.log", parallel=4, context=2048, threads=3, cache=7)
    told = arguments(settings, 1234, embeds=True)
    assert told[told.index("--ctx-size") + 1] == "8192"
    assert told[told.index("--pooling") + 1] == "last"
    assert "--pooling" not in arguments(replace(settings, pools=True), 1234, embeds=True)
    assert "--embeddings" not in arguments(settings, 1234, embeds=False)
    assert "--chat-template-file" not in told
    assert arguments(replace(settings, template="/m.jinja"), 1234, embeds=True)[-4:-2] == [
        "--chat-template-file",
        "/m.jinja",
    ]
    variables = environment(settings, {"HOME": "/h", "LLAMA_ARG_HOST": "0.0.0.0"})
    assert variables["LLAMA_ARG_CACHE_RAM"] == "7"
    assert variables["HOME"] == "/h"
    assert "LLAMA_ARG_HOST" not in variables  # of a server that somebody else starts


# -- as the runtime's


class House:
    """A runtime that uses the double, and two models beside the built-in one."""

    def __init__(self, config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> None:
        self.registry = Registry()
        self.session = session
        self.models = config.home / "node" / "models"
        self.logs = config.home / "node" / "logs"
        self.models.mkdir(parents=True)
        write(self.models / "other.gguf")
        (self.models / "broken.gguf").write_bytes(model_bytes().replace(b"output_norm.weight", b"output_norm.wrong!"))
        nothing = lambda: None  # noqa: E731 - nobody wants to know
        store = Store(self.models)
        self.runtime = LlamaCpp(self.registry, store, config, session, journal.log, changed=nothing, restarted=nothing)

    async def post(self, model: str, path: str, **body: object) -> Any:  # noqa: ANN401 - whatever JSON holds
        address = self.registry.nodes[f"llamacpp/{model}"].address
        assert address
        async with self.session.post(address.url + path, json={"model": model, **body}) as response:
            return await response.json()

    async def ask(self, model: str) -> str:
        answer = await self.post(model, "/v1/chat/completions", messages=[{"role": "user", "content": "hi"}])
        return str(answer["choices"][0]["message"]["content"])


@pytest.fixture
async def house(
    config: NodeConfig, session: aiohttp.ClientSession, journal: Journal, server: Path
) -> AsyncIterator[House]:
    before = set(psutil.Process().children(recursive=True))
    os.environ["DOUBLE_BUILD"] = str(WHEEL + 1)
    house = House(replace(config, llama_server=str(server)), session, journal)
    yield house
    del os.environ["DOUBLE_BUILD"]
    await house.runtime.stop()
    assert set(psutil.Process().children(recursive=True)) <= before


async def test_it_answers(house: House) -> None:
    """Chat and embeddings, by a `llama-server`; it is what the node says that it runs."""
    await house.runtime.start()
    assert house.runtime.facts().version == f"b{WHEEL + 1}"
    assert await house.ask(NAME) == SENTENCE
    answer = await house.post(NAME, "/v1/embeddings", input=["one", "two"])
    assert [len(entry["embedding"]) for entry in answer["data"]] == [64, 64]
    commands = [c.cmdline() for c in psutil.Process().children(recursive=True)]
    assert any(str(DOUBLE) in command for command in commands)


async def test_one_that_dies(house: House, journal: Journal) -> None:
    """Its end is noticed, with its guard's, and the next request starts another."""
    await house.runtime.start()
    (guard,) = runtimes_processes()
    (child,) = guard.children()
    child.kill()
    await journal.entry("model.process_ended")
    await house.runtime.wake(f"llamacpp/{NAME}")
    assert await house.ask(NAME) == SENTENCE


async def test_one_that_cannot_load(house: House) -> None:
    """The error says what llama.cpp said, and where to look; what it said another time does not matter."""
    await house.runtime.start()
    (house.logs / "broken.log").write_text("0.00.000.001 E old: failed to allocate\n")
    with pytest.raises(UpstreamFailed, match=r"broken could not be started: .*output_norm.*logs/broken\.log"):
        await house.runtime.wake("llamacpp/broken")


async def test_memory_that_ran_out(
    house: House, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An estimate was too small: everything idle goes, and it is tried once more."""
    (tmp_path / "room").mkdir()
    monkeypatch.setenv("DOUBLE_ROOM", f"{tmp_path / 'room'}:1")
    await house.runtime.start()
    await house.runtime.wake("llamacpp/other")
    assert house.runtime.loaded() == ["other"]
    assert "failed to allocate" in journal.find("model.out_of_memory")[0]["reason"]
    assert await house.ask("other") == SENTENCE


async def test_memory_that_is_never_enough(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is said: memory, and not the model, is what is wrong."""
    (tmp_path / "room").mkdir()
    await house.runtime.start()
    monkeypatch.setenv("DOUBLE_ROOM", f"{tmp_path / 'room'}:0")
    with pytest.raises(UpstreamFailed, match=r"other could not be started: .*failed to allocate"):
        await house.runtime.wake("llamacpp/other")
    assert house.runtime.loaded() == []


async def test_no_orphans(tmp_path: Path, server: Path) -> None:
    """`kill -9` of whoever started a `llama-server` ends that too, though it does not look at its standard input."""
    program = (
        "import asyncio, sys, aiohttp; from pathlib import Path; from llm_router.node.models import builtin; "
        "from llm_router.node.runtimes.llamacpp.llama_server import Build, LlamaServer; "
        "from llm_router.node.runtimes.llamacpp.child import Settings; "
        "path = Path(sys.argv[1]); builtin.write(path / 'm.gguf'); "
        "s = Settings('m', str(path / 'm.gguf'), str(path / 'm.log'), 1, 512, 1)\n"
        "async def main():\n"
        "    async with aiohttp.ClientSession() as session:\n"
        "        p = LlamaServer(Build(sys.argv[2], 1, False), s, session, lambda *_: None)\n"
        "        await p.wake(); print(p.pid, flush=True); await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), str(server), stdout=PIPE
    )
    assert parent.stdout
    guard = psutil.Process(int(await parent.stdout.readline()))
    family = [guard, *guard.children(recursive=True)]
    assert len(family) > 1
    parent.kill()
    await parent.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 30)
    assert not alive
