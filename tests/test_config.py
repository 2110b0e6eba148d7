"""Settings: where they come from, and what is said when one cannot be used."""

from pathlib import Path

import pytest

from llm_router.config import NodeConfig, RouterConfig
from llm_router.errors import ConfigError


def test_order(tmp_path: Path) -> None:
    """Defaults give way to the file, the file to the environment, the environment to the command line."""
    (tmp_path / "router.toml").write_text("port = 1\nhost = 'file'\npolicy = 'round-robin'\n")
    env = {"LLM_ROUTER_HOME": str(tmp_path), "LLM_ROUTER_PORT": "2", "LLM_ROUTER_HOST": "env"}
    config = RouterConfig.load({"port": 3, "host": None}, env)
    assert (config.port, config.host, config.policy) == (3, "env", "round-robin")
    assert config.max_body == 100_000_000
    assert config.home == tmp_path


def test_lists(tmp_path: Path) -> None:
    """A list is given option by option, with commas in the environment, as an array in the file."""
    home = {"LLM_ROUTER_HOME": str(tmp_path)}
    assert NodeConfig.load({"runtime": ("a", "b")}, home).runtime == ["a", "b"]
    assert NodeConfig.load({"runtime": ()}, home | {"LLM_NODE_RUNTIME": "c,d"}).runtime == ["c", "d"]
    (tmp_path / "node.toml").write_text("runtime = ['e']\n")
    assert NodeConfig.load({}, home).runtime == ["e"]


def test_text_with_a_comma_is_no_list(tmp_path: Path) -> None:
    """Only lists are split."""
    assert NodeConfig.load({}, {"LLM_ROUTER_HOME": str(tmp_path), "LLM_NODE_NAME": "a,b"}).name == "a,b"


def test_every_text_setting_can_come_from_the_environment(tmp_path: Path) -> None:
    """A setting's environment variable gives what its option gives."""
    for config in (RouterConfig, NodeConfig):
        defaults = config(home=tmp_path)
        env = {s.env: _text(getattr(defaults, s.name)) for s in config.settings()}
        assert config.load({}, env) == defaults


def _text(value: object) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


@pytest.mark.parametrize(
    ("flags", "env", "name"),
    [
        ({"port": 70_000}, {}, "--port is 70000: expected"),
        ({}, {"LLM_ROUTER_PORT": "eighty"}, "LLM_ROUTER_PORT is 'eighty': expected"),
        ({}, {"LLM_ROUTER_POLICY": "best"}, "LLM_ROUTER_POLICY is 'best'"),
        ({"max_body": 0}, {}, "--max-body is 0"),
    ],
)
def test_bad_value(tmp_path: Path, flags: dict[str, object], env: dict[str, str], name: str) -> None:
    """A value that cannot be used is an error that says where it was set."""
    with pytest.raises(ConfigError, match=name):
        RouterConfig.load(flags, {"LLM_ROUTER_HOME": str(tmp_path)} | env)


@pytest.mark.parametrize("text", ["port = ", "colour = 'red'"])
def test_bad_file(tmp_path: Path, text: str) -> None:
    """A file that is not TOML, or has a setting that does not exist, is an error, not ignored."""
    (tmp_path / "router.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"router\.toml"):
        RouterConfig.load({}, {"LLM_ROUTER_HOME": str(tmp_path)})
