"""`GET /schema`: what the API is, as OpenAPI 3.1 (`/schema/openapi.json`) and as a page for people.

Rule 1: a handler says what is its own: parameters, body, answer, what it refuses. What all share is added here.
Rule 2: the types of messages are described by msgspec, which also checks them; their words are the docstrings.
Rule 3: nothing is loaded from elsewhere: the page is one file without a script.

The document is made when it is first asked for, and kept.
"""

import base64
import hashlib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby
from typing import Any

import msgspec
from litestar import Litestar, Request, Router
from litestar.datastructures import ResponseHeader, State
from litestar.enums import MediaType, OpenAPIMediaType
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, Reference, Schema, SecurityScheme, Tag
from litestar.plugins import OpenAPISchemaPlugin
from litestar.types import ControllerRouterHandler
from litestar.typing import FieldDefinition

from llm_router import __version__
from llm_router.contract import NODES, ErrorBody
from llm_router.errors import BadRequest
from llm_router.gateway.control_app import control_app
from llm_router.router.api.examples import EXAMPLES, PARAMETERS
from llm_router.router.api.refusals import said

Document = dict[str, Any]  # JSON: of OpenAPI's own shape
Call = Request[None, None, State]

PATH = "/schema"
TITLE = "LLM Router"
ABOUT = (
    "Operators', agents' and the dashboard's side of the router. Inference is asked for as Ollama, OpenAI and Anthropic"
    " document it: /api/chat, /api/generate, /v1/chat/completions, /v1/messages and the others of"
    " docs/reference/api.md."
)
TAGS = {
    "nodes": "The machines: how they register and report, and what operators do with them.",
    "models": "What can be asked for now, as Ollama and OpenAI list it, and the catalogue that nodes fetch from.",
    "history": "What was asked and what happened, as lists, as files and as a live stream.",
    "routing": "Which node would answer, and why.",
    "access": "API keys, login links, sessions.",
    "service": "Whether the router is there, and how it is.",
}
SCHEMES = {
    "key": SecurityScheme(type="http", scheme="bearer", description="An API key: `llm-router keys create`."),
    "x-api-key": SecurityScheme(type="apiKey", security_scheme_in="header", name="x-api-key", description="The same."),
    "session": SecurityScheme(
        type="apiKey", security_scheme_in="cookie", name="llm-router-8080", description="A browser's; 8080 is the port."
    ),
    "node": SecurityScheme(type="http", scheme="bearer", description="A node's own: registration's answer."),
}
SOMEBODY: list[dict[str, list[str]]] = [{"key": []}, {"x-api-key": []}, {"session": []}]
ANYBODY: list[dict[str, list[str]]] = []
NODE: list[dict[str, list[str]]] = [{"node": []}]
# What needs no key: the first is for whoever watches the router, agents prove themselves by secrets of their own.
OPEN = {
    ("get", "/health"): ANYBODY,
    ("post", NODES): [{}, *NODE],  # a new node has no secret yet
    ("post", NODES + "/{node_id}/heartbeat"): NODE,
    ("post", NODES + "/{node_id}/goodbye"): NODE,
}
# Media types of answers that are no JSON.
ALSO = {
    "/v0/events": ("text/event-stream", "text/csv"),
    "/v0/requests": ("text/csv",),
    "/v0/models/registry/{path}": ("application/octet-stream",),
    "/v1/models/blob/{model}": ("application/octet-stream",),
}
METHODS = ("get", "head", "post", "put", "patch", "delete")
OLLAMA_ERROR = "OllamaError"
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "code{font-family:ui-monospace,monospace}dt{margin-top:.75rem}dd{margin:0 0 0 1.5rem}"
)


def documented(routes: Sequence[ControllerRouterHandler]) -> Litestar:
    """The control app of `routes`, which says at PATH what they are."""
    structs = Structs()
    router = Router(PATH, route_handlers=[], include_in_schema=False, response_headers=_strict())
    config = OpenAPIConfig(
        title=TITLE,
        version=__version__,
        description=ABOUT,
        tags=[Tag(name, about) for name, about in TAGS.items()],
        security=SOMEBODY,
        components=Components(security_schemes=dict(SCHEMES)),
        use_handler_docstrings=True,
        openapi_router=router,
        render_plugins=[Page(structs), Json(structs)],
    )
    return control_app(routes, openapi=config, plugins=[structs])


