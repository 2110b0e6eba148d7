"""What router and node say to each other: messages, paths, protocol version.

Both sides read and write these structs and nothing else; a field that one side does not know yet is ignored by msgspec,
so a newer node can talk to an older router. Shapes are design.md §8.
"""

from typing import Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from llm_router.errors import BadRequest

NODES = "/v0/nodes"
JOIN = "/v0/join"
SERVICE = "_llm-router._tcp.local."  # what a router is announced as in the local network (RFC 6763, section 4.1.2)
HEARTBEAT_EVERY = 5.0  # seconds; a router calls a node offline after four missed ones (design.md §5)

# What decoding raises for bytes that are not what they should be. Broken UTF-8 is no DecodeError of msgspec's.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)

NodeKind = Literal["agent", "ollama", "openai", "llamacpp"]
Backend = Literal["metal", "cuda", "rocm", "directml", "vulkan", "cpu"]  # what a machine computes with (requirement C4)


class Address(msgspec.Struct, frozen=True):
    """Where an HTTP server listens: `host` and `port`, or with port 0 the path of a Unix socket in `host`.

    `prefix` is put before every path, for servers that live below one (`https://host/team-a`).
    """

    host: str
    port: int
    tls: bool = False
    prefix: str = ""

    @property
    def url(self) -> str:
        """The address as people write it, without a trailing slash."""
        if not self.port:
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.prefix}"


def parse_address(url: str) -> Address:
    """The address that a person wrote: `host:port`, or a URL that may end in `/` or, as client settings do, in `/v1`.

    Without a scheme it is http; without a port, the scheme's own.

    Raises:
        BadRequest: it names no host, or has parts that an address of a server does not have.
    """
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:  # a port that is no number, a bracket without its partner
        raise BadRequest(f"{url!r} is not an address: {error}; write http://host:port") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or _has_extras(parts) or port == 0:
        raise BadRequest(f"{url!r} is not an address; write host:port, http://host:port or https://host/path")
    prefix = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return Address(parts.hostname, port or _DEFAULT_PORTS[parts.scheme], parts.scheme == "https", prefix)


def parse_router(url: str) -> tuple[Address, str]:
    """The address of a router, and the join token that may stand before it: `http://TOKEN@host:port`.

    Raises:
        BadRequest: it is no address; the message does not show the token.
    """
    scheme, _, rest = url.strip().rpartition("://")
    place = rest.partition("/")[0]
    token, _, host = place.rpartition("@")
    return parse_address(f"{scheme or 'http'}://{host}{rest[len(place) :]}"), token.rstrip(":")


_DEFAULT_PORTS = {"http": 80, "https": 443}


def _has_extras(parts: SplitResult) -> bool:
    """A query, a fragment, credentials, spaces: nothing that a request could be sent to, or that a list should show."""
    return bool(parts.query or parts.fragment or "@" in parts.netloc or any(c.isspace() for c in parts.geturl()))


class RuntimeFacts(msgspec.Struct, frozen=True):
    """One runtime of a node; `slots` is how many requests it runs at once."""

    kind: str
    version: str = ""
    slots: int = 4


class Gpu(msgspec.Struct, frozen=True):
    """One graphics processor; memory in bytes, `utilization` in percent, `temperature` in degrees Celsius.

    What its driver does not tell is 0 or empty; `compute_capability` is Nvidia's, as in "8.9".
    """

    name: str
    memory_total: int = 0
    memory_used: int = 0
    utilization: float = 0.0
    temperature: float = 0.0
    backend: Backend = "cpu"
    driver: str = ""
    compute_capability: str = ""


class Progress(msgspec.Struct, frozen=True):
    """Something long that a node is at (requirement G5): a runtime or a model that it fetches.

    `done` and `total` in bytes, total 0 where nobody knows; `rate` in bytes per second; `step` says in a word or two
    what happens now ("downloading", "unpacking", "waiting for the network").
    """

    kind: Literal["runtime", "model"]
    name: str
    step: str
    done: int = 0
    total: int = 0
    rate: float = 0.0


class NodeSettings(msgspec.Struct, frozen=True):
    """What operators set of a node (requirement F3). The node keeps a copy, and of two the one changed last counts.

    `name` replaces the machine's where it is given; `drain`: nothing new is sent to it; `changed` in seconds since the
    epoch, 0: never.
    """

    name: str = ""
    tags: list[str] = []
    notes: str = ""
    drain: bool = False
    changed: float = 0.0


class Registration(msgspec.Struct, frozen=True):
    """`POST /v0/nodes`: a node introduces itself.

    `address` is only given where the one the router sees is not the one to use (`--advertise`). A node that comes back
    under a known id shows the secret it was given as `Authorization: Bearer`.

    `join`: the router's join token, where the node was given one. `access`: what the router shall show with each of its
    own requests to the node, as `Authorization: Bearer`; the node lets in nobody else from other machines.
    """

    node_id: str
    machine_name: str
    port: int
    address: str = ""
    protocol: Literal["http", "https"] = "http"
    runtimes: list[RuntimeFacts] = []
    gpus: list[Gpu] = []
    backend: Backend = "cpu"
    os: str = ""
    version: str = ""
    models_version: int = 0
    settings: NodeSettings = NodeSettings()
    join: str = ""
    access: str = ""


class Registered(msgspec.Struct, frozen=True):
    """The answer to a registration: 201 for a new node, 200 for one that is known again.

    `state` pending: it waits for an operator's approval, reports as any other, and need not register again.
    """

    node_id: str
    state: str
    node_secret: str


