"""Tickets by which one node reads a file of another (requirement H6)."""

from urllib.parse import parse_qsl

import msgspec
import pytest
from yarl import URL

from llm_router.errors import Forbidden
from llm_router.models.manifest import Manifest
from llm_router.models.tickets import Ticket, check, path, stored_name

KEY = "an access token"
TICKET = Ticket("/v0/files/m/model.gguf", 1000, "ab" * 32, 5000)


def query(key: str = KEY, ticket: Ticket = TICKET) -> dict[str, str]:
    return dict(parse_qsl(ticket.query(key)))


def manifest(*files: str, form: str = "gguf", model: str = "org/m:q4") -> Manifest:
    return msgspec.convert(
        {"model": model, "format": form, "files": [{"name": name, "size": 1} for name in files]}, Manifest
    )


def test_a_ticket_of_the_router_is_good() -> None:
    """Until it expires, and it says what it is for."""
    assert check(KEY, TICKET.path, query(), 4999.0) == TICKET


def test_a_ticket_expires() -> None:
    """And says what to do."""
    with pytest.raises(Forbidden, match="expired"):
        check(KEY, TICKET.path, query(), 5001.0)


@pytest.mark.parametrize(
    ("changed", "value"),
    [("expires", "9999"), ("size", "1"), ("sha256", "cd" * 32), ("ticket", "0" * 64), ("ticket", ""), ("ticket", "é")],
)
def test_nothing_of_it_can_be_changed(changed: str, value: str) -> None:
    """It is signed as a whole."""
    with pytest.raises(Forbidden, match="not for this file"):
        check(KEY, TICKET.path, query() | {changed: value}, 0.0)


def test_it_is_for_one_file_of_one_node() -> None:
    """Another path, another node's key."""
    with pytest.raises(Forbidden):
        check(KEY, "/v0/files/m2/model.gguf", query(), 0.0)
    with pytest.raises(Forbidden):
        check("another's", TICKET.path, query(), 0.0)


@pytest.mark.parametrize("missing", ["size", "expires", "ticket"])
def test_without_a_ticket_nobody_gets_in(missing: str) -> None:
    """Nor with half of one."""
    with pytest.raises(Forbidden):
        check(KEY, TICKET.path, {k: v for k, v in query().items() if k != missing}, 0.0)


@pytest.mark.parametrize("number", ["", "-1", "1e3", "٣", "9" * 100])
def test_what_is_no_number_is_no_ticket(number: str) -> None:
    """Neither a size nor a time."""
    for name in ("size", "expires"):
        with pytest.raises(Forbidden):
            check(KEY, TICKET.path, query() | {name: number}, 0.0)


def test_a_node_without_a_key_gives_nothing() -> None:
    """It is not registered yet; an empty key is everybody's."""
    with pytest.raises(Forbidden):
        check("", TICKET.path, query(""), 0.0)


def test_files_are_called_as_nodes_keep_them() -> None:
    """Whatever their origin calls them; a slash in a model's name is none in the path."""
    for where in (path(manifest("Big-Q4.gguf"), 0), path(manifest("config.json", "x/y z", form="safetensors"), 1)):
        assert URL(where).raw_path == where  # so it is asked for as it was signed
    assert path(manifest("Big-Q4.gguf"), 0) == "/v0/files/org%2Fm:q4/model.gguf"
    assert stored_name(manifest("a.gguf", "b.gguf"), 1) == "model-00002-of-00002.gguf"
    assert path(manifest("config.json", "x/y z", form="safetensors"), 1) == "/v0/files/org%2Fm:q4/x/y%20z"
