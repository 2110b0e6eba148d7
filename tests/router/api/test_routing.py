"""`/v0/routing/explain`: the route, with the decisions of a real scheduler behind it."""

from collections.abc import Iterator

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from llm_router.contract import Address, Explanation
from llm_router.core.estimates import Estimates
from llm_router.core.node import EVERY_DIALECT, Node
from llm_router.core.policies import make_policy
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Scheduler
from llm_router.gateway.control_app import control_app
from llm_router.router.api.routing import routing_routes

Client = TestClient[Litestar]

PATH = "/v0/routing/explain"
POLICY = "expected-latency"


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    for name in ("a", "b"):
        registry.add(Node(f"id-{name}", name, "agent", Address("127.0.0.1", 1), dialects=EVERY_DIALECT), 0.0)
        registry.list_models(f"id-{name}", ["m", f"only-{name}"], 0.0)
    return registry


@pytest.fixture
def scheduler(registry: Registry) -> Scheduler:
    estimates = Estimates()
    return Scheduler(registry, make_policy(POLICY, estimates, 0.4), estimates)


@pytest.fixture
def client(registry: Registry, scheduler: Scheduler) -> Iterator[Client]:
    app = control_app(routing_routes(registry, scheduler, POLICY))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def ask(client: Client, body: object) -> Explanation:
    answer = client.post(PATH, content=msgspec.json.encode(body))
    assert answer.status_code == 200
    return msgspec.json.decode(answer.content, type=Explanation)


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m"},
        {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False, "options": {}},
        {"model": "m", "prompt": "hi"},
        {"model": "m", "input": ["hi"], "max_tokens": 5},
    ],
)
def test_any_inference_body_is_explained(client: Client, body: object) -> None:
    """Whichever API it is written for: who would get it, at what cost, and who would not."""
    told = ask(client, body)
    assert (told.decision, told.model, told.policy) == ("lease", "m", POLICY)
    assert (told.node_id, told.node) in {("id-a", "a"), ("id-b", "b")}
    assert [c.node for c in told.candidates] == ["a", "b"]
    assert all(
        c.cost["cost"] > 0 and {"wait", "load", "prefill", "decode", "credit"} < set(c.cost) for c in told.candidates
    )
    assert told.others == []


def test_who_is_out_is_told_why(client: Client) -> None:
    """Requirement C5: a node that does not list the model is named, and not weighed."""
    told = ask(client, {"model": "only-a"})
    assert (told.node, told.reason) == ("a", "the only candidate")
    assert [(o.node, o.reason) for o in told.others] == [("b", "it does not list the model")]


def test_a_refusal_is_an_explanation(client: Client) -> None:
    """200, with what such a request would be told (requirement B3)."""
    told = ask(client, {"model": "unheard of"})
    assert (told.decision, told.code, told.node) == ("refuse", "model_not_found", "")
    assert "unheard of" in told.reason


def test_explaining_changes_nothing(client: Client, registry: Registry, scheduler: Scheduler) -> None:
    """Asked again, the answer is the same; nobody is in flight or waits."""
    assert ask(client, {"model": "m"}) == ask(client, {"model": "m"})
    assert [node.in_flight for node in registry] == [0, 0]
    assert scheduler.waiting == 0


def test_a_body_as_large_as_inference_may_have_is_read(client: Client) -> None:
    """Images in a request are over the web framework's own limit of 10 MB."""
    assert ask(client, {"model": "m", "images": ["x" * 11_000_000]}).decision == "lease"


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"{}"])
def test_a_body_that_is_none_is_refused(client: Client, body: bytes) -> None:
    """400 in the shape of this API."""
    answer = client.post(PATH, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
