"""Names that are paths to somewhere else, at every endpoint that takes a name (requirement H7, and H8; issue 8).

The endpoints are those of the route tables: one that is new, and in none of the tables below, fails a test.

Around the homes of router and node lie files that nobody shall read or touch: beside them, above them, in the home
directory of whoever started them, and behind links that lie in the stores.
"""

import asyncio
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import aiohttp
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar import Litestar
from litestar.routes import HTTPRoute
from litestar.types import ControllerRouterHandler
from tests.system.harness import HELLO, START, TALK, Answer, call, chat, error_of, house_in, parse
from tests.system.test_arriving import NAME, REPO, World, answered

from llm_router.config import NodeConfig, RouterConfig
from llm_router.errors import NotFound
from llm_router.models.manifest import ModelFile
from llm_router.models.names import is_name
from llm_router.models.tickets import FILES, Ticket
from llm_router.node.app import Agent
from llm_router.node.control import node_control
from llm_router.node.models import builtin
from llm_router.router import app as router_app
from llm_router.router.api.schema import documented
from llm_router.router.models.depot import Depot
from llm_router.wire.dialects import OPERATIONS, dialect_of

CANARY = "c4n4ry-5ings"  # stands in every file that is none of ours, and shall stand in no answer
DIGEST = f"sha256:{'0' * 64}"
QUICK, LONG = 400, 5_000  # examples

Key = tuple[str, str, str]  # the server (router, node), the method, the route as the table of routes has it


# -- what is asked


class Asked(msgspec.Struct, frozen=True):
    """A request with a name in it: `path`, with NAME_HERE in place of the name, or a body made of it."""

    server: str
    method: str
    route: str
    path: str = ""
    body: Callable[[str], object] | None = None
    statuses: tuple[int, ...] = (400,)
    is_trick: Callable[[str], bool] | None = None  # where other names are good than a model's

    @property
    def key(self) -> Key:
        return self.server, self.method, self.route


NAME_HERE = "{}"
LOOKUP = (400, 404)  # of what need not be a name of ours: whatever it is called, nobody has it
PATH = (400, 404, 405)  # a slash in what is one part of a path makes it another path
ID = "{node_id:str}"


def is_trick(name: str) -> bool:
    """Whether it is no model's name, nor any that a runtime could know."""
    return not is_name(name.lower()) and not name.lower().startswith(("http://", "https://"))


def leads_elsewhere(name: str) -> bool:
    """Of a file within a model that is created: Ollama may call it whatever is no path to somewhere else."""
    return name.startswith("/") or any(part in name for part in ("\\", "\0", ":")) or ".." in name.split("/")


def is_no_node(name: str) -> bool:
    """Nobody's name for a node is empty, or the real one's."""
    return bool(name.strip("/"))


def _catalogue() -> Iterator[Asked]:
    one, registry, blob = "/v0/models/{model:path}", "/v0/models/registry/{path:path}", "/v1/models/blob/{model:path}"
    yield Asked("router", "POST", "/v0/models", body=lambda name: {"repo": REPO, "name": name})
    yield Asked("router", "POST", "/v0/models", body=lambda name: {"repo": REPO, "name": "other", "file": f"../{name}"})
    yield Asked("router", "POST", "/v0/models", body=lambda name: {"repo": f"org/{name}", "name": "other"})
    yield Asked("router", "POST", "/v0/models", body=lambda name: {"url": f"file://{name}", "name": "other"})
    for method in ("GET", "DELETE"):
        yield Asked("router", method, one, "/v0/models/{}")
    yield Asked("router", "DELETE", one, "/v0/models/{}?files=true")
    yield Asked("router", "PATCH", one, "/v0/models/{}", body=lambda _: {"display_name": "x"})
    for method in ("GET", "HEAD"):
        yield Asked("router", method, registry, "/v0/models/registry/{}/manifest.json")
        yield Asked("router", method, registry, "/v0/models/registry/{}/files/config.json")
        yield Asked("router", method, registry, f"/v0/models/registry/{NAME}/files/{{}}")
        yield Asked("router", method, blob, "/v1/models/blob/{}")


