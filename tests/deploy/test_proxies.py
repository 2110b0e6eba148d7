"""The examples for nginx and Caddy, as they stand in `deploy/`, in front of real routers: nothing is held back (B2).

Only names, addresses and certificates are changed. No time is measured: the runtime says the second half of an answer
when the first one has arrived, or the test waits for ever.
"""

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path

import msgspec
import pytest
from tests.doubles.halting_runtime import FIRST, MODEL, SECOND
from tests.ports import free_port
from tests.system.harness import START, Answer, House, Process, Router, call, eventually, house_in

DEPLOY = Path(__file__).parents[2] / "deploy"
HALTING = Path(__file__).parents[1] / "doubles" / "halting_runtime.py"
REPLICAS = ("10.0.0.11:8080", "10.0.0.12:8080")  # as the examples have them
LARGE = 3_000_000  # bytes; nginx takes 1 MB unless told otherwise
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
ENDS = {"/v1/chat/completions": b"data: [DONE]", "/api/chat": b'"done":true'}  # of streams: SSE, and NDJSON
MISSING = [name for name in ("nginx", "caddy", "openssl") if not shutil.which(name)]

pytestmark = [
    pytest.mark.slow,  # starts two routers, a runtime and two proxies
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


class Proxy:
    """A running proxy, spoken to over HTTPS."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.host = f"localhost:{port}"
        self._trust = ssl.create_default_context(cafile=certificate)

    def connect(self) -> HTTPSConnection:
        return HTTPSConnection(self.host, timeout=START, context=self._trust)

    @contextmanager
    def asked(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        """A response, to be read as it comes."""
        with closing(self.connect()) as connection:
            connection.request(method, path, body, headers or {})
            yield connection.getresponse()

    def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, key: str = ""
    ) -> Answer:
        """One request, whole."""
        sent = None if body is None else msgspec.json.encode(body)
        shown = {"Authorization": f"Bearer {key}"} if key else {}
        with self.asked(method, path, sent, shown | (headers or {})) as response:
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())


class Site:
    """Two routers with one runtime, each with an admin key of the same name, and proxies in front of them."""

    def __init__(self, house: House, certificate: Path) -> None:
        self.house = house
        self.certificate = certificate
        self.runtime = Process("halting", [sys.executable, str(HALTING)], house.directory).start()
        house.processes.append(self.runtime)
        with ThreadPoolExecutor() as pool:
            self.routers = list(pool.map(self._router, ("one", "two")))
        self.keys = [self._key(router) for router in self.routers]

    def _router(self, name: str) -> Router:
        options = ["serve", "--home", str(self.house.directory / name), "--host", "127.0.0.1", "--port", "0"]
        router = Router(name, [sys.executable, "-m", "llm_router", *options, "--with-parent"], self.house.directory)
        self.house.processes.append(router.start())
        body = {"url": self.runtime.url, "kind": "openai", "name": "halting", "slots": 4}
        assert call(router.url, "POST", "/v0/nodes/attach", body).status == 201
        return router

    def _key(self, router: Router) -> str:
        return str(call(router.url, "POST", "/v0/keys", {"name": "ops", "scope": "admin"}).json()["key"])

    def asks(self, proxy: Proxy, api: str) -> AbstractContextManager[HTTPResponse]:
        """A stream of the halting runtime."""
        headers = {"Authorization": f"Bearer {self.keys[0]}", "Content-Type": "application/json"}
        return proxy.asked("POST", api, msgspec.json.encode(CHAT), headers)

    @contextmanager
    def behind(self, kind: str, *upstreams: str) -> Iterator[Proxy]:
        """A proxy of this kind in front of these servers, of which there are two."""
        port = free_port()
        directory = self.house.directory / f"{kind}-{port}"
        directory.mkdir()
        command = STARTS[kind](directory, port, self.certificate, upstreams)
        environment = os.environ | dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(directory))
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        proxy = Proxy(port, self.certificate)
        try:
            eventually(lambda: _answers(proxy) or process.poll() is not None)
            assert process.poll() is None, (directory / "log").read_text()
            yield proxy
        finally:
            process.terminate()
            process.wait(START)


def _answers(proxy: Proxy) -> bool:
    try:
        return proxy.call("GET", "/health").status == 200
    except OSError:
        return False


def changed(text: str, changes: dict[str, str]) -> str:
    """The text with these parts replaced; each of them is in it."""
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def nginx(directory: Path, port: int, certificate: Path, upstreams: tuple[str, ...]) -> list[str]:
    """The file is one that nginx's own configuration includes within `http`."""
    example = (DEPLOY / "nginx" / "llm-router.conf").read_text("utf-8")
    plain = free_port()
    site = changed(
        example,
        {
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl http2;\n": "",
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "listen 443 ": f"listen 127.0.0.1:{port} ",
            "/etc/nginx/tls/llm.example.crt": str(certificate),
            "/etc/nginx/tls/llm.example.key": str(certificate),
            **dict(zip(REPLICAS, upstreams, strict=True)),
        },
    )
    (directory / "site.conf").write_text(site)
    temporary = "".join(
        f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = f"""
        daemon off; worker_processes 1; pid {directory}/pid; error_log stderr warn;
        events {{}}
        http {{ access_log off; {temporary} include {directory}/site.conf; }}
    """
    (directory / "nginx.conf").write_text(whole)
    return ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]


def caddy(directory: Path, port: int, certificate: Path, upstreams: tuple[str, ...]) -> list[str]:
    """With a certificate of the test's instead of one that Caddy fetches."""
    example = (DEPLOY / "caddy" / "Caddyfile").read_text("utf-8")
    site = changed(
        example,
        {
            "\nllm.example {": f"\nhttps://localhost:{port} {{\n\ttls {certificate} {certificate}\n",
            **dict(zip(REPLICAS, upstreams, strict=True)),
        },
    )
    options = "{\n\tadmin off\n\tauto_https off\n}\n"
    (directory / "Caddyfile").write_text(options + site)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(directory / "Caddyfile")]


