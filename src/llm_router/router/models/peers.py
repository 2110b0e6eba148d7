"""Which nodes can give a file to another one, so that it crosses the internet once (issue: distribution).

A node is asked only for files whose SHA-256 is known: whoever fetches one checks it.
"""

import ipaddress
from collections.abc import Iterable
from hashlib import sha256

import msgspec

from llm_router.core.health import State
from llm_router.core.node import Node
from llm_router.models import names
from llm_router.models.manifest import Manifest, ModelFile
from llm_router.models.tickets import LIFE, Ticket, path, stored_name

MOST = 3  # addresses of one file: the first that answers is enough, and each that does not costs time


def with_peers(manifest: Manifest, nodes: Iterable[Node], asking: Node, now: float) -> Manifest:
    """The manifest, with addresses of its files on other nodes. `now`: seconds since the epoch."""
    peers = _in_order([node for node in nodes if can_give(node, manifest.model, asking)], asking)[:MOST]
    files = [_with_addresses(manifest, number, peers, now) for number in range(len(manifest.files))]
    return msgspec.structs.replace(manifest, files=files)


def can_give(node: Node, model: str, asking: Node) -> bool:
    """Whether a node is there, has the model, and can be reached by the one that asks."""
    return (
        node is not asking
        and node.kind == "agent"
        and node.state is State.ONLINE
        and model in node.models
        and model not in node.absent
        and bool(node.token)
        and _is_reached(node, asking)
    )


def _is_reached(node: Node, asking: Node) -> bool:
    """A machine's own address is of use on that machine alone: where both nodes run beside the router."""
    address = node.address
    if address is None or not address.port:
        return False
    return (node.local and asking.local) or not _is_loopback(address.host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_order(nodes: list[Node], asking: Node) -> list[Node]:
    """Those first that do least; of equal ones, another one for each that asks: ten shall not all ask the same."""
    return sorted(nodes, key=lambda node: (node.in_flight, sha256(f"{asking.id} {node.id}".encode()).digest()))


def _with_addresses(manifest: Manifest, number: int, peers: list[Node], now: float) -> ModelFile:
    file = manifest.files[number]
    if not file.sha256 or not names.is_name(stored_name(manifest, number).lower()):
        return file
    where = path(manifest, number)
    ticket = Ticket(where, file.size, file.sha256.lower(), int(now + LIFE))
    return msgspec.structs.replace(file, peers=[_url(node, where, ticket) for node in peers])


def _url(node: Node, where: str, ticket: Ticket) -> str:
    assert node.address is not None  # noqa: S101 - `_is_reached`
    return f"{node.address.url}{where}?{ticket.query(node.token)}"
