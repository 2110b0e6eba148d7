"""Who a node is, over restarts (requirement A8)."""

import stat
import sys
from pathlib import Path
from uuid import UUID

import pytest

from llm_router.errors import ConfigError
from llm_router.node.identity import Identity

ROUTER = "http://router:8080"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "identity.json"


def test_made_once(path: Path) -> None:
    """A new node makes an id of its own and keeps it."""
    first = Identity.load(path)
    assert UUID(first.node_id).version == 4
    assert Identity.load(path).node_id == first.node_id


def test_secrets_are_kept_by_router(path: Path) -> None:
    """What one router gave is shown to that router only, after a restart too."""
    Identity.load(path).keep(ROUTER, "hush")
    again = Identity.load(path)
    assert again.secret(ROUTER) == "hush"
    assert again.secret("http://other:8080") == ""


def test_a_router_of_this_machine_may_move(path: Path) -> None:
    """At another port it is still the one that gave the secret; one elsewhere is not shown it."""
    Identity.load(path).keep("http://127.0.0.1:8080", "hush")
    again = Identity.load(path)
    assert again.secret("http://127.0.0.1:9000") == again.secret("http://[::1]:8080") == "hush"
    assert again.secret("http://127.example:8080") == "" == again.secret(ROUTER)


def test_each_router_has_a_token_of_its_own(path: Path) -> None:
    """Requirement A10: by it one router may ask this node, after a restart too; it says nothing to another."""
    mine = Identity.load(path).access(ROUTER)
    assert len(mine) > 40
    again = Identity.load(path)
    assert again.access(ROUTER) == mine
    assert again.access("http://other:8080") != mine


def test_a_join_token_is_kept(path: Path) -> None:
    """Given once, it is there when this router has forgotten us; the one given last counts, and here alone."""
    first = Identity.load(path)
    assert first.join_token(ROUTER, "") == ""
    assert first.join_token(ROUTER, "old") == "old"
    assert Identity.load(path).join_token(ROUTER, "new") == "new"
    again = Identity.load(path)
    assert (again.join_token(ROUTER, ""), again.join_token("http://other:8080", "")) == ("new", "")


def test_a_file_of_an_earlier_release(path: Path) -> None:
    """It had secrets alone, and is still the same node."""
    path.parent.mkdir()
    path.write_bytes(b'{"node_id":"n1","secrets":{"%b":"hush"}}' % ROUTER.encode())
    identity = Identity.load(path)
    assert (identity.node_id, identity.secret(ROUTER)) == ("n1", "hush")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_its_user_can_read_it(path: Path) -> None:
    """The file has mode 0600 from the first time on."""
    identity = Identity.load(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    identity.keep(ROUTER, "hush")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["identity.json"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"node_id": 5}'])
def test_a_broken_file_is_not_overwritten(path: Path, content: bytes) -> None:
    """It may hold the secret that a person can still save: the agent says so and does not start."""
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"identity\.json"):
        Identity.load(path)
    assert path.read_bytes() == content


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """The message names the file."""
    (tmp_path / "node").write_bytes(b"a file where a directory should be")
    with pytest.raises(ConfigError, match=r"identity\.json"):
        Identity.load(tmp_path / "node" / "identity.json")
