"""The units of systemd are what systemd takes, and leave the services no more than they need."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llm_router.config import NodeConfig, RouterConfig

DEPLOY = Path(__file__).parents[2] / "deploy" / "systemd"
PROGRAM = "/opt/llm-router/bin/llm-router"
ANALYZE, SYSUSERS = shutil.which("systemd-analyze"), shutil.which("systemd-sysusers")
# Of 100, where systemd calls anything below 50 "OK"; the node's GPUs cost it some.
EXPOSED = {"llm-router.service": 15, "llm-router-node.service": 40}
CONFIGS = {"llm-router.service": RouterConfig, "llm-router-node.service": NodeConfig}

with_systemd = pytest.mark.skipif(not ANALYZE, reason="systemd-analyze is not installed (package systemd)")


def analyze(directory: Path, unit: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """About the unit with a program that is there."""
    text = (DEPLOY / unit).read_text("utf-8")
    assert PROGRAM in text
    (directory / unit).write_text(text.replace(PROGRAM, sys.executable))
    command = [str(ANALYZE), *arguments, str(directory / unit)]
    env = os.environ | {"XDG_RUNTIME_DIR": str(directory)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@with_systemd
@pytest.mark.parametrize("unit", EXPOSED)
def test_systemd_finds_nothing_wrong(tmp_path: Path, unit: str) -> None:
    """Every line of it is known, and can be used."""
    done = analyze(tmp_path, unit, "verify")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@with_systemd
@pytest.mark.parametrize("unit", EXPOSED)
def test_how_exposed_it_is(tmp_path: Path, unit: str) -> None:
    """By systemd's own count."""
    done = analyze(tmp_path, unit, "security", "--offline=true", f"--threshold={EXPOSED[unit]}")
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not SYSUSERS, reason="systemd-sysusers is not installed (package systemd)")
def test_the_user_can_be_made() -> None:
    """The line for it is one that systemd-sysusers takes, for the user that both units name."""
    done = subprocess.run(
        [str(SYSUSERS), "--dry-run", DEPLOY / "llm-router.sysusers.conf"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all("\nUser=llm-router\nGroup=llm-router\n" in (DEPLOY / unit).read_text("utf-8") for unit in EXPOSED)


@pytest.mark.parametrize("unit", EXPOSED)
def test_requests_in_flight_have_their_time(unit: str) -> None:
    """The manager waits for longer than the drain takes."""
    (within,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / unit).read_text("utf-8"), re.MULTILINE)
    assert int(within) >= CONFIGS[unit]().drain_timeout + 10


@pytest.mark.parametrize(("name", "config"), [("router", RouterConfig), ("node", NodeConfig)])
def test_the_examples_of_settings_can_be_used(
    name: str, config: type[RouterConfig | NodeConfig], tmp_path: Path
) -> None:
    """With every line that is offered taken, each says something that its setting takes."""
    offered = re.findall(r"^#?([A-Z_]+=\S+)$", (DEPLOY / f"{name}.env.example").read_text("utf-8"), re.MULTILINE)
    environment = dict(word.split("=", 1) for line in offered for word in shlex.split(line))
    assert set(environment) <= {setting.env for setting in config.settings()}
    config.load({"home": tmp_path}, environment)