def _ollamas(server: str) -> Iterator[Asked]:
    """Of the model endpoints that router and node have alike."""
    for method, path in (("POST", "/api/pull"), ("POST", "/api/push"), ("DELETE", "/api/delete")):
        yield Asked(server, method, path, body=lambda name: {"model": name})
        yield Asked(server, method, path, body=lambda name: {"name": name, "stream": False, "insecure": True})
    yield Asked(server, "POST", "/api/copy", body=lambda name: {"source": name, "destination": "other"})
    yield Asked(server, "POST", "/api/copy", body=lambda name: {"source": HELLO, "destination": name})
    yield Asked(server, "POST", "/api/create", body=lambda name: {"model": name, "from": HELLO})
    yield Asked(server, "POST", "/api/create", body=lambda name: {"model": "other", "from": name})
    for files in ("files", "adapters"):
        yield Asked(server, "POST", "/api/create", body=_with_digest(files))
        yield Asked(server, "POST", "/api/create", body=_with_file(files), is_trick=leads_elsewhere)
    for method in ("HEAD", "POST"):
        yield Asked(server, method, "/api/blobs/{digest:str}", "/api/blobs/{}", statuses=PATH)
        yield Asked(server, method, "/api/blobs/{digest:str}", "/api/blobs/sha256:{}", statuses=PATH)
    for path in ("/api/generate", "/api/chat"):
        yield Asked(server, "POST", path, body=lambda name: {"model": name, "keep_alive": 0}, statuses=LOOKUP)


def _with_digest(files: str) -> Callable[[str], object]:
    return lambda name: {"model": "other", files: {"model.gguf": name}}


def _with_file(files: str) -> Callable[[str], object]:
    return lambda name: {"model": "other", files: {name: DIGEST}}


def _inference(server: str) -> Iterator[Asked]:
    for path in OPERATIONS:
        yield Asked(
            server,
            "POST",
            path.decode(),
            body=lambda name: {"model": name, "messages": TALK, "prompt": "x", "input": "x", "max_tokens": 1},
            statuses=LOOKUP,
        )


def _nodes() -> Iterator[Asked]:
    """Ids, which are names of nodes to the router and of nothing else."""
    for method, rest in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/models")):
        yield _of_node(method, rest)
    for rest in ("/heartbeat", "/goodbye", "/approve"):
        yield _of_node("POST", rest)
    route = f"/v0/nodes/{ID}/exclusions/{{model:path}}"
    yield Asked("router", "DELETE", route, f"/v0/nodes/{{}}/exclusions/{HELLO}", statuses=PATH, is_trick=is_no_node)
    yield Asked("router", "DELETE", route, "/v0/nodes/NODE/exclusions/{}", statuses=LOOKUP)  # NODE: see `World`
    for path in ("/api/pull", "/api/copy"):
        body = {"model": "other", "source": HELLO, "destination": "other"}
        yield Asked("router", "POST", path, f"{path}?node={{}}", _always(body), LOOKUP, is_no_node)


def _of_node(method: str, rest: str) -> Asked:
    body = _always({}) if method in {"POST", "PATCH"} else None
    return Asked("router", method, f"/v0/nodes/{ID}{rest}", f"/v0/nodes/{{}}{rest}", body, PATH, is_no_node)


def _always(body: object) -> Callable[[str], object]:
    return lambda _: body


ASKED = [
    *_catalogue(),
    *_ollamas("router"),
    *_ollamas("node"),
    *_inference("router"),
    *_inference("node"),
    *_nodes(),
    Asked("node", "POST", "/api/show", body=lambda name: {"model": name}),
    *(
        Asked(server, "GET", "/v1/models/{model_id:path}", "/v1/models/{}", statuses=LOOKUP)
        for server in ("router", "node")
    ),
    *(Asked("node", method, f"{FILES}/{{rest:path}}", f"{FILES}/{{}}/model.gguf") for method in ("GET", "HEAD")),
    *(Asked("node", method, f"{FILES}/{{rest:path}}", f"{FILES}/{HELLO}/{{}}") for method in ("GET", "HEAD")),
    *(
        Asked("router", "GET", f"{above}/{{{parameter}}}", f"{above}/{{}}", statuses=PATH)
        for above, parameter in (("/dashboard", "name:path"), ("/v0/requests", "request_id:str"))
    ),
    Asked("router", "GET", "/v0/requests/{request_id:str}/body", "/v0/requests/{}/body", statuses=PATH),
    Asked("router", "DELETE", "/v0/keys/{name:str}", "/v0/keys/{}", statuses=PATH),
]

