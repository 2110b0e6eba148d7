"""An address that workers share, and nobody else."""

import select
import socket
from contextlib import closing
from pathlib import Path

import pytest

from llm_router.config import RouterConfig
from llm_router.errors import ConfigError
from llm_router.router.ports import can_share, reserved

pytestmark = pytest.mark.skipif(not can_share(), reason="ports cannot be shared here")


def listening(port: int = 0, *, shared: bool, host: str = "127.0.0.1") -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen()
    return listener


def config(home: Path, port: int, host: str = "127.0.0.1") -> RouterConfig:
    return RouterConfig(home=home, host=host, port=port)


@pytest.mark.parametrize("shared", [False, True])
async def test_a_taken_port_is_named(tmp_path: Path, *, shared: bool) -> None:
    """Also where a router listens that would share it, as another one's workers do."""
    with closing(listening(shared=shared)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} of 127.0.0.1 is taken: .* --port"):
            async with reserved(config(tmp_path, port)):
                pass


async def test_an_address_of_others_is_named(tmp_path: Path) -> None:
    """What cannot be listened on is said before anything is started."""
    with pytest.raises(ConfigError, match=r"cannot listen on port 0 of 192\.0\.2\.1"):
        async with reserved(config(tmp_path, 0, "192.0.2.1")):  # for documentation (RFC 5737)
            pass


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
async def test_what_keeps_it_gets_no_connection(tmp_path: Path, host: str) -> None:
    """Port 0 is chosen once; those who share it listen there, together and later again, and get all clients."""
    async with reserved(config(tmp_path, 0, host)) as port:
        for _ in range(2):
            with (
                closing(listening(port, shared=True)) as one,
                closing(listening(port, shared=True)) as other,
            ):
                clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
                assert accepted(len(clients), one, other) == len(clients)
                for client in clients:
                    client.close()


def accepted(wanted: int, *listeners: socket.socket) -> int:
    """How many connections come there, of so many: a client may know of the last one before its listener does."""
    count = 0
    while count < wanted and (ready := select.select(listeners, [], [], 10)[0]):
        for listener in ready:
            listener.accept()[0].close()
            count += 1
    return count
