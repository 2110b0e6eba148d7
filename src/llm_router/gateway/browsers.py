"""Requests of web pages: which are carried out, and those that the gateway answers itself (CORS).

What comes from a page that may not call is refused before anything is done for it; a preflight of one that may is
answered here for every path: whether there is such a path, and who may use it, is for the request itself to find out.
"""

from llm_router.errors import OriginNotAllowed, RouterError
from llm_router.gateway.exchange import Exchange
from llm_router.gateway.origins import Origins
from llm_router.wire.heads import RequestHead
from llm_router.wire.http1 import NONE, response_head

SHOWN = 80  # characters of an origin that its refusal repeats


def is_preflight(head: RequestHead) -> bool:
    """Whether a browser asks on a page's behalf what the page may do (WHATWG Fetch, "CORS-preflight request")."""
    return head.method == b"OPTIONS" and head.header(b"access-control-request-method") != b""


def admit(origins: Origins, head: RequestHead) -> bytes:
    """Header lines for the answer to a request that has an Origin.

    Raises:
        OriginNotAllowed: it is not to be carried out.
    """
    origin = head.origin
    if not origins.allows(origin, head.host):
        shown = origin[:SHOWN].decode("ascii", "replace")
        raise OriginNotAllowed(f"pages of '{shown}' may not call: name them in OLLAMA_ORIGINS, or with --origins")
    if not is_preflight(head):
        return origins.lines(origin)
    private = head.header(b"access-control-request-private-network").lower() == b"true"
    return origins.preflight(origin, head.header(b"access-control-request-headers"), private_network=private)


class Refused(Exchange, kw_only=True):
    """A request that is not carried out."""

    _error: RouterError

    def begin(self) -> None:
        """Say so."""
        self._refuse(self._error)


class Preflight(Exchange):
    """Answered with the header lines that `admit` gave, and nothing else."""

    def begin(self) -> None:
        """Say yes."""
        self._client.write(response_head(204, b"", NONE, 0, self._extra()))
        self._close("done", 204)
