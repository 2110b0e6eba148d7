"""Nothing is open that is not meant to be: every route, asked by a client that is not of this machine.

A client at 127.0.0.2 is a stranger to a router that trusts 127.0.0.1 alone.
"""

import http.client
import sys
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest
from tests.system.harness import START, Answer, House, Router, call, error_of, house_in

from llm_router.router.api.examples import PARAMETERS
from llm_router.router.api.schema import OPEN, operations
from llm_router.wire.dialects import OPERATIONS, dialect_of

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no second loopback address by itself")

STRANGER = ("127.0.0.2", 0)
# What is not in the document: pages, files, and paths that nobody thought of.
OTHERS = [
    ("GET", "/schema"),
    ("GET", "/schema/openapi.json"),
    ("GET", "/dashboard"),
    ("GET", "/dashboard/style.css"),
    ("GET", "/metrics"),
    ("GET", "/favicon.ico"),
    ("GET", "/v0"),
    ("GET", "/v0/nodes/"),
    ("GET", "//v0/nodes"),
    ("GET", "/v0/%6eodes"),
    ("GET", "/health/../v0/nodes"),
    ("GET", "/login/../v0/nodes"),
    ("OPTIONS", "/v0/nodes"),
    ("PUT", "/health"),
    ("DELETE", "/login"),
]


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    with house_in(tmp_path_factory.mktemp("guarded")) as house:
        yield _router(house)


def _router(house: House) -> Router:
    return house.router("--trust", "127.0.0.1/32", "--host", "127.0.0.1")


def ask(router: Router, method: str, path: str, headers: dict[str, str] | None = None) -> Answer:
    """A stranger's request."""
    host, port = router.url.removeprefix("http://").split(":")
    with closing(http.client.HTTPConnection(host, int(port), timeout=START, source_address=STRANGER)) as connection:
        body = b"{}" if method in {"POST", "PATCH", "PUT"} else None
        connection.request(method, path, body, {"content-type": "application/json", **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def documented(router: Router) -> list[tuple[str, str]]:
    """Every (method, path) of the document, as it stands there."""
    document = call(router.url, "GET", "/schema/openapi.json").json()
    found = [(method, path) for path, method, _ in operations(document)]
    assert len(found) > 20
    return found


def filled(path: str) -> str:
    """With something in the place of each parameter."""
    for name, value in PARAMETERS.items():
        path = path.replace(f"{{{name}}}", value)
    assert "{" not in path, f"{path}: an example is missing in PARAMETERS"
    return path


def test_every_documented_route_asks_who_is_there(router: Router) -> None:
    """Issue 7: 401 without a key from elsewhere, but for what the document says is open."""
    routes = documented(router)
    for method, path in routes:
        answer = ask(router, method.upper(), filled(path))
        if (method, path) in OPEN:
            assert answer.status not in {401, 403, 500}, f"{method} {path} is open, says its document: {answer}"
        else:
            assert answer.status == 401, f"{method} {path}: {answer}"
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert OPEN.keys() <= set(routes)


@pytest.mark.parametrize("path", [path.decode() for path in OPERATIONS])
def test_every_inference_path_asks_who_is_there(router: Router, path: str) -> None:
    """401, in the shape that the API has for it."""
    answer = ask(router, "POST", path)
    assert answer.status == 401
    name = dialect_of(path.encode()).name
    assert error_of(name, answer.json(), 401, "")


@pytest.mark.parametrize(("method", "path"), OTHERS)
def test_what_is_in_no_document_is_not_open(router: Router, method: str, path: str) -> None:
    """Pages, their files, and ways around the rules: nothing but a refusal."""
    answer = ask(router, method, path)
    assert answer.status in {400, 401, 403, 404, 405}, answer
    assert b"node_id" not in answer.body


def test_a_browser_is_shown_where_to_sign_in(router: Router) -> None:
    """Somebody who opens the dashboard is led to the login page, and that is open."""
    answer = ask(router, "GET", "/dashboard", {"accept": "text/html"})
    assert (answer.status, answer.headers["location"]) == (303, "/login")
    page = ask(router, "GET", "/login")
    assert page.status == 200
    assert b"llm-router login-link" in page.body


def test_health_names_nobody(router: Router) -> None:
    """What is open to all tells figures."""
    answer = ask(router, "GET", "/health")
    assert answer.status == 200
    facts = answer.json()
    assert {type(value) for value in msgspec.json.decode(msgspec.json.encode(facts)).values()} <= {str, int, dict, list}
    assert "127.0.0.1" not in str(facts)


@pytest.mark.parametrize(
    "host", ["evil.example", "router.evil.example:80", "127.0.0.1.evil.example", "localhost.evil.com"]
)
@pytest.mark.parametrize("path", ["/v0/nodes", "/dashboard", "/v1/models", "/api/tags", "/v0/keys"])
def test_a_name_that_is_not_ours_is_refused_though_the_client_is_of_this_machine(
    router: Router, host: str, path: str
) -> None:
    """DNS rebinding: a page has a browser of this machine believe that its own name is ours. 403, with the setting."""
    answer = call(router.url, "GET", path, headers={"host": host})
    assert answer.status == 403
    assert b"host_not_allowed" in answer.body or path == "/api/tags"
    assert b"--hosts" in answer.body


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "router.localhost", "192.0.2.7"])
def test_names_of_this_machine_and_addresses_are_ours(router: Router, host: str) -> None:
    """An address cannot be rebound: it is what it says."""
    assert call(router.url, "GET", "/v0/nodes", headers={"host": host}).status == 200
