"""The runtime `llamacpp`, with real processes and the built-in model."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from tests.node.conftest import Journal, reads_proc, runtimes_processes, stop_in_its_tracks

from llm_router.config import NodeConfig
from llm_router.contract import Address
from llm_router.core.ask import Ask
from llm_router.core.health import Signal, State
from llm_router.core.node import Lease
from llm_router.core.registry import Registry
from llm_router.errors import UpstreamFailed
from llm_router.node.models.builtin import CHATML, NAME, SENTENCE, model_bytes
from llm_router.node.models.store import Store
from llm_router.node.runtimes.llamacpp.runtime import LlamaCpp
from llm_router.wire.wishes import Wishes

ID = f"llamacpp/{NAME}"
BROKEN = model_bytes().replace(b"output_norm.weight", b"output_norm.wrong!")  # its header is in order


class House:
    """A runtime and what it works on."""

    def __init__(self, config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> None:
        self.registry = Registry()
        self.session = session
        self.models = config.home / "node" / "models"
        self.changes = 0
        self.restarts = 0
        self.runtime = LlamaCpp(
            self.registry,
            Store(self.models),
            config,
            session,
            journal.log,
            changed=self._changed,
            restarted=self._restarted,
        )

    def _changed(self) -> None:
        self.changes += 1

    def _restarted(self) -> None:
        self.restarts += 1

    @property
    def address(self) -> Address:
        return self.address_of(NAME)

    def address_of(self, model: str) -> Address:
        address = self.registry.nodes[f"llamacpp/{model}"].address
        assert address
        return address

    async def post(self, path: str, model: str = NAME, **body: object) -> Any:  # noqa: ANN401 - whatever JSON holds
        url = self.address_of(model).url + path
        async with self.session.post(url, json={"model": model, **body}) as response:
            return await response.json()

    async def prompt_tokens(self, model: str) -> int:
        answer = await self.post("/v1/chat/completions", model, messages=[{"role": "user", "content": "hi"}])
        return int(answer["usage"]["prompt_tokens"])

    async def ask(self) -> str:
        answer = await self.post("/v1/chat/completions", messages=[{"role": "user", "content": "hi"}])
        return str(answer["choices"][0]["message"]["content"])

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """A request is in flight on the built-in model's upstream."""
        upstream = self.registry.nodes[ID]
        lease = Lease(upstream, Ask(NAME, 0.0), 0.0)
        upstream.leases.add(lease)
        yield
        upstream.leases.remove(lease)

    def process(self) -> psutil.Process:
        """The one process that runs."""
        (child,) = (c for c in runtimes_processes() if "llm_router.node.runtimes.llamacpp.child" in c.cmdline())
        return child


@pytest.fixture
async def house(config: NodeConfig, session: aiohttp.ClientSession, journal: Journal) -> AsyncIterator[House]:
    house = House(config, session, journal)
    yield house
    await house.runtime.stop()


async def test_the_builtin_model_answers(house: House) -> None:
    """After `start` the built-in model says its sentence, at the default temperature, as chat of both APIs."""
    await house.runtime.start()
    assert house.runtime.loaded() == [NAME]
    assert await house.ask() == SENTENCE
    message = await house.post("/v1/messages", max_tokens=100, messages=[{"role": "user", "content": "Are you there?"}])
    assert message["content"][0]["text"] == SENTENCE


async def test_temperature_changes_nothing(house: House) -> None:
    """The next word leads by so much that no sampling misses it."""
    await house.runtime.start()
    messages = [{"role": "user", "content": "sentence. model, hi"}]
    answer = await house.post("/v1/chat/completions", messages=messages, temperature=2.0, top_p=1.0, top_k=0)
    assert answer["choices"][0]["message"]["content"] == SENTENCE
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_embeddings(house: House) -> None:
    """A model that generates makes embeddings too."""
    await house.runtime.start()
    answer = await house.post("/v1/embeddings", input=["one", "two"])
    assert [len(entry["embedding"]) for entry in answer["data"]] == [64, 64]


async def test_its_own_chat_template(house: House) -> None:
    """Messages are put together as the model's file says: one whose template has no words of its own gets fewer."""
    bare = "{% for message in messages %}{{ message['content'] }}{% endfor %}{#"
    template = f"{bare:<{len(CHATML) - 2}}#}}"  # as long as the other, so that all stays where it is
    model = model_bytes().replace(CHATML.encode(), template.encode())
    house.models.mkdir(parents=True)
    (house.models / "bare.gguf").write_bytes(model)
    await house.runtime.start()
    await house.runtime.wake("llamacpp/bare")
    assert await house.prompt_tokens("bare") == len("hi") + 1  # one token that begins every text
    assert await house.prompt_tokens(NAME) > len("hi") + len("user\nassistant\n")


