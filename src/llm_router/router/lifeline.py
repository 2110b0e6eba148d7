"""What the supervisor and a worker say to each other, on the socket that is the worker's standard input.

    supervisor -> worker    one line, an Order; then nothing more
    worker -> supervisor    one line, Ready or Refused; then nothing more

Rule: when nothing more can come from the supervisor, the worker finishes what it has begun and ends. So closing the
socket is the way to end it, and a supervisor that is killed, however it is, leaves no worker behind. Lines are JSON.
"""

import socket
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

from llm_router.config import RouterConfig


class Order(Struct, frozen=True):
    """What a worker is to do: serve as `config` says, and be the worker of this number, from 1 on."""

    config: RouterConfig
    worker: int


class Ready(Struct, frozen=True, tag=True):
    """It listens."""


class Refused(Struct, frozen=True, tag=True):
    """It cannot serve, and ends. `misused`: because of a setting."""

    reason: str
    misused: bool


Word: TypeAlias = Ready | Refused


def encode(message: Order | Word) -> bytes:
    """One line."""
    return msgspec.json.encode(message, enc_hook=_from_path) + b"\n"


def receive(link: socket.socket) -> Order | None:
    """Wait for the order; None: the supervisor is gone. Nothing follows an order, so that reading on loses nothing."""
    with link.makefile("rb") as lines:
        line = lines.readline()
    return msgspec.json.decode(line, type=Order, dec_hook=_to_path) if line else None


def decode(line: bytes) -> Word | None:
    """What a worker says; None: it ended without a word."""
    return msgspec.json.decode(line, type=Word) if line else None


def _from_path(value: object) -> str:
    """A configuration holds nothing else that JSON does not know."""
    return str(value)


def _to_path(_type: type, value: object) -> Path:
    return Path(str(value))
