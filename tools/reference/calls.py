"""Every call of the control app and the types of its messages, from the OpenAPI document that `GET /schema` shows."""

import inspect
import re
from functools import cache
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import msgspec

from llm_router.models.manifest import NODE_ID
from llm_router.router.access.guard import Need, need
from llm_router.router.api.routes import all_routes
from llm_router.router.api.schema import TAGS, Document, Structs, completed, documented, operations
from llm_router.wire.heads import read_request_head
from tools.reference.markdown import anchor, code, codes, meaning, table

WHO: dict[Need, str] = {"public": "anybody", "inference": "any key", "admin": "an admin key"}
BY_ITSELF = "a node, by its secret"
_JSON = msgspec.json.Encoder()
# Handlers are made here, not called: what they are made of may be anything.
_NOTHING: Any = SimpleNamespace(registry=None)
_MODELS = SimpleNamespace(catalogue=None, offers=SimpleNamespace(number=None), depot=None, nodes=None, drop_files=None)


@cache
def document() -> Document:
    """The router's own, with handlers that are tied to nothing."""
    parts = dict.fromkeys(inspect.signature(all_routes).parameters, _NOTHING) | {"models": _MODELS}
    app = documented(all_routes(**parts))
    return completed(app.openapi_schema.to_schema(), app.plugins.get(Structs))


def every_call() -> str:
    """A section for each, by what it is about."""
    found = list(operations(document()))
    parts = []
    for tag, about in TAGS.items():
        parts += [f"## {tag.capitalize()}", about]
        parts += [_call(path, method, one) for path, method, one in found if one["tags"][0] == tag]
    return "\n\n".join(parts)


def every_type() -> str:
    """A section for each, in the order of their names."""
    return "\n\n".join(_type(name, schema) for name, schema in sorted(document()["components"]["schemas"].items()))


# -- a call


def _call(path: str, method: str, operation: Document) -> str:
    facts = {
        "For": who(method, path, operation),
        "Body": ", ".join(_shapes(operation.get("requestBody", {}))),
        "Answer": _answers(operation["responses"]),
        "Refusals": _refusals(operation["responses"]),
    }
    listed = "\n".join(f"- {what}: {text}" for what, text in facts.items() if text)
    parts = [f"### `{method.upper()} {path}`", inspect.cleandoc(operation["description"]), _query(operation), listed]
    return "\n\n".join(part for part in parts if part)


def who(method: str, path: str, operation: Document) -> str:
    """Who may call it: what the guard says, or what the call proves by itself."""
    if {"node": []} in operation.get("security", ()):
        return BY_ITSELF
    concrete = re.sub(r"\{.*?\}", "x", path)
    needed, of_node = (need(_head(method, concrete, shown)) for shown in ("", f"{NODE_ID}: x\r\n"))
    return WHO[needed] + (f", or {BY_ITSELF}" if of_node != needed else "")


def _head(method: str, path: str, more: str) -> Any:  # noqa: ANN401 - a RequestHead, or its subclass
    data = f"{method.upper()} {path} HTTP/1.1\r\nHost: router\r\n{more}".encode()
    return read_request_head(data, len(data))[0]


def _query(operation: Document) -> str:
    rows = [
        (code(p["name"]), kind_of(p["schema"]), _unless(p["schema"]), p.get("description", ""))
        for p in operation.get("parameters", ())
        if p["in"] == "query"
    ]
    return table(("in the query", "type", "default", "what"), rows) if rows else ""


def _answers(responses: Document) -> str:
    """The good ones: `200 [NodeView](#nodeview)`."""
    good = [(status, response) for status, response in sorted(responses.items()) if status < "4"]
    return "; ".join(" ".join(filter(None, (status, ", ".join(_shapes(r)), _said(status, r)))) for status, r in good)


def _said(status: str, response: Document) -> str:
    """What a handler says of it, and not what everybody says of such a status."""
    text = str(response["description"]).rstrip(".")
    return "" if text == HTTPStatus(int(status)).description else f"({text[:1].lower()}{text[1:]})"


def _refusals(responses: Document) -> str:
    """`404 node_not_found, not_excluded`: what the codes mean stands in one place."""
    bad = [(status, response) for status, response in sorted(responses.items()) if status.startswith(("4", "5"))]
    return "; ".join(f"{status} {codes(_CODE.findall(response['description']))}" for status, response in bad)


_CODE = re.compile(r"`(\w+)`:")


def _shapes(message: Document) -> list[str]:
    """The types of a body, or what else it may be."""
    found = message.get("content", {}).items()
    return [
        kind_of(c["schema"]) if media == "application/json" and c.get("schema") else code(media)
        for media, c in found
        if c.get("schema") != {"type": "null"}
    ]


# -- a type


def _type(name: str, schema: Document) -> str:
    needed = schema.get("required", ())
    rows = [
        (code(field), kind_of(kind), "needed" if field in needed else _unless(kind))
        for field, kind in schema.get("properties", {}).items()
    ]
    shown = table(("field", "type", "default"), rows) if rows else ""
    return "\n\n".join(part for part in (f"### {name}", meaning(schema.get("description", "")), shown) if part)


def _unless(schema: Document) -> str:
    default = schema.get("default", "")
    return code(default if isinstance(default, str) else _JSON.encode(default).decode()) if default is not None else ""


def kind_of(schema: Document) -> str:
    """A type in words; one of ours as a link."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}](#{anchor(name)})"
    if "enum" in schema or "const" in schema:
        return codes(value for value in schema.get("enum", [schema.get("const")]) if value != "")
    if several := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(dict.fromkeys(text for one in several if (text := kind_of(one))))
    return _plain(schema)


def _plain(schema: Document) -> str:
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {kind_of(schema['items'])}" if schema.get("items") else "list"
    if kind == "object" and (values := schema.get("additionalProperties")):
        return f"object of {kind_of(values)}" if isinstance(values, dict) else "object"
    bounds = [f"{word} {schema[key]:g}" for key, word in BOUNDS.items() if _tells(schema.get(key))]
    return " ".join([kind, *bounds])


# JSON Schema's words, and ours. What no number reaches is not worth a word.
BOUNDS = {"minimum": "from", "maximum": "to", "maxLength": "up to"}


def _tells(bound: object) -> bool:
    return isinstance(bound, int | float) and abs(bound) < 2**53
