"""What people write as an address, and what servers list as models."""

import msgspec
import pytest

from llm_router.contract import Address, ModelEntry, model_entries, parse_address, parse_router
from llm_router.errors import BadRequest


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("host:11434", Address("host", 11434)),
        ("http://host:8080/", Address("host", 8080)),
        (" http://host ", Address("host", 80)),
        ("https://host", Address("host", 443, tls=True)),
        ("http://host:8080/v1", Address("host", 8080)),
        ("https://host/team-a/v1/", Address("host", 443, tls=True, prefix="/team-a")),
        ("[::1]:8080", Address("::1", 8080)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    """As people and client settings write them."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "http://", "::1", "ftp://host", "host:x", "host:0", "host:99999", "http://u:p@host", "a b", "http://host?x=1"],
)
def test_no_addresses(text: str) -> None:
    """The message repeats what was written and shows how it should look."""
    with pytest.raises(BadRequest, match=r"is not an address.*http://host:port"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "url", "token"),
    [
        ("http://t0-K_n@host:8080", "http://host:8080", "t0-K_n"),
        (" https://word:@[::1]/team-a/", "https://[::1]:443/team-a", "word"),
        ("word@host:8080", "http://host:8080", "word"),
        ("host:8080", "http://host:8080", ""),
        ("http://host/@here", "http://host:80/@here", ""),
    ],
)
def test_routers(text: str, url: str, token: str) -> None:
    """Requirement A10: a join token may stand before a router's address, and is no part of it."""
    address, found = parse_router(text)
    assert (address.url, found) == (url, token)


@pytest.mark.parametrize("text", ["hush@", "http://hush@host:x", "ftp://hush@host", "http://hush@[::1"])
def test_no_routers(text: str) -> None:
    """The message repeats what was written, but for the token."""
    with pytest.raises(BadRequest, match="is not an address") as refusal:
        parse_router(text)
    assert "hush" not in refusal.value.message


@pytest.mark.parametrize("text", ["http://host:8080", "https://host:443/team-a", "http://[::1]:80"])
def test_urls_and_addresses(text: str) -> None:
    """An address's URL means that address."""
    assert parse_address(text).url == text


def test_model_entries() -> None:
    """Bad entries are skipped, duplicates removed, the order kept (requirement A4); an id is enough."""
    body = b'{"data":[{"id":"b"},{"id":""},{"id":5},{"name":"x"},"a",null,{"id":"a","more":1,"size":"?"},{"id":"b"}]}'
    assert model_entries(body) == [ModelEntry("b"), ModelEntry("a")]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data":{}}', b"<html>"])
def test_no_model_list(body: bytes) -> None:
    """What is not a list of models is an error, not an empty list (requirement A4)."""
    with pytest.raises(msgspec.DecodeError):
        model_entries(body)