# What takes something, and no name that anything is looked up by or kept under but in the database.
NAMELESS: dict[Key, str] = {
    ("router", "POST", "/v0/nodes"): "ids and names of nodes, which are rows of a table",
    ("router", "POST", "/v0/nodes/attach"): "a URL",
    ("router", "POST", "/v0/keys"): "names of keys, which are rows of a table",
    ("router", "POST", "/v0/login-links"): "nothing",
    ("router", "POST", "/v0/logout"): "nothing",
    ("router", "POST", "/login"): "a word that was given out",
    ("router", "POST", "/v0/join/rotate"): "nothing",
    ("router", "POST", "/v0/routing/explain"): "a question about any model, known or not: 200 says what would happen",
    ("router", "GET", "/schema/{path:str}"): "Litestar's: whatever it is, it is no page",
}


# -- the names

ATOMS = [
    *("..", "../", "/..", ".", "./", "/", "//", "/etc/passwd", "//server/share", "a", "model", "outside", "canary.txt"),
    *("\\", "..\\", "\\\\server\\share", "\\\\?\\C:\\x", "\\\\.\\pipe\\x", "C:", "c:\\", "C:/", "c:..", "x::$DATA"),
    *("%2e%2e%2f", "%2e%2e/", "..%2f", "..%5c", "%252e%252e%252f", "%c0%ae%c0%ae%c0%af", "%00", "%0d%0aX: y", "%"),
    *("\0", "\n", "\r\n", "\t", "\x7f", "\x1b[2J", "\x85", "\u2028", "\u202e", "\u200b", "\ufeff", "\xa0"),
    *("\u2024\u2024", "\uff0e\uff0e", "\u2025", "\u2026", "\uff0f", "\u2215", "\u2044", "\uff3c", "\u29f5", "\u3002"),
    *("\uff41", "\uff43\uff4f\uff4e", "\u212a", "\u017f", "é", "🦙", "À®À®À¯"),
    *("con", "NUL", "aux.txt", "prn", "com1", "LPT9.gguf", "conin$", "CONOUT$", "com¹", "con:", "nul ", "nul."),
    *("x.", "x ", " x", ".hidden", "...", "~", "~root", "~/", "$HOME", "${HOME}", "%USERPROFILE%", "*", "?", "[a-z]*"),
    *("{a,b}", "$(id)", "`id`", "| id", "; id", "'", '"', "<x>", "#", "&", "+", "=", "@", ",", "^", "!"),
    *("hello-world", f"{NAME}.gguf", "identity.json", "router.db", "m" * 300, "a/" * 150),
]
CLIMBS = st.builds(
    lambda step, times, goal: step * times + goal,
    st.sampled_from(
        ["../", "..\\", "%2e%2e%2f", "%2e%2e/", "..%2f", "..%5c", "%252e%252e%252f", "....//", "..;/", "./../"]
    ),
    st.integers(1, 12),
    st.sampled_from(
        ["outside/canary", "canary.txt", "etc/passwd", "node/identity.json", "router/join-token", "canary"]
    ),
)
NAMES = st.one_of(CLIMBS, st.lists(st.sampled_from(ATOMS), min_size=1, max_size=5).map("".join), st.text(min_size=1))
TRICKS = NAMES.filter(lambda name: is_trick(name) and bool(name.strip("/")))


def _as_sent(data: str) -> str:
    """Spaces, controls and what is not ASCII cannot stand in a request, `?` and `#` end a path; the rest stays."""
    return "".join(c if "!" <= c <= "~" and c not in "?#" else quote(c, safe="") for c in data)


