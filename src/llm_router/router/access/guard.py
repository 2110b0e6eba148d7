"""The router's rules: who may do what, as one table.

A request is looked at in this order; the first line that fits says what happens.

    1 it shows a key of ours                   what the key may do; anything else is 403 forbidden
    2 it asks for what is public               nobody is asked who they are
    3 it shows a key of a router's making      401: revoked, expired or wrong, and meant as a key wherever it comes from
    4 its address is enough (`auth`)           everything; but not under a name that is not ours, nor what is admin's
                                               where another site's page asks: then 5 can help, else it is 403
    5 it has the cookie of a session           everything; 403 for what another site's page would have the browser do
    6 a browser asks for a page                303 to /login
    7 anything else                            401; 429 for the address that showed too many wrong keys

What is asked for is one of three:

    public     GET /health, GET and POST /login; what nodes say and fetch, which they prove by secrets of their own
    inference  the inference paths, and the lists of models: any key
    admin      everything else, and every path that nobody thought of: an admin key, or a session
"""

import re
import time
from collections.abc import Callable
from typing import ClassVar, Literal

from llm_router.config import RouterConfig
from llm_router.errors import Forbidden, HostNotAllowed, RouterError, TooManyAttempts, Unauthorized
from llm_router.gateway.guard import Grant, Scope
from llm_router.gateway.trust import Trust
from llm_router.models.manifest import NODE_ID
from llm_router.router.access.hosts import Hosts
from llm_router.router.access.keys import Keys, is_ours
from llm_router.router.access.sessions import Sessions
from llm_router.router.access.throttle import Throttle
from llm_router.wire.heads import RequestHead

Need = Literal["public", "inference", "admin"]

LOCAL = Grant("local", "admin")
ANYBODY = Grant("public", "admin")  # with `auth` off
PUBLIC = Grant("public", "none")

_READS = frozenset({b"GET", b"HEAD"})
# `/` is where Ollama's clients look whether a server is there.
_LISTS = frozenset({b"/", b"/v1/models", b"/api/tags", b"/api/version", b"/api/ps"})
_MODEL = b"/v1/models/"
_LOGIN = b"/login"
_PUBLIC = frozenset({b"/health", _LOGIN})
_NODES = re.compile(rb"/v0/nodes(?:/[A-Za-z0-9._-]{1,128}/(?:heartbeat|goodbye))?")
_FETCHED = re.compile(rb"/v0/nodes/[A-Za-z0-9._-]{1,128}/models|/v0/models/registry/.*|/v1/models/blob/.*")
_NODE_ID = NODE_ID.encode()

SHOWN = 80  # characters of a name that its refusal repeats


class SignIn(Unauthorized):
    """A person in a browser, who is better told where to sign in."""

    status = 303
    code = "sign_in"
    lines: ClassVar[bytes] = b"location: /login\r\ncache-control: no-store\r\n"


