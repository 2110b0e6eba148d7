"""The list of places that models may come from: what an entry means, and that no URL gets around it."""

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from llm_router.config import RouterConfig
from llm_router.errors import ConfigError
from llm_router.models.allow import NO_URL, Allowlist, is_public
from llm_router.models.failures import OriginDenied


def is_allowed(url: str | URL, *patterns: str) -> bool:
    try:
        Allowlist(patterns).check(url)
    except OriginDenied:
        return False
    return True


# -- what an entry means


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("huggingface.co/*", "https://huggingface.co/acme/m/resolve/main/m.gguf?download=true"),
        ("huggingface.co", "https://huggingface.co/acme"),
        ("HuggingFace.co/*", "https://HUGGINGFACE.CO./acme"),
        ("huggingface.co/*", "https://huggingface.co:443/acme"),
        ("huggingface.co/*", "https://huggingface.co/acme/m/resolve/refs%2Fpr%2F1/m.gguf"),
        ("huggingface.co/acme/*", "https://huggingface.co/acme/m/resolve/refs%2Fpr%2F1/m.gguf"),
        ("huggingface.co/acme/*.gguf", "https://huggingface.co/acme/m/m.gguf"),
        ("huggingface.co/acme/my%20model", "https://huggingface.co/acme/my model"),
        ("huggingface.co/%61cme/é*", "https://huggingface.co/acme/%C3%A9"),
        ("*.hf.co/*", "https://cdn-lfs.hf.co/x"),
        ("*.hf.co/*", "https://cas-bridge.xethub.hf.co/x"),
        ("bücher.example/*", "https://xn--bcher-kva.example/x"),
        ("xn--bcher-kva.example/*", "https://bücher.example/x"),
        ("http://models.example/*", "http://models.example/x"),
        ("http://models.example:8000/*", "http://models.example:8000/x"),
        ("https://models.example:*/*", "https://models.example:8443/x"),
        ("http://127.0.0.1:8999/*", "http://127.0.0.1:8999/x"),
        ("127.0.0.1:8999/*", "http://127.0.0.1:8999/x"),
        ("127.0.0.1:8999/*", "https://127.0.0.1:8999/x"),
        ("10.0.0.0/8/*", "http://10.1.2.3/x"),
        ("10.0.0.0/8:8000", "http://10.1.2.3:8000/x"),
        ("[fd00::/8]:*/*", "http://[fd12::1]:8000/x"),
        ("[::1]/*", "http://[0:0:0:0:0:0:0:1]/x"),
        ("10.0.0.0/8/*", "http://[::ffff:10.1.2.3]/x"),
        ("93.184.215.14/*", "https://93.184.215.14/x"),
        ("*/*", "https://93.184.215.14/x"),
    ],
)
def test_allowed(pattern: str, url: str) -> None:
    """An entry has the URLs that people mean by it (requirement H3)."""
    assert is_allowed(url, pattern)


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("huggingface.co/*", "http://huggingface.co/acme"),
        ("huggingface.co/*", "ftp://huggingface.co/acme"),
        ("huggingface.co/*", "file:///etc/passwd"),
        ("huggingface.co/*", "huggingface.co/acme"),
        ("huggingface.co/*", "//huggingface.co/acme"),
        ("huggingface.co/*", "https:///acme"),
        ("huggingface.co/*", "https://[::1"),
        ("huggingface.co/*", "https://[::1]@"),
        ("huggingface.co/*", "https://huggingface.co:8443/acme"),
        ("huggingface.co/*", "https://evil.example/huggingface.co/acme"),
        ("huggingface.co/*", "https://evilhuggingface.co/acme"),
        ("huggingface.co/*", "https://huggingface.co.evil.example/acme"),
        ("huggingface.co/*", "https://huggingface.co@evil.example/acme"),
        ("huggingface.co/*", "https://evil.example@huggingface.co/acme"),
        ("huggingface.co/*", "https://:@huggingface.co/acme"),
        ("huggingface.co/*", "https://huggingface.co%2F@evil.example/acme"),
        ("huggingface.co/*", "https://evil.example\\@huggingface.co/acme"),
        ("huggingface.co/*", "https://evil.example#@huggingface.co/acme"),
        ("huggingface.co/*", "https://evil.example?@huggingface.co/acme"),
        ("huggingface.co/*", "https://huggingface.co\t.evil.example/acme"),
        ("huggingface.co/*", "https://huggingface.co%2eevil.example/acme"),
        ("huggingface.co/*", "https://huggingface.co../acme"),
        ("*.hf.co/*", "https://hf.co/x"),
        ("*.hf.co/*", "https://evilhf.co/x"),
        ("*.hf.co/*", "https://evil.example/x.hf.co/x"),
        ("huggingface.co/acme/*", "https://huggingface.co/evil/m"),
        ("huggingface.co/acme/*", "https://huggingface.co/ACME/m"),
        ("huggingface.co/acme/*", "https://huggingface.co/acme/../evil/m"),
        ("huggingface.co/acme/*", "https://huggingface.co/acme/%2e%2e/evil/m"),
        ("huggingface.co/acme/*", "https://huggingface.co/acme/..%2fevil/m"),
        ("huggingface.co/acme/*", "https://huggingface.co/acme/%252e%252e%252fevil/m"),
        ("huggingface.co/acme/*", "https://huggingface.co/acme/..\\evil/m"),
        ("huggingface.co/acme/*", "https://huggingface.co/acme/..;x/evil/m"),
        ("huggingface.co/acme/*", "https://huggingface.co/acme%2Fevil"),
        ("huggingface.co/acme/*", "https://huggingface.co/acme/%00"),
        ("huggingface.co/acme/*", "https://huggingface.co/acme/%0d%0aHost:%20evil"),
        ("huggingface.co/acme/*", "https://huggingface.co/acme/%c0%ae%c0%ae/evil"),
        ("huggingface.co/acme/*", "https://huggingface.co/acme/%2525252525252e"),
        ("http://models.example/*", "https://models.example/x"),
        ("http://models.example:8000/*", "http://models.example/x"),
        ("http://127.0.0.1:8999/*", "http://127.0.0.1:9000/x"),
        ("http://127.0.0.1:*/*", "http://2130706433:9000/x"),
        ("http://127.0.0.1:*/*", "http://127.1:9000/x"),
        ("10.0.0.0/8/*", "http://11.1.2.3/x"),
        ("10.0.0.0/8/*", "http://10.evil.example/x"),
        ("https://*:*/*", "https://0x7f000001/x"),
        ("https://*:*/*", "https://0177.0.0.1/x"),
        ("https://*:*/*", "https://127.0.0.1/x"),
        ("https://*:*/*", "https://169.254.169.254/latest/meta-data"),
        ("https://*:*/*", "https://[::1]/x"),
        ("https://*:*/*", "https://[::ffff:127.0.0.1]/x"),
        ("https://*:*/*", "https://[64:ff9b::7f00:1]/x"),
        ("https://*:*/*", "https://[fe80::1%25eth0]/x"),
        ("93.184.215.14/*", "http://93.184.215.14/x"),
    ],
)
def test_denied(pattern: str, url: str) -> None:
    """Neither another scheme, port or path, nor a trick with users, dots, slashes or numbers gets in."""
    assert not is_allowed(url, pattern)


