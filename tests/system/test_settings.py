"""What operators set of a node reaches it, and outlives both sides; a drained node is left in peace (F3, A8)."""

from pathlib import Path
from threading import Thread

import msgspec
import pytest
from tests.system.harness import HELLO, House, Router, ask, call, chat, eventually, run

from llm_router.contract import NodeSettings

SET = {"name": "GPU box", "tags": ["lab", "big"], "notes": "ask Mia", "drain": True}


def change(router: Router, name: str, /, **settings: object) -> NodeSettings:
    answer = call(router.url, "PATCH", f"/v0/nodes/{router.node(name).id}", settings)
    assert answer.status == 200, answer
    return msgspec.convert(answer.json()["settings"], NodeSettings)


def copy_in(home: Path) -> NodeSettings | None:
    path = home / "node" / "settings.json"
    return msgspec.json.decode(path.read_bytes(), type=NodeSettings) if path.exists() else None


@pytest.mark.slow
def test_settings_outlive_both_sides(house: House) -> None:
    """The node has them within a heartbeat and after its restart, and a router that lost its database has them back."""
    router = house.router()
    node = house.node(router, "box")
    eventually(lambda: router.is_online("box"), 60)
    told = change(router, "box", **SET)
    eventually(lambda: copy_in(house.directory / "box") == told)
    assert '"settings.changed"' in node.text()

    node.stop()
    node.start()
    eventually(lambda: router.is_online("GPU box"), 60)
    assert router.node("GPU box").settings == told

    router.stop()
    for file in (house.directory / "router").rglob("router.db*"):
        file.unlink()
    router.start()
    eventually(lambda: router.is_online("GPU box"), 60)
    assert router.node("GPU box").settings == told
    assert router.listed() == []
    change(router, "GPU box", name="", drain=False)
    assert router.is_online("box")
    assert router.listed() == [HELLO]


@pytest.mark.slow
def test_a_drained_node_finishes_and_gets_nothing_new(house: House) -> None:
    """What it is answering arrives whole; all that is new goes to the other, until it is used again."""
    router = house.router("--policy", "round-robin")
    for name in ("one", "other"):
        router.attach(house.fake(name, tokens=20, delay=0.05))
    long: list[bool] = []
    asking = [Thread(target=lambda: long.append(chat(router.url, "fake").whole)) for _ in range(2)]
    for thread in asking:
        thread.start()
    eventually(lambda: all(router.node(name).in_flight for name in ("one", "other")))

    change(router, "one", drain=True)
    explained = router.explain("fake")
    assert [(o.node, o.reason) for o in explained.others] == [("one", "drained by an operator")]
    answers = [ask(router.url, "openai", "fake") for _ in range(2)]
    assert {a.headers["x-llm-router-node"] for a in answers} == {"other"}
    for thread in asking:
        thread.join()
    assert long == [True, True]
    eventually(lambda: router.node("one").done == 1)

    change(router, "other", drain=True)
    refusal = ask(router.url, "openai", "fake")
    assert (refusal.status, refusal.json()["error"]["code"]) == (503, "no_capable_nodes")
    assert "drained by an operator: 'one', 'other'" in refusal.json()["error"]["message"]
    change(router, "one", drain=False)
    assert ask(router.url, "openai", "fake").headers["x-llm-router-node"] == "one"


def test_the_command(house: House) -> None:
    """`nodes set` changes what is given and nothing else; a list shows it; what cannot be is said in one line."""
    router = house.router()
    router.attach(house.fake("one"))
    node_id, where = router.node("one").id, ("--router", router.url)
    said = run("nodes", "set", node_id, "--name", "GPU box", "--tag", "lab", "--tag", "big", "--drain", *where)
    assert (said.returncode, said.stderr) == (0, "")
    assert "GPU box" in said.stdout
    assert "online, drained" in said.stdout
    assert "online, drained" in run("nodes", *where).stdout
    assert run("nodes", "set", node_id, "--no-drain", "--notes", "ask Mia", "--tag", "", *where).returncode == 0
    settings = router.node("GPU box").settings
    assert (settings.tags, settings.notes, settings.drain) == ([], "ask Mia", False)
    wrong = run("nodes", "set", node_id, "--name", "x" * 101, *where)
    assert (wrong.returncode, wrong.stderr) == (1, "Error: name: at most 100 characters\n")
