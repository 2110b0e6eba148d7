"""A node gives files of its models to others (requirement H6), and nothing else of its disk (requirement H7)."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from llm_router.errors import BadRequest
from llm_router.gateway.control import ControlServer
from llm_router.gateway.control_app import control_app
from llm_router.models.manifest import Format, Manifest, ModelFile
from llm_router.models.tickets import FILES, Ticket, path
from llm_router.node.files import file_routes, stored

CONTENT = random.Random(6).randbytes(2_500_000)  # noqa: S311 - bytes that tell one place of a file from another
KEY = "access"
SHA256 = "ab" * 32


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes


class Peer:
    """The node's routes, as they are asked through its gateway."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(f"http://node{path}", encoded=True)
        async with self._session.request(method, url, headers=sent) as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, found, await response.read())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = tmp_path / "store"
    (place / "org" / "bundle" / "sub").mkdir(parents=True)
    (place / "m.gguf").write_bytes(CONTENT)
    (place / "org" / "q=4.gguf").write_bytes(CONTENT)
    (place / "org" / "two-00001-of-00002.gguf").write_bytes(CONTENT[:10])
    (place / "org" / "two-00002-of-00002.gguf").write_bytes(CONTENT)
    (place / "org" / "bundle" / "sub" / "Config.json").write_bytes(CONTENT)
    (place / "org" / "bundle" / "model.safetensors.partial").write_bytes(CONTENT)
    (place / "org" / "bundle" / ".hidden").write_bytes(CONTENT)
    (tmp_path / "secret").write_bytes(CONTENT)
    return place


@pytest.fixture
async def peer(store: Path, tmp_path: Path) -> AsyncIterator[Peer]:
    routes = file_routes(lambda: [tmp_path / "gone", store], lambda: KEY, clock=lambda: 100.0)
    control = ControlServer(control_app(routes))
    where = await control.start()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(where.host)) as session:
        yield Peer(session)
    await control.stop()


def url(where: str, *, key: str = KEY, expires: int = 101, size: int = len(CONTENT)) -> str:
    return f"{where}?{Ticket(where, size, SHA256, expires).query(key)}"


def manifest(model: str, *files: str, form: Format = "gguf") -> Manifest:
    return Manifest(model, form, [ModelFile(name, len(CONTENT), SHA256) for name in files])


@pytest.mark.parametrize(
    ("of", "number"),
    [
        (manifest("m", "Whatever-Q4.gguf"), 0),
        (manifest("org/q:4", "x.gguf"), 0),
        (manifest("org/two", "a.gguf", "b.gguf"), 1),
        (manifest("org/bundle", "sub/Config.json", form="safetensors"), 0),
    ],
)
async def test_a_file_of_each_kind(peer: Peer, of: Manifest, number: int) -> None:
    """At the address that the router makes of a manifest."""
    answer = await peer.get(url(path(of, number)))
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert (answer.headers["etag"], answer.headers["accept-ranges"]) == (f'"{SHA256}"', "bytes")


async def test_a_part_of_it(peer: Peer) -> None:
    """So a transfer goes on where it broke; not one of another version."""
    where = url(path(manifest("m", "f"), 0))
    answer = await peer.get(where, range="bytes=1200000-", if_range=f'"{SHA256}"')
    assert (answer.status, answer.body) == (206, CONTENT[1_200_000:])
    assert answer.headers["content-range"] == f"bytes 1200000-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert (await peer.get(where, range="bytes=1-2", if_range='"other"')).status == 200
    assert (await peer.get(where, range=f"bytes={len(CONTENT)}-")).status == 416
    assert (await peer.get(where, if_none_match=f'"{SHA256}"')).status == 304


async def test_a_look_at_it(peer: Peer) -> None:
    """HEAD: its size, no bytes."""
    answer = await peer.get(url(path(manifest("m", "f"), 0)), "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", str(len(CONTENT)))


async def test_nobody_without_a_ticket(peer: Peer) -> None:
    """None, an old one, another's, another file's."""
    where = path(manifest("m", "f"), 0)
    other = url(path(manifest("org/q:4", "f"), 0)).partition("?")[2]
    for wrong in (where, url(where, expires=99), url(where, key="another's"), f"{where}?{other}"):
        answer = await peer.get(wrong)
        assert (answer.status, b'"forbidden"' in answer.body) == (403, True)


async def test_a_file_of_another_size_is_another_file(peer: Peer) -> None:
    """404 before anything is transferred; as for what is not there."""
    assert (await peer.get(url(path(manifest("m", "f"), 0), size=7))).status == 404
    assert (await peer.get(url(path(manifest("gone", "f"), 0)))).status == 404


async def test_a_link_leads_nowhere_else(peer: Peer, store: Path, tmp_path: Path) -> None:
    """Requirement H7: what lies outside the places of models is not served, whatever points there."""
    (store / "link.gguf").symlink_to(tmp_path / "secret")
    (store / "inside.gguf").symlink_to(store / "m.gguf")
    assert (await peer.get(url(path(manifest("link", "f"), 0)))).status == 404
    assert (await peer.get(url(path(manifest("inside", "f"), 0)))).status == 200


TRICKS = ["..", "../secret", "/secret", "a/../../secret", ".hidden", "con", "nul.txt", "a\\b", "a\0b", "c:", "", "a//b"]


@pytest.mark.parametrize("trick", TRICKS)
async def test_a_trick_is_no_name(peer: Peer, trick: str) -> None:
    """400, as a model's name and as a file's, though the router itself had signed it."""
    for where in (f"{FILES}/{quote(trick, safe='')}/model.gguf", f"{FILES}/org%2Fbundle/{quote(trick)}"):
        assert (await peer.get(url(where))).status in ((400, 404) if trick == "" else (400,)), where


async def test_what_is_not_finished_is_not_given(peer: Peer) -> None:
    """Parts of downloads, and what goes with them."""
    assert (await peer.get(url(f"{FILES}/org%2Fbundle/model.safetensors.partial"))).status == 400


@given(st.text(max_size=20), st.text(max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_names_lead_out_of_the_store(store: Path, model: str, name: str) -> None:
    """Requirement H7: whatever they are, it is a file below the store, or none."""
    try:
        found = stored([store], model, name)
    except BadRequest:
        return
    assert found is None or found.resolve().is_relative_to(store.resolve())
