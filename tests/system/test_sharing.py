"""Equal nodes share work evenly; one node takes what it is given (requirement B4)."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.system.conftest import Fleet
from tests.system.harness import HELLO, House, chat, eventually

from llm_router.core.policies import POLICIES


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


@pytest.mark.parametrize("policy", POLICIES)
def test_equals_take_turns(house: House, policy: str) -> None:
    """By any policy, equals share: three each of nine, ten each of thirty, two to five each of ten (D2, D3)."""
    router = house.router("--policy", policy)
    for name in ("a", "b", "c"):
        router.attach(house.fake(name, kind="ollama", tokens=4), kind="ollama")
    for requests, least, most in ((9, 3, 3), (30, 9, 11), (10, 2, 5)):
        answers = [chat(router.url, "fake", stream=False) for _ in range(requests)]
        shares = Counter(answer.headers["x-llm-router-node"] for answer in answers)
        assert sum(shares.values()) == requests
        assert all(least <= shares[name] <= most for name in ("a", "b", "c"))


def test_five_at_once(house: House) -> None:
    """One node, five requests at once, more than it has slots: five answers."""
    router = house.router()
    house.node(router, "only", "--parallel", "2")
    eventually(lambda: router.is_online("only"), 60)

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: chat(router.url, HELLO), range(5)))

    assert [a.status for a in answers] == [200] * 5
    assert all(a.records()[-1]["done"] for a in answers)
