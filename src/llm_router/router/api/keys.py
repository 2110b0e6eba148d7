"""`/v0/keys`: API keys are made, listed and revoked by administrators, who also have people sign in by links."""

from typing import Any

import msgspec
from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from llm_router.router.access.access import Access
from llm_router.router.access.keys import KeyScope, KeyView, NewKey
from llm_router.router.access.who import who

Call = Request[Any, Any, Any]


class MadeKey(msgspec.Struct, frozen=True):
    """A new key. `key` is the key itself, which is not shown again; the rest is as in the list."""

    key: str
    id: str
    name: str
    scope: KeyScope
    models: list[str]
    created: float
    expires: float
    last_used: float


class LoginLink(msgspec.Struct, frozen=True):
    """`path`, behind the router's address, signs in whoever opens it first, until `expires` (seconds since 1970)."""

    path: str
    expires: float


def key_routes(access: Access) -> list[HTTPRouteHandler]:
    """The handlers; the guard has let in administrators only."""

    @get("/v0/keys", tags=["access"])
    async def list_keys() -> list[KeyView]:
        """Every key, the oldest first; none of them shows the key itself."""
        return [key.view() for key in access.keys]

    @post("/v0/keys", tags=["access"])
    async def create_key(request: Call, data: JSONBody[NewKey]) -> MadeKey:
        """Make a key; the answer is the only one that shows it."""
        view, secret = await access.create(data, who(request))
        return MadeKey(secret, **msgspec.structs.asdict(view))

    @delete("/v0/keys/{name:str}", tags=["access"])
    async def revoke_key(request: Call, name: FromPath[str]) -> None:
        """Revoke a key, by its id or name: it fails from now on, and so do sessions that came from it."""
        await access.revoke(name, who(request))

    @post("/v0/login-links", tags=["access"])
    async def create_login_link(request: Call) -> LoginLink:
        """Make a link that signs one person in, once, within ten minutes."""
        return LoginLink(*await access.login_link(who(request)))

    return [list_keys, create_key, revoke_key, create_login_link]
