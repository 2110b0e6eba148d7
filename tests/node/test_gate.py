"""Who may ask a node (requirement A10)."""

import pytest

from llm_router.errors import Unauthorized
from llm_router.gateway.guard import Grant
from llm_router.gateway.trust import Trust
from llm_router.node.gate import Gate
from llm_router.wire.heads import read_request_head

HERE, ELSEWHERE = "127.0.0.1", "198.51.100.7"
TOKEN = "a-token-of-the-router's"  # noqa: S105 - opens nothing
ASK = "POST /api/chat"


@pytest.fixture
def gate() -> Gate:
    gate = Gate(Trust(["127.0.0.0/8", "::1"]))
    gate.open_to(TOKEN)
    return gate


def asked(gate: Gate, client: str, *headers: str, what: str = ASK) -> Grant:
    lines = "".join(f"{line}\r\n" for line in (f"{what} HTTP/1.1", "Host: node", *headers)).encode()
    head, _ = read_request_head(lines, len(lines))
    return gate.admit(head, client, inference=what == ASK)


@pytest.mark.parametrize("what", [ASK, "GET /v1/models", "GET /", "DELETE /anything"])
def test_its_own_machine_and_its_router_may_do_everything(gate: Gate, what: str) -> None:
    """A client here needs nothing; the router shows its token, with whatever else clients have sent it."""
    assert asked(gate, HERE, what=what).scope == "admin"
    for headers in (
        [f"Authorization: Bearer {TOKEN}"],
        [f"authorization: bearer {TOKEN}", "X-Forwarded-For: 10.1.1.1"],
    ):
        assert asked(gate, ELSEWHERE, *headers, what=what).scope == "admin"


@pytest.mark.parametrize("what", [ASK, "GET /v1/models", "GET /api/tags", "GET /", "POST /health", "GET /healthy"])
@pytest.mark.parametrize("headers", [[], ["Authorization: Bearer guessed"], [f"Authorization: Basic {TOKEN}"]])
def test_nobody_else_may_do_anything(gate: Gate, what: str, headers: list[str]) -> None:
    """401 for every path, also for those that do not exist."""
    with pytest.raises(Unauthorized, match="its router"):
        asked(gate, ELSEWHERE, *headers, what=what)


def test_anybody_may_ask_whether_it_lives(gate: Gate) -> None:
    """Load balancers and service managers have no token."""
    assert asked(gate, ELSEWHERE, what="GET /health").scope == "none"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_files_of_models_are_for_who_has_a_ticket(gate: Gate, method: str) -> None:
    """Requirement H6: whether it is one, the handler asks; nothing is written there, and nothing beside it is open."""
    assert asked(gate, ELSEWHERE, what=f"{method} /v0/files/org%2Fm/model.gguf").scope == "none"
    for what in ("PUT /v0/files/org%2Fm/model.gguf", "GET /v0/files", "GET /v0/filesystem/x"):
        with pytest.raises(Unauthorized):
            asked(gate, ELSEWHERE, what=what)


@pytest.mark.parametrize("header", ["X-Forwarded-For: 10.1.1.1", "Forwarded: for=10.1.1.1", "X-Real-IP: 10.1.1.1"])
def test_a_proxy_here_is_not_who_asks(gate: Gate, header: str) -> None:
    """Its clients are somewhere else."""
    with pytest.raises(Unauthorized):
        asked(gate, HERE, header)


def test_no_router_yet() -> None:
    """Until there is one, no token is right, the empty one neither."""
    gate = Gate(Trust(["127.0.0.0/8"]))
    for headers in ([], ["Authorization: Bearer "], ["x-api-key: "]):
        with pytest.raises(Unauthorized):
            asked(gate, ELSEWHERE, *headers)


def test_a_router_of_before_is_out(gate: Gate) -> None:
    """A node has one router at a time."""
    gate.open_to("another")
    with pytest.raises(Unauthorized):
        asked(gate, ELSEWHERE, f"Authorization: Bearer {TOKEN}")
