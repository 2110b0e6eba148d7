"""What the control apps of router and node have in common: how errors are answered, what Litestar shall leave out."""

from collections.abc import Sequence
from typing import Any

import structlog
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.types import ControllerRouterHandler

from llm_router.errors import BadRequest, NotFound, RouterError
from llm_router.wire.dialects import dialect_of

AnyRequest = Request[Any, Any, Any]

log = structlog.get_logger()


def control_app(
    routes: Sequence[ControllerRouterHandler],
    openapi: OpenAPIConfig | None = None,
    **options: Any,  # noqa: ANN401 - as many types as Litestar has options
) -> Litestar:
    """An app of `routes` whose errors have the shape of the API that the path belongs to. `options`: Litestar's own."""
    return Litestar(
        [*routes],
        openapi_config=openapi,
        logging_config=None,  # see gateway.log
        exception_handlers={
            RouterError: _ours,
            UnicodeDecodeError: _not_text,
            HTTPException: _litestars,
            Exception: _unforeseen,
        },
        **options,
    )


def _answer(
    request: AnyRequest, error: RouterError, status: int, headers: dict[str, str] | None = None
) -> Response[bytes]:
    body = dialect_of(request.url.path.encode()).error(error)
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def _ours(request: AnyRequest, error: RouterError) -> Response[bytes]:
    return _answer(request, error, error.status)


def _not_text(request: AnyRequest, error: UnicodeDecodeError) -> Response[bytes]:
    """Litestar takes this for a fault of the app's."""
    return _answer(request, BadRequest(f"the body is not UTF-8: {error}"), 400)


def _litestars(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    return _answer(request, _translated(request, error), error.status_code, error.headers)


def _unforeseen(request: AnyRequest, error: Exception) -> Response[bytes]:
    log.error("control.failed", method=request.method, path=request.url.path, exc_info=error)
    return _answer(request, RouterError("internal error; this process's log says more"), 500)


def _translated(request: AnyRequest, error: HTTPException) -> RouterError:
    if error.status_code == 404:
        return NotFound(f"no such path: {request.url.path}")
    if error.status_code < 500:
        return BadRequest(_details(error))
    return RouterError(error.detail)


def _details(error: HTTPException) -> str:
    """Litestar's message, with where in the request it is wrong (`extra`: a list of {"key", "message"})."""
    if not isinstance(error.extra, list):
        return error.detail
    places = (f"{place.get('key', 'body')}: {place.get('message', '')}" for place in error.extra)
    return f"{error.detail}: {'; '.join(places)}"