class RouterGuard:
    """Asked once for every request."""

    def __init__(
        self,
        config: RouterConfig,
        keys: Keys,
        sessions: Sessions,
        throttle: Throttle,
        refused: Callable[[str, str, RouterError], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`refused`: told of every refusal, as client, path and why. `clock`: seconds since the epoch.

        Raises:
            ConfigError: an address in `trust` is none.
        """
        self._auth = config.auth
        self._trust = Trust(config.trust)
        self._hosts = Hosts(config.hosts)
        self._keys = keys
        self._sessions = sessions
        self._throttle = throttle
        self._refused = refused
        self._clock = clock

    def admit(self, head: RequestHead, client: str, *, inference: bool) -> Grant:
        """See the table; `gateway.guard.Guard` says what this is asked and raises."""
        if head.credential and (key := self._keys.find(head.credential, self._clock())) is not None:
            grant = key.grant
            if inference or grant.scope == "admin":
                return grant
        else:
            grant = None
        try:
            return self._decide(head, client, "inference" if inference else need(head), grant)
        except RouterError as error:
            self._refused(client, head.path.decode("ascii", "replace"), error)
            raise

    def _decide(self, head: RequestHead, client: str, needed: Need, grant: Grant | None) -> Grant:
        if grant is not None:
            return _limited(grant, needed)
        if needed == "public":
            return PUBLIC
        if is_ours(head.credential):
            raise self._unknown_key(client)
        by_address = self._by_address(head, client)
        error = None if by_address is None else self._strange(head, needed)
        if by_address is not None and error is None:
            return by_address
        cookies = head.header(b"cookie")
        session = self._sessions.of(cookies, self._clock()) if cookies else None
        if session is not None:
            return _of_our_page(head, session.grant)
        raise error or self._unproven(head, client)

    def _by_address(self, head: RequestHead, client: str) -> Grant | None:
        """What a client may do because of where it is. A proxy's is not that of who asks through it."""
        if self._auth == "off":
            return ANYBODY
        if self._auth == "auto" and not head.forwarded and self._trust.covers(client):
            return LOCAL
        return None

    def _strange(self, head: RequestHead, needed: Need) -> RouterError | None:
        """Why an address is not enough here: a browser is where its person is, and so is every page in it."""
        if not self._hosts.has(head.host):
            shown = head.host[:SHOWN].decode("ascii", "replace")
            return HostNotAllowed(
                f"'{shown}' is not known as a name of this router: use its address, an API key, or name it in "
                "LLM_ROUTER_HOSTS or with --hosts"
            )
        if needed == "admin" and head.origin and not _is_own(head):
            return Forbidden("pages of other sites may ask models, not administer: that takes an admin key")
        return None

    def _unproven(self, head: RequestHead, client: str) -> RouterError:
        if head.credential:
            return self._unknown_key(client)
        if head.method == b"GET" and b"text/html" in head.header(b"accept"):
            return SignIn("sign in first: `llm-router login-link` on the router's machine prints a link")
        return Unauthorized(
            "an API key is needed: send `Authorization: Bearer …` or `x-api-key: …`; `llm-router keys create` on the "
            "router's machine makes one"
        )

    def _unknown_key(self, client: str) -> RouterError:
        now = self._clock()
        wait = self._throttle.wait(client, now)
        if wait:
            return TooManyAttempts(f"too many wrong keys came from {client}: try again in {wait} s", retry_after=wait)
        self._throttle.failed(client, now)
        return Unauthorized("this API key is not known here: it may be mistyped, revoked or expired")


def need(head: RequestHead) -> Need:
    """What a request asks for that is not inference."""
    path, reads = head.path, head.method in _READS
    if path in _PUBLIC and (reads or (path == _LOGIN and head.method == b"POST")):
        return "public"
    # A node is no browser: a page that is taken for one of ours must not register one.
    if head.method == b"POST" and not head.origin and _NODES.fullmatch(path):
        return "public"
    if _FETCHED.fullmatch(path):
        return "public" if reads and head.header(_NODE_ID) else "admin"
    return "inference" if reads and (path in _LISTS or path.startswith(_MODEL)) else "admin"


def may(scope: Scope, needed: Need) -> bool:
    """Whether a scope is enough."""
    return needed == "public" or scope == "admin" or (scope == "inference" and needed == "inference")


def _limited(grant: Grant, needed: Need) -> Grant:
    if not may(grant.scope, needed):
        raise Forbidden(f"the key '{grant.name}' may ask models, not administer: that takes an admin key")
    return grant


def _of_our_page(head: RequestHead, grant: Grant) -> Grant:
    """Browsers say whose page has them ask: in Sec-Fetch-Site (W3C Fetch Metadata), over plain HTTP in Origin alone."""
    if head.method not in _READS and head.header(b"sec-fetch-site") != b"same-origin" and not _is_own(head):
        raise Forbidden("only the router's own pages may do this with a session; programs use an API key")
    return grant


def _is_own(head: RequestHead) -> bool:
    """Whether the page that asks is one of ours, for the browser: Origin is the scheme and then Host."""
    scheme, _, host = head.origin.lower().partition(b"://")
    return scheme in {b"http", b"https"} and host == head.host.lower() != b""