class Seen(msgspec.Struct, frozen=True):
    """The answer to a heartbeat: the state a node is in, and the settings that operators gave it.

    `catalogue` changes whenever what the router offers this node does: see `models.manifest`; 0: nothing, ever.
    """

    state: str
    settings: NodeSettings = NodeSettings()
    catalogue: int = 0


class Heartbeat(msgspec.Struct, frozen=True):
    """`POST /v0/nodes/{id}/heartbeat`, every HEARTBEAT_EVERY seconds: percentages, bytes, counts.

    `models_version` changes whenever the node's list of models does, or what runs them; the router then pulls the list
    again. `slots` 0 and no `runtimes`: as registered.
    """

    models_version: int = 0
    cpu: float = 0.0
    memory: float = 0.0
    memory_total: int = 0
    in_flight: int = 0
    slots: int = 0
    loaded: list[str] = []
    runtimes: list[RuntimeFacts] = []
    gpus: list[Gpu] = []
    backend: Backend = "cpu"
    progress: list[Progress] = []


class ModelDetails(msgspec.Struct, frozen=True):
    """What Ollama tells about a model's file."""

    parent_model: str = ""
    format: str = ""
    family: str = ""
    families: list[str] | None = None
    parameter_size: str = ""
    quantization_level: str = ""


class ModelEntry(msgspec.Struct, frozen=True):
    """One entry of `GET /v1/models`. Only `id` is needed (requirement A4).

    What a node says besides, for the router's own lists: `digest` in hexadecimal, `modified` as RFC 3339, and `stored`
    false where it would have to fetch the model's files first. `size` in bytes.
    """

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "llm-router"
    size: int = 0
    stored: bool | msgspec.UnsetType = msgspec.UNSET
    digest: str | msgspec.UnsetType = msgspec.UNSET
    modified: str | msgspec.UnsetType = msgspec.UNSET
    details: ModelDetails | msgspec.UnsetType = msgspec.UNSET


class JoinLine(msgspec.Struct, frozen=True):
    """`GET /v0/join`: how further machines join. `command` is to be typed there, with the token in it."""

    url: str
    command: str
    token: str


class Attach(msgspec.Struct, frozen=True):
    """`POST /v0/nodes/attach`: a server that has no agent."""

    url: str
    kind: Literal["ollama", "openai"]
    name: str = ""
    slots: int = 4


class ExcludedModel(msgspec.Struct, frozen=True):
    """A model that is kept from a node because it failed there. Times in seconds since the epoch.

    `until` is when the next request may try it again.
    """

    model: str
    reason: str
    since: float
    until: float


class NodeView(msgspec.Struct, frozen=True):
    """One element of `GET /v0/nodes`. Times in seconds since the epoch.

    `machine` is what it calls itself, `version` its agent's, empty where there is none. `since`: when it came online, 0
    while it is not. `latency`: seconds that its latest answers took, on average; 0: there was none. `offered`: those of
    its models that it would have to fetch first.
    """

    id: str
    name: str
    kind: NodeKind
    state: str
    url: str
    local: bool
    runtimes: list[RuntimeFacts]
    models: list[str]
    loaded: list[str]
    excluded: list[str]
    exclusions: list[ExcludedModel]
    slots: int
    in_flight: int
    done: int
    failed: int
    cpu: float
    memory: float
    gpus: list[Gpu]
    backend: Backend
    progress: list[Progress]
    settings: NodeSettings
    os: str
    last_seen: float
    machine: str = ""
    version: str = ""
    since: float = 0.0
    latency: float = 0.0
    offered: list[str] = []


class Candidate(msgspec.Struct, frozen=True):
    """A node that could answer. `cost` in its parts, seconds or points as the policy counts; the lowest `cost` wins.

    `stored`: whether it has the model's files; where nobody has, one fetches them first.
    """

    node_id: str
    node: str
    slots: int
    in_flight: int
    loaded: bool
    cost: dict[str, float]
    stored: bool = True


class NotCandidate(msgspec.Struct, frozen=True):
    """A node that could not, and why."""

    node_id: str
    node: str
    reason: str


class Explanation(msgspec.Struct, frozen=True):
    """`POST /v0/routing/explain`: what would happen to such a request now. Candidates are sorted by cost.

    `decision`: lease, queue or refuse; `code`: the error's, where it would be refused.
    """

    model: str
    policy: str
    decision: Literal["lease", "queue", "refuse"]
    node_id: str
    node: str
    reason: str
    code: str
    candidates: list[Candidate]
    others: list[NotCandidate]


class ErrorDetail(msgspec.Struct, frozen=True):
    """What is wrong, for people (`message`) and for programs (`code`)."""

    message: str
    type: str
    code: str


class ErrorBody(msgspec.Struct, frozen=True):
    """The error shape of `/v0`."""

    error: ErrorDetail


def model_entries(body: bytes) -> list[ModelEntry]:
    """The models of a `GET /v1/models` answer: bad entries skipped, duplicates removed, order kept (requirement A4).

    An entry whose other fields are not what ours are is known by its id alone.

    Raises:
        UNREADABLE: the body is not JSON, or not an object with a `data` list.
    """
    data = msgspec.json.decode(body, type=_ModelList).data
    found: dict[str, ModelEntry] = {}
    for entry in data:
        id_ = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(id_, str) and id_:
            found.setdefault(id_, _entry(id_, entry))
    return list(found.values())


def _entry(id_: str, entry: object) -> ModelEntry:
    try:
        return msgspec.convert(entry, ModelEntry)
    except msgspec.ValidationError:
        return ModelEntry(id_)


class _ModelList(msgspec.Struct):
    data: list[object]
