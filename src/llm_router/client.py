"""What the client commands do: ask a router, show the answer.

It uses http.client, not aiohttp: a command line that answers at once must not spend half a second on imports.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec

from llm_router.contract import JOIN, NODES, UNREADABLE, Attach, Candidate, Explanation, JoinLine, NodeView
from llm_router.errors import ConfigError, RouterError

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

TIMEOUT = 120.0  # seconds; attaching a server waits for its list of models, registering a model for a look at it
ACCENT = "cyan"
USABLE = ("online", "suspect")
NUMBERS = ("models", "in flight", "done", "failed", "cpu", "memory")
IN_SECONDS = "expected-latency"  # the policy whose costs are times; the others count turns, requests, points
WIDE = 10_000  # columns when the output is not a terminal: nothing is cut off for a program


class CommandError(RouterError):
    """The router could not be asked, or said no."""

    code = "command_failed"


class Router:
    """A router somewhere, asked synchronously. `url` is its address, without the key."""

    def __init__(self, url: str) -> None:
        """`url`: http:// or https://, with a path where it lives below one, and as user the API key to show."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is not the URL of a router: give one like http://127.0.0.1:8080")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
        self._key = unquote(parts.username or "")
        self._prefix = parts.path.rstrip("/")
        self._place = parts.hostname, parts.port
        self._secure = parts.scheme == "https"

    def call(self, method: str, path: str, body: object = None) -> bytes:
        """One call; the answer's body.

        Raises:
            CommandError: nobody answers, or the answer is an error.
        """
        with closing(self._connection()) as connection:
            try:
                return self._ask(connection, method, path, body).read()
            except (OSError, HTTPException) as error:
                raise self._lost(error) from error

    def lines(self, path: str, body: object) -> Iterator[bytes]:
        """One call whose answer comes line by line.

        Raises:
            CommandError: as `call`, and when the answer breaks off.
        """
        with closing(self._connection()) as connection:
            try:
                response = self._ask(connection, "POST", path, body)
                if connection.sock is not None:
                    connection.sock.settimeout(None)  # a model may take its time to load
                yield from response
            except (OSError, HTTPException) as error:
                raise self._lost(error) from error

    def nodes(self) -> list[NodeView]:
        """Every node that the router knows."""
        return self.read(self.call("GET", NODES), list[NodeView])

    def read(self, body: bytes, kind: type[T]) -> T:
        """What the router said, as `kind`.

        Raises:
            CommandError: it said something else, so it is none.
        """
        try:
            return msgspec.json.decode(body, type=kind)
        except UNREADABLE as error:
            raise CommandError(f"what answers at {self.url} does not look like a router: {error}") from error

    def _connection(self) -> HTTPConnection:
        host, port = self._place
        make = HTTPSConnection if self._secure else HTTPConnection
        return make(host, port, timeout=TIMEOUT)

    def _ask(self, connection: HTTPConnection, method: str, path: str, body: object) -> HTTPResponse:
        sent = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"} if sent else {}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        connection.request(method, self._prefix + path, sent, headers)
        response = connection.getresponse()
        if response.status >= 400:
            raise CommandError(_message(response.read()) or f"{method} {path}: {response.status} {response.reason}")
        return response

    def _lost(self, error: Exception) -> CommandError:
        if isinstance(error, ConnectionRefusedError):
            return CommandError(
                f"no router at {self.url}: start one with `llm-router up`, or name another with --router or ROUTER_URL"
            )
        return CommandError(f"the router at {self.url} cannot be asked: {str(error) or type(error).__name__}")


