"""Requests that would be two to somebody else, on real sockets: refused, nothing passed on, the connection closed.

The table is that of tests/wire/smuggling.py, which names its sources.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.gateway.conftest import WHOLE, Conversation, Held, House, opened, whole
from tests.gateway.watching import nothing_escapes
from tests.wire.smuggling import CANARY, CORPUS, HOST, LEGAL, MAX_BODY, SIZED, Case, hiding, message

PATIENCE = 2  # seconds within which a gateway that is going to close has closed
STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway with the limit that the corpus was made for."""
    async with nothing_escapes(), opened(tmp_path, max_body=MAX_BODY) as house:
        yield house


class Node:
    """A script that answers every request and keeps it."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []

    async def __call__(self, conversation: Conversation) -> None:
        while True:
            self.requests.append(await conversation.request())
            await conversation.send(whole())


async def said(house: House, *pieces: bytes) -> bytes:
    """All that the gateway says to these bytes until it closes; each piece is sent when the one before has left."""
    client = await house.client()
    try:
        async with asyncio.timeout(PATIENCE):
            for piece in pieces:
                await client.send(piece)
            return await client.rest()
    except TimeoutError:
        return b"it did not close"


def statuses(raw: bytes) -> list[int]:
    return [int(status) for status in STATUS.findall(raw)]


class TestCorpus:
    @pytest.mark.parametrize("good", [0, 1, 2])
    async def test_refused_and_closed(self, house: House, good: int) -> None:
        """Good requests before it are answered; then one refusal and the end. Nobody sees what follows."""
        node = Node()
        await house.node("one", node)
        wrong: dict[str, object] = {}
        for case in CORPUS:
            node.requests.clear()
            raw = await said(house, case.near * good + case.bad + CANARY)
            found = statuses(raw)
            if found[:-1] != [200] * good or not {*found[-1:]} & case.statuses or len(node.requests) != good:
                wrong[case.id] = found, len(node.requests)
            if b"canary" in raw or any(b"canary" in request for request in node.requests):
                wrong[case.id] = "the canary was served"
        assert wrong == {}

    @pytest.mark.parametrize("parts", [2, 5])
    async def test_in_pieces(self, house: House, parts: int) -> None:
        """The same when it comes in packets."""
        node = Node()
        await house.node("one", node)
        wrong: dict[str, object] = {}
        for case in CORPUS:
            data = case.bad + CANARY
            step = len(data) // parts + 1
            raw = await said_while_open(house, [data[at : at + step] for at in range(0, len(data), step)])
            if not {*statuses(raw)} <= case.statuses or node.requests:
                wrong[case.id] = statuses(raw), node.requests[:]
                node.requests.clear()
        assert wrong == {}

    async def test_behind_one_that_is_under_way(self, house: House) -> None:
        """It has to wait for its refusal until the one before is answered, and is not served meanwhile."""
        held = Held(whole())
        await house.node("one", held)
        case = next(case for case in CORPUS if case.id == "CL.TE")
        client = await house.client()
        await client.send(case.near)
        await held.asked.wait()
        await client.send(case.bad + CANARY)
        held.go.set()
        assert statuses(await client.rest()) == [200, 400]
        assert len(held.requests) == 1

    async def test_others_go_on(self, house: House) -> None:
        """A neighbour's connection, and the one to the node, carry on through all of it."""
        upstream = await house.node("one", Node())
        neighbour = await house.client()
        for case in CORPUS[::10]:
            await said(house, case.bad)
            await neighbour.send(SIZED)
            assert (await neighbour.answer())[0] == 200
        assert upstream.connections == 1


async def said_while_open(house: House, pieces: list[bytes]) -> bytes:
    """As `said`, by a client that goes on sending to a connection that may be closed already."""
    try:
        return await said(house, *pieces)
    except ConnectionError:
        return b""


class TestLegal:
    async def test_it_reaches_its_node_in_one_framing(self, house: House) -> None:
        """Whatever a client's framing was: one Host, one length, no coding, and the body of that length."""
        node = Node()
        await house.node("one", node)
        served = 0
        for name, (data, body) in LEGAL.items():
            node.requests.clear()
            client = await house.client()
            await client.send(data)
            await client.head()
            client.abort()
            for request in node.requests:
                head, _, passed = request.lower().partition(b"\r\n\r\n")
                names = [line.partition(b":")[0] for line in head.split(b"\r\n")[1:]]
                assert (names.count(b"host"), names.count(b"content-length")) == (1, 1), name
                assert not {b"transfer-encoding", b"trailer", b"expect", b"upgrade", b"connection"} & {*names}, name
                assert passed == body.lower(), name
            served += len(node.requests)
        assert served > len(LEGAL) / 2

    @pytest.mark.parametrize("line", [b"POST /x HTTP/1.1", b"GET /x HTTP/1.1", b"OPTIONS * HTTP/1.1"])
    async def test_a_request_in_a_body_stays_there(self, house: House, line: bytes) -> None:
        """CL.0 and 0.CL: methods that seldom have a body have one when they say so."""
        node = Node()
        await house.node("one", node)
        client = await house.client()
        await client.send(hiding(line=line) + SIZED)
        status, _, echoed = await client.answer()
        assert status == 200
        assert echoed.count(b"canary") == 1  # the control app says what it was sent
        assert (await client.answer())[2] == WHOLE
        assert len(node.requests) == 1


