"""What cannot be answered is refused in the caller's own language, and harms nobody (requirement B3)."""

import socket
from collections.abc import Iterator

import pytest
from tests.system.conftest import Fleet
from tests.system.harness import API, HELLO, TALK, House, Router, ask, call, chat, eventually, house_in, refused


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router without a node, that takes small bodies only."""
    with house_in(tmp_path_factory.mktemp("lonely")) as house:
        yield house.router("--max-body", "1000")


@pytest.mark.parametrize("api", API)
def test_unknown_model(fleet: Fleet, api: str) -> None:
    """A model that nobody knows is a 404 in the caller's shape, and names the model."""
    answer = ask(fleet.url, api, "nobody-knows")
    assert "nobody-knows" in refused(api, answer, 404, "model_not_found")


@pytest.mark.parametrize("api", API)
def test_no_nodes(lonely: Router, api: str) -> None:
    """Without nodes the answer is an immediate 503."""
    assert "no available nodes" in refused(api, ask(lonely.url, api, HELLO), 503, "no_available_nodes")


@pytest.mark.parametrize("api", API)
def test_malformed_json(fleet: Fleet, api: str) -> None:
    """A body that is not JSON is a 400 that says where it goes wrong."""
    answer = call(fleet.url, "POST", API[api], b'{"model": "hello-world", "messages": [}')
    assert any(c.isdigit() for c in refused(api, answer, 400, "invalid_request"))


@pytest.mark.parametrize("api", API)
def test_body_over_the_limit(lonely: Router, api: str) -> None:
    """A body that is over the limit is a 413."""
    answer = call(lonely.url, "POST", API[api], {"model": HELLO, "messages": TALK, "padding": "x" * 2000})
    assert refused(api, answer, 413, "body_too_large")


def test_announced_body_over_the_limit(fleet: Fleet) -> None:
    """By default 100 MB are let through; one byte more is refused by its announcement, before it is sent."""
    host, port = fleet.url.removeprefix("http://").split(":")
    head = f"POST /api/chat HTTP/1.1\r\nHost: {host}\r\nContent-Length: {100_000_001}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_chunked_body_over_the_limit(lonely: Router) -> None:
    """A body of unknown length is refused once it is over the limit."""
    host, port = lonely.url.removeprefix("http://").split(":")
    head = f"POST /api/chat HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + b"7d0\r\n" + b"x" * 2000 + b"\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/nowhere", "/api/nowhere", "/v1/nowhere", "/v0/nowhere", "/%2e%2e/etc/passwd"])
def test_unknown_path(fleet: Fleet, path: str) -> None:
    """An unknown path is a 404, whoever asks."""
    assert call(fleet.url, "GET", path).status == 404
    assert call(fleet.url, "POST", path, {}).status == 404


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
    ],
)
def test_rubbish(fleet: Fleet, rubbish: bytes) -> None:
    """What is not HTTP, or ambiguous, is refused or dropped, and the next caller is served."""
    host, port = fleet.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(rubbish)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1000)
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
    assert chat(fleet.url, HELLO, stream=False).status == 200


def test_all_offline(house: House) -> None:
    """Nodes are known but none is online: 503, not 404, in each API's shape."""
    router = house.router()
    fake = house.fake()
    node = house.node(router, "gone", "--runtime", f"openai={fake.url}")
    eventually(lambda: router.is_online("gone", model="fake"))
    node.stop()

    for api in API:
        assert "offline" in refused(api, ask(router.url, api, "fake"), 503, "all_nodes_offline")
