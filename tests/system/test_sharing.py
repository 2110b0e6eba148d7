"""Equal nodes share work evenly; one node takes what it is given (requirements B4, B7)."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

import msgspec
from tests.system.conftest import Fleet
from tests.system.harness import HELLO, House, chat, eventually


def done(fleet: Fleet) -> dict[str, int]:
    return {name: view.done for name, view in fleet.router.nodes().items()}


def test_three_each(fleet: Fleet) -> None:
    """Three equal nodes and nine requests in a row: three each; then thirty: ten each."""
    before = done(fleet)
    nine = Counter(chat(fleet.url, HELLO, stream=False).headers["x-llm-router-node"] for _ in range(9))
    assert sorted(nine.values()) == [3, 3, 3]

    thirty = Counter(chat(fleet.url, HELLO, stream=False).headers["x-llm-router-node"] for _ in range(30))
    assert len(thirty) == 3
    assert all(8 <= n <= 12 for n in thirty.values())

    eventually(lambda: sum(done(fleet).values()) == sum(before.values()) + 39)
    after = done(fleet)
    assert all(11 <= after[name] - before[name] <= 15 for name in fleet.names)


def test_five_at_once(house: House) -> None:
    """One node, five requests at once, more than it has slots: five answers."""
    router = house.router()
    house.node(router, "only", "--parallel", "2")
    eventually(lambda: router.is_online("only"), 60)

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: chat(router.url, HELLO), range(5)))

    assert [a.status for a in answers] == [200] * 5
    assert all(a.records()[-1]["done"] for a in answers)


def test_in_flight_until_the_last_byte(house: House) -> None:
    """A stream counts as in flight from the start to its last byte, and not a moment longer (B7)."""
    router = house.router()
    fake = house.fake(kind="openai", tokens=1000, delay=0.02)
    house.node(router, "slow", "--runtime", f"openai={fake.url}")
    eventually(lambda: router.is_online("slow", model="fake"), 60)

    host, port = router.url.removeprefix("http://").split(":")
    with closing(HTTPConnection(host, int(port))) as connection:
        body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
        connection.request("POST", "/api/chat", msgspec.json.encode(body))
        response = connection.getresponse()
        for _ in range(3):
            assert b'"done":false' in response.readline()
            assert router.node("slow").in_flight == 1
        fake.stop()
        rest = response.read()

    assert b'"error"' in rest.splitlines()[-1]
    eventually(lambda: router.node("slow").in_flight == 0, 5)
