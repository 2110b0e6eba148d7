"""What `deploy/` sets is a setting: a misspelt one would be passed over in silence."""

import re
from pathlib import Path

import pytest

from llm_router.config import NodeConfig, RouterConfig

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
NAME = re.compile(r"\b(?:LLM_ROUTER|LLM_NODE)_[A-Z_]+\b|\bROUTER_URL\b")
NO_SETTINGS = {"LLM_ROUTER_PUBLISHED"}  # the port of compose.yaml on its machine
SETTINGS = {setting.env for config in (RouterConfig, NodeConfig) for setting in config.settings()}


FILES = [file for file in sorted(DEPLOY.rglob("*")) if file.is_file() and file.suffix not in {".pyc", ".json"}]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_what_is_set_is_a_setting(file: Path) -> None:
    """Every variable of ours that is named exists."""
    # The health check joins its names from two parts.
    named = {name for name in NAME.findall(file.read_text("utf-8")) if not name.endswith("_")}
    assert named - SETTINGS - NO_SETTINGS == set()
