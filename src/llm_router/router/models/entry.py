"""A model of the catalogue: what is asked for, what is kept of it, and what is shown (requirement H6)."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llm_router.models.manifest import Format, Manifest

Policy = Literal["", "quality", "memory", "speed"]

MOST_NODES = 1000  # as many as a router chooses from (requirement D4)
LONGEST_TEMPLATE = 256 * 1024  # characters; the longest of published models have 20,000

Template = Annotated[str, Meta(max_length=LONGEST_TEMPLATE)]
DisplayName = Annotated[str, Meta(max_length=100)]  # characters: a line of a list, as for nodes
NodeId = Annotated[str, Meta(min_length=1, max_length=128)]


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a model shall lie: on so many `nodes`, on those that are `pinned` (ids), in memory if `preload`.

    One node, none pinned and no preload: it is fetched when it is first asked for. Anything else the router keeps so,
    as nodes come and go.
    """

    nodes: Annotated[int, Meta(ge=1, le=MOST_NODES)] = 1
    pinned: Annotated[list[NodeId], Meta(max_length=MOST_NODES)] = []
    preload: bool = False

    @property
    def standing(self) -> bool:
        """Whether it is to be there before anybody asks."""
        return self.nodes > 1 or bool(self.pinned) or self.preload


class NewModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model to register, from a `repo` of the hub (`org/name`, or its URL), or a `url` of a GGUF file.

    `file`: which of the repository's; `policy`: or, of several quantisations, the one of best `quality`, least `memory`
    or most `speed`. `name`: what requests call it; made from the repository's where it is not given. `chat_template`:
    Jinja in place of the file's own.
    """

    repo: str = ""
    url: str = ""
    file: str = ""
    policy: Policy = ""
    name: str = ""
    display_name: DisplayName = ""
    chat_template: Template = ""
    placement: Placement = Placement()


class ModelChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`PATCH /v0/models/{name}`: what is to be other; what is left out stays."""

    placement: Placement | UnsetType = UNSET
    display_name: DisplayName | UnsetType = UNSET


class FileView(msgspec.Struct, frozen=True):
    """A file of a model: its bytes, and its SHA-256 in hexadecimal, empty where nobody announced it."""

    name: str
    size: int
    sha256: str


class CatalogueModel(msgspec.Struct, frozen=True):
    """A model of the catalogue. `size` in bytes; `created` in seconds since the epoch.

    `memory`: bytes that a node needs to answer one request of 4,096 tokens with it; 0: its files do not tell.
    `context`: tokens that it was made for, 0 where that is not told. `chat_template`: whether it has one.
    """

    name: str
    display_name: str
    format: Format
    url: str
    files: list[FileView]
    size: int
    memory: int
    architectures: list[str]
    quantization: str
    context: int
    chat_template: bool
    placement: Placement
    created: float


class Entry(msgspec.Struct, frozen=True):
    """What is kept of a model; what `CatalogueModel` says holds here."""

    manifest: Manifest
    placement: Placement
    memory: int
    quantization: str
    chat_template: bool
    context: int
    created: float

    @property
    def name(self) -> str:
        """What requests call it."""
        return self.manifest.model

    def view(self) -> CatalogueModel:
        """What is shown of it."""
        manifest = self.manifest
        return CatalogueModel(
            name=manifest.model,
            display_name=manifest.display_name or manifest.model,
            format=manifest.format,
            url=manifest.url,
            files=[FileView(file.name, file.size, file.sha256) for file in manifest.files],
            size=manifest.size,
            memory=self.memory,
            architectures=manifest.architectures,
            quantization=self.quantization,
            context=self.context,
            chat_template=self.chat_template,
            placement=self.placement,
            created=self.created,
        )


def changed(entry: Entry, change: ModelChange) -> Entry:
    """The entry after the change; an equal one, if it changes nothing."""
    manifest, placement = entry.manifest, entry.placement
    if change.display_name is not UNSET:
        manifest = msgspec.structs.replace(manifest, display_name=change.display_name.strip())
    if change.placement is not UNSET:
        placement = msgspec.structs.replace(change.placement, pinned=list(dict.fromkeys(change.placement.pinned)))
    return msgspec.structs.replace(entry, manifest=manifest, placement=placement)
