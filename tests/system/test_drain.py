"""An orderly end: who is being served is served to the end, nobody else is let in (issue 5; requirements A5, B5)."""

import asyncio
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import pytest
from tests.doubles.rough_clients import PATH, Clients, Ending, Plan
from tests.doubles.rough_upstream import Behaviour
from tests.system.harness import (
    API,
    START,
    Answer,
    Fake,
    House,
    Process,
    Router,
    ask,
    error_of,
    eventually,
    parse,
    question,
    talking,
)
from tests.system.rough import quiet, rough, together

pytestmark = pytest.mark.slow

CUT = 1.0  # seconds that requests in flight are given where they are to be cut
LAST = {"ollama": '"done":true', "openai": "data: [DONE]", "anthropic": '"message_stop"'}
PACE = {"tokens": 40, "delay": 0.05}  # two seconds: it goes on for long after the signal
ASKED = [*((api, True) for api in API), ("openai", False)]  # and whether it streams; a node has four slots
RESTARTS = 3
BETWEEN = 100  # answers, before the first restart and after each
INSISTING = 20  # clients
AGAIN = 0.02  # seconds until one asks again
COUNTED = Behaviour(tokens=20, delay=0.01, counted=True)  # 0.2 s: there is always one in the middle
ENDLESS = {"tokens": 100_000, "delay": 0.05}


@pytest.mark.parametrize("which", ["router", "node"])
def test_requests_in_flight_finish(house: House, which: str) -> None:
    """After SIGTERM streams come to their end, and whole answers too; the process ends by itself, with status 0.

    A node says goodbye first: the router sends it nothing any more, and does not take its end for a failure.
    """
    router = house.router()
    fake = house.fake(**PACE)
    node = house.node(router, "node", "--runtime", f"openai={fake.url}")
    eventually(lambda: router.is_online("node", model="fake"), START)
    ending = node if which == "node" else router

    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(ask, router.url, api, "fake", stream=streams) for api, streams in ASKED]
        eventually(lambda: fake.seen().in_flight == len(answers))
        status = ending.stop()

    assert status == 0
    for (api, streams), answer in zip(ASKED, answers, strict=True):
        assert is_complete(answer.result(), LAST[api] if streams else "")
    assert fake.seen().done == len(answers)
    if which == "node":
        assert router.node("node").state == "offline"
        assert router.node("node").excluded == []
        assert "node.suspect" not in router.text()


def test_nobody_is_let_in(house: House) -> None:
    """From SIGTERM on connections are refused, idle ones are closed without a word, and the rest say it is the last."""
    router, fake = with_server(house, **PACE)
    with idle(router) as kept, talking(router.url, API["openai"], question("fake") | {"stream": True}) as busy:
        response = busy.getresponse()
        assert response.readline()
        router.process.send_signal(signal.SIGTERM)

        assert kept.recv(1) == b""
        eventually(lambda: not accepts(router))
        assert fake.seen().in_flight == 1
        assert LAST["openai"] in response.read().decode()
        assert router.process.wait(START) == 0


def test_connections_are_not_kept(house: House) -> None:
    """Whose answer comes after the signal is told that this connection carries no other, and it is closed."""
    router, fake = with_server(house, **PACE)
    with talking(router.url, API["openai"], question("fake")) as connection:
        eventually(lambda: fake.seen().in_flight == 1)
        router.process.send_signal(signal.SIGTERM)
        response = connection.getresponse()
        assert response.getheader("connection") == "close"
        assert response.read()
        assert router.process.wait(START) == 0


@pytest.mark.parametrize("api", API)
def test_cut_streams_are_told(house: House, api: str) -> None:
    """What is not over in time is cut: a stream ends with its protocol's error, and not as if it were complete."""
    router, fake = with_server(house, "--drain-timeout", f"{CUT}", **ENDLESS)
    body = question("fake") | {"stream": True, "max_tokens": ENDLESS["tokens"]}
    with asked(router, api, body) as connection:
        eventually(lambda: fake.seen().in_flight == 1)
        beginning = connection.recv(65536)
        assert beginning
        router.process.send_signal(signal.SIGTERM)
        answer = parse(beginning + rest_of(connection))

    assert router.process.wait(START) == 0
    assert not answer.whole
    assert error_of(api, answer.records()[-1], 503)


