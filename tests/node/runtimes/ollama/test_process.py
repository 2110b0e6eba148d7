"""What the agent's own Ollama is told (requirement A9)."""

import socket

import pytest

from llm_router.errors import ConfigError
from llm_router.node.runtimes.guarded import free_port
from llm_router.node.runtimes.ollama.process import Settings, environment, port_of

SETTINGS = Settings(binary="/b", home="/h", log="/l")


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("127.0.0.1:11500", 11500),
        ("localhost:11500", 11500),
        (":11500", 11500),
        ("http://0.0.0.0:11500/", 11500),
        ("[::1]:11500", 11500),
        ("", 0),
        ("127.0.0.1", 0),
        ("127.0.0.1:11434", 0),  # a user's Ollama
        ("127.0.0.1:11435", 0),  # this node
        ("127.0.0.1:8080", 0),  # the router
        ("gpu-box:11500", 0),
    ],
)
def test_its_port(host: str, port: int) -> None:
    """OLLAMA_HOST is also what clients go by: it counts where it means a server of this machine that is none of ours.

    No host is taken from it: the node's gateway is the way in.
    """
    assert port_of(host) == port


@pytest.mark.parametrize("host", ["127.0.0.1:many", "127.0.0.1:99999", "http://[::1"])
def test_no_port_at_all(host: str) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigError, match="OLLAMA_HOST"):
        port_of(host)


def test_a_port_that_is_taken() -> None:
    """Another one is used; the one that is wanted if it is free."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        assert free_port(taken) not in (0, taken)
    assert free_port(taken) == taken


def test_environment() -> None:
    """What the agent was given reaches it, but for what would let pages in or lead it to a user's own directory."""
    agents = {"OLLAMA_NUM_PARALLEL": "2", "OLLAMA_ORIGINS": "*", "HOME": "/root", "OLLAMA_HOST": "0.0.0.0"}
    assert environment(SETTINGS, 1234, agents) == {
        "OLLAMA_HOST": "127.0.0.1:1234",
        "OLLAMA_MODELS": "/h/models",
        "OLLAMA_KEEP_ALIVE": "5m",
        "OLLAMA_NUM_PARALLEL": "2",
        "HOME": "/h",
        "USERPROFILE": "/h",
    }


def test_a_users_models() -> None:
    """In a directory that it may share with another Ollama it clears nothing away."""
    told = environment(Settings(binary="/b", home="/h", log="/l", models="/shared"), 1234, {})
    assert (told["OLLAMA_MODELS"], told["OLLAMA_NOPRUNE"]) == ("/shared", "1")
