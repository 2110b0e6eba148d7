"""How a URL is asked for: through the proxy that it needs, along redirects, and nowhere that is not allowed.

1. Before the first request, and before each that a redirect leads to, the `Allowlist` is asked, where there is one.
2. What a redirect leads to is as safe as what led there: never from https to http.
3. A caller's own headers may hold a secret between it and one origin: no redirect takes them to another, or back.
4. Messages name no query and no user: a URL's signature, ticket or password is nobody else's.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from http import HTTPStatus
from types import MappingProxyType
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from yarl import URL

from llm_router import __version__
from llm_router.gateway.probe import why
from llm_router.models.allow import NO_URL, Allowlist
from llm_router.models.answers import is_for_later, seconds
from llm_router.models.failures import NotOffered, OriginDenied
from llm_router.models.guarded import guarded

CONNECT_WITHIN = 30.0  # seconds; a packet that is lost on the way is sent again three times in these
MAX_REDIRECTS = 10  # RFC 9110, 15.4 knows no number; browsers take 20, releases need 2
NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_HIDDEN = re.compile(r"(?<=//)[^/?#]*@|[?#].*", re.DOTALL)


class Broken(Exception):
    """An attempt failed in a way that another may not. `retry_after` in seconds."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Way(msgspec.Struct, frozen=True):
    """How URLs are asked for: over `direct` connections, and those of `session` to proxies. `stall` as in Patience.

    `proxied`: whether proxies are gone through where there are any.
    """

    session: aiohttp.ClientSession
    direct: aiohttp.ClientSession
    allow: Allowlist | None
    headers: Mapping[str, str]
    stall: float
    proxied: bool = True


@asynccontextmanager
async def way_for(
    session: aiohttp.ClientSession,
    allow: Allowlist | None,
    headers: Mapping[str, str],
    stall: float,
    *,
    proxied: bool = True,
) -> AsyncIterator[Way]:
    """`allow`, `headers`, `proxied`: as in `download`; `stall`: as in Patience."""
    async with nullcontext(session) if allow is None else guarded(allow) as direct:
        yield Way(session, direct, allow, headers, stall, proxied)


@asynccontextmanager
async def answered(
    way: Way, url: str, headers: Mapping[str, str]
) -> AsyncIterator[tuple[aiohttp.ClientResponse, list[str]]]:
    """The answer to a GET, if it is one with a file, and every URL on the way to it.

    Raises:
        Broken: it may go better the next time; also while the answer is read.
        NotOffered, OriginDenied: it will not.
    """
    with _network_errors(shown(url)):
        async with _opened(way, url, headers) as (response, urls):
            _judge(shown(url), response.status, response.headers)
            yield response, urls


@asynccontextmanager
async def _opened(
    way: Way, url: str, headers: Mapping[str, str]
) -> AsyncIterator[tuple[aiohttp.ClientResponse, list[str]]]:
    """Whatever the answer is: each redirect is followed through the proxy that it needs."""
    headers = {"user-agent": f"llm-router/{__version__}", "accept-encoding": "identity", **headers}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WITHIN, sock_read=way.stall)
    urls = [_first(way, url)]
    while len(urls) <= MAX_REDIRECTS:
        proxy = await asyncio.to_thread(proxy_for, urls[-1]) if way.proxied else None
        async with (way.session if proxy else way.direct).get(
            urls[-1], headers={**headers, **_own(way, urls)}, proxy=proxy, timeout=timeout, allow_redirects=False
        ) as response:
            if not (location := _redirect(response)):
                yield response, [str(u) for u in urls]
                return
        urls.append(_follow(way, urls[-1], location))
    raise NotOffered(f"{shown(url)} leads from one URL to the next without an end")


def _own(way: Way, urls: list[URL]) -> Mapping[str, str]:
    """The caller's headers, as long as no redirect has led away (rule 3)."""
    return way.headers if len({url.origin() for url in urls}) == 1 else NO_HEADERS


def _redirect(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("location", "") if response.status in (301, 302, 303, 307, 308) else ""


def _first(way: Way, url: str) -> URL:
    if way.allow is not None:
        way.allow.check(url)
    return _absolute(url)


def _follow(way: Way, url: URL, location: str) -> URL:
    target = _absolute(location, url)
    if target.scheme not in ("https", url.scheme):
        raise NotOffered(f"{shown(url)} leads to {target.origin()}, which anybody on the way could change")
    try:
        if way.allow is not None:
            way.allow.check(target)
    except OriginDenied as error:
        raise OriginDenied(f"{url.host} leads to another place, and {error.message}") from error
    return target


def _absolute(text: str, base: URL | None = None) -> URL:
    """A URL, or what a redirect from `base` means: as it is, because a signature in it covers its bytes."""
    try:
        url = URL(text) if base is None else base.join(URL(text, encoded=True))
        if url.raw_host and url.port:  # it is only now that yarl looks at them
            return url
        reason = "it has no host, or a scheme without one"
    except NO_URL as error:
        reason = str(error)
    raise NotOffered(f"{shown(base or text)} is no URL that can be fetched, or leads to one: {reason}")


def proxy_for(url: URL) -> str | None:
    """The proxy for this URL, None for no proxy: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or the system's settings.

    Asking the system may block. Names in lower case count before those in capitals, as everywhere.

    Raises:
        NotOffered: it is a proxy of another kind.
    """
    host = url.host or ""
    if proxy_bypass(host) or proxy_bypass(f"{host}:{url.port}"):
        return None
    proxy = getproxies().get(url.scheme)
    if not proxy:
        return None
    if "://" not in proxy:
        return f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        raise NotOffered(
            f"{url.scheme.upper()}_PROXY is {URL(proxy).scheme}://…, but only HTTP proxies can be gone through"
        )
    return proxy


# -- what went wrong


@contextmanager
def _network_errors(url: str) -> Iterator[None]:
    """What goes wrong on the way, as one of ours."""
    try:
        yield
    except TimeoutError as error:
        raise Broken(f"{url}: nothing came in time") from error
    except aiohttp.ClientProxyConnectionError as error:
        raise Broken(f"the proxy {error.host}:{error.port}, on the way to {url}: {why(error)}") from error
    except aiohttp.ClientHttpProxyError as error:
        _judge(url, error.status, error.headers or {})
        raise Broken(f"the proxy for {url} answered with status {error.status}") from error
    except aiohttp.ClientConnectorCertificateError as error:
        advice = "if a proxy here has a certificate of its own, name its file in SSL_CERT_FILE"
        raise NotOffered(f"{url} cannot prove who it is: {error.certificate_error}; {advice}") from error
    except aiohttp.InvalidURL as error:
        raise NotOffered(f"{url} is not, or leads to, a URL that can be fetched") from error
    except aiohttp.ClientError as error:
        raise Broken(f"{url}: {why(error)}") from error


def _judge(url: str, status: int, headers: Mapping[str, str]) -> None:
    """Nothing, where the answer has bytes for us, or says that there are no more."""
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        return
    reason = f"{url} answered with status {status}"
    if is_for_later(status):
        raise Broken(reason, seconds(headers.get("retry-after", ""), time.time()))
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        reason = f"the proxy wants to know who asks for {url}: set HTTPS_PROXY=http://user:password@host:port"
    raise NotOffered(reason, status)


def shown(url: str | URL) -> str:
    """A URL for messages, without what may be a secret."""
    return _HIDDEN.sub("", str(url))