@pytest.mark.parametrize(
    "url",
    [
        "https://huggingface.co/acme/../evil/m",
        "https://huggingface.co/evil/../acme/m",
        "https://huggingface.co/evil/%2e%2e/acme/m",
        "https://bücher.example/x",
        "https://huggingface.co\\.evil.example/acme/m",
    ],
)
def test_redirect_as_it_is(url: str) -> None:
    """A redirect is not tidied up before it is followed; what is not plain in it is refused."""
    try:
        target = URL(url, encoded=True)
    except ValueError:
        return  # refused sooner
    assert not is_allowed(target, "huggingface.co/acme/*", "bücher.example/*")


def test_no_entries() -> None:
    """An empty list denies all, and so does one with blank entries (requirement H3)."""
    for patterns in ((), ("", " ")):
        with pytest.raises(OriginDenied, match=r"from https://huggingface\.co: LLM_NODE_MODEL_ORIGINS is empty"):
            Allowlist(patterns, "LLM_NODE_MODEL_ORIGINS").check("https://huggingface.co/acme")


def test_what_is_said() -> None:
    """An error names the host, the setting, and the entry that would allow it; never the query, which may be signed."""
    with pytest.raises(OriginDenied) as error:
        Allowlist(["huggingface.co/*"], "LLM_ROUTER_MODEL_ORIGINS").check("http://cdn.example:8000/x?Signature=secret")
    assert "http://cdn.example:8000/*" in error.value.message
    assert "LLM_ROUTER_MODEL_ORIGINS" in error.value.message
    assert "secret" not in error.value.message
    assert (error.value.status, error.value.code) == (403, "origin_denied")


