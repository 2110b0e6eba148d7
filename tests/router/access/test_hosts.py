"""The names by which the router may be called without a key."""

import socket

import pytest

from llm_router.router.access.hosts import Hosts


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"localhost",
        b"LOCALHOST:8080",
        b"localhost.",
        b"app.localhost:3000",
        b"127.0.0.1:8080",
        b"192.168.1.5",
        b"[::1]:8080",
        b"[fe80::1]",
        b"box",
        b"box:8080",
        b"Box.local",
        b"box.lan.example",
        b"router.example:80",
    ],
)
def test_names_of_ours(host: bytes) -> None:
    """Addresses, localhost, this machine's name as DNS and mDNS have it, and what the setting names."""
    assert Hosts(["Router.Example.", ""], machine="box.lan.example").has(host)


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"127.0.0.1.evil.example:8080",
        b"localhost.evil.example",
        b"notlocalhost",
        b"box.evil.example",
        b"127.0.0.1x",
        b"[evil]",
        b"2130706433",
        b"\xff",
    ],
)
def test_names_of_others(host: bytes) -> None:
    """Also those that look like ours at one end."""
    assert not Hosts(["router.example"], machine="box.lan.example").has(host)


def test_this_machine_knows_its_own_name() -> None:
    """Without a setting."""
    assert Hosts().has(socket.gethostname().encode())
