"""The rules: who may do what (requirement A10, design.md §5 Access)."""

import timeit
from typing import Any

import pytest
from tests.router.access.heads import head

from llm_router.config import RouterConfig
from llm_router.errors import ConfigError, Forbidden, HostNotAllowed, RouterError, TooManyAttempts, Unauthorized
from llm_router.gateway.guard import Grant
from llm_router.router.access.guard import ANYBODY, LOCAL, PUBLIC, RouterGuard, SignIn, need
from llm_router.router.access.keys import Keys, NewKey
from llm_router.router.access.sessions import SESSION_LASTS, Sessions
from llm_router.router.access.throttle import BURST, PER_SECOND, Throttle

HERE, THERE = "127.0.0.1", "192.168.1.5"
UNKNOWN = "lr-" + "x" * 43

INFERENCE = [("POST", "/api/chat"), ("POST", "/v1/chat/completions"), ("POST", "/v1/messages")]
LISTS = [
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/org/model"),
    ("GET", "/api/tags?x=1"),
    ("GET", "/api/version"),
    ("GET", "/api/ps"),
]
ADMIN = [
    ("GET", "/v0/nodes"),
    ("GET", "/v0/nodes/n1"),
    ("PATCH", "/v0/nodes/n1"),
    ("POST", "/v0/nodes/attach"),
    ("POST", "/v0/nodes/n1/approve"),
    ("DELETE", "/v0/nodes/n1/exclusions/m"),
    ("POST", "/v0/models"),
    ("GET", "/v0/models/org/model"),
    ("GET", "/v0/nodes/n1/models"),
    ("GET", "/v0/models/registry/org/model/manifest.json"),
    ("GET", "/v1/models/blob/org/model"),
    ("POST", "/api/pull"),
    ("POST", "/api/blobs/sha256:0"),
    ("GET", "/v0/keys"),
    ("POST", "/v0/login-links"),
    ("GET", "/v0/events"),
    ("GET", "/dashboard"),
    ("GET", "/dashboard/app.js"),
    ("GET", "/metrics"),
    ("GET", "/schema/openapi.json"),
    ("GET", "/nobody/thought/of/this"),
    ("POST", "/v1/models"),
    ("POST", "/api/tags"),
    ("DELETE", "/api/delete"),
    ("POST", "/health"),
    ("DELETE", "/login"),
    ("GET", "//v1/models"),
    ("GET", "/health/"),
    ("GET", "/%68ealth"),
    ("POST", "/v0/nodes/a/b/heartbeat"),
    ("POST", "/v0/nodes/a%2fb/heartbeat"),
    ("OPTIONS", "*"),
]
PUBLICS = [
    ("GET", "/health"),
    ("HEAD", "/health"),
    ("GET", "/login?token=x"),
    ("POST", "/login"),
    ("POST", "/v0/nodes"),
    ("POST", "/v0/nodes/box-1.lan/heartbeat"),
    ("POST", "/v0/nodes/box-1.lan/goodbye"),
]


