"""Who may join without being asked about (requirement A10)."""

import stat
import sys
from pathlib import Path

import pytest

from llm_router.errors import ConfigError, Conflict
from llm_router.gateway.trust import Trust
from llm_router.router.join_keeping import InFile, InSettings
from llm_router.router.joining import Door, JoinToken, join_command

ELSEWHERE = "198.51.100.7"  # reserved for documentation (RFC 5737): nobody's


async def token_in(directory: Path) -> JoinToken:
    token = JoinToken(InFile(directory / "router" / "join-token"))
    await token.restore()
    return token


@pytest.fixture
async def token(tmp_path: Path) -> JoinToken:
    return await token_in(tmp_path)


@pytest.fixture
def door(token: JoinToken) -> Door:
    return Door(token, Trust(["127.0.0.0/8", "::1"]), "token")


async def test_the_token_is_made_once(tmp_path: Path, token: JoinToken) -> None:
    """The command that somebody wrote down works after a restart."""
    assert len(token.word) == 32
    assert (await token_in(tmp_path)).word == token.word


async def test_a_new_token_replaces_the_old(tmp_path: Path, token: JoinToken, door: Door) -> None:
    """From then on, and after a restart, the old one opens nothing."""
    old = token.word
    await token.rotate()
    new = token.word
    assert [door.lets_in(word, ELSEWHERE, forwarded=False) for word in (old, new)] == [False, True]
    assert (await token_in(tmp_path)).word == new


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
async def test_only_the_routers_user_can_read_it(tmp_path: Path, token: JoinToken) -> None:
    """The file has mode 0600, also after it was replaced."""
    path = tmp_path / "router" / "join-token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await token.rotate()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """The message names the file."""
    (tmp_path / "router").write_bytes(b"a file where a directory should be")
    with pytest.raises(ConfigError, match="join-token"):
        await token_in(tmp_path)


async def test_a_token_of_the_settings() -> None:
    """Who starts routers and nodes together chooses it; then nobody changes it here."""
    token = JoinToken(InSettings("chosen-by-an-operator"))
    await token.restore()
    assert token.word == "chosen-by-an-operator"
    with pytest.raises(Conflict, match="LLM_ROUTER_JOIN_TOKEN"):
        await token.rotate()


@pytest.mark.parametrize("word", ["short", "with a space in it", "with/a/slash/in/it", "x" * 129])
def test_a_token_that_is_none(word: str) -> None:
    """It has to stand in a URL, and not to be guessed."""
    with pytest.raises(ConfigError, match="LLM_ROUTER_JOIN_TOKEN"):
        InSettings(word)


def test_who_is_elsewhere_needs_the_token(token: JoinToken, door: Door) -> None:
    """Any other word, or none, is not enough."""
    assert door.lets_in(token.word, ELSEWHERE, forwarded=False)
    for word in ("", "guessed", token.word[:-1], token.word + "x", "トークン"):
        assert not door.lets_in(word, ELSEWHERE, forwarded=False)


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_who_is_here_needs_none(door: Door, client: str) -> None:
    """But for those who only seem to be here, since a proxy here passes them on."""
    assert door.lets_in("", client, forwarded=False)
    assert not door.lets_in("", client, forwarded=True)


def test_what_is_here_is_a_setting(token: JoinToken) -> None:
    """`trust` says which loopback addresses count as this machine's."""
    door = Door(token, Trust(["127.0.0.9"]), "token")
    assert door.lets_in("", "127.0.0.9", forwarded=False)
    assert not door.lets_in("", "127.0.0.1", forwarded=False)


def test_an_open_door(token: JoinToken) -> None:
    """`--join open` lets everybody in, through a proxy too."""
    assert Door(token, Trust([]), "open").lets_in("", ELSEWHERE, forwarded=True)


def test_the_command_to_join() -> None:
    """A ready line for a shell; the token stands where the node looks for it."""
    assert join_command("http://10.0.0.5:8080", "word") == "ROUTER_URL=http://word@10.0.0.5:8080 llm-router node"
    assert join_command("https://r.lan:443", "") == "ROUTER_URL=https://r.lan:443 llm-router node"
