"""The double does what the tests take it to do."""

import asyncio
import signal
import subprocess
import sys

import aiohttp
import msgspec
import pytest
from tests.doubles import fake_runtime
from tests.doubles.fake_runtime import Counters, FakeRuntime, Faults, Options

TALK = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}


async def post(fake: FakeRuntime, path: str, **fields: object) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.post(fake.url + path, json=TALK | fields) as response:
        return response.status, await response.read()


@pytest.mark.parametrize(("path", "end"), [("/api/chat", b'"done":true'), ("/v1/chat/completions", b"[DONE]")])
async def test_streams(path: str, end: bytes) -> None:
    """A stream has one record for each token, and its protocol's end."""
    async with FakeRuntime(Options(tokens=3)) as fake:
        status, body = await post(fake, path, stream=True)
    assert status == 200
    assert body.count(b'"content":"') == 4  # the last record's is empty
    assert end in body.splitlines()[-1] + body.splitlines()[-2]


@pytest.mark.parametrize("path", fake_runtime._ANSWERS)  # noqa: SLF001 - the module's own test
async def test_every_path_answers_whole(path: str) -> None:
    """Every path gives one JSON object when nothing is streamed."""
    async with FakeRuntime() as fake:
        status, body = await post(fake, path, stream=False)
    assert status == 200
    assert isinstance(msgspec.json.decode(body), dict)


async def test_openai_kind() -> None:
    """An OpenAI-compatible server has no Ollama API, and no Anthropic one."""
    async with FakeRuntime(Options(kind="openai")) as fake:
        assert (await post(fake, "/api/chat"))[0] == 404
        assert (await post(fake, "/v1/messages"))[0] == 404
        assert (await post(fake, "/v1/chat/completions"))[0] == 200


async def test_untouched_request_is_kept() -> None:
    """The last request is kept as it came, with its path and headers."""
    async with (
        FakeRuntime() as fake,
        aiohttp.ClientSession() as session,
        session.post(f"{fake.url}/api/chat?a=1", data=b' {"model":"fake"}', headers={"X-Mine": "2"}),
        session.get(f"{fake.url}/_control") as control,
    ):
        counters = msgspec.json.decode(await control.read(), type=Counters)
    assert counters.requests == 1
    assert counters.last.body == b' {"model":"fake"}'
    assert counters.last.path == "/api/chat?a=1"
    assert counters.last.headers["x-mine"] == "2"


@pytest.mark.parametrize("fault", ["refuse", "close_before_first_byte", "garbage"])
async def test_faults_before_the_answer(fault: str) -> None:
    """A fault lasts for as many requests as it is told to."""
    async with FakeRuntime() as fake:
        fake.faults = msgspec.convert({fault: True, "times": 1}, Faults)
        with pytest.raises(aiohttp.ClientError):
            await post(fake, "/api/chat")
        assert (await post(fake, "/api/chat"))[0] == 200


async def test_cut() -> None:
    """A stream that is cut ends in the middle."""
    async with FakeRuntime(Options(tokens=5)) as fake:
        fake.faults = Faults(cut_after=2)
        with pytest.raises(aiohttp.ClientPayloadError):
            await post(fake, "/api/chat")


async def test_status_and_slots() -> None:
    """It fails with the status it is told to."""
    async with FakeRuntime() as fake:
        fake.faults = Faults(status=500)
        assert (await post(fake, "/v1/messages"))[0] == 500


async def test_one_model_fails() -> None:
    """It fails for one model and answers for the others, and says when to come again."""
    async with FakeRuntime(Options(models=["fake", "other"])) as fake:
        fake.faults = Faults(only="other", status=503, retry_after=7, times=1)
        assert (await post(fake, "/api/chat"))[0] == 200
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{fake.url}/api/chat", json={"model": "other"}) as r,
        ):
            assert (r.status, r.headers["Retry-After"]) == (503, "7")
        assert (await post(fake, "/api/chat", model="other"))[0] == 200


async def test_models_change() -> None:
    """Its models change when it is told to."""
    async with FakeRuntime() as fake, aiohttp.ClientSession() as session:
        await session.post(f"{fake.url}/_models", json=["new"])
        assert (await post(fake, "/api/chat"))[0] == 404
        assert (await post(fake, "/api/chat", model="new"))[0] == 200


async def test_peak() -> None:
    """It counts how many requests were worked for at once."""
    async with FakeRuntime(Options(delay=0.01)) as fake:
        await asyncio.gather(*(post(fake, "/api/chat") for _ in range(3)))
        assert fake.counters.peak == 3


@pytest.mark.parametrize("stream", [True, False])
async def test_close_delimited(stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """An answer without length and chunks is whole when its connection closes."""
    async with FakeRuntime(Options(tokens=2)) as fake:
        fake.faults = Faults(close_delimited=True)
        status, body = await post(fake, "/api/chat", stream=stream)
    assert status == 200
    assert b'"done":true' in body


def test_program() -> None:
    """It says its port, and ends with whoever started it, or on SIGTERM."""
    command = [sys.executable, fake_runtime.__file__, "--models", "a,b", "--tokens", "2"]
    for told in (False, True):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert msgspec.json.decode(process.stdout.readline())["port"] > 0
            if told:
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
            else:
                process.stdin.close()
                assert process.wait(20) == 0
