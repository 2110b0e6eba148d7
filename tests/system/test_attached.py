"""Servers that have no agent: attached by their URL, checked by the router itself (requirements B1, C8, E3)."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import pytest
from tests.system.harness import Fake, House, Router, call, chat, eventually, house_in, run

UNUSUAL = (
    b'{ "model":"o1",\n "options": {"num_ctx": 1e3, "x_new": [1.0, null]}, "stream" : false,"m\\u00e9":"\xc3\xa9" }'
)


class Attached(NamedTuple):
    router: Router
    ollama: Fake
    openai: Fake


@pytest.fixture(scope="module")
def attached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attached]:
    """A router with an Ollama and an OpenAI-compatible server."""
    with house_in(tmp_path_factory.mktemp("attached")) as house:
        router = house.router("--probe-every", "0.5")
        ollama = house.fake("ollama", kind="ollama", models="o1,both")
        openai = house.fake("openai", kind="openai", models="c1,both")
        attach(router, ollama, "ollama")
        attach(router, openai, "openai")
        yield Attached(router, ollama, openai)


def attach(router: Router, fake: Fake, kind: str) -> None:
    arguments = ["--kind", kind, "--name", fake.name, "--slots", "3", "--router", router.url]
    done = run("nodes", "attach", fake.url, *arguments)
    assert done.returncode == 0, done.stderr
    assert fake.name in done.stdout


def test_models(attached: Attached) -> None:
    """Their models are listed, each once, and by the command line too."""
    listed = call(attached.router.url, "GET", "/api/tags").json()["models"]
    assert sorted(m["name"].removesuffix(":latest") for m in listed) == ["both", "c1", "o1"]

    said = run("models", "list", "--json", "--router", attached.router.url)
    rows = {row["model"]: row["nodes"] for row in msgspec.json.decode(said.stdout)}
    assert rows == {"both": ["ollama", "openai"], "c1": ["openai"], "o1": ["ollama"]}
    assert {v.slots for v in attached.router.nodes().values()} == {3}


@pytest.mark.parametrize("stream", [True, False])
def test_ollama_call_to_openai_server(attached: Attached, stream: bool) -> None:  # noqa: FBT001 - a test's parameter
    """The router translates for a server that does not speak the client's API."""
    answer = chat(attached.router.url, "c1", stream=stream, options={"num_predict": 5})
    records = answer.records()

    assert answer.status == 200
    assert "".join(r["message"]["content"] for r in records).split() == ["one", "two", "three", "four", "five"]
    assert records[-1]["done"] is True
    assert records[-1]["eval_count"] == 5
    assert attached.openai.seen().last.path == "/v1/chat/completions"


@pytest.mark.parametrize(
    "path",
    [
        "/api/chat",
        "/api/generate",
        "/api/embed",
        "/api/embeddings",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
    ],
)
def test_untouched(attached: Attached, path: str) -> None:
    """The body arrives byte for byte, whatever it holds, and so do headers and the query (B1)."""
    headers = {"Content-Type": "application/json; charset=utf-8", "X-Mine": "1", "Anthropic-Version": "2023-06-01"}
    answer = call(attached.router.url, "POST", f"{path}?beta=true", UNUSUAL, headers)

    seen = attached.ollama.seen().last
    assert answer.status == 200
    assert seen.body == UNUSUAL
    assert seen.path == f"{path}?beta=true"
    assert {k: seen.headers[k.lower()] for k in headers} == headers


def test_error_passes_through(attached: Attached) -> None:
    """What the server says about a client's own fault reaches the client as it is."""
    body = {"model": "o1", "messages": []}
    attached.ollama.set(status=422, times=1)
    answer = call(attached.router.url, "POST", "/v1/chat/completions", body)
    assert answer.status == 422
    assert answer.json()["error"]["message"] == "told to fail"


@pytest.mark.parametrize("framing", ["close_delimited", "close_after_answer"])
def test_framings(attached: Attached, framing: str) -> None:
    """An answer that ends with its connection is whole, and so is the one after it."""
    attached.ollama.set(**{framing: True})
    try:
        for stream in (True, False, True):
            assert chat(attached.router.url, "o1", stream=stream).records()[-1]["eval_count"] == 16
    finally:
        attached.ollama.set()


def test_dies_and_returns(house: House) -> None:
    """A server that dies is offline soon and its models are gone; it is back by itself (E3, C9)."""
    router = house.router("--probe-every", "0.5")
    fake = house.fake(kind="ollama")
    attach(router, fake, "ollama")
    assert chat(router.url, "fake").status == 200

    fake.kill()
    eventually(lambda: router.node("fake").state == "offline")
    assert call(router.url, "GET", "/v1/models").json()["data"] == []
    fake.start()
    eventually(lambda: router.is_online("fake", model="fake"))
    assert chat(router.url, "fake").status == 200


def test_new_model_shows(house: House) -> None:
    """A model that the server has gained is listed within 10 s (C8)."""
    router = house.router("--probe-every", "0.5")
    fake = house.fake(kind="openai", models="first")
    attach(router, fake, "openai")
    fake.kill()
    fake.command[fake.command.index("--models") + 1] = "first,second"
    fake.start()
    eventually(lambda: "second" in router.node("fake").models, 10)


def test_remove(house: House) -> None:
    """A node that is removed is gone, also after a restart; a second time it is a clear failure."""
    router = house.router()
    fake = house.fake()
    attach(router, fake, "openai")
    identity = router.node("fake").id

    assert run("nodes", "remove", identity, "--router", router.url).returncode == 0
    assert router.nodes() == {}
    again = run("nodes", "remove", identity, "--router", router.url)
    assert again.returncode == 1
    assert identity in again.stderr
    router.stop()
    router.start()
    assert router.nodes() == {}


def test_attach_survives(house: House) -> None:
    """An attached server is still there after the router was started again (A8)."""
    router = house.router("--probe-every", "0.5")
    attach(router, house.fake(), "openai")
    router.kill()
    router.start()
    eventually(lambda: router.is_online("fake", model="fake"), 10)
    assert chat(router.url, "fake").status == 200


def test_attach_nobody(house: House) -> None:
    """A server that cannot be reached is refused with a reason, or kept as offline and said to be so."""
    router = house.router()
    done = run("nodes", "attach", "http://127.0.0.1:9", "--kind", "openai", "--router", router.url)
    assert done.returncode == 1 or "offline" in done.stdout
    assert "Traceback" not in done.stderr