class Door:
    """A guard with its parts, and a clock that stands until it is moved."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - as many types as there are settings
        self.now = 1000.0
        self.keys, self.sessions = Keys(), Sessions(8080, tls=False)
        self.refused: list[tuple[str, str, str]] = []
        self.guard = RouterGuard(
            RouterConfig(**settings), self.keys, self.sessions, Throttle(), self._refused, clock=lambda: self.now
        )

    def _refused(self, client: str, path: str, error: RouterError) -> None:
        self.refused.append((client, path, error.code))

    def key(self, name: str = "ci", **wanted: Any) -> str:  # noqa: ANN401 - as above
        made, secret = self.keys.make(NewKey(name, **wanted), self.now)
        self.keys.add(made)
        return secret

    def cookie(self) -> str:
        return "other=1; " + self.sessions.cookie(self.sessions.begin("", self.now)[1]).partition(";")[0]

    def ask(self, client: str, method: str, path: str, host: str = "10.0.0.1", /, **headers: str) -> Grant:
        return self.guard.admit(head(method, path, host, **headers), client, inference=(method, path) in INFERENCE)


@pytest.mark.parametrize(("method", "path"), PUBLICS)
def test_what_is_public(method: str, path: str) -> None:
    """Signs of life, the login page, and what nodes say: nobody is asked who they are, whatever they show."""
    door = Door()
    assert door.ask(THERE, method, path) is PUBLIC
    assert door.ask(THERE, method, path, Authorization="Bearer a-secret-of-a-node") is PUBLIC
    assert door.refused == []


@pytest.mark.parametrize(("method", "path"), [*INFERENCE, *LISTS, *ADMIN])
def test_from_elsewhere_nothing_else_without_a_key(method: str, path: str) -> None:
    """Requirement A10: 401, with no key as with a wrong one; a path that nobody thought of, too."""
    door = Door()
    for shown in ({}, {"Authorization": f"Bearer {UNKNOWN}"}, {"x_api_key": "sk-1"}, {"Authorization": "Basic eDp5"}):
        with pytest.raises(Unauthorized):
            door.ask(THERE, method, path, **shown)
    assert door.refused == [(THERE, path.partition("?")[0], "invalid_api_key")] * 4


@pytest.mark.parametrize(("method", "path"), [*INFERENCE, *LISTS])
def test_any_key_asks_models(method: str, path: str) -> None:
    """As both kinds of header show it; the grant names the key and its models."""
    door = Door()
    secret = door.key(models=["llama3"])
    for shown in ({"Authorization": f"Bearer {secret}"}, {"x_api_key": secret}):
        grant = door.ask(THERE, method, path, **shown)
        assert (grant.via, grant.scope, grant.name) == ("key", "inference", "ci")
        assert grant.models == {"llama3", "llama3:latest"}


@pytest.mark.parametrize(("method", "path"), ADMIN)
def test_administering_takes_an_admin_key(method: str, path: str) -> None:
    """One for inference is 403, from this machine, too: who shows a key is who it says."""
    door = Door()
    admin, plain = door.key("ops", scope="admin"), door.key()
    assert door.ask(THERE, method, path, x_api_key=admin).name == "ops"
    for client in (HERE, THERE):
        with pytest.raises(Forbidden):
            door.ask(client, method, path, x_api_key=plain)


@pytest.mark.parametrize(("method", "path"), [*INFERENCE, *LISTS, *ADMIN])
def test_this_machine_needs_no_key(method: str, path: str) -> None:
    """Not even where its clients show what they made up, as many do."""
    door = Door()
    assert door.ask(HERE, method, path) is LOCAL
    assert door.ask("::1", method, path, Authorization="Bearer ollama") is LOCAL
    assert door.ask("::ffff:127.0.0.1", method, path) is LOCAL


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_a_proxy_on_this_machine_is_not_who_asks(header: str) -> None:
    """What came through one counts as from elsewhere."""
    with pytest.raises(Unauthorized):
        Door().ask(HERE, "GET", "/v0/nodes", **{header: THERE})


def test_always_means_always() -> None:
    """`--auth always`: this machine needs a key as any other."""
    door = Door(auth="always")
    with pytest.raises(Unauthorized):
        door.ask(HERE, "POST", "/api/chat")
    assert door.ask(HERE, "POST", "/api/chat", x_api_key=door.key()).via == "key"


def test_off_means_off() -> None:
    """`--auth off`: anybody may do anything; a key still says who asks."""
    door = Door(auth="off")
    assert door.ask(THERE, "DELETE", "/v0/nodes/n1") is ANYBODY
    assert door.ask(THERE, "POST", "/api/chat", x_api_key=door.key()).name == "ci"


def test_whom_to_trust_is_a_setting() -> None:
    """`--trust` names networks; what is none cannot be started with."""
    door = Door(trust=["127.0.0.1/32", "192.168.0.0/16"])
    assert door.ask(THERE, "GET", "/v0/nodes") is LOCAL
    with pytest.raises(Unauthorized):
        door.ask("127.0.0.2", "GET", "/v0/nodes")
    with pytest.raises(ConfigError, match="trust"):
        Door(trust=["everybody"])


def test_a_revoked_or_expired_key_fails_at_once() -> None:
    """On this machine, too: whoever shows a key of ours means it, and shall see that it is over."""
    door = Door()
    revoked, expired = door.key("revoked"), door.key("expired", expires="30s")
    for secret in (revoked, expired):
        door.ask(THERE, "POST", "/api/chat", x_api_key=secret)
    door.keys.drop(door.keys.named("revoked"))
    door.now += 30
    for secret in (revoked, expired):
        for client in (HERE, THERE):
            with pytest.raises(Unauthorized, match="revoked or expired"):
                door.ask(client, "POST", "/api/chat", x_api_key=secret)


# -- browsers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil"])
@pytest.mark.parametrize(("method", "path"), [*INFERENCE, *LISTS, *ADMIN])
def test_a_page_under_a_strange_name_gets_nothing(host: str, method: str, path: str) -> None:
    """DNS rebinding: 403 that names the setting, on this machine and with `--auth off`."""
    for door in (Door(), Door(auth="off")):
        with pytest.raises(HostNotAllowed, match="--hosts"):
            door.ask(HERE, method, path, host)


def test_a_key_or_a_session_is_good_under_every_name() -> None:
    """No page that only looks like ours has one."""
    door = Door(auth="always")
    assert door.ask(THERE, "GET", "/v0/nodes", "router.lan", x_api_key=door.key(scope="admin")).via == "key"
    assert door.ask(THERE, "GET", "/v0/nodes", "router.lan", Cookie=door.cookie()).via == "session"


def test_a_strange_page_cannot_register_a_node() -> None:
    """Nodes are no browsers: a call with an Origin is not a node's."""
    door = Door()
    rebound = {"Origin": "http://evil.example:8080"}
    with pytest.raises(HostNotAllowed):
        door.ask(HERE, "POST", "/v0/nodes", "evil.example:8080", **rebound)
    with pytest.raises(Unauthorized):
        door.ask(THERE, "POST", "/v0/nodes", "evil.example:8080", **rebound)