async def test_a_model_made_for_embeddings(house: House) -> None:
    """It makes one vector of as many tokens as it has context for, in the way that its file says."""
    kind = b"\x12\0\0\0\0\0\0\0llama.pooling_type\x04\0\0\0\x02\0\0\0"  # the first token's
    filler = b"\x09\0\0\0\0\0\0\0general.x\x08\0\0\0\x01\0\0\0\0\0\0\0x"  # together 64 bytes: all stays aligned
    head, keys, rest = (whole := model_bytes())[:16], int.from_bytes(whole[16:24], "little"), whole[24:]
    house.models.mkdir(parents=True)
    (house.models / "embeds.gguf").write_bytes(head + (keys + 2).to_bytes(8, "little") + kind + filler + rest)
    await house.runtime.start()
    house.runtime.prepare("llamacpp/embeds", Wishes(context=1024))
    await house.runtime.wake("llamacpp/embeds")
    answer = await house.post("/v1/embeddings", "embeds", input="x" * 1000)
    assert len(answer["data"][0]["embedding"]) == 64


async def test_five_at_once(house: House) -> None:
    """Five requests at once get five answers (requirement B4)."""
    await house.runtime.start()
    assert await asyncio.gather(*(house.ask() for _ in range(5))) == [SENTENCE] * 5


async def test_web_pages_are_kept_out(house: House) -> None:
    """A web page that somebody has open gets no leave to read what the model says."""
    await house.runtime.start()
    headers = {"origin": "http://elsewhere.example"}
    async with house.session.get(f"{house.address.url}/v1/models", headers=headers) as response:
        assert response.headers.get("access-control-allow-origin", "") not in ("*", headers["origin"])