def _strict() -> list[ResponseHeader]:
    """A page that loads nothing, and that nobody can show in a frame of his own."""
    style = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    nothing = ("default-src", "base-uri", "form-action", "frame-ancestors")
    headers = {
        "content-security-policy": "; ".join([*(f"{what} 'none'" for what in nothing), f"style-src 'sha256-{style}'"]),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return [ResponseHeader(name=name, value=value) for name, value in headers.items()]


class Structs(OpenAPISchemaPlugin):
    """Has msgspec's types stand in the document under their names; what they are is told by `components`."""

    def __init__(self) -> None:
        self._types: dict[str, type[msgspec.Struct]] = {}

    @staticmethod
    def is_plugin_supported_type(value: object) -> bool:
        """Whether it is one of msgspec's."""
        return isinstance(value, type) and issubclass(value, msgspec.Struct)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:  # noqa: ANN401 - private to Litestar
        """A reference to the type's name."""
        self._types[field_definition.annotation.__name__] = field_definition.annotation
        registry = schema_creator.schema_registry
        registry.get_schema_for_field_definition(field_definition)  # which makes the entry that is referred to
        reference: Reference = registry.get_reference_for_field_definition(field_definition)
        return reference  # type: ignore[return-value]  # Litestar's own code takes one, and needs it for a name

    def components(self) -> Document:
        """Every type by its name, with those that it is made of."""
        types = [*self._types.values(), ErrorBody]
        _, found = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
        for name, schema in found.items():
            schema["description"] = inspect.cleandoc(schema.get("description", ""))
            if name in EXAMPLES:
                schema["examples"] = [msgspec.to_builtins(EXAMPLES[name])]
        return found


class Json(OpenAPIRenderPlugin):
    """The document."""

    def __init__(self, structs: Structs) -> None:
        super().__init__(path="/openapi.json", media_type=OpenAPIMediaType.OPENAPI_JSON)
        self._structs = structs

    def render(self, request: Call, openapi_schema: Document) -> bytes:  # noqa: ARG002 - Litestar's signature
        """As JSON."""
        return msgspec.json.encode(completed(openapi_schema, self._structs))


class Page(OpenAPIRenderPlugin):
    """The same for people."""

    def __init__(self, structs: Structs) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)
        self._structs = structs

    def render(self, request: Call, openapi_schema: Document) -> bytes:  # noqa: ARG002 - Litestar's signature
        """As a list of what can be called."""
        return page(completed(openapi_schema, self._structs)).encode()


# -- what all routes have in common


def completed(document: Document, structs: Structs) -> Document:
    """Litestar's document, made whole in place; once."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    if OLLAMA_ERROR in schemas:
        return document
    schemas.update(structs.components())
    schemas[OLLAMA_ERROR] = _OLLAMA_ERROR
    for path, method, operation in operations(document):
        _complete(path, method, operation)
    return document


_OLLAMA_ERROR: Document = {
    "type": "object",
    "description": "The error shape of `/api`.",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
    "examples": [{"error": "model 'llama3:8b' not found"}],
}


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Every (path, method, operation)."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def _complete(path: str, method: str, operation: Document) -> None:
    operation.setdefault("tags", [_tag(path)])
    operation["summary"] = _first_sentence(operation.get("description") or operation["summary"])
    if (method, path) in OPEN:
        operation["security"] = OPEN[method, path]
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in PARAMETERS:
            parameter["example"] = PARAMETERS[parameter["name"]]
    for kind in ALSO.get(path, ()):
        operation["responses"]["200"]["content"][kind] = {"schema": {"type": "string"}}
    _explain_errors(operation["responses"], OLLAMA_ERROR if path.startswith("/api/") else ErrorBody.__name__)


def _explain_errors(responses: Document, shape: str) -> None:
    """Every status of 400 and more has the one shape of an error, not Litestar's."""
    if "400" in responses:
        responses["400"]["description"] = said(BadRequest)
    responses["default"] = {"description": "Any other refusal."}
    for status, response in responses.items():
        if status == "204":
            response.pop("content", None)
        if status == "default" or int(status) >= 400:
            response["content"] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}}


def _tag(path: str) -> str:
    """What it is about: the first word of a path of ours."""
    word = path.removeprefix("/v0/").split("/")[0]
    return _ABOUT.get(word, word if word in TAGS else "service")


_ABOUT = {"join": "nodes", "requests": "history", "events": "history"}


def _first_sentence(text: str) -> str:
    whole = " ".join(inspect.cleandoc(text).split())
    return whole.partition(". ")[0].rstrip(".")


# -- the page


def page(document: Document) -> str:
    """A list of what can be called, by what it is about."""
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><main><h1>{title}: API</h1><p>{escape(info['description'])}</p>"
        f'<p><a href="{PATH}/openapi.json">OpenAPI {escape(document["openapi"])} (JSON)</a></p>'
        f"{''.join(_sections(document))}</main></body></html>"
    )


def _sections(document: Document) -> Iterator[str]:
    order = {name: place for place, name in enumerate(TAGS)}
    found = sorted(operations(document), key=lambda one: order.get(one[2]["tags"][0], len(order)))
    for tag, some in groupby(found, key=lambda one: one[2]["tags"][0]):
        yield f"<h2>{escape(tag)}</h2><p>{escape(TAGS.get(tag, ''))}</p><dl>{''.join(_lines(some))}</dl>"


def _lines(some: Iterable[tuple[str, str, Document]]) -> Iterator[str]:
    for path, method, operation in some:
        what = operation.get("description") or operation["summary"]
        yield f"<dt><code>{method.upper()} {escape(path)}</code></dt><dd>{escape(what)}</dd>"
