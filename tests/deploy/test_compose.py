"""compose.yaml is what Compose takes, and its parts know each other."""

import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_router.config import RouterConfig
from llm_router.router.join_keeping import InSettings

ruamel = pytest.importorskip("ruamel.yaml")

DEPLOY = Path(__file__).parents[2] / "deploy"
PLACE = DEPLOY / "compose" / "compose.yaml"
TEXT = PLACE.read_text("utf-8")
COMPOSE: dict[str, Any] = ruamel.YAML(typ="safe").load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(set(SERVICES) - {"postgres"})


def test_its_schema() -> None:
    """That of the Compose specification, which knows no other words."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(PLACE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_names_is_there(name: str) -> None:
    """Services, networks and volumes."""
    service = SERVICES[name]
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert {volume.partition(":")[0] for volume in service["volumes"]} <= set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", OURS)
def test_it_has_no_more_rights_than_it_needs(name: str) -> None:
    """Nothing but its volume can be written, and it can become nobody else."""
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert (PLACE.parent / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == (
        DEPLOY / "docker" / "Dockerfile"
    )


def test_only_routers_reach_the_database() -> None:
    """And only the router's port is open to others."""
    assert [name for name, service in SERVICES.items() if "database" in service["networks"]] == ["postgres", "router"]
    assert [name for name, service in SERVICES.items() if service.get("ports")] == ["router"]
    assert COMPOSE["networks"]["database"] == {"internal": True}


def secrets_of(directory: Path) -> dict[str, str]:
    """What make-env.sh draws, where it and compose.yaml lie in this directory."""
    script = directory / "make-env.sh"
    script.write_bytes((PLACE.parent / "make-env.sh").read_bytes())
    subprocess.run(["/bin/sh", script], check=True, timeout=10)
    lines = (directory / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.skipif(sys.platform == "win32", reason="a script of the shell")
def test_its_secrets(tmp_path: Path) -> None:
    """They are drawn once, nobody else can read them, and they are all that compose.yaml asks for."""
    drawn = secrets_of(tmp_path)
    assert secrets_of(tmp_path) == drawn
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert set(re.findall(r"\$\{([A-Z_]+):\?", TEXT)) == set(drawn)
    assert all(re.fullmatch("[0-9a-f]{48}", word) for word in drawn.values())
    InSettings(drawn["JOIN_TOKEN"])  # or ConfigError


@pytest.mark.skipif(sys.platform == "win32", reason="a script of the shell")
def test_the_router_takes_its_settings(tmp_path: Path) -> None:
    """With the secrets put in, they are what the program wants."""
    drawn = secrets_of(tmp_path)
    given = SERVICES["router"]["environment"]
    environment = {name: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda m: drawn[m[1]], value) for name, value in given.items()}
    config = RouterConfig.load({"home": tmp_path}, environment)
    assert config.workers == 2
    assert config.database_url.count(drawn["POSTGRES_PASSWORD"]) == 1
