"""`/v0/models`: the catalogue of models, which operators fill and nodes fetch from (requirement H6)."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from litestar import Request, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, JSONBody

from llm_router.errors import Conflict, ModelNotFound, Unavailable
from llm_router.models import names
from llm_router.models.failures import DownloadFailed, OriginDenied
from llm_router.router.access.who import who
from llm_router.router.api.refusals import refusals
from llm_router.router.models.catalogue import Catalogue
from llm_router.router.models.entry import CatalogueModel, ModelChange, NewModel

Call = Request[Any, Any, Any]

MODELS = "/v0/models"
ONE = MODELS + "/{model:path}"  # names have slashes


def model_routes(catalogue: Catalogue, drop_files: Callable[[str], Awaitable[None]]) -> list[HTTPRouteHandler]:
    """The handlers. `drop_files`: has the nodes that hold a model delete its files."""

    @get(MODELS, tags=["models"])
    async def list_catalogue() -> list[CatalogueModel]:
        """Every model of the catalogue, by name, whether a node has it or not."""
        return [entry.view() for entry in catalogue]

    @post(MODELS, tags=["models"], responses=refusals(Conflict, OriginDenied, DownloadFailed, Unavailable))
    async def register_model(request: Call, data: JSONBody[NewModel]) -> CatalogueModel:
        """Register a model, from a repository of the hub or a URL. It is looked at, and not fetched yet."""
        return (await catalogue.add(data, str(who(request)))).view()

    @get(ONE, tags=["models"], responses=refusals(ModelNotFound))
    async def show_model(request: Call) -> CatalogueModel:
        """One model of the catalogue."""
        return catalogue.get(_name(request)).view()

    @patch(ONE, tags=["models"], responses=refusals(ModelNotFound, Unavailable))
    async def change_model(request: Call, data: JSONBody[ModelChange]) -> CatalogueModel:
        """Change where a model shall lie, or its name for people; what is left out stays."""
        return (await catalogue.change(_name(request), data, str(who(request)))).view()

    @delete(ONE, tags=["models"], responses=refusals(ModelNotFound, Unavailable))
    async def remove_model(request: Call, files: FromQuery[bool] = False) -> None:  # noqa: FBT002 - Litestar's parameters are named
        """Take a model out of the catalogue. Nodes keep their files of it, unless `files` asks for them to go too."""
        entry = await catalogue.remove(_name(request), str(who(request)))
        if files:
            await drop_files(entry.name)

    return [list_catalogue, register_model, show_model, change_model, remove_model]


def _name(request: Call) -> str:
    """What stands after MODELS. Litestar's path parameter would fold slashes, and hide what is no name."""
    return names.check(unquote(request.scope["raw_path"].decode().removeprefix(f"{MODELS}/")))