STARTS = {"nginx": nginx, "caddy": caddy}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    pem, key = directory / "localhost.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", pem], check=True, capture_output=True, timeout=START)
    pem.write_text(pem.read_text() + key.read_text())
    with house_in(directory) as house:
        yield Site(house, pem)


def address(process: Process) -> str:
    return process.url.removeprefix("http://")


@pytest.fixture(scope="module", params=STARTS)
def proxy(request: pytest.FixtureRequest, site: Site) -> Iterator[Proxy]:
    """In front of the first router, in both places: keys are each router's own here."""
    with site.behind(request.param, *[address(site.routers[0])] * 2) as proxy:
        yield proxy


@pytest.mark.parametrize("api", ENDS)
def test_the_first_token_does_not_wait_for_the_last(site: Site, proxy: Proxy, api: str) -> None:
    """It is at the client before the runtime says the second half; a whole stream it is nevertheless."""
    with site.asks(proxy, api) as response:
        lines = iter(response.readline, b"")
        assert any(FIRST.encode() in line for line in lines)
        call(site.runtime.url, "POST", "/_go")
        rest = b"".join(lines)
    assert SECOND.encode() in rest
    assert ENDS[api] in rest


def test_who_goes_away_is_gone_at_the_runtime(site: Site, proxy: Proxy) -> None:
    """A client that leaves in the middle of an answer keeps no node busy (B6)."""
    left = call(site.runtime.url, "GET", "/_left").json()
    with site.asks(proxy, "/v1/chat/completions") as response:
        assert response.readline()
    eventually(lambda: call(site.runtime.url, "GET", "/_left").json() == left + 1)


def test_the_dashboard_is_told_at_once(site: Site, proxy: Proxy) -> None:
    """What happens while its stream of events is open arrives there (F2)."""
    name = f"news-for-{proxy.host.replace(':', '-')}"
    headers = {"Authorization": f"Bearer {site.keys[0]}", "Accept": "text/event-stream"}
    with proxy.asked("GET", "/v0/events", headers=headers) as response:
        assert response.getheader("content-type", "").startswith("text/event-stream")
        assert response.readline()
        call(site.routers[0].url, "POST", "/v0/keys", {"name": name})
        assert any(name.encode() in line for line in iter(response.readline, b""))


def test_who_comes_through_it_is_not_of_this_machine(site: Site, proxy: Proxy) -> None:
    """Though the proxy is: its clients show a key, whatever they say of themselves."""
    for forged in ({}, {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1"}):
        assert proxy.call("GET", "/v0/nodes", headers=forged).status == 401
    assert proxy.call("GET", "/v0/nodes", key=site.keys[0]).status == 200
    assert call(site.routers[0].url, "GET", "/v0/nodes").status == 200


def test_a_person_signs_in_through_it(site: Site, proxy: Proxy) -> None:
    """The cookie goes over HTTPS alone, and the router tells its own pages from others' as without a proxy."""
    link = call(site.routers[0].url, "POST", "/v0/login-links").json()["path"]
    cookie = proxy.call("GET", link).headers["set-cookie"]
    assert cookie.endswith("; Secure")
    session = {"Cookie": cookie.partition(";")[0], "Origin": f"https://{proxy.host}"}
    assert proxy.call("POST", "/v0/login-links", headers=session).status == 201
    assert proxy.call("POST", "/v0/login-links", headers=session | {"Origin": "https://evil.example"}).status == 403


@pytest.mark.parametrize("kind", STARTS)
def test_a_body_passes_while_it_comes(site: Site, kind: str) -> None:
    """A model's file may be larger than the proxy's disk: its first half arrives before the second one is sent."""
    half = bytes(LARGE // 2)
    upstream = address(site.runtime)
    with site.behind(kind, upstream, upstream) as proxy, closing(proxy.connect()) as connection:
        connection.putrequest("POST", "/_take")
        connection.putheader("Content-Length", str(LARGE))
        connection.endheaders()
        connection.send(half)
        eventually(lambda: call(site.runtime.url, "GET", "/_taken").json() == len(half))
        connection.send(half)
        assert connection.getresponse().read() == str(LARGE).encode()


@pytest.mark.parametrize("kind", STARTS)
def test_who_asks_again_comes_to_the_same_replica(site: Site, kind: str) -> None:
    """Which remembers where the conversation's prefix is; and with that one gone, to the other."""
    with site.behind(kind, *map(address, site.routers)) as proxy:
        # One of the routers knows the key; the other says 401, or 429 when it has seen too many wrong ones.
        known = [[proxy.call("GET", "/v0/nodes", key=key).status == 200 for _ in range(6)] for key in site.keys]
    assert all(len(set(answers)) == 1 for answers in known)
    nobody = f"127.0.0.1:{free_port()}"
    for upstreams in ((nobody, address(site.routers[0])), (address(site.routers[0]), nobody)):
        with site.behind(kind, *upstreams) as proxy:
            assert {proxy.call("GET", "/v0/nodes", key=site.keys[0]).status for _ in range(3)} == {200}