ENCODINGS: list[Callable[[str], str]] = [
    lambda name: quote(name, safe=""),
    quote,
    _as_sent,
    lambda name: "".join(f"%{byte:02x}" for byte in name.encode()),
    lambda name: quote(quote(name, safe=""), safe=""),
]


# -- the world


class Surroundings:
    """What lies around the homes, and what is there of it now."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.house = top / "house"
        self.outside = top / "outside"
        self.person = top / "person"  # the home directory
        self.store = self.house / "one" / "node" / "models"
        self.passing = self.house / "router" / "router" / "models"
        for directory in (self.house / "one", self.house / "router", self.outside, self.person, top / "etc"):
            directory.mkdir(parents=True)
            for name in ("canary", "canary.txt", "canary.gguf", "canary.json", "passwd", "config.json"):
                (directory / name).write_text(CANARY)
        (self.outside / "canary.gguf").write_bytes(builtin.model_bytes() + CANARY.encode())  # it could be run
        (self.house / "canary.txt").write_text(CANARY)
        (top / "canary.txt").write_text(CANARY)
        for place in (self.store, self.passing):
            place.mkdir(parents=True)
            (place / "out").symlink_to(self.outside)
            (place / "leak.gguf").symlink_to(self.outside / "canary.gguf")
            (place / "up").symlink_to("../..")
        (self.store / f"{NAME}.gguf.partial").symlink_to(self.outside / "canary")
        (self.store / f"{NAME}.gguf.partial.tag").symlink_to(self.outside / "canary.txt")

    def seen(self) -> dict[Path, tuple[int, bytes]]:
        """Everything but what the programs write: when it was changed, and what it holds or leads to."""
        return {path: (path.lstat().st_mtime_ns, _content(path)) for path in self._all() if self._is_theirs(path)}

    def _all(self) -> Iterator[Path]:
        yield from self.top.rglob("*")  # which follows no links

    def _is_theirs(self, path: Path) -> bool:
        """What was laid here, and whatever is new outside of the homes."""
        if path.is_symlink() or path.name.startswith("canary"):
            return True
        homes = (self.house / "one", self.house / "router", self.house / "hub")
        return path.suffix != ".log" and not any(path.is_relative_to(home) for home in homes)

    def stored(self) -> list[Path]:
        return sorted([*self.store.rglob("*"), *self.passing.rglob("*")])


def _content(path: Path) -> bytes:
    return bytes(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""


class Place:
    """A router with a catalogue, a node, and their surroundings."""

    def __init__(self, world: World, around: Surroundings) -> None:
        self.world = world
        self.around = around
        self.urls = {"router": world.router.url, "node": world.nodes["one"].url}
        self.id = world.router.node("one").id
        (self.key,) = msgspec.json.decode((around.house / "one/node/identity.json").read_bytes())["access"].values()

    def ask(self, asked: Asked, name: str, encode: Callable[[str], str]) -> Answer | None:
        """The answer; None: so written it is no trick."""
        if not (asked.is_trick or is_trick)(name):
            return None
        written = quote(name, safe="") if "?" in asked.path.partition(NAME_HERE)[0] else encode(name)
        if asked.path and not is_trick(unquote(written)):
            return None
        target = asked.path.replace("NODE", self.id).replace(NAME_HERE, written) or asked.route
        if asked.route.startswith(FILES):
            target += f"?{Ticket(target, 1, '', int(time.time()) + 600).query(self.key)}"
        body = msgspec.json.encode(asked.body(name)) if asked.body else b""
        return send(self.urls[asked.server], asked.method, target, body)

    def check(self, asked: Asked, name: str, encode: Callable[[str], str]) -> None:
        """A refusal in the endpoint's own shape, which shows nothing of what lies around."""
        answer = self.ask(asked, name, encode)
        if answer is None:
            return
        assert answer.status in asked.statuses, (asked, name, answer)
        assert CANARY.encode() not in answer.body
        if asked.method != "HEAD":
            path = asked.path or asked.route
            assert error_of(dialect_of(path.encode()).name, answer.json(), answer.status), (asked, name, answer)