def test_default() -> None:
    """Where nobody says, models come from Hugging Face and the hosts that it sends one to, and from nowhere else."""
    allow = Allowlist(RouterConfig().model_origins)
    for host in ("huggingface.co", "cdn-lfs.huggingface.co", "cdn-lfs-us-1.hf.co", "cas-bridge.xethub.hf.co"):
        allow.check(f"https://{host}/acme/m.gguf")
    with pytest.raises(OriginDenied):
        allow.check("https://github.com/acme/m.gguf")


@pytest.mark.parametrize(
    "pattern",
    [
        "ftp://models.example/*",
        "https://",
        "/acme/*",
        "user@models.example/*",
        "models.example/x?y",
        "models.example:port/*",
        "models..example/*",
        "bü*er.example/*",
        "192.168.*/*",
        "10.0.0.1/8/*",
        "[zz::1]/*",
        "models.example/%2525252525252e",
    ],
)
def test_entries_that_make_no_sense(pattern: str) -> None:
    """An entry that would not do what its writer meant is an error that shows it."""
    with pytest.raises(ConfigError) as error:
        Allowlist([pattern], "LLM_ROUTER_MODEL_ORIGINS")
    assert f"LLM_ROUTER_MODEL_ORIGINS has {pattern!r}" in error.value.message


# -- addresses


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "fc00::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_not_public(address: str) -> None:
    """What belongs to this machine, its network or nobody is not public, also where it is wrapped in another."""
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "64:ff9b::93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]
)
def test_public(address: str) -> None:
    """Machines in the internet have public addresses, also behind a network's NAT64."""
    assert is_public(ipaddress.ip_address(address))


def test_addresses_of_a_name() -> None:
    """Of a name's addresses, only those are left that are public, or on the list with that port (requirement H3)."""
    found = [("10.0.0.1", 443), ("93.184.215.14", 443), ("fd00::1", 443)]
    assert Allowlist(["models.example/*"]).check_addresses("models.example", found) == [("93.184.215.14", 443)]
    assert Allowlist(["10.0.0.0/8/*"]).check_addresses("models.example", found) == found[:2]
    with pytest.raises(OriginDenied, match=r"models\.example: it has the address 10\.0\.0\.1.*model_origins"):
        Allowlist(["models.example/*", "10.0.0.1:8000/*"]).check_addresses("models.example", found[:1])


@given(st.ip_addresses(), st.sampled_from(["http", "https"]), st.integers(1, 65535))
def test_no_name_allows_what_is_not_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, scheme: str, port: int
) -> None:
    """Whatever the address: one that is not public is allowed by no `*`, neither as a host nor as a name's."""
    host = f"[{address}]" if address.version == 6 else str(address)
    everything = "http://*:*/*", "https://*:*/*"
    assert is_allowed(f"{scheme}://{host}:{port}/x", *everything) == is_public(address)
    assert is_allowed(f"{scheme}://{host}:{port}/x", f"{scheme}://{host}:{port}/*")


# -- whatever a URL looks like

