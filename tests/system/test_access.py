"""Who may do what, of a real router, by the command line (requirement A10)."""

import stat
import sys
from contextlib import closing
from http.client import HTTPConnection

import pytest
from tests.system.harness import START, Answer, House, call, run

from llm_router.wire.dialects import OPERATIONS

ELSEWHERE = ("127.0.0.2", 0)  # this machine, under an address that `--trust` leaves out
STRICT = ("--trust", "127.0.0.1/32")

pytestmark = [
    pytest.mark.slow,  # each starts processes
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, 127.0.0.2 is nobody's address"),
]


def from_elsewhere(url: str, method: str, path: str, **headers: str) -> Answer:
    """One request from another address."""
    host, port = url.removeprefix("http://").split(":")
    with closing(HTTPConnection(host, int(port), timeout=START, source_address=ELSEWHERE)) as connection:
        connection.request(method, path, b"{}", {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def test_a_key_from_its_making_to_its_end(house: House) -> None:
    """By the command line: made, used from another machine, listed, revoked; no log and no list shows it."""
    router = house.router(*STRICT)
    where = ("--router", router.url)
    made = run("keys", "create", "--name", "ci", "--models", "llama3", "--expires", "30d", *where)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert from_elsewhere(router.url, "GET", "/v1/models").status == 401
    assert from_elsewhere(router.url, "GET", "/v1/models", x_api_key=key).status == 200
    assert from_elsewhere(router.url, "POST", "/api/chat", authorization=f"Bearer {key}").status == 400
    assert from_elsewhere(router.url, "GET", "/v0/nodes", x_api_key=key).status == 403
    listed = run("keys", *where)
    assert "ci" in listed.stdout
    assert "llama3" in listed.stdout
    assert run("keys", "revoke", "ci", *where).stdout == "revoked ci\n"
    assert from_elsewhere(router.url, "GET", "/v1/models", x_api_key=key).status == 401
    assert run("keys", "revoke", "ci", *where).returncode == 1
    assert key not in listed.stdout + house.logs() + str(router.events())
    assert "No keys yet" in run("keys", *where).stdout


def test_without_a_key_nothing_is_told_elsewhere(house: House) -> None:
    """Every inference path is 401 in the shape of its API; the dashboard leads to /login; /health is for everybody."""
    router = house.router(*STRICT)
    for path, operation in OPERATIONS.items():
        answer = from_elsewhere(router.url, "POST", path.decode())
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert b"llm-router keys create" in answer.body
        assert operation.dialect.name in {"ollama", "openai", "anthropic"}
    assert from_elsewhere(router.url, "GET", "/health").status == 200
    assert from_elsewhere(router.url, "GET", "/login").status == 200
    led = from_elsewhere(router.url, "GET", "/dashboard", accept="text/html")
    assert (led.status, led.headers["location"]) == (303, "/login")
    forged = {"x_llm_router_who": "local;admin;", "x_llm_router_client": "127.0.0.1"}
    assert from_elsewhere(router.url, "GET", "/v0/keys", **forged).status == 401


def test_an_admin_key_works_where_this_machine_needs_one_too(house: House) -> None:
    """`--auth always`: commands are told to show a key, and show the one that the environment or the URL has."""
    router = house.router(*STRICT)
    made = run("keys", "create", "--name", "ops", "--scope", "admin", "--router", router.url)
    key = made.stdout.strip()
    router.stop()
    router.command += ["--auth", "always"]
    router.start()
    refused = run("status", "--router", router.url)
    assert refused.returncode == 1
    assert "an API key is needed" in refused.stderr
    assert run("status", "--router", router.url, "--key", key).returncode == 0
    named = run("status", "--router", router.url.replace("://", f"://{key}@"))
    assert named.returncode == 0
    assert key not in named.stdout
    wrong = run("status", "--router", router.url, "--key", key[:-1] + "x")
    assert wrong.returncode == 1
    assert "not known here" in wrong.stderr


def test_a_login_link_is_printed(house: House) -> None:
    """`llm-router login-link`: an address that signs in whoever opens it first, and nobody after that."""
    router = house.router(*STRICT)
    printed = run("login-link", "--router", router.url)
    link = printed.stdout.strip()
    assert link.startswith(f"{router.url}/login?token=")
    path = link.removeprefix(router.url)
    first = from_elsewhere(router.url, "GET", path)
    assert (first.status, first.headers["location"]) == (303, "/dashboard")
    cookie = first.headers["set-cookie"].partition(";")[0]
    assert from_elsewhere(router.url, "GET", "/v0/nodes", cookie=cookie).status == 200
    assert from_elsewhere(router.url, "DELETE", "/v0/nodes/x", cookie=cookie).status == 403
    assert from_elsewhere(router.url, "GET", path).status == 401
    assert path.partition("=")[2] not in house.logs()


def test_a_rebound_name_gets_nothing(house: House) -> None:
    """DNS rebinding: 403 for a Host that is not ours, though the browser is on this machine; `--hosts` names others."""
    router = house.router("--hosts", "router.example")
    for method, path in [("GET", "/v0/nodes"), ("GET", "/v1/models"), ("POST", "/api/chat"), ("POST", "/v0/keys")]:
        answer = call(router.url, method, path, headers={"host": "evil.example"})
        assert answer.status == 403, answer
        assert b"--hosts" in answer.body
    assert call(router.url, "GET", "/v0/nodes", headers={"host": "router.example:8080"}).status == 200


def test_the_database_is_nobody_elses(house: House) -> None:
    """It holds hashes only, and other users of the machine cannot look into its directory."""
    router = house.router()
    key = run("keys", "create", "--name", "ci", "--router", router.url).stdout.strip()
    router.stop()
    directory = router.database().parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not any(key.encode() in file.read_bytes() for file in directory.iterdir() if file.is_file())
