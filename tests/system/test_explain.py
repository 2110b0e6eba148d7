"""`llm-router explain` says what then happens (requirement D2): a real router, two attached servers, real commands."""

import re
from collections.abc import Iterator

import msgspec
import pytest
from tests.system.harness import Router, chat, house_in, run

from llm_router.contract import Explanation

BOTH, ONE = "both-have-it", "one-has-it"


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """Two attached servers with one model in common; nothing is probed while the tests look."""
    with house_in(tmp_path_factory.mktemp("explain")) as house:
        router = house.router("--probe-every", "3600")
        router.attach(house.fake("alpha", models=BOTH))
        router.attach(house.fake("beta", models=f"{BOTH},{ONE}"))
        yield router


def explained(router: Router, *arguments: str) -> Explanation:
    said = run("explain", *arguments, "--json", "--router", router.url)
    assert said.returncode == 0, said.stderr
    return msgspec.json.decode(said.stdout, type=Explanation)


def test_the_node_it_names_gets_the_request(router: Router) -> None:
    """Time after time, while every answer changes what is known of the two."""
    for _ in range(4):
        told = explained(router, BOTH)
        assert told.decision == "lease"
        assert [c.node for c in told.candidates] in (["alpha", "beta"], ["beta", "alpha"])
        assert chat(router.url, BOTH, stream=False).headers["x-llm-router-node"] == told.node


def test_it_says_who_is_out(router: Router) -> None:
    """For people: the decision in the first line, the rest as tables."""
    said = run("explain", ONE, "hi", "--router", router.url)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(f"{ONE} goes to beta: the only candidate")
    assert re.search("^alpha +it does not list the model *$", said.stdout, re.MULTILINE)


def test_a_model_nobody_lists(router: Router) -> None:
    """The reason is an answer like any other, and the same that a request gets (requirement B3)."""
    said = run("explain", "unheard-of", "--router", router.url)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("unheard-of is refused: model 'unheard-of' not found")
    assert explained(router, "unheard-of").reason == chat(router.url, "unheard-of").json()["error"]


def test_explaining_asks_no_node(router: Router) -> None:
    """Requests done and in flight are as before."""
    before = {name: view.done for name, view in router.nodes().items()}
    explained(router, BOTH, "a question")
    assert {name: view.done for name, view in router.nodes().items()} == before
    assert [view.in_flight for view in router.nodes().values()] == [0, 0]