HOSTS = [
    "good.example",
    "a.cdn.example",
    "evil.example",
    "good.example.evil.example",
    "127.0.0.1",
    "[::1]",
    "GOOD.example.",
]
TRICKS = [
    "@",
    "\\",
    "/",
    "//",
    "#",
    "?",
    ":",
    ";",
    "%2f",
    "%5c",
    "%40",
    "%00",
    ".",
    "..",
    "%2e",
    "。",
    "ⓔ",
    "\t",
    " ",
    "*",
]
WORDS = st.sampled_from([*HOSTS, *TRICKS, "files", "443", "8000", "user", "xn--"]) | st.text(max_size=3)
# Half of them begin as those do that are allowed: a trick has to follow something.
STARTS = st.sampled_from(["https://", "https://good.example/files/", "https://a.cdn.example", "https://a.cdn.example/"])
URLS = st.builds(
    lambda start, words: start + "".join(words),
    STARTS | st.sampled_from(["https:/", "https:\\\\", "HTTPS://", "http://", "//", ""]),
    st.lists(WORDS, max_size=8),
)
LIST = Allowlist(["good.example/files/*", "*.cdn.example/*"])


class Recorder(AbstractResolver):
    """What aiohttp wants to connect to; it gets no address for it."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del port, family
        self.hosts.append(host)
        raise OSError

    async def close(self) -> None:
        pass


async def connections(url: URL) -> list[str]:
    """The names that aiohttp looks up to get this URL."""
    recorder = Recorder()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=recorder)) as session:
        with pytest.raises(aiohttp.ClientConnectorDNSError):
            await session.get(url, allow_redirects=False)
    return recorder.hosts


@settings(max_examples=500)
@given(URLS, st.booleans())
def test_where_connections_go(text: str, encoded: bool) -> None:  # noqa: FBT001 - drawn
    """No URL, however it is written, is allowed if its connection goes to a host that is not on the list."""
    try:
        url = URL(text, encoded=encoded)
        LIST.check(url)
    except (*NO_URL, OriginDenied):
        return
    hosts = {host.lower().rstrip(".") for host in asyncio.run(connections(url))}
    assert all(host == "good.example" or host.endswith(".cdn.example") for host in hosts)
    assert len(hosts) == 1


@settings(max_examples=500)
@given(URLS)
def test_other_readers(text: str) -> None:
    """A URL that is allowed means the same host to Python's own parser, as it does to a proxy's."""
    try:
        LIST.check(text)
    except OriginDenied:
        return
    sent = str(URL(text))
    assert (urlsplit(sent).hostname or "").rstrip(".") == (URL(text).raw_host or "").rstrip(".")
    assert "@" not in urlsplit(sent).netloc


SEGMENTS = st.sampled_from(
    [
        "files",
        "evil",
        "..",
        ".",
        "%2e%2e",
        "%2E.",
        "..%2f",
        "%2f",
        "%5c",
        "\\",
        "%252e%252e",
        "%252f",
        "..;",
        "%%32f",
        "x",
    ]
)


def readings(path: str) -> set[str]:
    """A path as servers may read it: decoded 0 to 4 times, backslashes as they are or not, and then made plain."""
    found = set()
    for rounds in range(5):
        decoded = path
        for _ in range(rounds):
            decoded = URL(f"https://x/{decoded.lstrip('/')}", encoded=True).path
        found |= {plain(decoded), plain(decoded.replace("\\", "/"))}
    return found


def plain(path: str) -> str:
    """RFC 3986, 5.2.4, and as servers do that end a segment at its semicolon."""
    kept: list[str] = []
    for segment in path.removeprefix("/").split("/"):
        name = segment.partition(";")[0]
        if name == "..":
            kept = kept[:-1]
        elif name != ".":
            kept.append(segment)
    return "/" + "/".join(kept)


@settings(max_examples=500)
@given(st.sampled_from(["files", ""]), st.lists(SEGMENTS, min_size=1, max_size=6), st.booleans())
def test_where_paths_lead(first: str, segments: list[str], encoded: bool) -> None:  # noqa: FBT001 - drawn
    """No path is allowed that a server, however it decodes, may take for one that is not on the list."""
    try:
        url = URL("/".join(["https://good.example", first, *segments]), encoded=encoded)
        LIST.check(url)
    except (*NO_URL, OriginDenied):
        return
    assert all(path.startswith("/files/") for path in readings(url.raw_path))
