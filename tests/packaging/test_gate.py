"""The release gate lets through what is on main, and stops everything else with an error (I3)."""

import subprocess
import sys
from pathlib import Path

import pytest

GATE = Path(__file__).parents[2] / "packaging" / "release" / "gate.sh"
WHO = {f"GIT_{role}_{what}": "test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
# Only what is said here counts, whatever is set on this machine.
ALONE = WHO | {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell script")


class Clone:
    """A clone as the workflow has it: of a repository with a main branch, on which is version 1.0.0."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "origin"
        self.path.mkdir()
        self.git("init", "-q", "-b", "main")
        self.commit("1.0.0")
        origin, self.path = self.path, directory / "clone"
        subprocess.run(["git", "clone", "-q", origin, self.path], env=ALONE, check=True)  # noqa: S607 - the machine's

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.path), *arguments]
        return subprocess.run(command, env=ALONE, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, version: str) -> None:
        file = self.path / "src" / "llm_router" / "__init__.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'"""LLM Router."""\n\n__version__ = "{version}"\n')
        self.git("add", ".")
        self.git("commit", "-q", "--allow-empty", "-m", version)

    def asked(self, tag: str) -> subprocess.CompletedProcess[str]:
        """What the gate says."""
        return subprocess.run([GATE, tag], cwd=self.path, env=ALONE, capture_output=True, text=True, check=False)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def refused(done: subprocess.CompletedProcess[str], why: str) -> bool:
    return done.returncode == 1 and done.stderr.startswith("not released: ") and why in done.stderr


@pytest.mark.parametrize("kind", [(), ("-a", "-m", "first")])
def test_on_main(clone: Clone, kind: tuple[str, ...]) -> None:
    """A tag on main passes, annotated or not."""
    clone.git("tag", *kind, "v1.0.0")
    done = clone.asked("v1.0.0")
    assert done.returncode == 0, done.stderr
    assert clone.git("rev-parse", "HEAD") in done.stdout


def test_main_went_on(clone: Clone) -> None:
    """It need not be the newest commit there."""
    clone.git("tag", "v1.0.0")
    clone.commit("1.1.0")
    clone.git("push", "-q", "origin", "HEAD:refs/heads/next")
    clone.git("update-ref", "refs/remotes/origin/main", "HEAD")
    assert clone.asked("v1.0.0").returncode == 0


def test_not_on_main(clone: Clone) -> None:
    """A commit of a branch is refused, though its version is right, and though the local main has it."""
    clone.commit("1.1.0")
    clone.git("tag", "v1.1.0")
    assert refused(clone.asked("v1.1.0"), "not on origin/main")


def test_another_version(clone: Clone) -> None:
    """A tag that says another version than the code is refused."""
    clone.git("tag", "v1.0.1")
    assert refused(clone.asked("v1.0.1"), "not v1.0.0")


def test_no_tag(clone: Clone) -> None:
    """A branch of that name is no tag."""
    clone.git("branch", "v1.0.0")
    assert refused(clone.asked("v1.0.0"), "no tag v1.0.0")


def test_no_main(clone: Clone) -> None:
    """Where it cannot be known whether the commit is on main, it is refused: a shallow clone has no such branch."""
    clone.git("tag", "v1.0.0")
    clone.git("remote", "remove", "origin")
    assert refused(clone.asked("v1.0.0"), "no origin/main")
