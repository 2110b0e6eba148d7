"""`/v0/join`: how further machines join."""

from collections.abc import Callable

from litestar import Request, get, post
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler

from llm_router.contract import JOIN, JoinLine
from llm_router.router.access.who import who
from llm_router.router.greeting import Reach
from llm_router.router.joining import JoinToken, join_command
from llm_router.router.replicas.base import Replicas
from llm_router.router.replicas.messages import TokenRotated

Call = Request[None, None, State]


async def join_line(token: JoinToken, reach: Reach, request: Call) -> JoinLine:
    """The line that lets a machine in, with the address by which whoever asks has reached us."""
    url = await reach.url(request.headers.get("host", ""))
    return JoinLine(url, join_command(url, token.word), token.word)


def join_routes(
    token: JoinToken, reach: Reach, tell: Callable[[str, str, str], None], replicas: Replicas
) -> list[HTTPRouteHandler]:
    """The handlers; for administrators, since the token lets machines in. `tell`: of an event, its subject, details."""

    @get(JOIN)
    async def show_join(request: Call) -> JoinLine:
        """The address, the join token, and both as a command to type on a machine that is to join."""
        return await join_line(token, reach, request)

    @post(JOIN + "/rotate", status_code=200)
    async def rotate(request: Call) -> JoinLine:
        """Make a new join token; the old one lets nobody in any more. Nodes that have joined stay."""
        await token.rotate()
        replicas.send(TokenRotated())
        tell("join.token_rotated", "", f"by {who(request)}")
        return await join_line(token, reach, request)

    return [show_join, rotate]
