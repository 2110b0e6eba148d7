"""Bodies that pass to the control app while they come: files of models, which nobody keeps in memory."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.gateway.conftest import WHOLE, Client, Conversation, Held, House, Upstream, chunk, post, until, whole

PATH = "/api/blobs/sha256:0123"
LARGE = 64 << 20  # bytes; several times what all the buffers on the way hold
PIECE = bytes(1 << 20)
GRANTED = b"x-llm-router-who: local;admin;"

App = Callable[[Conversation], Awaitable[None]]


@pytest.fixture
async def behind(house: House) -> Callable[[App], Awaitable[None]]:
    """Put this in the control app's place."""

    async def put(app: App) -> None:
        upstream = Upstream([app])
        await house._run(upstream)  # noqa: SLF001 - the house ends it
        house.plane.control = upstream.address

    return put


async def begin(house: House, framing: str, expect: str = "") -> Client:
    client = await house.client()
    await client.send(f"POST {PATH} HTTP/1.1\r\nHost: a\r\n{framing}\r\n{expect}\r\n".encode())
    return client


class Taken:
    """A control app that reads a body of known length and answers with how much it was."""

    def __init__(self) -> None:
        self.head = asyncio.get_running_loop().create_future()
        self.go = asyncio.Event()
        self.size = 0

    async def __call__(self, conversation: Conversation) -> None:
        head = await conversation.reader.readuntil(b"\r\n\r\n")
        self.head.set_result(head)
        await self.go.wait()
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while self.size < length:
            piece = await conversation.reader.read(1 << 20)
            if not piece:  # the gateway has left
                return
            self.size += len(piece)
        await conversation.send(whole(b"%d" % self.size))


async def test_a_body_over_every_limit_passes(house: House, behind: Callable[[App], Awaitable[None]]) -> None:
    """Issue 5: 100 MB is the limit of bodies, uploads excepted; and the client goes no faster than the app."""
    app = Taken()
    await behind(app)
    house.gateway.config = house.gateway.config.__class__.load({"home": "/", "max_body": 1}, {})
    client = await begin(house, f"Content-Length: {LARGE}")
    assert GRANTED in await app.head

    async def send() -> None:
        for _ in range(LARGE // len(PIECE)):
            await client.send(PIECE)

    sending = asyncio.create_task(send())
    (connection,) = house.gateway.clients
    await until(lambda: not connection.transport.is_reading())
    assert not sending.done()
    app.go.set()
    await sending
    assert (await client.answer())[2] == b"%d" % LARGE
    assert await client.rest() == b""


async def test_a_body_whose_turn_has_not_come_waits_with_its_client(
    house: House, behind: Callable[[App], Awaitable[None]]
) -> None:
    """Behind a request that takes its time no more is read: what nobody takes would be kept, however much it is."""
    app, script = Taken(), Held(whole())
    app.go.set()
    await behind(app)
    await house.node("one", script)
    client = await post(house)
    await script.asked.wait()
    await client.send(f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n".encode())

    async def send() -> None:
        for _ in range(LARGE // len(PIECE)):
            await client.send(PIECE)

    sending = asyncio.create_task(send())
    (connection,) = house.gateway.clients
    await until(lambda: not connection.transport.is_reading())
    assert not sending.done()
    script.go.set()
    assert (await client.answer())[2] == WHOLE
    await sending
    assert (await client.answer())[2] == b"%d" % LARGE


async def test_a_body_of_unknown_length_passes_in_chunks(
    house: House, behind: Callable[[App], Awaitable[None]]
) -> None:
    """Framed anew: what the client says of its chunks ends at the gateway."""
    came = asyncio.get_running_loop().create_future()

    async def app(conversation: Conversation) -> None:
        head = await conversation.reader.readuntil(b"\r\n\r\n")
        came.set_result((head, await conversation.reader.readuntil(b"\r\n0\r\n\r\n")))
        await conversation.send(whole(b"ok"))

    await behind(app)
    client = await begin(house, "Transfer-Encoding: chunked")
    await client.send(b"3;a=b\r\nabc\r\n")
    await client.send(chunk(b"defg") + b"0\r\nTrailer: x\r\n\r\n")
    head, body = await came
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    assert body.replace(b"\r\n", b"|") in (b"3|abc|4|defg|0||", b"7|abcdefg|0||")
    assert (await client.answer())[2] == b"ok"


async def test_who_waits_to_be_asked_for_the_body_is(house: House, behind: Callable[[App], Awaitable[None]]) -> None:
    """`Expect: 100-continue`, as Go's client may send it."""
    app = Taken()
    app.go.set()
    await behind(app)
    client = await begin(house, "Content-Length: 2", "Expect: 100-continue\r\n")
    assert (await client.head())[0] == 100
    await client.send(b"ab")
    assert (await client.answer())[2] == b"2"


async def test_an_answer_before_the_body_is_the_last_word(
    house: House, behind: Callable[[App], Awaitable[None]]
) -> None:
    """The client hears why, and what it still sends is not taken for a request."""

    async def refuse(conversation: Conversation) -> None:
        await conversation.reader.readuntil(b"\r\n\r\n")
        await conversation.send(whole(b"no", b"400 Bad Request"))

    await behind(refuse)
    client = await begin(house, f"Content-Length: {LARGE}")
    status, headers, body = await client.answer()
    assert (status, headers["connection"], body) == (400, "close", b"no")
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await client.rest() == b""


async def test_a_client_that_goes_away_is_no_whole_body(house: House, behind: Callable[[App], Awaitable[None]]) -> None:
    """Requirement B6: the app sees its connection end, in the middle."""
    ended = asyncio.get_running_loop().create_future()
    begun = asyncio.Event()

    async def app(conversation: Conversation) -> None:
        await conversation.reader.readuntil(b"\r\n\r\nab")
        begun.set()
        try:
            ended.set_result(await conversation.reader.read())
        except ConnectionError as error:
            ended.set_result(error)

    await behind(app)
    client = await begin(house, "Content-Length: 10")
    await client.send(b"ab")
    await begun.wait()
    client.abort()
    assert not isinstance(await ended, bytes) or await ended == b""


async def test_a_body_that_stands_still_is_waited_for_no_longer(
    house: House, behind: Callable[[App], Awaitable[None]]
) -> None:
    """408 after body-timeout without a byte, as for every body."""
    app = Taken()
    app.go.set()
    await behind(app)
    client = await begin(house, "Content-Length: 10")
    await app.head
    house.look(29.0)
    house.look(31.0)
    status, _, body = await client.answer()
    assert status == 408
    assert b"body-timeout" in body
