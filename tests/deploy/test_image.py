"""The image: hadolint has nothing against it, and what is copied into it is all that its build needs."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests.ports import free_port
from tests.system.harness import Process

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
CHECK = ROOT / "deploy" / "docker" / "healthcheck.py"
HALTING = ROOT / "tests" / "doubles" / "halting_runtime.py"
HADOLINT = Path(sys.executable).with_name("hadolint")
TEXT = DOCKERFILE.read_text("utf-8")
IGNORED = (ROOT / ".dockerignore").read_text("utf-8").splitlines()


@pytest.mark.skipif(not HADOLINT.exists(), reason="there is no hadolint for this platform")
def test_hadolint() -> None:
    """Not even a matter of style."""
    done = subprocess.run([str(HADOLINT), "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def copied() -> list[str]:
    """What the Dockerfile takes from the tree."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE)
    return [source for line in lines for source in line.split()]


def test_the_builder_is_sent_what_is_copied_and_no_more() -> None:
    """So nothing secret is in the image by accident, and no change of a test has it built anew."""
    assert IGNORED[1] == "*"
    assert sorted(line[1:] for line in IGNORED if line.startswith("!")) == sorted(copied())
    assert all((ROOT / source).exists() for source in copied())


@pytest.mark.slow  # builds a wheel
def test_what_is_copied_can_be_built(tmp_path: Path) -> None:
    """The wheel that comes of it has the program, its migrations and the dashboard."""
    for source in copied():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, tmp_path / source)
    options = ["--disable-pip-version-check", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(tmp_path / "wheels"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (wheel,) = (tmp_path / "wheels").iterdir()
    names = ZipFile(wheel).namelist()
    assert "llm_router/cli.py" in names
    assert any(name.startswith("llm_router/router/store/migrations/versions/") for name in names)
    assert any(name.startswith("llm_router/router/dashboard/") for name in names)


def test_it_runs_as_nobody_in_particular() -> None:
    """The last stage ends as a user with a number, which a cluster can tell from root's, and starts the command."""
    *_, last = TEXT.split("\nFROM ")
    assert re.findall(r"^USER (.+)$", last, re.MULTILINE) == ["10001:10001"]
    assert 'ENTRYPOINT ["llm-router"]' in last
    assert "LLM_ROUTER_HOME=/data" in last
    assert "VOLUME /data" in last


@contextmanager
def something_well(directory: Path) -> Iterator[str]:
    """The port of a server that answers `GET /health`."""
    server = Process("well", [sys.executable, str(HALTING)], directory).start()
    try:
        yield server.url.rsplit(":", 1)[1]
    finally:
        server.kill()


def is_well(**environment: str) -> bool:
    nowhere = {
        "http_proxy": "http://127.0.0.1:9",
        "LLM_ROUTER_PORT": str(free_port()),
        "LLM_NODE_PORT": str(free_port()),
    }
    command = [sys.executable, "-I", str(CHECK)]
    return subprocess.run(command, env=os.environ | nowhere | environment, check=False).returncode == 0


def test_the_health_check(tmp_path: Path) -> None:
    """It is well where a router or a node answers at its port, and not where nobody does; no proxy is asked."""
    with something_well(tmp_path) as port:
        assert is_well(LLM_ROUTER_PORT=port)
        assert is_well(LLM_NODE_PORT=port)
        assert not is_well()
        assert not is_well(LLM_ROUTER_PORT=port, LLM_ROUTER_TLS_CERT="/a/certificate")  # HTTPS is not what it speaks