def test_pages_of_other_sites_do_not_administer_by_the_browsers_address() -> None:
    """Even those that `--origins` lets in to ask models."""
    door = Door()
    page = {"Origin": "https://app.example"}
    assert door.ask(HERE, "POST", "/api/chat", **page) is LOCAL
    assert door.ask(HERE, "GET", "/api/tags", **page) is LOCAL
    for method, path in ADMIN:
        with pytest.raises(Forbidden, match="admin key"):
            door.ask(HERE, method, path, **page)
    assert door.ask(HERE, "GET", "/v0/keys", "localhost:8080", Origin="http://localhost:8080") is LOCAL


def test_a_session_does_everything_from_our_own_pages() -> None:
    """What changes something comes from a page of ours, by Sec-Fetch-Site or by Origin; reading needs neither."""
    door = Door()
    cookie = door.cookie()
    for method, path in [*INFERENCE, *ADMIN]:
        for page in ({"Sec_Fetch_Site": "same-origin"}, {"Origin": "http://10.0.0.1:8080"}):
            grant = door.ask(THERE, method, path, "10.0.0.1:8080", Cookie=cookie, **page)
            assert (grant.via, grant.scope) == ("session", "admin")
    assert door.ask(THERE, "GET", "/v0/nodes", Cookie=cookie).via == "session"


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": "http://10.0.0.1:3000"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "file://10.0.0.1:8080"},
    ],
)
def test_a_session_changes_nothing_for_other_pages(page: dict[str, str]) -> None:
    """CSRF: a form on another site, or on another port of this host, is 403."""
    door = Door()
    for method, path in [("POST", "/api/chat"), ("POST", "/v0/keys"), ("DELETE", "/v0/nodes/n1")]:
        with pytest.raises(Forbidden, match="own pages"):
            door.ask(THERE, method, path, "10.0.0.1:8080", Cookie=door.cookie(), **page)


def test_a_session_ends() -> None:
    """A week after it was last used, or when its person signs out."""
    door = Door()
    cookie = door.cookie()
    for _ in range(3):
        door.now += SESSION_LASTS - 1
        door.ask(THERE, "GET", "/v0/nodes", Cookie=cookie)
    door.now += SESSION_LASTS
    with pytest.raises(Unauthorized):
        door.ask(THERE, "GET", "/v0/nodes", Cookie=cookie)