async def test_a_file_that_comes_is_listed_and_one_that_goes_is_not(house: House, journal: Journal) -> None:
    """C8: without a restart. Two looks have to see a new file alike, since it may still be on its way."""
    await house.runtime.start()
    other, whole = house.models / "other.gguf", model_bytes()
    other.write_bytes(whole[: len(whole) // 2])
    await house.runtime.look()
    other.write_bytes(whole)
    await house.runtime.look()
    assert "other" not in house.registry
    await house.runtime.look()
    assert "other" in house.registry
    other.unlink()
    await house.runtime.look()
    assert "other" not in house.registry
    assert house.changes == 3  # the built-in model's start, too
    assert not journal.find("model.skipped")


async def test_a_model_in_use_is_not_taken_away(house: House) -> None:
    """Its file may go; its process stays until the last answer is given."""
    await house.runtime.start()
    with house.in_use():
        (house.models / f"{NAME}.gguf").unlink()
        await house.runtime.look()
        assert await house.ask() == SENTENCE
    await house.runtime.look()
    assert ID not in house.registry.nodes
    assert house.runtime.loaded() == []


async def test_every_stored_model_is_listed_and_only_one_started(house: House) -> None:
    """What is stored can be asked for (C1); a process is started for the built-in model alone."""
    house.models.mkdir(parents=True)
    (house.models / "other.gguf").write_bytes(BROKEN)
    await house.runtime.start()
    assert list(house.registry.available()) == [NAME, "other"]
    assert house.runtime.loaded() == [NAME]
    assert house.registry.nodes["llamacpp/other"].address is None


async def test_skipped_files_are_named(house: House, journal: Journal) -> None:
    """A file that is no model is not listed, and the log says which and why."""
    house.models.mkdir(parents=True)
    (house.models / "page.gguf").write_bytes(b"<html>")
    await house.runtime.start()
    (entry,) = journal.find("model.skipped")
    assert entry["path"].endswith("page.gguf")


async def test_a_model_that_cannot_be_loaded(house: House) -> None:
    """Whoever asks for it is told where to look; the others go on."""
    house.models.mkdir(parents=True)
    (house.models / "broken.gguf").write_bytes(BROKEN)
    await house.runtime.start()
    with pytest.raises(UpstreamFailed, match=r"broken could not be started.*logs/broken\.log") as raised:
        await house.runtime.wake("llamacpp/broken")
    log = str(raised.value).rsplit("see ", 1)[1].rstrip(")")
    assert b"load" in await asyncio.to_thread(Path(log).read_bytes)
    assert await house.ask() == SENTENCE


async def test_one_start_for_many(house: House, journal: Journal) -> None:
    """Requests that come while a model starts wait for that one start, and one that goes away does not end it."""
    await house.runtime.start()
    house.process().kill()
    await journal.entry("model.process_ended")
    first, *others = [asyncio.create_task(house.runtime.wake(ID)) for _ in range(4)]
    await asyncio.sleep(0)  # noqa: TID251 - lets the first one begin
    first.cancel()
    assert len(set(await asyncio.gather(*others))) == 1
    assert house.process().pid


async def test_killed_and_woken(house: House, journal: Journal) -> None:
    """A process that dies is noticed at once and said so; the next request starts another (requirement E3).

    That it is another one is told, so that nobody goes on to keep away from the model (requirement C7).
    """
    await house.runtime.start()
    before = house.process().pid
    assert house.restarts == 0
    house.process().kill()
    await journal.entry("model.process_ended")
    assert house.registry.nodes[ID].address is None
    assert house.runtime.loaded() == []
    assert await house.runtime.wake(ID) == house.address
    assert house.process().pid != before
    assert house.restarts == 1
    assert await house.ask() == SENTENCE


@reads_proc
async def test_a_hung_process_is_replaced(house: House, monkeypatch: pytest.MonkeyPatch, journal: Journal) -> None:
    """A process that was in use and does not answer a look is replaced, and the upstream trusted again (E2)."""
    monkeypatch.setattr("llm_router.node.runtimes.supervisor.LOOK_WITHIN", 0.2)
    await house.runtime.start()
    before = house.process().pid
    with house.in_use():
        await asyncio.to_thread(stop_in_its_tracks, before)
        house.registry.signal(ID, Signal.REQUEST_FAILED, 0.0)
        await house.runtime.check(ID)
        monkeypatch.undo()
    assert house.registry.nodes[ID].state is State.ONLINE
    await journal.entry("model.started", 2)
    assert house.process().pid != before
    assert await house.ask() == SENTENCE


async def test_memory_is_news(house: House, journal: Journal) -> None:
    """The agent hears when a model comes into memory or leaves it, so that the router does (D1)."""
    await house.runtime.start()
    assert (house.changes, house.runtime.loaded()) == (1, [NAME])
    house.process().kill()
    await journal.entry("model.process_ended")
    assert (house.changes, house.runtime.loaded()) == (2, [])


async def test_healthy_process_is_cleared_of_suspicion(house: House) -> None:
    """A look that is answered puts the upstream back in use, with the same process."""
    await house.runtime.start()
    before = house.process().pid
    house.registry.signal(ID, Signal.REQUEST_FAILED, 0.0)
    await house.runtime.check(ID)
    assert house.registry.nodes[ID].state is State.ONLINE
    assert house.process().pid == before


async def test_stop_ends_every_process(house: House) -> None:
    """Nothing of ours runs after `stop`, and nothing is started any more."""
    await house.runtime.start()
    process = house.process()
    await house.runtime.stop()
    assert not process.is_running()
    with pytest.raises(UpstreamFailed, match="stopping"):
        await house.runtime.wake(ID)


@pytest.mark.parametrize("steps", range(4))
async def test_stop_while_starting(house: House, journal: Journal, steps: int) -> None:
    """A start that is under way is given up, however far it is, and whoever waits for it is told."""
    others = set(runtimes_processes())
    await house.runtime.start()
    house.process().kill()
    await journal.entry("model.process_ended")
    starting = asyncio.create_task(house.runtime.wake(ID))
    for _ in range(steps):
        await asyncio.sleep(0)  # noqa: TID251 - lets it go one step on
    await house.runtime.stop()
    with pytest.raises(UpstreamFailed):
        await starting
    assert set(runtimes_processes()) <= others


async def test_others_upstreams(house: House) -> None:
    """What is not llama.cpp's is left to the other runtimes."""
    assert await house.runtime.wake("ollama/http://127.0.0.1:11434") is None


async def test_no_orphans(tmp_path: Path) -> None:
    """`kill -9` of whoever started a model's process ends that process too."""
    program = (
        "import asyncio, sys; from pathlib import Path; from llm_router.node.models import builtin; "
        "from llm_router.node.runtimes.llamacpp.child import Settings; "
        "from llm_router.node.runtimes.llamacpp.process import ModelProcess; "
        "path = Path(sys.argv[1]); builtin.write(path / 'm.gguf'); "
        "s = Settings('m', str(path / 'm.gguf'), str(path / 'm.log'), 1, 512, 1); "
        "p = ModelProcess(s, lambda *_: None); "
        "run = asyncio.new_event_loop(); run.run_until_complete(p.wake()); print(p.pid, flush=True); run.run_forever()"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(tmp_path), stdout=PIPE)
    assert parent.stdout
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    gone, alive = await asyncio.to_thread(psutil.wait_procs, [child], 30)
    assert gone
    assert not alive
