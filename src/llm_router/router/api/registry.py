"""What nodes fetch: what is offered to them, manifests, and files (requirement H6).

    GET       /v0/nodes/{id}/models                          what the node may have, and what it shall have
    GET       /v0/models/registry/{model}/manifest.json      what a model consists of; for a node, who else has it
    GET HEAD  /v0/models/registry/{model}/files/{file}       a file; Range, If-Range, If-None-Match
    GET HEAD  /v1/models/blob/{model}                        the same, of a GGUF model of one file

Who may ask: an admin, and nodes that have joined. A node says in the header NODE_ID who it is, and shows its secret.

Names of models and files have slashes. What is asked for is found in the catalogue as a whole, and only what stands
there is ever opened: no name that a client sends becomes a path.
"""

import time
from collections.abc import AsyncIterator, Iterator
from urllib.parse import unquote

from litestar import Response, get, head
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Stream

from llm_router.contract import NODES
from llm_router.core.health import State
from llm_router.core.node import Node
from llm_router.core.registry import Registry
from llm_router.errors import BadRequest, Forbidden, ModelNotFound, NodeNotFound, NotFound, Unauthorized
from llm_router.gateway.control_app import AnyRequest
from llm_router.models import names
from llm_router.models.failures import DownloadFailed
from llm_router.models.manifest import NODE_ID, REGISTRY, Manifest, ModelFile, Offer
from llm_router.models.ranges import Part, asked, part
from llm_router.router.access.who import who
from llm_router.router.api.refusals import also, refusals
from llm_router.router.credentials import Credentials
from llm_router.router.models.depot import Depot, Reader
from llm_router.router.models.offers import Catalogue, Offers
from llm_router.router.models.peers import with_peers

BLOB = "/v1/models/blob"
MANIFEST = "/manifest.json"
FILES = "/files/"
TYPE = "application/octet-stream"

_REFUSALS = refusals(BadRequest, Unauthorized, Forbidden, ModelNotFound, NotFound, DownloadFailed)


class Counter:
    """Who may have what at the place where files are handed out."""

    def __init__(self, catalogue: Catalogue, registry: Registry, credentials: Credentials) -> None:
        self._catalogue = catalogue
        self._registry = registry
        self._credentials = credentials

    def admit(self, request: AnyRequest) -> Node | None:
        """The node that asks; None: an admin does.

        Raises:
            Unauthorized: it is neither, or does not show that it is.
            Forbidden: its key is for other things, or it has not joined yet.
        """
        asking = who(request)
        if asking.scope == "admin":
            return None
        node = self._registry.nodes.get(request.headers.get(NODE_ID, ""))
        if node is None or not self._credentials.matches(node.id, _bearer(request)):
            if asking.scope != "none":
                raise Forbidden("models are handed out to nodes and admins alone")
            raise Unauthorized(f"a node's secret is needed, and its id in the header {NODE_ID}; or an admin key")
        if node.state is State.PENDING:
            raise Forbidden(f"node '{node.name}' waits for an operator's approval")
        return node

    def manifest(self, model: str) -> Manifest:
        """What the model consists of.

        Raises:
            BadRequest: it is no name of a model.
            ModelNotFound: it is none of the catalogue's.
        """
        entry = self._catalogue.find(model)
        if entry is None:
            names.check(model)
            raise ModelNotFound(f"the catalogue has no model '{model}'")
        return entry.manifest

    def for_node(self, manifest: Manifest, node: Node | None) -> Manifest:
        """With the nodes that could give its files to this one."""
        return manifest if node is None else with_peers(manifest, self._registry, node, time.time())

    def find(self, path: str) -> tuple[Manifest, ModelFile | None]:
        """What is meant by a path below REGISTRY; None: the manifest. Raises as `manifest`, and NotFound."""
        for model, name in readings(path):
            entry = self._catalogue.find(model)
            if entry is None:
                continue
            if not name:
                return entry.manifest, None
            for file in entry.manifest.files:
                if file.name == name:
                    return entry.manifest, file
        model, name = next(readings(path), (path, ""))
        manifest = self.manifest(model)
        if not names.is_name(name.lower()):
            raise BadRequest(f"{name[:80]!r} is no name of a model's file")
        raise NotFound(f"'{manifest.model}' has no file '{name}': see {REGISTRY}/{manifest.model}{MANIFEST}")


def readings(path: str) -> Iterator[tuple[str, str]]:
    """How a path below REGISTRY can be read: model, and name of a file, "" for the manifest."""
    if path.endswith(MANIFEST):
        yield path.removesuffix(MANIFEST), ""
    at = path.find(FILES)
    while at >= 0:
        yield path[:at], path[at + len(FILES) :]
        at = path.find(FILES, at + 1)