class TestRefusedBodies:
    @pytest.mark.parametrize("expect", [b"X-A: 1", b"Expect: 100-continue"])
    async def test_what_follows_a_refused_length_is_not_read(self, house: House, expect: bytes) -> None:
        """413 before the body has come; what comes all the same is no request."""
        node = Node()
        await house.node("one", node)
        raw = await said(house, message(HOST, b"Content-Length: 10000000000", expect, body=CANARY))
        assert statuses(raw) == [413]
        assert node.requests == []

    async def test_a_refusal_by_the_gateway_does_not_lose_its_place(self, house: House) -> None:
        """A model that nobody has is 404; the body that it was named in was read, so the next request is the next."""
        await house.node("one", Node())
        client = await house.client()
        unknown = b'{"model":"nobody has this","x":"' + CANARY.replace(b'"', b"'") + b'"}'
        await client.send(message(HOST, b"Content-Length: %d" % len(unknown), body=unknown) + SIZED)
        assert [(await client.answer())[0], (await client.answer())[0]] == [400, 200]  # raw line ends are no JSON


# U+010D U+010A end in the bytes of CR and LF: who cuts characters down to bytes splits a response with them.
SPLITTERS = ["\r\nx-evil: 1", "\nx-evil: 1", "\rx-evil: 1", "\u010d\u010ax-evil: 1", "\u2028x-evil: 1", "\x85x-evil: 1"]
SPLITTERS += ["\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "\0", "\x1b[31m"]


class TestSplitting:
    @pytest.mark.parametrize("splitter", SPLITTERS)
    async def test_a_nodes_name(self, house: House, splitter: str) -> None:
        """x-llm-router-node is one line whatever a node calls itself."""
        await house.node("one" + splitter, Node())
        client = await house.client()
        await client.send(SIZED.replace(HOST, HOST + b"\r\nConnection: close"))
        raw = await client.rest()
        assert_one_head(raw, WHOLE)

    @pytest.mark.parametrize("splitter", SPLITTERS)
    async def test_a_failing_nodes_name(self, house: House, splitter: str) -> None:
        """The same in the headers of an error, and in its text."""

        async def breaks(conversation: Conversation) -> None:
            await conversation.request()

        await house.node("one" + splitter, breaks)
        client = await house.client()
        await client.send(SIZED.replace(HOST, HOST + b"\r\nConnection: close"))
        assert_one_head(await client.rest(), None)

    @pytest.mark.parametrize("splitter", SPLITTERS)
    async def test_a_models_name(self, house: House, splitter: str) -> None:
        """An error that repeats it is one response."""
        await house.node("one", Node())
        escaped = "".join(f"\\u{ord(character):04x}" for character in splitter)
        body = b'{"model":"m%b"}' % escaped.encode()
        client = await house.client()
        await client.send(message(HOST, b"Connection: close", b"Content-Length: %d" % len(body), body=body))
        assert_one_head(await client.rest(), None)

    @pytest.mark.parametrize("value", [b"a\xc4\x8d\xc4\x8ax", b"a\x85x-evil: 1", b"a b\tc", b"\xff" * 100, b"x" * 129])
    async def test_a_clients_request_id(self, house: House, value: bytes) -> None:
        """What is not printable ASCII, or too long, is not repeated, neither to the client nor to the node."""
        node = Node()
        await house.node("one", node)
        client = await house.client()
        await client.send(SIZED.replace(HOST, HOST + b"\r\nConnection: close\r\nX-Request-Id: " + value))
        raw = await client.rest()
        assert_one_head(raw, WHOLE)
        assert value not in raw
        assert value not in node.requests[0]

    @pytest.mark.parametrize("case", [case for case in CORPUS if "bare" in case.id][:8], ids=lambda case: case.id)
    async def test_a_refusal(self, house: House, case: Case) -> None:
        """What the refusal says of the head that it refuses stays in the refusal's body."""
        raw = await said(house, case.bad.replace(HOST, HOST + b"\r\nX-Request-Id: x\rx-evil: 1", 1))
        assert_one_head(raw, None)


def assert_one_head(raw: bytes, body: bytes | None) -> None:
    """One response: its head has no line that we did not write, its body the length that it says."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert STATUS.match(lines[0])
    assert all(re.fullmatch(rb"[a-zA-Z-]+: [\t -~\x80-\xff]*", line) for line in lines[1:])
    assert not any(line.lower().startswith(b"x-evil") for line in lines)
    (length,) = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")]
    assert len(rest) == length
    if body is not None:
        assert rest == body