@pytest.mark.parametrize("api", API)
def test_cut_requests_are_told(house: House, api: str) -> None:
    """Who has got nothing yet when time is up gets a refusal that can be asked again: 503."""
    router, fake = with_server(house, "--drain-timeout", f"{CUT}", first_delay=1000)
    with asked(router, api, question("fake")) as connection:
        eventually(lambda: fake.seen().in_flight == 1)
        router.process.send_signal(signal.SIGTERM)
        received = rest_of(connection)

    assert router.process.wait(START) == 0
    assert received, "the connection was closed without a word"
    answer = parse(received)
    assert answer.status == 503
    assert error_of(api, answer.json(), 503)


def test_second_signal_under_load(house: House) -> None:
    """It ends at once, however long the requests in flight have left."""
    router, fake = with_server(house, **ENDLESS)
    body = question("fake") | {"stream": True, "max_tokens": ENDLESS["tokens"]}
    with asked(router, "openai", body):
        eventually(lambda: fake.seen().in_flight == 1)
        router.process.send_signal(signal.SIGTERM)
        eventually(lambda: "router.stopping" in router.text())
        with pytest.raises(subprocess.TimeoutExpired):
            router.process.wait(2 * CUT)
        router.process.send_signal(signal.SIGTERM)
        assert router.process.wait(START) == 128 + signal.SIGTERM


class Insisting:
    """Clients that ask one thing after the other, and ask again when a connection ends without a word.

    `endings`: how each request ended at last; `again`: how often one had to be asked again.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._clients = Clients(router.url)
        self._over = False
        self._answered = asyncio.Condition()
        self.endings: dict[str, Ending] = {}
        self.again = 0

    async def throughout(self, restarts: int) -> None:
        """Keep asking while the router is told to end and started again, so often."""
        async with asyncio.TaskGroup() as clients:
            for i in range(INSISTING):
                clients.create_task(self._ask_on(i))
            for _ in range(restarts):
                await self._answers(BETWEEN)
                assert await asyncio.to_thread(self._router.stop) == 0
                await asyncio.to_thread(self._router.start)
            await self._answers(BETWEEN)
            self._over = True
        await self._clients.close()

    async def _answers(self, number: int) -> None:
        """Wait for so many more."""
        before = len(self.endings)
        async with asyncio.timeout(START):
            async with self._answered:
                await self._answered.wait_for(lambda: len(self.endings) >= before + number)

    async def _ask_on(self, i: int) -> None:
        n = 0
        while not self._over:
            n += 1
            plan = Plan(id=f"client-{i}-{n}", api=list(PATH)[n % 3], stream=n % 2 == 0, behaviour=COUNTED)
            ending = await self._ask(plan)
            async with self._answered:
                self.endings[plan.id] = ending
                self._answered.notify_all()

    async def _ask(self, plan: Plan) -> Ending:
        while (ending := await self._clients.ask(plan)).kind == "lost":
            self.again += 1
            await asyncio.sleep(AGAIN)  # noqa: TID251 - as a client that finds nobody waits a moment
        return ending


def test_restart_under_load(house: House) -> None:
    """The router is restarted again and again, and whoever repeats what got no answer at all notices nothing.

    No answer stops half-way, no request is refused, and none is answered twice.
    """
    router = house.router()
    server = rough(house, "server", "steady")
    router.attach(server, slots=100)

    clients = Insisting(router)
    together(clients.throughout(RESTARTS))

    assert [(i, ending) for i, ending in clients.endings.items() if ending.kind != "answered"] == []
    assert clients.again > 0
    quiet(router, server)
    assert server.report().counted == len(clients.endings)
    assert server.report().twice == []


def with_server(house: House, *options: str, **pace: object) -> tuple[Router, Fake]:
    router = house.router(*options)
    fake = house.fake(**pace)
    router.attach(fake, slots=100)
    return router, fake


def is_complete(answer: Answer, last: str) -> bool:
    return answer.status == 200 and answer.whole and last in answer.body.decode()


def connected(process: Process) -> socket.socket:
    host, port = process.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=START)


def accepts(process: Process) -> bool:
    """Whether it takes connections."""
    try:
        connected(process).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def idle(router: Router) -> Iterator[socket.socket]:
    """A connection that has carried a request, and may carry another."""
    with closing(connected(router)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert parse(connection.recv(65536)).whole
        yield connection


@contextmanager
def asked(router: Router, api: str, body: dict[str, object]) -> Iterator[socket.socket]:
    """A bare connection on which a request has been sent."""
    with talking(router.url, API[api], body) as connection:
        yield connection.sock


def rest_of(connection: socket.socket) -> bytes:
    """All that comes, up to the end or a reset."""
    received = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    return received
