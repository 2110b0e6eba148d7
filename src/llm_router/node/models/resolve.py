"""Where a model comes from: the decisions of requirement H1, without doing any of it.

a model is asked for
1  it lies in our own store, or in the shared directory   -> it is used where it lies; our own first (`Store.scan`)
2  the router offers it                                   -> each of its files is fetched, from the first that can:
   2a  a node that has it, where its checksum is known: nobody vouches for that node
   2b  the router, which has it or passes it on
   2c  where it is from, if the setting `model_origins` lets us
3  neither                                                -> ModelNotFound, at once
"""

from collections.abc import Callable, Mapping
from typing import Literal, TypeVar
from urllib.parse import quote

import msgspec

from llm_router.errors import ModelNotFound
from llm_router.models.manifest import REGISTRY, Manifest, ModelFile, Offer
from llm_router.node.models.store import StoredModel

Stored = TypeVar("Stored", bound=StoredModel)


class Source(msgspec.Struct, frozen=True):
    """Where the bytes of one file can be had. `url` is asked with our secret where it is the router's."""

    kind: Literal["peer", "router", "origin"]
    url: str


def resolve(model_id: str, stored: Mapping[str, Stored], offers: Mapping[str, Offer]) -> Stored | Offer:
    """What to do for a model: use what is stored (1), or fetch what is offered (2).

    Raises:
        ModelNotFound: it is nowhere (3).
    """
    found = stored.get(model_id) or offers.get(model_id)
    if found is None:
        raise ModelNotFound(f"model '{model_id}' not found: it is not stored on this node, and the router offers none")
    return found


def sources(model_id: str, file: ModelFile, router: str, is_allowed: Callable[[str], bool]) -> list[Source]:
    """Where to fetch one of its files from, one after the other (2a to 2c). `router`: its URL, "" without one."""
    peers = [Source("peer", url) for url in file.peers if file.sha256]
    through = [Source("router", file_url(router, model_id, file.name))] if router else []
    origin = [Source("origin", file.url)] if file.url and is_allowed(file.url) else []
    return [*peers, *through, *origin]


def manifest_url(router: str, model_id: str) -> str:
    """Where the router tells what a model consists of (requirement H6)."""
    return f"{router}{REGISTRY}/{quote(model_id, safe='/:')}/manifest.json"


def file_url(router: str, model_id: str, name: str) -> str:
    """Where the router gives out one of its files (requirement H6)."""
    return f"{router}{REGISTRY}/{quote(model_id, safe='/:')}/files/{quote(name)}"


def file_names(manifest: Manifest) -> list[str]:
    """The names of its files, all of which stay below the directory that they are put in.

    Raises:
        ModelNotFound: one does not, or there is none; the router that says so is not to be believed.
    """
    names = [file.name for file in manifest.files]
    if not names or not all(map(_stays_below, names)):
        raise ModelNotFound(f"model '{manifest.model}' not found: the router's list of its files makes no sense")
    return names


def _stays_below(name: str) -> bool:
    """Whether it is a path of plain parts: none hidden or `..`, no drive, no backslash, nothing that does not print."""
    parts = name.split("/")
    return all(part and part[0] != "." and part.isprintable() and not set(part) & set(_UNUSABLE) for part in parts)


_UNUSABLE = '\\:*?"<>|'  # what Windows has a meaning for
