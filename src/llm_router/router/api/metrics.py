"""`GET /metrics`: for Prometheus."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from llm_router.router.exposition import CONTENT_TYPE
from llm_router.router.metrics import Metrics


def metrics_routes(metrics: Metrics) -> list[HTTPRouteHandler]:
    """The handler."""

    @get("/metrics", media_type=CONTENT_TYPE)
    async def show_metrics() -> Response[str]:
        """Figures of the requests, the nodes, the queue and this process, in Prometheus' text format."""
        return Response(await metrics.text(), media_type=CONTENT_TYPE)

    return [show_metrics]
