"""Where a node is (requirements A3 and A6)."""

import ipaddress
import socket
import sys
from pathlib import Path

import pytest

from llm_router.contract import Registration, parse_address
from llm_router.errors import BadRequest
from llm_router.router.addresses import is_here, node_address


@pytest.mark.parametrize(
    ("advertised", "seen", "url"),
    [
        ("", "10.0.0.7", "http://10.0.0.7:11435"),
        ("", "2001:db8::7", "http://[2001:db8::7]:11435"),
        ("", "::ffff:10.0.0.7", "http://10.0.0.7:11435"),
        ("", "fe80::7%2", "http://[fe80::7%2]:11435"),
        ("", "127.0.0.1", "http://127.0.0.1:11435"),
        ("192.168.1.5", "10.0.0.7", "http://192.168.1.5:11435"),
        ("2001:db8::9", "10.0.0.7", "http://[2001:db8::9]:11435"),
        ("[2001:db8::9]", "10.0.0.7", "http://[2001:db8::9]:11435"),
        ("[2001:db8::9]:80", "10.0.0.7", "http://[2001:db8::9]:80"),
        ("gpu-box.lan", "10.0.0.7", "http://gpu-box.lan:11435"),
        ("gpu-box.lan:80", "10.0.0.7", "http://gpu-box.lan:80"),
        ("https://lab.example/gpu-1", "10.0.0.7", "https://lab.example:443/gpu-1"),
    ],
)
def test_the_address_is_the_one_seen_unless_another_is_advertised(advertised: str, seen: str, url: str) -> None:
    """Requirement A3: with several interfaces or a NAT in between, the node knows better."""
    assert node_address(Registration("n", "m", 11435, address=advertised), seen).url == url


def test_the_protocol_is_the_nodes() -> None:
    """A node that listens with TLS is called with TLS."""
    assert node_address(Registration("n", "m", 443, protocol="https"), "10.0.0.7").url == "https://10.0.0.7:443"


@pytest.mark.parametrize("address", ["ftp://somewhere", "0.0.0.0", "::", "[::]"])
def test_nonsense_is_refused(address: str) -> None:
    """What cannot be an address, or is one to listen on, is the caller's mistake."""
    with pytest.raises(BadRequest):
        node_address(Registration("n", "m", 1, address=address), "10.0.0.7")


def test_an_address_with_a_zone_can_be_called_back() -> None:
    """Requirement A3: a link-local address survives its way through the database, which keeps URLs."""
    address = node_address(Registration("n", "m", 11435), "fe80::7%eth0")
    assert parse_address(address.url) == address


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost"])
def test_loopback_is_here(host: str) -> None:
    """Requirement A6."""
    assert is_here(host)


def test_our_own_address_on_the_network_is_here() -> None:
    """Requirement A6: a node on this machine may have called by its other address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; shows by which address one would leave
        except OSError:
            pytest.skip("this machine has no network")
        assert is_here(probe.getsockname()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="reads from /proc which link-local addresses this machine has")
def test_our_own_link_local_address_is_here() -> None:
    """Requirement A6: with its zone, as the router sees it; elsewhere the same address is another machine's."""
    # Linux, proc_net(5): address, index, prefix length, scope (0x20: link-local), flags, name
    rows = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    ours = [(ipaddress.IPv6Address(bytes.fromhex(row[0])), int(row[1], 16)) for row in rows if row[3] == "20"]
    if not ours:
        pytest.skip("this machine has no link-local address")
    address, zone = ours[0]
    assert is_here(f"{address}%{zone}")
    assert not is_here(f"{address}%{zone + 1000}")


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "fe80::1%no-such-zone", "gpu-box.lan", ""])
def test_other_machines_are_not_here(host: str) -> None:
    """An address that no socket can be bound to is somebody else's."""
    assert not is_here(host)
