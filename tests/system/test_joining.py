"""Machines join a router (requirements A1 and A10). They are all this one: `--trust` has nobody count as its own."""

import re
from pathlib import Path

import msgspec
import pytest
from tests.system.harness import HELLO, House, Process, Router, call, chat, eventually, run

from llm_router.contract import JoinLine

STRANGERS = ["--trust", "127.0.0.9"]


@pytest.fixture
def router(house: House) -> Router:
    """One at which everybody is an administrator, so that only joining is in question."""
    return house.router(*STRANGERS, "--auth", "off", "--host", "127.0.0.1")


def join_line(router: Router) -> JoinLine:
    return msgspec.json.decode(call(router.url, "GET", "/v0/join").body, type=JoinLine)


def at(router: Router, token: str) -> Process:
    """The router as somebody names it who has been given a token."""
    named = Process("named", [], Path())
    named.url = router.url.replace("//", f"//{token}@")
    return named


def test_approved_and_in_use(house: House, router: Router) -> None:
    """A node without the token waits; an operator approves it, and it answers; nobody has touched it."""
    house.node(router, "lab", *STRANGERS)
    eventually(lambda: "lab" in router.nodes(), 60)
    assert router.node("lab").state == "pending"
    assert chat(router.url, HELLO).status in (404, 503)
    shown = run("nodes", "list", "--router", router.url).stdout
    (node_id,) = re.findall(r"llm-router nodes approve (\S+)", shown)
    done = run("nodes", "approve", node_id, "--router", router.url)
    assert (done.returncode, done.stdout.startswith("approved lab")) == (0, True)
    eventually(lambda: router.is_online("lab"), 60)
    assert chat(router.url, HELLO).records()[-1]["done"]


def test_with_the_token(house: House, router: Router) -> None:
    """The printed command brings a node in at once; the token is in no log, the router's or the node's."""
    token = join_line(router).token
    assert token in run("join", "--router", router.url).stdout
    node = house.node(at(router, token), "lab", *STRANGERS, "--log-level", "debug")
    eventually(lambda: router.is_online("lab"), 60)
    assert chat(router.url, HELLO).records()[-1]["done"]
    assert all(event.event != "node.pending" for event in router.events())
    for text in (node.text(), router.text(), repr(router.events())):
        assert token not in text


def test_nobody_asks_a_node_past_its_router(house: House, router: Router) -> None:
    """401 without the token that the node gave its router; with the router it works, over all three APIs."""
    node = house.node(at(router, join_line(router).token), "lab", *STRANGERS)
    eventually(lambda: router.is_online("lab"), 60)
    for answer in (chat(node.url, HELLO), call(node.url, "GET", "/v1/models"), call(node.url, "GET", "/api/tags")):
        assert answer.status == 401
    assert call(node.url, "GET", "/health").status == 200
    for path in ("/api/chat", "/v1/chat/completions", "/v1/messages"):
        body = {"model": HELLO, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
        assert call(router.url, "POST", path, body, {"authorization": "Bearer the client's own"}).status == 200


@pytest.mark.slow
def test_a_restart_of_either(house: House, router: Router) -> None:
    """Requirement A8: who has joined stays, whatever the token is by then, and is asked with the same one as before."""
    node = house.node(at(router, join_line(router).token), "lab", *STRANGERS)
    eventually(lambda: router.is_online("lab"), 60)
    done = run("join", "--rotate", "--json", "--router", router.url)
    assert msgspec.json.decode(done.stdout, type=JoinLine) == join_line(router)
    router.stop()
    router.start()
    eventually(lambda: router.is_online("lab"), 60)
    assert chat(router.url, HELLO).records()[-1]["done"]
    node.stop()
    node.start()
    eventually(lambda: router.is_online("lab"), 60)
    assert chat(router.url, HELLO).records()[-1]["done"]
