"""`/v0/nodes`: agents register and report, operators look, attach, change settings, lift exclusions and remove."""

from collections.abc import Callable
from urllib.parse import unquote

from litestar import Request, Response, delete, get, patch, post
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from llm_router.contract import NODES, Attach, Heartbeat, NodeView, Registered, Registration, Seen
from llm_router.core.health import State as Health
from llm_router.errors import NodeNotFound, NotExcluded, RegistrationRefused, WrongSecret
from llm_router.router.access.who import who
from llm_router.router.api.refusals import also, refusals
from llm_router.router.fleet import Fleet, view
from llm_router.router.ledger import Ledger
from llm_router.router.settings import SettingsChange, check_fields

Call = Request[None, None, State]

EXCLUSIONS = "/exclusions/"
REPORT_SIZE = 256 * 1024  # bytes: a machine with a hundred runtimes, or a thousand loaded models. Anybody may send one
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")  # headers of proxies (RFC 7239, and what was there before)


def node_routes(fleet: Fleet, ledger: Ledger, catalogue: Callable[[str], int]) -> list[HTTPRouteHandler]:
    """The handlers; what they raise is `fleet`'s to say, and `control_app`'s to show. `catalogue`: of `Seen`."""
    return [*_agent_routes(fleet, catalogue), *_operator_routes(fleet, ledger)]


def _agent_routes(fleet: Fleet, catalogue: Callable[[str], int]) -> list[HTTPRouteHandler]:
    @post(
        NODES,
        request_max_body_size=REPORT_SIZE,
        responses=also(200, Registered, "It was known.") | refusals(RegistrationRefused, WrongSecret),
    )
    async def register(request: Call, data: JSONBody[Registration]) -> Response[Registered]:
        """An agent introduces itself: 201 for a new one, 200 for one that is known again. It may have to wait."""
        forwarded = any(name in request.headers for name in FORWARDED)
        answer, new = await fleet.register(data, _host(request), _bearer(request), forwarded=forwarded)
        return Response(answer, status_code=201 if new else 200)

    @post(
        NODES + "/{node_id:str}/heartbeat",
        status_code=200,
        request_max_body_size=REPORT_SIZE,
        responses=refusals(NodeNotFound, WrongSecret),
    )
    async def heartbeat(request: Call, node_id: FromPath[str], data: JSONBody[Heartbeat]) -> Seen:
        """An agent reports; the answer tells it the state and settings that it has. 404: it has to register first."""
        node = fleet.heartbeat(node_id, data, _bearer(request))
        offered = 0 if node.state is Health.PENDING else catalogue(node_id)
        return Seen(node.state.value, node.settings, offered)

    @post(NODES + "/{node_id:str}/goodbye", status_code=204, responses=refusals(NodeNotFound, WrongSecret))
    async def goodbye(request: Call, node_id: FromPath[str]) -> None:
        """An agent is about to stop."""
        fleet.goodbye(node_id, _bearer(request))

    return [register, heartbeat, goodbye]


def _operator_routes(fleet: Fleet, ledger: Ledger) -> list[HTTPRouteHandler]:
    @get(NODES)
    async def list_nodes() -> list[NodeView]:
        """Every node, by name."""
        return sorted(map(view, fleet.registry), key=lambda node: (node.name, node.id))

    @get(NODES + "/{node_id:str}", responses=refusals(NodeNotFound))
    async def show_node(node_id: FromPath[str]) -> NodeView:
        """One node."""
        return view(fleet.node(node_id))

    @patch(NODES + "/{node_id:str}", responses=refusals(NodeNotFound))
    async def change(request: Call, node_id: FromPath[str], data: JSONBody[SettingsChange]) -> NodeView:
        """Set a node's name, tags, notes, or whether it is drained; what is left out stays."""
        check_fields(await request.json())
        node = fleet.change(node_id, data, f"by {who(request)}")
        await ledger.flush()  # as below
        return view(node)

    @post(NODES + "/{node_id:str}/approve", status_code=200, responses=refusals(NodeNotFound))
    async def approve(request: Call, node_id: FromPath[str]) -> NodeView:
        """Let a node join that waits for it; its models are pulled next. One that has joined stays as it is."""
        node = fleet.approve(node_id, f"by {who(request)}")
        await ledger.flush()  # as above
        return view(node)

    @delete(NODES + "/{node_id:str}", responses=refusals(NodeNotFound))
    async def remove(request: Call, node_id: FromPath[str]) -> None:
        """Forget a node."""
        fleet.remove(node_id, f"by {who(request)}")
        await ledger.flush()  # what an operator was told is done is done, also for a router that is killed next

    @delete(NODES + "/{node_id:str}" + EXCLUSIONS + "{model:path}", responses=refusals(NodeNotFound, NotExcluded))
    async def lift(request: Call, node_id: FromPath[str]) -> None:
        """Let a model be asked of a node again though it failed there."""
        fleet.lift(node_id, _excluded_model(request), f"by {who(request)}")

    @post(NODES + "/attach", responses=also(200, NodeView, "It was attached.") | refusals(RegistrationRefused))
    async def attach(request: Call, data: JSONBody[Attach]) -> Response[NodeView]:
        """Take in a server that has no agent: 201, or 200 if its URL is attached already."""
        node, new = await fleet.attach(data, f"by {who(request)}")
        await ledger.flush()  # as above; nobody else would bring it back, as an agent does
        return Response(view(node), status_code=201 if new else 200)

    return [list_nodes, show_node, change, approve, remove, lift, attach]


def _host(request: Call) -> str:
    return request.client.host if request.client else ""


def _bearer(request: Call) -> str:
    """The secret of an `Authorization: Bearer` header (RFC 6750, section 2.1); empty where there is none."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _excluded_model(request: Call) -> str:
    """What stands after EXCLUSIONS. Litestar's path parameter would fold the slashes of an id like `/data/model`."""
    return unquote(request.scope["raw_path"].decode().partition(EXCLUSIONS)[2])
