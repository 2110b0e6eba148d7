"""All routes of the router's control app. Who may call which, the gateway's guard has decided before."""

from collections.abc import Callable

from litestar.handlers import HTTPRouteHandler

from llm_router.core.registry import Registry
from llm_router.core.scheduler import Scheduler
from llm_router.gateway.lists import list_routes
from llm_router.router.access.access import Access
from llm_router.router.api.bodies import body_routes
from llm_router.router.api.dashboard import dashboard_routes
from llm_router.router.api.events import Greeter, event_routes
from llm_router.router.api.health import health_routes
from llm_router.router.api.join import join_routes
from llm_router.router.api.keys import key_routes
from llm_router.router.api.login import login_routes
from llm_router.router.api.metrics import metrics_routes
from llm_router.router.api.models import model_routes
from llm_router.router.api.nodes import node_routes
from llm_router.router.api.registry import registry_routes
from llm_router.router.api.requests import request_routes
from llm_router.router.api.routing import routing_routes
from llm_router.router.bodies import BodyLog
from llm_router.router.credentials import Credentials
from llm_router.router.fleet import Fleet
from llm_router.router.greeting import Reach
from llm_router.router.joining import JoinToken
from llm_router.router.ledger import Ledger
from llm_router.router.live import Live
from llm_router.router.metrics import Metrics
from llm_router.router.models.all import Models
from llm_router.router.ollama_api import router_ollama_routes
from llm_router.router.replicas.base import Replicas
from llm_router.router.store.database import Database


def all_routes(  # noqa: PLR0913 - as many as there are parts of a router that can be asked for
    *,
    registry: Registry,
    scheduler: Scheduler,
    policy: str,
    fleet: Fleet,
    ledger: Ledger,
    replicas: Replicas,
    database: Database,
    bodies: BodyLog | None,
    live: Live,
    greeter: Greeter,
    metrics: Metrics,
    access: Access,
    models: Models,
    credentials: Credentials,
    token: JoinToken,
    reach: Reach,
    tell: Callable[[str, str, str], None],
) -> list[HTTPRouteHandler]:
    """The handlers."""
    return [
        *node_routes(fleet, ledger, models.offers.number),
        *request_routes(database, ledger),
        *body_routes(database, bodies),
        *event_routes(database, ledger, live, greeter),
        *health_routes(registry, ledger, replicas),
        *routing_routes(registry, scheduler, policy),
        *metrics_routes(metrics),
        *key_routes(access),
        *registry_routes(models.catalogue, models.offers, models.depot, registry, credentials),
        *model_routes(models.catalogue, models.drop_files),
        *router_ollama_routes(models.nodes),
        *login_routes(access),
        *join_routes(token, reach, tell, replicas),
        *dashboard_routes(),
        *list_routes(registry, pages="/dashboard"),
    ]
