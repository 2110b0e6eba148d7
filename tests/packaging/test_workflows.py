"""The workflows are well-formed, and a release cannot get past its gate (I3)."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE = msgspec.yaml.decode((ROOT / ".github" / "workflows" / "release.yml").read_bytes(), type=dict[Any, Any])
JOBS: dict[str, dict[str, Any]] = RELEASE["jobs"]
ACTIONLINT = shutil.which("actionlint") or shutil.which(
    Path.home() / ".cache" / "llm-router-tests" / "bin" / "actionlint"
)


def before(job: str) -> set[str]:
    """The jobs that have to succeed before this one."""
    needs = JOBS[job].get("needs", [])
    direct = {needs} if isinstance(needs, str) else set(needs)
    return direct.union(*map(before, direct))


@pytest.mark.skipif(ACTIONLINT is None, reason="no actionlint: there was no Go to build it with")
def test_actionlint() -> None:
    """The linter of workflows finds nothing."""
    done = subprocess.run([str(ACTIONLINT), *WORKFLOWS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_gate() -> None:
    """Nothing is built or published before the gate has let the tag through; it sees the whole history."""
    checkout, gate = JOBS["gate"]["steps"]
    assert checkout["with"] == {"fetch-depth": 0}
    assert gate["run"].startswith("packaging/release/gate.sh ")
    assert all("gate" in before(job) for job in JOBS if job != "gate")
    assert not any("if" in job or job.get("continue-on-error") for job in JOBS.values())  # neither skips it


def test_only_tags() -> None:
    """Only a tag of a version starts it."""
    assert RELEASE[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` as true


def test_permissions() -> None:
    """Only the job that publishes may write, and no other job runs code with its rights."""
    assert RELEASE["permissions"] == {}
    writing = {name for name, job in JOBS.items() if "write" in job["permissions"].values()}
    assert writing == {"publish"}
    assert not any("checkout" in step.get("uses", "") for step in JOBS["publish"]["steps"])


def test_published() -> None:
    """Each file goes out with its checksum and with an attestation of where it comes from."""
    steps = [step.get("run") or step["uses"] for step in JOBS["publish"]["steps"]]
    order = ("download-artifact", "sha256sums.txt", "attest-build-provenance", "gh release create")
    assert all(word in step for word, step in zip(order, steps, strict=True))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions(workflow: Path) -> None:
    """Actions come from GitHub itself, each in a major version."""
    used = re.findall(r"uses: (\S+)", workflow.read_text("utf-8"))
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)


def test_paths() -> None:
    """What the workflows run is there, and may be run."""
    text = "".join(path.read_text("utf-8") for path in WORKFLOWS)
    for name in set(re.findall(r"(?:packaging/[\w/]+\.(?:sh|py)|requirements/\w+\.txt)", text)):
        assert (ROOT / name).exists(), name
        assert (ROOT / name).stat().st_mode & 0o111 or not name.endswith(".sh"), name
