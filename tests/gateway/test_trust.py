"""Which clients count as this machine's."""

import pytest

from llm_router.errors import ConfigError
from llm_router.gateway.trust import Trust


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("fe80::1%eth0", True),
        ("fe81::1", False),
        ("10.0.0.7", False),
        ("::ffff:10.0.0.7", False),
        ("", False),
        ("/run/a.sock", False),
    ],
)
def test_addresses_are_found_in_their_networks(host: str, is_ours: bool) -> None:  # noqa: FBT001 - a row of the table
    """Requirement A10: an IPv4 client of an IPv6 listener counts by its own address; what is no address does not."""
    assert Trust(["127.0.0.0/8", "::1", "fe80::/16"]).covers(host) is is_ours


@pytest.mark.parametrize("network", ["here", "10.0.0.1/8", ""])
def test_what_is_no_network_is_a_wrong_setting(network: str) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigError, match="--trust"):
        Trust([network])
