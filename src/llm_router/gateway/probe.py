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

from llm_router.contract import UNREADABLE, Address, ModelDetails, ModelEntry, NodeKind, model_entries
from llm_router.errors import UpstreamFailed

MAX_BODY = 16_000_000  # bytes; 100,000 models at Ollama's 150 bytes each


class Listing(msgspec.Struct, frozen=True):
    """What one look showed. `loaded` and `version` are empty where the server does not tell."""

    entries: tuple[ModelEntry, ...]
    loaded: tuple[str, ...] = ()
    version: str = ""

    @property
    def models(self) -> tuple[str, ...]:
        """The ids."""
        return tuple(entry.id for entry in self.entries)


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
        entries = tuple(model_entries(body))
    except UNREADABLE as error:
        raise UpstreamFailed(f"{url} does not answer with a list of models: {error}") from error
    return Listing(entries, loaded=tuple(entry.id for entry in entries))  # such a server has in memory what it serves


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
        names = tuple(entry.id for entry in _models(loaded))
        return Listing(_models(tags), names, msgspec.json.decode(version, type=_Version).version)
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
            body = await read_whole(response, MAX_BODY)
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


async def read_whole(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body of an answer.

    Raises:
        UpstreamFailed: it is longer than `most` bytes.
    """
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most:
            raise UpstreamFailed(f"{response.url} answers with more than {most} bytes")
    return bytes(body)


class _Model(msgspec.Struct):
    name: str = ""
    size: int = 0
    digest: str = ""
    modified_at: str = ""
    details: ModelDetails = ModelDetails()


class _Models(msgspec.Struct):
    models: list[_Model] | None = None  # Ollama writes null for none


class _Version(msgspec.Struct):
    version: str = ""


def _models(body: bytes) -> tuple[ModelEntry, ...]:
    found = {m.name: m for m in msgspec.json.decode(body, type=_Models).models or () if m.name}
    return tuple(
        ModelEntry(m.name, size=m.size, digest=m.digest, modified=m.modified_at, details=m.details)
        for m in found.values()
    )
