"""The lists of models and the small signs of life that clients ask for, as far as they are alike on router and node."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import MediaType, Response, get, head
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter
from litestar.response import Redirect

from llm_router.contract import ModelEntry
from llm_router.core.registry import Registry
from llm_router.errors import ModelNotFound
from llm_router.gateway.control_app import AnyRequest
from llm_router.wire.dialects import openai

# The release of Ollama whose API ours is like: clients compare it with the one that brought what they want to use.
OLLAMA_VERSION = "0.12.0"


class Version(msgspec.Struct, frozen=True):
    """The answer of `GET /api/version`."""

    version: str


def list_routes(
    registry: Registry, describe: Callable[[str], ModelEntry] = ModelEntry, pages: str = ""
) -> list[HTTPRouteHandler]:
    """Handlers for `/v1/models`, `/v1/models/{id}`, `/api/version` and `/`.

    `describe`: what is to be said of a model besides its name. `pages`: where a person who opens `/` in a browser finds
    some.
    """
    since = int(datetime.now(UTC).timestamp())

    @get("/v1/models", sync_to_thread=False, tags=["models"])
    def models() -> openai.ModelList:
        """Every model that can be asked for now, as the OpenAI API lists them."""
        return openai.model_list(map(describe, registry.available()), since)

    # ids may have slashes
    @get("/v1/models/{model_id:path}", sync_to_thread=False, tags=["models"])
    def model(model_id: Annotated[str, PathParameter(description="The model's id.")]) -> ModelEntry:
        """One model."""
        name = str(model_id).removeprefix("/")
        if name not in registry.available():
            raise ModelNotFound(f"model '{name}' not found")
        return openai.model(describe(name), since)

    @get("/api/version", sync_to_thread=False, tags=["service"])
    def api_version() -> Version:
        """The release of Ollama whose API this is like."""
        return Version(OLLAMA_VERSION)

    @get("/", media_type=MediaType.TEXT, sync_to_thread=False, tags=["service"])
    def root(request: AnyRequest) -> Response[str] | Redirect:
        """What Ollama answers here; clients use it to see whether a server is there. A browser is shown the pages."""
        if pages and "text/html" in request.headers.get("accept", ""):
            return Redirect(pages, status_code=303)
        return Response("Ollama is running", media_type=MediaType.TEXT)

    @head("/", media_type=MediaType.TEXT, sync_to_thread=False, tags=["service"])
    def root_head() -> None:
        """The same without a body, as the `ollama` command asks."""

    return [models, model, api_version, root, root_head]