def send(url: str, method: str, target: str, body: bytes) -> Answer:
    """A request whose target is sent as it is; http.client would refuse some."""
    host, port = url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=START)) as connection:
        head = f"{method} {target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + kind).encode() + body)
        came = b"".join(iter(lambda: connection.recv(65536), b""))
    assert came, f"no answer to {method} {target}"
    return parse(came)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    around = Surroundings(tmp_path_factory.mktemp("names"))
    with pytest.MonkeyPatch.context() as environment, house_in(around.house) as house:
        environment.setenv("HOME", str(around.person))
        yield _place(World(house), around)


def _place(world: World, around: Surroundings) -> Place:
    world.node("one")
    world.register()
    return Place(world, around)


# -- the promises


def test_a_name_that_is_none_is_refused(place: Place) -> None:
    """H7: refused, and nothing is touched, made or shown that lies outside of the stores; nothing is made in them."""
    _ask_for_tricks(place, QUICK)


@pytest.mark.slow
def test_many_names_that_are_none_are_refused(place: Place) -> None:
    """As above, for as many as take a while."""
    _ask_for_tricks(place, LONG)


def _ask_for_tricks(place: Place, times: int) -> None:
    """The surroundings are looked at in the end: their times tell also of what was made and is gone again."""

    @settings(max_examples=times, deadline=None)
    @given(st.sampled_from(ASKED), TRICKS, st.sampled_from(ENCODINGS))
    def ask(asked: Asked, name: str, encode: Callable[[str], str]) -> None:
        place.check(asked, name, encode)

    before = place.around.seen(), place.around.stored()
    ask()
    assert (place.around.seen(), place.around.stored()) == before


