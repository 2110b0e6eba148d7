"""The lists that clients of all three APIs ask for, and how errors of control apps look."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from litestar import Litestar, get
from litestar.params import FromQuery
from litestar.testing import TestClient

from llm_router.contract import Address, ModelEntry
from llm_router.core.health import Signal, State
from llm_router.core.node import EVERY_DIALECT, Node
from llm_router.core.registry import Registry
from llm_router.errors import NodeNotFound
from llm_router.gateway.control_app import control_app
from llm_router.gateway.lists import list_routes

Client = TestClient[Litestar]


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    for name, models in (("n1", ["b", "a/x:1"]), ("n2", ["b", "c"])):
        address = Address("127.0.0.1", 1)
        registry.add(Node(name, name, "agent", address, dialects=EVERY_DIALECT, state=State.ONLINE, models=models), 0.0)
    return registry


@pytest.fixture
def client(registry: Registry) -> Iterator[Client]:
    @get("/broken", sync_to_thread=False)
    def broken() -> None:
        raise KeyError("what nobody should see")

    @get("/known", sync_to_thread=False)
    def known(number: FromQuery[int]) -> int:
        raise NodeNotFound(f"no node {number}")

    with TestClient(control_app([*list_routes(registry), broken, known]), raise_server_exceptions=False) as client:
        yield client


def test_openai_list(client: Client) -> None:
    """The union of what online nodes list, each once, by name (requirement C8)."""
    answer = client.get("/v1/models").json()
    assert answer["object"] == "list"
    assert [model["id"] for model in answer["data"]] == ["a/x:1", "b", "c"]
    assert answer["data"][0]["object"] == "model"


def test_openai_model(client: Client) -> None:
    """One model, with a slash in its id or not; one that is not there gives 404 in OpenAI's shape."""
    assert client.get("/v1/models/a/x:1").json()["id"] == "a/x:1"
    answer = client.get("/v1/models/nope")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_what_is_told_of_a_model(registry: Registry) -> None:
    """An entry has what whoever has the model says of it, and a time in any case."""
    tell = partial(ModelEntry, size=5, created=7)
    with TestClient(control_app(list_routes(registry, tell))) as client:
        assert [(entry["size"], entry["created"]) for entry in client.get("/v1/models").json()["data"]] == [(5, 7)] * 3
        assert client.get("/v1/models/c").json()["size"] == 5
    with TestClient(control_app(list_routes(registry))) as client:
        assert client.get("/v1/models/c").json()["created"] > 0


def test_offline_models_are_gone(client: Client, registry: Registry) -> None:
    """A node that is offline takes its models with it (requirement C9)."""
    registry.signal("n1", Signal.GOODBYE, 0.0)
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["b", "c"]


def test_signs_of_life(client: Client) -> None:
    """What Ollama's own clients ask first."""
    assert client.get("/").text == "Ollama is running"
    assert client.head("/").status_code == 200
    assert client.get("/api/version").json()["version"]


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/api/nope", lambda body: body["error"]),
        ("/v1/nope", lambda body: body["error"]["message"]),
        ("/v0/nope", lambda body: body["error"]["message"]),
        ("/v1/messages/nope", lambda body: body["error"]["message"]),
    ],
)
def test_unknown_paths(client: Client, path: str, shape: Any) -> None:  # noqa: ANN401 - a function of JSON
    """404 that names the path, in the shape of the API it belongs to."""
    answer = client.get(path)
    assert answer.status_code == 404
    assert path in shape(answer.json())


def test_wrong_method(client: Client) -> None:
    """405 in the caller's shape, with the methods that would do."""
    answer = client.post("/api/version")
    assert answer.status_code == 405
    assert answer.json() == {"error": "Method Not Allowed"}


def test_our_errors(client: Client) -> None:
    """An error of ours keeps its status, code and message."""
    answer = client.get("/known?number=7")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": "no node 7",
        "type": "not_found_error",
        "code": "node_not_found",
        "param": None,
    }


def test_what_cannot_be_read(client: Client) -> None:
    """400 says where."""
    answer = client.get("/known?number=x")
    assert answer.status_code == 400
    assert "number" in answer.json()["error"]["message"]


def test_unforeseen_errors(client: Client) -> None:
    """500 in the caller's shape, without what it was about."""
    answer = client.get("/broken")
    assert answer.status_code == 500
    assert "nobody should see" not in answer.text
    assert answer.json()["error"]["code"] == "internal_error"
