"""Models that no machine holds yet: registered once, fetched by one node, and used at once (issue 8; H1 to H6)."""

import hashlib
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.doubles.hub import BLOCK
from tests.system.harness import START, Answer, House, Process, Router, call, chat, eventually

from llm_router.models.partial import partial_size
from llm_router.node.models import builtin

REPO, NAME, FILE = "org/tiny", "tiny", "tiny-f32.gguf"
KEY = f"{REPO}/{FILE}"
PADDING = 8 << 20  # bytes behind the weights, which nobody reads: a transfer shall have a middle
SLACK = 1.1  # of the file's size: what a resumed transfer may have cost
FIRST_SIGN = 15.0  # seconds; the router gives one every 10

pytestmark = [pytest.mark.slow, pytest.mark.long]


class World:
    """A hub with one model, and a router that may fetch from it; nodes as a test wants them."""

    def __init__(self, house: House, *options: str) -> None:
        self.house = house
        self.model = builtin.model_bytes() + bytes(PADDING)
        self.half = len(self.model) // 2 // BLOCK * BLOCK
        house.publish(f"{REPO}/{FILE}", self.model)
        self.hub = house.hub()
        self.router: Router = house.router(*self.hub.options(), *options)
        self.nodes: dict[str, Process] = {}

    def node(self, *names: str, options: tuple[str, ...] = ()) -> None:
        for name in names:
            self.nodes[name] = self.house.node(self.router, name, *options)
        eventually(lambda: self.router.is_online(*names), START)

    def register(self, name: str = NAME, **fields: object) -> None:
        """As `llm-router models add` does; and the nodes have heard of it."""
        answer = call(self.router.url, "POST", "/v0/models", {"repo": REPO, "name": name} | fields)
        assert answer.status == 201, answer
        eventually(lambda: all(name in node.models for node in self.router.nodes().values()), START)

    def store(self, name: str) -> Path:
        return self.house.directory / name / "node" / "models"

    def holders(self) -> list[str]:
        """The nodes in whose store the model's file lies."""
        return [name for name in self.nodes if (self.store(name) / f"{NAME}.gguf").exists()]

    def has_stored(self, name: str) -> bool:
        view = self.router.node(name)
        return NAME in view.models and NAME not in view.offered


@contextmanager
def asking(world: World, times: int = 1, **fields: object) -> Iterator[list[Future[Answer]]]:
    """Requests that are on their way within the block."""
    with ThreadPoolExecutor(times) as pool:
        yield [pool.submit(chat, world.router.url, NAME, **fields) for _ in range(times)]


def answered(answer: Answer) -> bool:
    """Whether the built-in model's sentence came, in one piece or in many."""
    text = "".join(record.get("message", {}).get("content", "") for record in answer.records())
    return answer.status == 200 and answer.whole and text.split() == builtin.SENTENCE.split()


def test_a_model_that_nobody_has_is_fetched_by_one_node_and_answers(house: House) -> None:
    """H1, C1, C8: nowhere, registered, listed, asked for, there; each byte leaves its origin once."""
    world = World(house)
    world.node("one", "two")
    nowhere = chat(world.router.url, NAME)
    assert (nowhere.status, nowhere.json()) == (404, {"error": f"model '{NAME}' not found: no node lists it"})
    world.register()
    assert NAME in world.router.listed()
    assert world.holders() == []
    before = world.hub.count(KEY).bytes
    assert answered(chat(world.router.url, NAME, stream=False))
    assert world.hub.count(KEY).bytes - before == len(world.model)
    (holder,) = world.holders()
    assert (world.store(holder) / f"{NAME}.gguf").read_bytes() == world.model
    eventually(lambda: world.has_stored(holder))
    (other,) = {"one", "two"} - {holder}
    assert world.router.node(other).offered == [NAME]


