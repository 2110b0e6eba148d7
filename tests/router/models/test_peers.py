"""Which nodes are named to another one as having a file (requirement H6)."""

import msgspec
import pytest

from llm_router.contract import Address
from llm_router.core.health import State
from llm_router.core.node import EVERY_DIALECT, Node
from llm_router.models.manifest import Manifest, ModelFile
from llm_router.router.models.peers import MOST, with_peers

FAR = "192.168.1.7"
MANIFEST = Manifest("m", "gguf", [ModelFile("f.gguf", 10, "AB" * 32)])


def node(name: str, host: str = FAR, *, local: bool = False) -> Node:
    made = Node(
        name,
        name,
        "agent",
        Address(host, 11435),
        dialects=EVERY_DIALECT,
        state=State.ONLINE,
        local=local,
        models=["m"],
    )
    made.let_in_by(f"access-{name}")
    return made


def named(*nodes: Node, asking: Node, manifest: Manifest = MANIFEST) -> list[str]:
    """The hosts that are named for the manifest's only file."""
    (file,) = with_peers(manifest, [*nodes, asking], asking, 1000.0).files
    return [url.split("/")[2].rpartition(":")[0] for url in file.peers]


def test_who_has_it_is_named() -> None:
    """At its address, with a ticket; its checksum is in lower case there, as everywhere on the way."""
    (file,) = with_peers(MANIFEST, [node("a")], node("b"), 1000.0).files
    (url,) = file.peers
    assert url.startswith(f"http://{FAR}:11435/v0/files/m/model.gguf?size=10&sha256={'ab' * 32}&expires=8200&ticket=")


@pytest.mark.parametrize("why", ["offline", "suspect", "absent", "other", "no token", "attached", "no address"])
def test_who_could_not_give_it_is_not(why: str) -> None:
    """Away, in doubt, without the file, without a key to sign with, no agent, nowhere."""
    peer = node("a")
    match why:
        case "offline" | "suspect":
            peer.state = State(why)
        case "absent":
            peer.absent = frozenset({"m"})
        case "other":
            peer.models = ("n",)
        case "no token":
            peer.let_in_by("")
        case "attached":
            peer.kind = "ollama"
        case _:
            peer.address = None
    assert named(peer, asking=node("b")) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_machines_own_address_is_for_that_machine(host: str) -> None:
    """Of two nodes beside the router, one may be named to the other by it; to others it is somebody else's."""
    peer = node("a", host, local=True)
    assert named(peer, asking=node("b")) == []
    assert len(named(peer, asking=node("b", "127.0.0.1", local=True))) == 1


def test_only_what_can_be_checked() -> None:
    """Without a checksum, a node would have to believe another; a name that no node keeps a file under is none."""
    (file,) = MANIFEST.files
    unknown = msgspec.structs.replace(MANIFEST, files=[msgspec.structs.replace(file, sha256="")])
    odd = Manifest("m", "safetensors", [msgspec.structs.replace(file, name="../f")])
    assert named(node("a"), asking=node("b"), manifest=unknown) == []
    assert named(node("a"), asking=node("b"), manifest=odd) == []


def test_few_are_enough_and_not_all_ask_the_same() -> None:
    """Of many, some; those that do least first, and others for others."""
    peers = [node(f"p{number}", f"10.0.0.{number}") for number in range(1, 11)]
    first = {named(*peers, asking=node(f"b{number}"))[0] for number in range(20)}
    assert len(named(*peers, asking=node("b"))) == MOST
    assert len(first) > 3
