"""What an HTTP server of models has: one look at it, from outside.

Used by the router for agents and attached servers, and by an agent for the servers attached to it.

An agent and an OpenAI-compatible server are asked `GET /v1/models`; Ollama `GET /api/tags` (stored), `/api/ps` (loaded)
and `/api/version` (Ollama, `docs/api.md`).
"""

import asyncio
import os
import socket
from collections.abc import Mapping

import aiohttp
import msgspec

from llm_router.contract import UNREADABLE, Address, NodeKind, model_ids
from llm_router.errors import UpstreamFailed

MAX_BODY = 16_000_000  # bytes; 100,000 models at Ollama's 150 bytes each


class Listing(msgspec.Struct, frozen=True):
    """What one look showed. `loaded` and `version` are empty where the server does not tell."""

    models: tuple[str, ...]
    loaded: tuple[str, ...] = ()
    version: str = ""


async def pull_models(
    session: aiohttp.ClientSession, kind: NodeKind, address: Address, seconds: float, access: str = ""
) -> Listing:
    """Ask the server at `address` what it has, within `seconds`. `access`: the token by which an agent lets us in.

    Raises:
        UpstreamFailed: it could not be reached, or its answer is not a list of models; the message says URL and reason.
    """
    if kind == "ollama":
        return await _pull_ollama(session, address.url, seconds)
    url = f"{address.url}/v1/models"
    body = await _get(session, url, seconds, {"authorization": f"Bearer {access}"} if access else {})
    try:
        models = tuple(model_ids(body))
    except UNREADABLE as error:
        raise UpstreamFailed(f"{url} does not answer with a list of models: {error}") from error
    return Listing(models, loaded=models)  # such a server has in memory what it serves


def why(error: aiohttp.ClientError) -> str:
    """What went wrong, in the system's own words where it was the system that refused."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return str(error) or type(error).__name__
    reason = error.os_error
    if isinstance(reason, socket.gaierror) or not reason.errno:
        return reason.strerror or str(error)
    return os.strerror(reason.errno)


async def _pull_ollama(session: aiohttp.ClientSession, base: str, seconds: float) -> Listing:
    url = f"{base}/api/tags"
    tags, loaded, version = await asyncio.gather(
        _get(session, url, seconds),
        _get_optional(session, f"{base}/api/ps", seconds),
        _get_optional(session, f"{base}/api/version", seconds),
    )
    try:
        return Listing(_names(tags), _names(loaded), msgspec.json.decode(version, type=_Version).version)
    except UNREADABLE as error:
        raise UpstreamFailed(f"{url} does not answer with a list of models as Ollama does: {error}") from error


async def _get_optional(session: aiohttp.ClientSession, url: str, seconds: float) -> bytes:
    """A body that servers which imitate Ollama may lack; `{}` then."""
    try:
        return await _get(session, url, seconds)
    except UpstreamFailed:
        return b"{}"


async def _get(
    session: aiohttp.ClientSession, url: str, seconds: float, headers: Mapping[str, str] | None = None
) -> bytes:
    try:
        async with session.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=seconds)) as response:
            body = await _read(response)
    except TimeoutError as error:
        raise UpstreamFailed(f"{url} did not answer within {seconds:g} s; {_FIREWALL}") from error
    except aiohttp.ClientConnectionError as error:
        raise UpstreamFailed(f"{url} cannot be reached: {why(error)}; {_FIREWALL}") from error
    except aiohttp.ClientError as error:
        raise UpstreamFailed(f"{url}: {why(error)}") from error
    if response.status != 200:
        raise UpstreamFailed(f"{url} answered with status {response.status}")
    return body


_FIREWALL = "is it running, and does a firewall let this machine through?"


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY:
            raise UpstreamFailed(f"{response.url} answers with more than {MAX_BODY} bytes")
    return bytes(body)


class _Name(msgspec.Struct):
    name: str = ""


class _Names(msgspec.Struct):
    models: list[_Name] | None = None  # Ollama writes null for none


class _Version(msgspec.Struct):
    version: str = ""


def _names(body: bytes) -> tuple[str, ...]:
    models = msgspec.json.decode(body, type=_Names).models or ()
    return tuple(dict.fromkeys(m.name for m in models if m.name))
