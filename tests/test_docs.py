"""What exists is documented: settings, commands, routes (style: documentation is tested)."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from llm_router import errors
from llm_router.cli import commands
from llm_router.config import NodeConfig, RouterConfig
from llm_router.models import failures
from llm_router.router.api.routes import all_routes
from llm_router.wire.dialects.anthropic import ANTHROPIC
from llm_router.wire.dialects.ollama import OLLAMA
from llm_router.wire.dialects.openai import OPENAI

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCS = "\n".join(page.read_text("utf-8") for page in PAGES)
# Handlers are made, not called.
MODELS = SimpleNamespace(catalogue=None, offers=SimpleNamespace(number=None), depot=None, nodes=None, drop_files=None)
NOTHING: Any = SimpleNamespace(registry=None)


def command_lines(group: click.Group = commands, path: str = "llm-router") -> list[str]:
    found = []
    for name, command in group.commands.items():
        line = f"{path} {name}"
        found += command_lines(command, line) if isinstance(command, click.Group) else [line]
    return found


def routes() -> set[str]:
    """Every path with its methods, as `GET /v0/nodes/{node_id}`."""
    parts = dict.fromkeys(inspect.signature(all_routes).parameters, NOTHING) | {"models": MODELS}
    handlers = all_routes(**parts)
    found = {f"{method} {path}" for h in handlers for path in h.paths for method in h.http_methods}
    found |= {f"POST {path.decode()}" for dialect in (OLLAMA, OPENAI, ANTHROPIC) for path in dialect.operations}
    return {re.sub(r"\{model_id:path\}", "{id}", line).replace(":str}", "}").replace(":path}", "}") for line in found}


def error_codes() -> set[str]:
    """The codes of the errors that a client of the router can get; a setting's reaches only who starts it."""
    classes = [*vars(errors).values(), *vars(failures).values()]
    found = [e for e in classes if isinstance(e, type) and issubclass(e, errors.RouterError)]
    return {e.code for e in found if not e.__subclasses__()} - {errors.ConfigError.code}


@pytest.mark.parametrize("config", [RouterConfig, NodeConfig])
def test_settings(config: type[RouterConfig | NodeConfig]) -> None:
    """Every setting is in the documentation with its option and its environment variable."""
    settings = (ROOT / "docs" / "settings.md").read_text("utf-8")
    for setting in config.settings():
        assert setting.secret or f"`--{setting.name.replace('_', '-')}`" in settings
        assert f"`{setting.env}`" in settings


def test_no_setting_that_is_not_there() -> None:
    """An environment variable that the documentation names exists."""
    known = {s.env for config in (RouterConfig, NodeConfig) for s in config.settings()}
    known |= set(re.findall(r'envvar="(\w+)"', (ROOT / "src" / "llm_router" / "cli.py").read_text("utf-8")))
    named = set(re.findall(r"\bLLM_(?:ROUTER|NODE)_[A-Z_]*[A-Z]", DOCS))
    assert named <= known


@pytest.mark.parametrize("line", command_lines())
def test_commands(line: str) -> None:
    """Every command is in the documentation."""
    assert line in DOCS


@pytest.mark.parametrize("route", sorted(routes()))
def test_routes(route: str) -> None:
    """Every route is in the documentation, with its method."""
    assert re.search(re.escape(f"`{route}") + r"[`?]", DOCS)


@pytest.mark.parametrize("code", sorted(error_codes() - {errors.NodeError.code}))
def test_errors(code: str) -> None:
    """Every error code that a client can get is in the documentation."""
    assert f"`{code}`" in DOCS


def test_links() -> None:
    """A link to a file of ours leads somewhere."""
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
