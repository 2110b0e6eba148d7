"""Each request goes where its model can run, and nowhere else (requirements B3, C4, C5, C8, C9).

Four machines with lists of their own: two attached servers, two agents. One of the agents has a model that runs on
Metal only; that is nobody's knowledge but its own, and shows in its list alone.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from tests.system.harness import API, Fake, House, Process, Router, ask, eventually, house_in, refused

LISTS = {
    "ollama-box": ["llama", "common"],
    "vllm-box": ["qwen", "common"],
    "mac": ["metal-only", "common"],
    "cuda": ["cuda-only", "common", "lost"],  # the last one for `test_list_changes` to take away
}
AGENTS = ("mac", "cuda")
ONLY_THERE = {models[0]: name for name, models in LISTS.items()}
TWENTY = [list(API)[i % len(API)] for i in range(20)]  # the APIs of twenty requests


class Park:
    """The router and the four; `fakes` are the runtimes, by the name of their node."""

    def __init__(self, house: House) -> None:
        self.router: Router = house.router("--probe-every", "0.5")
        with ThreadPoolExecutor() as pool:  # a program takes a second to start, and they need not wait for each other
            fakes = pool.map(lambda name: house.fake(runtime(name), models=",".join(LISTS[name])), LISTS)
            self.fakes: dict[str, Fake] = dict(zip(LISTS, fakes, strict=True))
            agents = pool.map(lambda name: house.node(self.router, name, *self._in_front(name)), AGENTS)
            self.agents: dict[str, Process] = dict(zip(AGENTS, agents, strict=True))
        self.router.attach(self.fakes["ollama-box"], "ollama")
        self.router.attach(self.fakes["vllm-box"], "openai")
        eventually(lambda: self.router.is_online(*LISTS, model="common"), 60)

    def _in_front(self, name: str) -> list[str]:
        return ["--runtime", f"openai={self.fakes[name].url}"]

    @property
    def url(self) -> str:
        return self.router.url


@pytest.fixture(scope="module")
def park(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Park]:
    """For tests that leave what others look at as it was."""
    with house_in(tmp_path_factory.mktemp("park")) as house:
        yield Park(house)


@pytest.mark.parametrize("api", API)
@pytest.mark.parametrize("model", ONLY_THERE)
def test_each_where_it_can_run(park: Park, api: str, model: str) -> None:
    """The one node that lists the model answers, asked in any API, and the answer names it (C5)."""
    name = ONLY_THERE[model]
    answer = ask(park.url, api, model)

    assert answer.status == 200
    assert answer.headers["x-llm-router-node"] == name
    assert msgspec.json.decode(park.fakes[name].seen().last.body)["model"] == model


def test_common_model_is_shared(park: Park) -> None:
    """What all of them list is answered by all of them."""
    assert {ask(park.url, api, "common").headers["x-llm-router-node"] for api in TWENTY} == set(LISTS)


def test_metal_only_model(park: Park) -> None:
    """Twenty requests for it, more at once than its node has slots, and none reaches the CUDA node (C4)."""
    before = park.fakes["cuda"].seen().requests
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda api: ask(park.url, api, "metal-only"), TWENTY))

    assert [a.status for a in answers] == [200] * len(TWENTY)
    assert {a.headers["x-llm-router-node"] for a in answers} == {"mac"}
    assert park.fakes["cuda"].seen().requests == before


def test_metal_node_is_gone(park: Park) -> None:
    """While its only node is away the model is known and nobody can run it: 503 in each API's shape, no list has it.

    It does not go to the CUDA node even now; other models do; and it is answered again once its node is back.
    """
    before = park.fakes["cuda"].seen().requests
    park.agents["mac"].stop()
    try:
        for api in TWENTY:
            assert "metal-only" in refused(api, ask(park.url, api, "metal-only"), 503, "no_capable_nodes")
        assert park.fakes["cuda"].seen().requests == before
        assert "metal-only" not in park.router.listed()
        assert ask(park.url, "openai", "cuda-only").status == 200
    finally:
        park.agents["mac"].start()
    eventually(lambda: park.router.is_online("mac", model="metal-only"))
    assert ask(park.url, "openai", "metal-only").headers["x-llm-router-node"] == "mac"


@pytest.mark.slow
def test_list_changes(park: Park) -> None:
    """A model that an agent's runtime has gained or lost is known to the router within 10 s (C8)."""
    assert "lost" in park.router.listed()
    park.fakes["cuda"].lists("cuda-only", "common", "gained")
    eventually(lambda: "gained" in park.router.listed(), 10)

    assert sorted(park.router.node("cuda").models) == ["common", "cuda-only", "gained"]
    assert ask(park.url, "anthropic", "gained").headers["x-llm-router-node"] == "cuda"
    for api in API:
        assert "lost" in refused(api, ask(park.url, api, "lost"), 404, "model_not_found")


def runtime(name: str) -> str:
    """What is called so in the logs: an attached server is its own node."""
    return f"runtime-of-{name}" if name in AGENTS else name