def test_a_browser_is_shown_where_to_sign_in() -> None:
    """303 for a page; for its data, and for a wrong key, 401 as for everybody."""
    door = Door()
    with pytest.raises(SignIn) as told:
        door.ask(THERE, "GET", "/dashboard", Accept="text/html,*/*;q=0.8")
    assert (told.value.status, told.value.lines) == (303, b"location: /login\r\ncache-control: no-store\r\n")
    for method, headers in [("GET", {"Accept": "application/json"}), ("POST", {"Accept": "text/html"})]:
        with pytest.raises(Unauthorized) as refused:
            door.ask(THERE, method, "/dashboard", **headers)
        assert refused.value.status == 401
    with pytest.raises(Unauthorized) as refused:
        door.ask(THERE, "GET", "/dashboard", Accept="text/html", x_api_key="wrong")
    assert refused.value.status == 401


# -- wrong keys


def test_wrong_keys_are_throttled() -> None:
    """429 with Retry-After after a few; then one attempt at a time. To have none is not to guess."""
    door = Door()
    for _ in range(3 * int(BURST)):
        with pytest.raises(Unauthorized):
            door.ask(THERE, "GET", "/v0/nodes")
    for _ in range(int(BURST)):
        with pytest.raises(Unauthorized):
            door.ask(THERE, "GET", "/v0/nodes", x_api_key=UNKNOWN)
    with pytest.raises(TooManyAttempts) as refused:
        door.ask(THERE, "GET", "/v0/nodes", x_api_key=UNKNOWN)
    assert refused.value.retry_after == 1 / PER_SECOND
    door.now += refused.value.retry_after
    with pytest.raises(Unauthorized):
        door.ask(THERE, "GET", "/v0/nodes", x_api_key=UNKNOWN)


def test_who_has_a_key_is_not_throttled() -> None:
    """Whatever others behind the same address do."""
    door = Door()
    secret = door.key()
    for _ in range(3 * int(BURST)):
        with pytest.raises((Unauthorized, TooManyAttempts)):
            door.ask(THERE, "POST", "/api/chat", x_api_key=UNKNOWN)
    assert door.ask(THERE, "POST", "/api/chat", x_api_key=secret).name == "ci"


def test_no_refusal_repeats_a_key() -> None:
    """Errors end up in logs of clients, too."""
    door = Door()
    secret = door.key(expires="1s")
    door.now += 1
    for shown in (secret, "a-password-by-mistake"):
        with pytest.raises(Unauthorized) as refused:
            door.ask(THERE, "GET", "/v0/nodes", x_api_key=shown)
        assert shown not in refused.value.message


def test_what_methods_need() -> None:
    """Reading a list is inference's; every other method on it is the administrator's."""
    assert need(head("GET", "/v1/models")) == "inference"
    assert need(head("PUT", "/v1/models/m")) == "admin"


def test_a_check_takes_microseconds() -> None:
    """A key that was seen before costs a request 2 µs at most on an idle machine; here any machine may take 20."""
    door = Door()
    asked = head("POST", "/v1/chat/completions", Authorization=f"Bearer {door.key()}")

    def check() -> None:
        door.guard.admit(asked, THERE, inference=True)

    best = min(timeit.repeat(check, number=1000, repeat=20)) / 1000
    assert best < 20e-6


@pytest.mark.parametrize(
    "path", ["/v0/nodes/n1/models", "/v0/models/registry/org/model/files/a.gguf", "/v1/models/blob/org/model"]
)
def test_what_nodes_fetch_is_for_who_says_that_it_is_one(path: str) -> None:
    """Requirement H6: the handler asks such a one for its secret; to anybody else, and to write, it is an admin's."""
    for method in ("GET", "HEAD"):
        assert need(head(method, path, x_llm_router_node="n1")) == "public"
        assert need(head(method, path)) == "admin"
    assert need(head("PUT", path, x_llm_router_node="n1")) == "admin"
    assert need(head("GET", "/v0/models/org/model", x_llm_router_node="n1")) == "admin"