def test_twenty_first_requests_share_one_download_and_hear_how_far_it_is(house: House) -> None:
    """H4: half of them streams, which see the percentage while they wait."""
    world = World(house)
    world.node("one", "two")
    world.register()
    before = world.hub.count(KEY).requests
    world.hub.set(hold=world.half)
    with asking(world, 10, stream=True) as streams, asking(world, 10, stream=False) as wholes:
        world.hub.held()
        eventually(lambda: any(n.progress for n in world.router.nodes().values()))
        waits = threading.Event()
        waits.wait(FIRST_SIGN)  # the signs' own clock
        world.hub.release()
        answers = [future.result() for future in (*streams, *wholes)]
    assert all(map(answered, answers))
    assert world.hub.count(KEY).requests - before == 1
    assert len(world.holders()) == 1
    signs = [r["status"] for answer in answers for r in answer.records() if "status" in r]
    assert any(sign.startswith(f"fetching {NAME}: ") and "% of 8.7 MB" in sign for sign in signs), signs


def test_a_node_that_is_killed_half_way_goes_on_where_it_was(house: House) -> None:
    """H4: after its restart, by itself; and so little more than the file leaves its origin."""
    world = World(house)
    world.node("one")
    world.register()
    before = world.hub.count(KEY).bytes
    world.hub.set(hold=world.half)
    with asking(world) as (request,):
        world.hub.held()
        target = world.store("one") / f"{NAME}.gguf"
        eventually(lambda: partial_size(target) > world.half // 2)
        world.nodes["one"].kill()
        assert not answered(request.result())
    world.hub.release()
    there = partial_size(target)
    world.node("one")
    eventually(lambda: world.holders() == ["one"], START)
    assert target.read_bytes() == world.model
    assert there > 0
    assert world.hub.count(KEY).bytes - before <= SLACK * len(world.model)
    eventually(lambda: answered(chat(world.router.url, NAME, stream=False)), START)


def test_a_redirect_to_a_host_that_is_not_allowed_is_refused_by_name(house: House) -> None:
    """H3: at a request for the model, and when it is registered."""
    world = World(house)
    world.node("one")
    world.register()
    world.hub.set(redirect_host="weights.example:443")
    refused = chat(world.router.url, NAME, stream=False)
    assert refused.status >= 500
    assert "weights.example" in refused.json()["error"]
    again = call(world.router.url, "POST", "/v0/models", {"repo": REPO, "name": "second"})
    assert again.status == 403
    assert again.json()["error"]["code"] == "origin_denied"
    assert "weights.example" in again.json()["error"]["message"]
    assert world.holders() == []


def test_a_file_with_another_checksum_is_thrown_away(house: House) -> None:
    """H8: nothing is repaired, nothing is listed as stored, and the error names both."""
    world = World(house)
    world.node("one")
    world.hub.set(wrong_sha256=True)
    world.register()
    refused = chat(world.router.url, NAME, stream=False)
    assert refused.status >= 500
    assert hashlib.sha256(world.model).hexdigest() in refused.json()["error"]
    assert world.holders() == []
    assert not list((house.directory / "router" / "router" / "models").rglob("*.gguf"))


def test_ten_nodes_one_download(house: House) -> None:
    """H6: placement has each of them fetch it, the origin is asked once, and every node answers."""
    world = World(house)
    names = [f"n{number}" for number in range(10)]
    world.node(*names)
    before = world.hub.count(KEY).requests
    world.register(placement={"nodes": 10})
    eventually(lambda: all(world.has_stored(name) for name in names), START)
    assert world.hub.count(KEY).requests - before <= 2  # one to look at its header
    assert world.hub.count(KEY).bytes <= SLACK * len(world.model)
    for name in names:
        assert answered(chat(world.nodes[name].url, NAME, stream=False))


def test_a_node_gets_it_from_another(house: House) -> None:
    """Issue 8: neither its origin nor the router has it any more, and no file crosses the internet twice."""
    world = World(house)
    world.node("one", "two")
    name = "org/tiny:f32"  # as names are that nobody chose
    world.register(name)
    assert answered(chat(world.router.url, name, stream=False))
    (first,) = [node for node in world.nodes if (world.store(node) / "org" / "tiny=f32.gguf").exists()]
    (second,) = set(world.nodes) - {first}
    world.hub.stop()
    shutil.rmtree(house.directory / "router" / "router" / "models")
    placed = call(world.router.url, "PATCH", f"/v0/models/{name}", {"placement": {"nodes": 2}})
    assert placed.status == 200
    copy = world.store(second) / "org" / "tiny=f32.gguf"
    eventually(copy.exists, START)
    assert copy.read_bytes() == world.model


def test_a_copy_that_goes_is_made_up_for(house: House) -> None:
    """Issue 8, placement: the router keeps it so; what is on a node already comes from there, not from its origin."""
    world = World(house)
    world.node("one", "two", "three")
    world.register(placement={"nodes": 2})
    eventually(lambda: len(world.holders()) == 2, START)
    (third,) = set(world.nodes) - set(world.holders())
    gone = world.holders()[0]
    shutil.rmtree(house.directory / "hub" / REPO)
    view = world.router.node(gone)
    assert call(world.router.url, "PATCH", f"/v0/nodes/{view.id}", {"drain": True}).status == 200
    eventually(lambda: third in world.holders(), 3 * START)


def test_everything_goes_through_the_proxy_where_there_is_one(
    house: House, monkeypatch: pytest.MonkeyPatch, proxy: Callable[[], list[str]]
) -> None:
    """G4: the router's calls to the hub, and nobody's to nodes and router."""
    monkeypatch.setenv("NO_PROXY", "")
    world = World(house)
    world.node("one")
    world.register()
    assert answered(chat(world.router.url, NAME, stream=False))
    seen = proxy()
    assert any(world.hub.url in line for line in seen)
    assert not any(world.router.url in line for line in seen)


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What a proxy was asked for that everybody is told to go through."""
    program = Path(__file__).parents[1] / "doubles" / "http_proxy.py"
    process = Process("proxy", [sys.executable, str(program)], tmp_path).start()
    monkeypatch.setenv("http_proxy", process.url)
    yield lambda: process.text().splitlines()
    process.stop()


# -- the shared directory


def test_a_shared_model_is_used_where_it_lies(house: House) -> None:
    """H1, H2: no copy; another file under its name answers the next request; a share that is gone is nobody's model."""
    share = house.directory / "share"
    share.mkdir()
    file = share / "common.gguf"
    file.write_bytes(builtin.model_bytes())
    world = World(house)
    world.node("one", options=("--shared-models-dir", str(share)))

    def ask() -> Answer:
        return chat(world.router.url, "common", stream=False)

    eventually(lambda: "common" in world.router.listed())
    assert answered(ask())
    assert not list(world.store("one").rglob("common*"))
    other = share / "common.new"
    other.write_bytes(builtin.model_bytes().replace(b"Hello!", b"Howdy!"))
    other.replace(file)
    assert ask().json()["message"]["content"].startswith("Howdy!")
    share.rename(house.directory / "elsewhere")
    eventually(lambda: "common" not in world.router.listed())
    assert ask().status == 404


def test_a_share_that_is_gone_is_made_up_for_by_the_catalogue(house: House) -> None:
    """H2: fall through to download."""
    share = house.directory / "share"
    share.mkdir()
    (share / f"{NAME}.gguf").write_bytes(builtin.model_bytes())
    world = World(house)
    world.node("one", options=("--shared-models-dir", str(share)))
    world.register()
    assert answered(chat(world.router.url, NAME, stream=False))
    assert world.holders() == []
    share.rename(house.directory / "elsewhere")
    eventually(lambda: answered(chat(world.router.url, NAME, stream=False)) and world.holders() == ["one"], START)
