"""What router and node say to each other about models: what there is, what it consists of, and who shall have it.

GET /v0/models/registry/{model}/manifest.json   Manifest           requirement H6
GET /v0/models/registry/{model}/files/{file}    its bytes; Range   requirement H6
GET /v0/nodes/{id}/models                       list of Offer      with that node's secret; see Seen.catalogue
"""

from typing import Literal

import msgspec

from llm_router.models.gguf import Facts

REGISTRY = "/v0/models/registry"
NODE_ID = "x-llm-router-node"  # header beside the node's secret: whose it is

Format = Literal["gguf", "safetensors"]


class ModelFile(msgspec.Struct, frozen=True):
    """One file of a model: `name` within the model, bytes, SHA-256 in hexadecimal where it is known, and its origin.

    `peers`: URLs on nodes that have it, to be asked as they are, for a while.
    """

    name: str
    size: int
    sha256: str = ""
    url: str = ""
    peers: list[str] = []


class Manifest(msgspec.Struct, frozen=True):
    """What a model consists of. GGUF: one file, or its parts in their order.

    `runtimes`: kinds that can run it; `url`: where it comes from, for people; `facts`: what a GGUF's header says;
    `chat_template`: Jinja that stands in for the file's own.
    """

    model: str
    format: Format
    files: list[ModelFile]
    runtimes: list[str] = []
    url: str = ""
    display_name: str = ""
    chat_template: str = ""
    architectures: list[str] = []
    facts: Facts | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class Offer(msgspec.Struct, frozen=True):
    """A model of the catalogue, for one node. `wanted`: it shall have it; `preload`: in memory, too."""

    manifest: Manifest
    wanted: bool = False
    preload: bool = False