async def test_every_endpoint_that_takes_something_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A route with a place for a name, or with a body, stands in one of the tables above, and nothing else does."""
    tables = {"router": await _router_routes(tmp_path, monkeypatch), "node": await _node_routes(tmp_path)}
    found = {key for server, app in tables.items() for key in _taking(server, app)}
    inference = {asked.key for server in tables for asked in _inference(server)}
    assert found | inference == {asked.key for asked in ASKED} | NAMELESS.keys()


async def _router_routes(home: Path, monkeypatch: pytest.MonkeyPatch) -> Litestar:
    """The control app of a router, as the router makes it."""
    made: list[Litestar] = []

    def make(routes: Sequence[ControllerRouterHandler]) -> Litestar:
        made.append(documented(routes))
        return made[0]

    monkeypatch.setattr(router_app, "documented", make)
    async with router_app.serving(RouterConfig(home=home, host="127.0.0.1", port=0, announce=False)):
        return made[0]


async def _node_routes(home: Path) -> Litestar:
    async with aiohttp.ClientSession() as session:
        agent = Agent(NodeConfig(home=home, runtime=["llamacpp"]), session)
        return node_control(agent.registry, agent.runtimes.describe, agent._model_routes())  # noqa: SLF001 - nobody else tells


def _taking(server: str, app: Litestar) -> Iterator[Key]:
    for route in app.routes:
        assert isinstance(route, HTTPRoute)
        for method in route.methods - {"OPTIONS"}:
            if "{" in route.path or method not in {"GET", "HEAD"}:
                yield server, method, route.path


# -- what is a name, and leads elsewhere by a link


@pytest.mark.parametrize("model", ["leak", "out/canary", "up/canary", "out", "up"])
def test_a_link_in_the_store_is_no_model(place: Place, model: str) -> None:
    """H7: what it leads to is not listed, not asked, not handed out, and not deleted."""
    before = place.around.seen()
    node, router = place.urls["node"], place.urls["router"]
    assert model not in place.world.router.listed()
    for url in (router, node):
        assert chat(url, model).status == 404
        assert call(url, "DELETE", "/api/delete", {"model": model}).status == 404
        assert call(url, "POST", "/api/copy", {"source": model, "destination": "mine"}).status == 404
    size = (place.around.outside / "canary.gguf").stat().st_size
    for name in ("model.gguf", "config.json", "canary.txt", "canary.gguf"):
        path = f"{FILES}/{quote(model, safe='')}/{name}"
        ticket = Ticket(path, size, "", int(time.time()) + 600)
        answer = send(node, "GET", f"{path}?{ticket.query(place.key)}", b"")
        assert answer.status == 404
        assert CANARY.encode() not in answer.body
    assert place.around.seen() == before


@pytest.mark.parametrize("model", ["out/mine", "out/deep/mine", "up/mine"])
def test_nothing_is_written_through_a_link_in_the_store(place: Place, model: str) -> None:
    """H7: a model is not put where a link leads out of the store: 400."""
    before = place.around.seen(), place.around.stored()
    for url in place.urls.values():
        answer = call(url, "POST", "/api/copy", {"source": HELLO, "destination": model})
        assert answer.status == 400
        assert "leads out of" in answer.json()["error"]
    assert (place.around.seen(), place.around.stored()) == before


@pytest.mark.slow
def test_nothing_is_fetched_through_a_link_in_the_store(place: Place) -> None:
    """H7: neither where one stands in the place of a directory, nor in that of a file that was on its way."""
    before = place.around.seen()
    place.world.register("out/tiny")
    refused = chat(place.urls["router"], "out/tiny", stream=False)
    assert refused.status >= 500
    assert "leads out of" in refused.json()["error"]
    assert call(place.urls["router"], "DELETE", "/v0/models/out/tiny").status == 204
    assert answered(chat(place.urls["router"], NAME, stream=False))
    (model,) = place.around.store.glob(f"{NAME}.gguf*")
    assert model.read_bytes() == place.world.model
    assert not model.is_symlink()
    after = place.around.seen()
    assert {path for path in before if path not in after} == {
        place.around.store / f"{NAME}.gguf.partial",
        place.around.store / f"{NAME}.gguf.partial.tag",
    }
    assert after.items() <= before.items()


async def test_nothing_is_swept_up_behind_a_link(tmp_path: Path) -> None:
    """What the router keeps of an earlier run goes; a link beside it, and what it leads to, stays (H7)."""
    around = Surroundings(tmp_path)
    before = around.seen()
    left, directory = around.passing / "tiny" / "left-over.gguf", around.passing / "tiny" / "made-by-hand"
    directory.mkdir(parents=True)
    left.write_bytes(b"x")
    depot = Depot(around.passing, _no_fetch, keep=False, linger=0.01)
    depot.start()
    while left.exists():  # noqa: ASYNC110 - a file says nothing
        await asyncio.sleep(0.01)  # noqa: TID251 - as above
    with pytest.raises(NotFound, match="is a link"):
        await depot.open("out", ModelFile("canary.gguf", 1, url="http://127.0.0.1:1/canary.gguf"))
    await depot.stop()
    assert before.items() <= around.seen().items()


async def _no_fetch(*_: Any, **__: Any) -> None:  # noqa: ANN401 - whatever it is asked for
    raise AssertionError("nothing is to be fetched")


@pytest.mark.parametrize("name", ["unknown", "org/unknown", "unknown:7b", "localhost:5000/lib/unknown:tag"])
def test_a_name_that_nobody_has_is_not_found(place: Place, name: str) -> None:
    """What could be a model's name is looked for: 404, and of Ollama's changes nothing happens."""
    for url in place.urls.values():
        assert call(url, "GET", f"/v1/models/{name}").status == 404
        assert call(url, "DELETE", "/api/delete", {"model": name}).status == 404
        assert chat(url, name).status == 404
    for path in (f"/v0/models/{name}", f"/v0/models/registry/{name}/manifest.json", f"/v1/models/blob/{name}"):
        assert call(place.urls["router"], "GET", path).status == 404


# -- requirement H8


def test_nothing_repairs_files() -> None:
    """H8: no file that is broken is mended, and there is no word of it in the program, its settings, its docs."""
    top = Path(__file__).parents[2]
    files = [
        top / "pyproject.toml",
        *top.glob("*.md"),
        *(f for d in ("src", "docs", "deploy") for f in (top / d).rglob("*")),
    ]
    read = {file: file.read_bytes() for file in files if file.is_file() and "__pycache__" not in file.parts}
    assert len(read) > 100
    assert [file for file, text in read.items() if re.search(rb"auto[\W_]*repair", text, re.IGNORECASE)] == []