def _message(body: bytes) -> str:
    """The text of an error answer, in whichever of the shapes it came."""
    try:
        error = msgspec.json.decode(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (*UNREADABLE, KeyError, TypeError):
        return ""


# -- nodes and models


class ModelRow(msgspec.Struct):
    """One model, with the names of the nodes that can run it and of those that have it in memory."""

    model: str
    nodes: list[str] = []
    loaded: list[str] = []


def list_nodes(router: Router, *, as_json: bool) -> None:
    """Print the nodes."""
    nodes = router.nodes()
    if as_json:
        print_json(nodes)
    elif nodes:
        _print_nodes(nodes, who)
        _print_exclusions(nodes)
        _print_waiting(nodes)
    else:
        say(f"No nodes yet. Start one on any machine: llm-router node --router {router.url}")


def attach(router: Router, server: Attach) -> None:
    """Attach a server and say what became of it."""
    node = router.read(router.call("POST", f"{NODES}/attach", server), NodeView)
    say(f"attached {node.name} ({node.state}, {_count(node.models, 'model')}) as {node.id}")


def change(router: Router, node_id: str, settings: dict[str, object]) -> None:
    """Change what `settings` names, and say what the node's settings are now."""
    node = router.read(router.call("PATCH", f"{NODES}/{quote(node_id, safe='')}", settings), NodeView)
    shown = {"name": node.name, "tags": ", ".join(node.settings.tags) or "none", "notes": node.settings.notes or "none"}
    say("\n".join(f"{label:<6} {value}" for label, value in {**shown, "state": state_of(node)}.items()))


def approve(router: Router, node_id: str) -> None:
    """Let a node join that waits for it."""
    node = router.read(router.call("POST", f"{NODES}/{quote(node_id, safe='')}/approve"), NodeView)
    say(f"approved {node.name} ({node.state})")


def join(router: Router, *, rotate: bool, as_json: bool) -> None:
    """Print the command by which another machine joins; `rotate`: with a new token."""
    answer = router.call("POST", f"{JOIN}/rotate") if rotate else router.call("GET", JOIN)
    line = router.read(answer, JoinLine)
    if as_json:
        print_json(line)
    else:
        say(line.command)


def remove(router: Router, node_id: str) -> None:
    """Remove a node."""
    router.call("DELETE", f"{NODES}/{quote(node_id, safe='')}")
    say(f"removed {node_id}")


def lift(router: Router, node_id: str, model: str) -> None:
    """Lift the exclusion of a model on a node."""
    router.call("DELETE", f"{NODES}/{quote(node_id, safe='')}/exclusions/{quote(model, safe='')}")
    say(f"{model} may be asked of {node_id} again")


def models_of(nodes: Iterable[NodeView]) -> list[ModelRow]:
    """The models of the nodes that can be used, by name (requirement C8)."""
    rows: dict[str, ModelRow] = {}
    for node in nodes:
        for model in node.models if is_usable(node) else ():
            if model not in node.excluded:
                row = rows.setdefault(model, ModelRow(model, [], []))
                row.nodes.append(node.name)
                if model in node.loaded:
                    row.loaded.append(node.name)
    return [rows[name] for name in sorted(rows)]


def status(router: Router, *, as_json: bool) -> None:
    """Print the router's summary and its nodes."""
    nodes = router.nodes()
    rows = models_of(nodes)
    online = sum(n.state in USABLE for n in nodes)
    flying = sum(n.in_flight for n in nodes)
    if as_json:
        summary = {"router": router.url, "nodes_online": online, "models": [r.model for r in rows], "in_flight": flying}
        print_json(summary | {"nodes": nodes})
        return
    counts = [f"{online} of {_count(nodes, 'node')} online", _count(rows, "model"), f"{flying} in flight"]
    say(f"Router at {router.url}: {', '.join(counts)}")
    if nodes:
        say("")
        _print_nodes(nodes, how)
        _print_exclusions(nodes)


def _count(things: list[Any], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


# -- access


class KeyRow(msgspec.Struct):
    """What is read of an API key; times in seconds since the epoch, 0 is never."""

    id: str
    name: str
    scope: str
    models: list[str]
    expires: float
    last_used: float


class MadeKey(msgspec.Struct):
    """What is read of a new one."""

    key: str


class LoginLink(msgspec.Struct):
    """What is read of a new link: its path, and when it ends (seconds since the epoch)."""

    path: str
    expires: float


def create_key(router: Router, wanted: dict[str, object]) -> None:
    """Make an API key. It alone goes to standard output, so that a script can take it from there."""
    made = router.read(router.call("POST", "/v0/keys", wanted), MadeKey)
    say(made.key)
    sys.stderr.write("This is the only time that the key is shown: keep it where your client finds it.\n")


def list_keys(router: Router, *, as_json: bool) -> None:
    """Print the API keys."""
    body = router.call("GET", "/v0/keys")
    keys = router.read(body, list[KeyRow])
    if as_json:
        print_json(msgspec.json.decode(body))
    elif keys:
        columns = ["name", "scope", "models", "expires", "last used", "id"]
        print_table(columns, (_key_row(key) for key in keys), numbers=())
    else:
        say("No keys yet. Make one: llm-router keys create --name NAME")


def _key_row(key: KeyRow) -> list[str]:
    models = ", ".join(key.models) or "all"
    return [key.name, key.scope, models, _date(key.expires), _date(key.last_used), key.id]


def _date(at: float) -> str:
    """Seconds since the epoch as date and time here; 0 is never."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M") if at else "never"


def revoke_key(router: Router, name: str) -> None:
    """Revoke an API key, by its name or id."""
    router.call("DELETE", f"/v0/keys/{quote(name, safe='')}")
    say(f"revoked {name}")


def login_link(router: Router) -> None:
    """Print an address that signs one person in at the dashboard."""
    link = router.read(router.call("POST", "/v0/login-links"), LoginLink)
    say(f"{router.url}{link.path}")
    sys.stderr.write(f"Whoever opens it first is signed in as an administrator; it ends at {_clock(link.expires)}.\n")


# -- a decision


def explain(router: Router, model: str, prompt: str | None, *, as_json: bool) -> None:
    """Print what would happen to such a request now, and why."""
    body: dict[str, object] = {"model": model}
    if prompt is not None:
        body["messages"] = [{"role": "user", "content": prompt}]
    explanation = router.read(router.call("POST", "/v0/routing/explain", body), Explanation)
    if as_json:
        print_json(explanation)
    else:
        _print_explanation(explanation)


def _print_explanation(explanation: Explanation) -> None:
    """Print the decision, then who was weighed, then who was not."""
    say(verdict(explanation))
    if explanation.candidates:
        say("")
        rows = [weighed(c, explanation.node_id) for c in explanation.candidates]
        numbers = ["in flight", *explanation.candidates[0].cost]
        print_table(list(rows[0]), (list(row.values()) for row in rows), numbers)
    if explanation.others:
        say("")
        print_table(["other node", "why not"], ([o.node, o.reason] for o in explanation.others))


def verdict(explanation: Explanation) -> str:
    """Return the decision and its reason, in one line."""
    model, reason = explanation.model, explanation.reason
    if explanation.decision == "refuse":
        return f"{model} is refused: {reason} ({explanation.code})"
    units = ", costs in seconds" if explanation.policy == IN_SECONDS else ""
    end = "goes to " + explanation.node if explanation.decision == "lease" else "is queued"
    return f"{model} {end}: {reason} (policy {explanation.policy}{units})"


def weighed(candidate: Candidate, chosen: str) -> dict[str, str]:
    """Return what `explain` shows of a candidate; its cost, then the parts of it in the policy's order."""
    mark = {"": "→" if candidate.node_id == chosen else "", "node": candidate.node}
    room = {
        "in flight": f"{candidate.in_flight} of {candidate.slots}",
        "in memory": "yes" if candidate.loaded else "no",
    }
    return mark | room | {part: _amount(value) for part, value in candidate.cost.items()}


def _amount(value: float) -> str:
    """Thousandths, as seconds are shown to the millisecond; a plain 0 for what is none."""
    return f"{value + 0.0:.0f}" if value.is_integer() else f"{value:.3f}"  # -0.0 + 0.0 is 0.0


# -- a conversation


class _Message(msgspec.Struct):
    content: str = ""
    thinking: str = ""


class _Record(msgspec.Struct):
    """What is read of a record of `/api/chat`."""

    message: _Message = msgspec.field(default_factory=_Message)
    error: str = ""


def chat(router: Router, model: str, prompt: str | None) -> None:
    """Answer one prompt, or hold a conversation on a terminal."""
    if prompt is None and sys.stdin.isatty():
        _converse(router, model)
        return
    prompt = prompt if prompt is not None else sys.stdin.read()
    if not prompt.strip():
        raise ConfigError("there is no prompt: give one after the model's name, or on standard input")
    _answer(router, model, [{"role": "user", "content": prompt}])


def _converse(router: Router, model: str) -> None:
    with suppress(ImportError):  # Windows' Python has none: there the console edits lines
        import readline  # noqa: F401, PLC0415 - line editing for input()

    messages: list[dict[str, str]] = []
    while True:
        try:
            said = input(">>> ")
        except EOFError:
            say("")
            return
        if said.strip():
            messages.append({"role": "user", "content": said})
            try:
                messages.append({"role": "assistant", "content": _answer(router, model, messages)})
            except KeyboardInterrupt:
                say("")
                messages.pop()


def _answer(router: Router, model: str, messages: list[dict[str, str]]) -> str:
    """Print the answer as it comes; return it."""
    heard = []
    for line in router.lines("/api/chat", {"model": model, "messages": messages}):
        record = router.read(line, _Record)
        if record.error:
            raise CommandError(record.error)
        if record.message.thinking and sys.stdout.isatty():
            _write(f"\x1b[2m{_plain(record.message.thinking)}\x1b[0m")
        heard.append(record.message.content)
        _write(_plain(record.message.content) if sys.stdout.isatty() else record.message.content)
    _write("\n")
    return "".join(heard)


CONTROLS = {c: None for c in (*range(32), *range(127, 160)) if chr(c) not in "\n\t"}


def _plain(text: str) -> str:
    """Without control characters: what a model says must not steer the terminal."""
    return text.translate(CONTROLS)


# -- output


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def say(line: str) -> None:
    """Print a line."""
    _write(f"{line}\n")


def print_json(value: object) -> None:
    """Print a value as JSON, for people too."""
    say(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _print_nodes(nodes: list[NodeView], show: Callable[[NodeView], dict[str, str]]) -> None:
    """Print what `show` says of each, those that can be used first."""
    rows = [show(n) for n in sorted(nodes, key=lambda n: (not is_usable(n), n.name))]
    print_table(list(rows[0]), (list(row.values()) for row in rows))


def who(node: NodeView) -> dict[str, str]:
    """Return what `nodes list` shows of a node: who it is."""
    runtimes = ", ".join(r.kind for r in node.runtimes) or node.kind
    state = {"": _dot(node), "name": node.name, "state": state_of(node)}
    return state | {"runtime": runtimes, "address": node.url, "id": node.id}


def how(node: NodeView) -> dict[str, str]:
    """Return what `status` shows of a node: how it does."""
    state = {"": _dot(node), "name": node.name, "state": state_of(node), "models": str(len(node.models))}
    load = {"in flight": f"{node.in_flight} of {node.slots}", "done": str(node.done), "failed": str(node.failed)}
    return state | load | {"cpu": f"{node.cpu:.0f} %", "memory": f"{node.memory:.0f} %"}


def _dot(node: NodeView) -> str:
    return "●" if is_usable(node) else "○"


def is_usable(node: NodeView) -> bool:
    """Return whether it may be asked for something."""
    return node.state in USABLE and not node.settings.drain


def state_of(node: NodeView) -> str:
    """Return its state, and that it is drained if it is."""
    return f"{node.state}, drained" if node.settings.drain else node.state


def _print_exclusions(nodes: Iterable[NodeView]) -> None:
    """Print which models are kept from which nodes, if any are."""
    rows = [[e.model, node.name, e.reason, _clock(e.until)] for node in nodes for e in node.exclusions]
    if rows:
        say("")
        print_table(["excluded", "on", "because", "tried again from"], rows)


def _print_waiting(nodes: Iterable[NodeView]) -> None:
    """Say how nodes come in that wait for approval, if any do."""
    commands = [f"  llm-router nodes approve {node.id}" for node in nodes if node.state == "pending"]
    if commands:
        say("\n".join(["", "To let in who is pending:", *commands]))


def _clock(at: float) -> str:
    """Seconds since the epoch as the time of day here: an exclusion is tried again within minutes."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")


def print_table(columns: list[str], rows: Iterable[list[str]], numbers: Collection[str] = NUMBERS) -> None:
    """Print a table; the columns of `numbers` stand to the right."""
    from rich.table import Table  # noqa: PLC0415 - 80 ms that a chat must not pay
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        side: Literal["left", "right"] = "right" if name in numbers else "left"
        table.add_column(name, style=ACCENT if name in ("", "model", "excluded") else "", justify=side, overflow="fold")
    for row in rows:
        style = "dim" if row[0] == "○" else ""
        table.add_row(*(Text(cell, style=style) for cell in row))
    _console().print(table)


def _console() -> "Console":
    from rich.console import Console  # noqa: PLC0415 - as above

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
