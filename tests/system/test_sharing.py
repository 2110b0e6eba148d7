"""Equal nodes share work evenly; one node takes what it is given (requirement B4)."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

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