def registry_routes(
    catalogue: Catalogue, offers: Offers, depot: Depot, registry: Registry, credentials: Credentials
) -> list[HTTPRouteHandler]:
    """The handlers."""
    counter = Counter(catalogue, registry, credentials)

    @get(NODES + "/{node_id:str}/models", tags=["nodes"], responses=refusals(Unauthorized, Forbidden, NodeNotFound))
    async def offered(request: AnyRequest, node_id: FromPath[str]) -> list[Offer]:
        """What a node may fetch, and what it shall."""
        node = counter.admit(request)
        if node is not None and node.id != node_id:
            raise Forbidden("this is another node's")
        if node_id not in registry.nodes:
            raise NodeNotFound(f"no node has the id {node_id}")
        return offers.of(node_id)

    @get(REGISTRY + "/{path:path}", tags=["models"], responses=also(200, Manifest, "The manifest.") | _REFUSALS)
    async def fetch(request: AnyRequest) -> Response[Manifest] | Response[bytes] | Stream:
        """`{model}/manifest.json`: what a model consists of; `{model}/files/{file}`: a file, or a part of it."""
        node = counter.admit(request)
        manifest, file = counter.find(_below(request, REGISTRY))
        if file is None:
            return Response(counter.for_node(manifest, node))
        return await _bytes(request, depot, manifest.model, file)

    @head(REGISTRY + "/{path:path}", tags=["models"], responses=_REFUSALS)
    async def look(request: AnyRequest) -> Response[None]:
        """The same without its bytes: nothing is fetched for it."""
        counter.admit(request)
        _, file = counter.find(_below(request, REGISTRY))
        return Response(None) if file is None else _without_bytes(request, file)

    @get(BLOB + "/{model:path}", tags=["models"], responses=_REFUSALS)
    async def blob(request: AnyRequest) -> Response[bytes] | Stream:
        """A GGUF model of one file, or a part of it."""
        counter.admit(request)
        manifest = counter.manifest(_below(request, BLOB))
        return await _bytes(request, depot, manifest.model, _only_file(manifest))

    @head(BLOB + "/{model:path}", tags=["models"], responses=_REFUSALS)
    async def look_at_blob(request: AnyRequest) -> Response[None]:
        """The same without its bytes: nothing is fetched for it."""
        counter.admit(request)
        return _without_bytes(request, _only_file(counter.manifest(_below(request, BLOB))))

    return [offered, fetch, look, blob, look_at_blob]


def _below(request: AnyRequest, route: str) -> str:
    """What stands after the route. Litestar's path parameter would fold slashes, which are not ours to forgive."""
    path: str = unquote(request.scope["raw_path"].decode("ascii", "replace"))
    return path.removeprefix(route + "/")


def _bearer(request: AnyRequest) -> str:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _only_file(manifest: Manifest) -> ModelFile:
    if manifest.format == "gguf" and len(manifest.files) == 1:
        return manifest.files[0]
    where = f"{REGISTRY}/{manifest.model}"
    raise BadRequest(
        f"'{manifest.model}' has {len(manifest.files)} files: {where}{MANIFEST} lists them, and each is at "
        f"{where}{FILES}{{file}}"
    )


async def _bytes(request: AnyRequest, depot: Depot, model: str, file: ModelFile) -> Response[bytes] | Stream:
    reader = None
    size, tag = file.size, _tag(file)
    if not (size and tag):  # only who has it in hand can tell
        reader = await depot.open(model, file)
        size, tag = reader.size, reader.tag
    what = part(asked(request.method, request.headers), size, tag)
    if what.status not in (200, 206):
        return Response(b"", status_code=what.status, headers=what.headers, media_type=TYPE)
    reader = reader or await depot.open(model, file)
    return Stream(_read(reader, what), status_code=what.status, headers=what.headers, media_type=TYPE)


def _without_bytes(request: AnyRequest, file: ModelFile) -> Response[None]:
    what = part(asked(request.method, request.headers), file.size, _tag(file))
    return Response(None, status_code=what.status, headers=what.headers | {"content-type": TYPE})


def _tag(file: ModelFile) -> str:
    return f'"{file.sha256.lower()}"' if file.sha256 else ""


async def _read(reader: Reader, what: Part) -> AsyncIterator[bytes]:
    async with reader:
        async for block in reader.blocks(what.start, what.stop):
            yield block
