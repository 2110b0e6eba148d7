"""What the API says of itself."""

from html.parser import HTMLParser
from typing import Any

import aiohttp
import msgspec
import pytest

from llm_router.contract import ErrorBody
from llm_router.router.api.examples import EXAMPLES
from llm_router.router.api.schema import OPEN, PATH, TAGS, operations

Document = dict[str, Any]

# What is no JSON has no type of ours.
NO_SCHEMA = {"text/event-stream", "text/csv", "text/plain", "application/octet-stream"}


@pytest.fixture
async def document(api: aiohttp.ClientSession) -> Document:
    async with api.get(f"{PATH}/openapi.json") as response:
        assert response.status == 200
        assert response.content_type == "application/vnd.oai.openapi+json"
        found: Document = msgspec.json.decode(await response.read())
        return found


def ours(document: Document) -> list[tuple[str, str, Document]]:
    """The operations under /v0."""
    return [one for one in operations(document) if one[0].startswith("/v0/")]


def types_of(node: object) -> set[str]:
    """The names of all types of ours that occur in a part of the document."""
    if isinstance(node, dict):
        own = {str(node["$ref"]).rpartition("/")[2]} if "$ref" in node else set()
        return own.union(*map(types_of, node.values()))
    return set().union(*map(types_of, node)) if isinstance(node, list) else set()


def resolve(document: Document, schema: Document) -> Document:
    found: Document = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


async def test_it_is_openapi_3_1(document: Document) -> None:
    """The version that is built on JSON Schema, and every reference in it leads somewhere."""
    assert document["openapi"].startswith("3.1")
    assert types_of(document) <= document["components"]["schemas"].keys()


async def test_every_operation_is_described(document: Document) -> None:
    """In words, under a heading that the document explains, and with an id of its own."""
    found = list(operations(document))
    assert all(operation["description"] and operation["summary"] for _, _, operation in found)
    assert {tag for _, _, operation in found for tag in operation["tags"]} <= TAGS.keys()
    assert len({operation["operationId"] for _, _, operation in found}) == len(found)
    assert [tag["name"] for tag in document["tags"]] == list(TAGS)


async def test_everything_that_goes_in_or_out_has_an_example(document: Document) -> None:
    """Of every body and answer of `/v0`: one that is of the type it stands for."""
    for path, method, operation in ours(document):
        for name in types_of([operation.get("requestBody"), operation["responses"]]):
            assert document["components"]["schemas"][name].get("examples"), f"{method} {path}: {name} has no example"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_can_be_read_as_what_it_is_of(name: str) -> None:
    """It would be accepted, limits of its fields included."""
    example = EXAMPLES[name]
    assert msgspec.json.decode(msgspec.json.encode(example), type=type(example)) == example


async def test_answers_have_types(document: Document) -> None:
    """No answer of `/v0` is just anything; one to HEAD is nothing."""
    for path, method, operation in ours(document):
        if method == "head":
            continue
        good = [answer for status, answer in operation["responses"].items() if status < "3"]
        assert good, f"{method} {path}"
        for kind, content in ((k, c) for answer in good for k, c in answer.get("content", {}).items()):
            assert types_of(content) or kind in NO_SCHEMA, f"{method} {path}: {content}"


async def test_errors_have_the_one_shape(document: Document) -> None:
    """Every refusal of `/v0` is an `ErrorBody`, whatever its status; of `/api` it is Ollama's."""
    for path, _, operation in operations(document):
        wanted = "OllamaError" if path.startswith("/api/") else ErrorBody.__name__
        bad = {
            status: answer for status, answer in operation["responses"].items() if status not in ("200", "201", "204")
        }
        assert "default" in bad
        assert all(types_of(answer) == {wanted} for answer in bad.values())


async def test_what_needs_no_key_is_said(document: Document) -> None:
    """All but a few ask for a key or a session; every scheme that is named is explained."""
    schemes = document["components"]["securitySchemes"]
    assert document["security"]
    for path, method, operation in operations(document):
        assert operation.get("security", document["security"]) == OPEN.get((method, path), document["security"])
    named = [*document["security"], *(scheme for some in OPEN.values() for scheme in some)]
    assert {name for scheme in named for name in scheme} == schemes.keys()


async def test_a_body_says_what_it_must_have(document: Document) -> None:
    """A registration's required fields are required, and the others have the defaults that the code has."""
    body = document["paths"]["/v0/nodes"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    registration = resolve(document, body)
    assert registration["required"] == ["node_id", "machine_name", "port"]
    assert registration["properties"]["protocol"]["default"] == "http"


class Links(HTMLParser):
    """What a page loads or leads to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in {"href", "src"}]


async def test_the_page_lists_every_operation_and_loads_nothing(api: aiohttp.ClientSession, document: Document) -> None:
    """It works where there is no other network, and lets nobody put a script into it."""
    async with api.get(PATH) as response:
        text, headers = await response.text(), response.headers
    page = Links(text)
    assert all(f"{method.upper()} {path}" in text for path, method, _ in operations(document))
    assert page.found == [f"{PATH}/openapi.json"]
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
