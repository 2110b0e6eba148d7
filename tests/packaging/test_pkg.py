"""The macOS installer (I3), as far as another system can tell: its layout, its scripts, its questions.

`pkgbuild` and `productbuild` are stand-ins that keep what they are given; the scripts run in a directory of their own.
"""

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

MACOS = Path(__file__).parents[2] / "packaging" / "macos"
NAME = "or-router-macos-arm64-1.2.3"
COMMAND = "usr/local/bin/llm-router"
PLACE = "usr/local/lib/llm-router"
IDENTIFIER = "system.llm-router.program"

# They write their arguments, and keep the directory or file that stands after the first of them.
PKGBUILD = (
    '#!/bin/sh\nprintf "%s\\n" "$@" >"{seen}/pkgbuild"\ncp -a "$2" "{seen}/root"\nfor last; do :; done\n: >"$last"\n'
)
PRODUCTBUILD = PKGBUILD.replace("pkgbuild", "productbuild").replace("/root", "/distribution.xml")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")

Build = Callable[[str], subprocess.CompletedProcess[str]]


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Runs build_pkg.sh for an archive of this name, into `tmp_path`; what the tools got lies in `seen` there."""
    seen = tmp_path / "seen"
    seen.mkdir()
    script(tmp_path / "tools" / "pkgbuild", PKGBUILD.format(seen=seen))
    script(tmp_path / "tools" / "productbuild", PRODUCTBUILD.format(seen=seen))
    script(tmp_path / "tree" / "llm-router", "#!/bin/sh\necho llm-router, version 1.2.3\n")
    (tmp_path / "tree" / "_internal").mkdir()

    def run(name: str) -> subprocess.CompletedProcess[str]:
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "tree", name)
        command = [MACOS / "build_pkg.sh", tmp_path / f"{name}.tar.gz", tmp_path]
        variables = {"PATH": f"{tmp_path / 'tools'}:/usr/bin:/bin"}
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def root(build: Build, tmp_path: Path) -> Path:
    """What would be installed, as a directory."""
    done = build(NAME)
    assert done.returncode == 0, done.stderr
    return tmp_path / "seen" / "root"


def test_layout(root: Path, tmp_path: Path) -> None:
    """The program lies in one directory, the command is on everybody's PATH, and a way out lies beside it."""
    assert (root / COMMAND).resolve() == (root / PLACE / "llm-router").resolve()
    assert (root / COMMAND).readlink() == Path("../lib/llm-router/llm-router")
    assert {path.name for path in (root / PLACE).iterdir()} == {"llm-router", "_internal", "uninstall.sh"}
    assert subprocess.check_output([root / COMMAND], text=True) == "llm-router, version 1.2.3\n"
    assert (tmp_path / f"{NAME}.pkg").exists()


def test_package(root: Path, tmp_path: Path) -> None:
    """It is a package of its own name and version, with the scripts, for the volume's root."""
    said = (tmp_path / "seen" / "pkgbuild").read_text().splitlines()
    options = dict(zip(said[:-1:2], said[1:-1:2], strict=True))
    assert options.pop("--root")
    assert options == {
        "--scripts": str(MACOS / "scripts"),
        "--identifier": IDENTIFIER,
        "--version": "1.2.3",
        "--install-location": "/",
        "--ownership": "recommended",
    }
    assert root.exists()


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_questions(build: Build, tmp_path: Path, architecture: str) -> None:
    """The installer asks for nothing, and refuses a Mac that the program is not for."""
    assert build(f"or-router-macos-{architecture}-1.2.3").returncode == 0
    asked = ET.parse(tmp_path / "seen" / "distribution.xml").getroot()  # noqa: S314 - our own file
    options = asked.find("options")
    assert options is not None
    assert options.get("hostArchitectures") == architecture
    assert options.get("customize") == "never"
    (version,) = asked.findall("allowed-os-versions/os-version")
    assert version.get("min") == "13.0"  # of the wheel of llama.cpp
    (reference,) = (ref for ref in asked.findall("pkg-ref") if ref.text)
    assert (reference.text, reference.get("id"), reference.get("version")) == ("program.pkg", IDENTIFIER, "1.2.3")
    assert {ref.get("id") for ref in asked.findall("choice/pkg-ref")} == {IDENTIFIER}
    lines = {line.get("choice") for line in asked.findall("choices-outline/line")}
    assert lines == {choice.get("id") for choice in asked.findall("choice")}
    assert "@" not in ET.tostring(asked, "unicode")


def test_unknown_machine(build: Build, tmp_path: Path) -> None:
    """An archive of another kind is refused."""
    done = build("or-router-macos-ppc-1.2.3")
    assert done.returncode == 1
    assert "names no architecture" in done.stderr
    assert not list(tmp_path.glob("*.pkg"))


def run(name: str, volume: Path) -> int:
    """A script of the installer's, with its arguments: the package, the place in it, the volume, the root."""
    command = (MACOS / "scripts" / name, f"{NAME}.pkg", "/", volume, "/")
    return subprocess.run(command, check=False, capture_output=True).returncode


def test_update(root: Path, tmp_path: Path) -> None:
    """Nothing of an older version stays, and what is there runs."""
    volume = tmp_path / "volume"
    old = script(volume / PLACE / "_internal" / "old.so", "")
    other = script(volume / "usr/local/lib/other", "")
    assert run("preinstall", volume) == 0
    assert not old.exists()
    shutil.copytree(root, volume, symlinks=True, dirs_exist_ok=True)
    assert run("postinstall", volume) == 0
    assert other.exists()


def test_first_time(tmp_path: Path) -> None:
    """There need not be an older version."""
    assert run("preinstall", tmp_path) == 0


def test_cannot_run(root: Path) -> None:
    """A program that does not run on this Mac is a failed installation."""
    script(root / PLACE / "llm-router", "#!/bin/sh\nexit 126\n")
    assert run("postinstall", root) == 126


def test_uninstall(root: Path) -> None:
    """The way out takes the program and the command, and nothing else."""
    other = script(root / "usr/local/bin/other", "")
    subprocess.run([root / PLACE / "uninstall.sh"], check=True)
    assert not (root / PLACE).exists()
    assert not (root / COMMAND).is_symlink()
    assert other.exists()


def test_uninstall_of_another(root: Path) -> None:
    """A command of the same name that somebody else has put there stays."""
    (root / COMMAND).unlink()
    own = script(root / COMMAND, "#!/bin/sh\n")
    subprocess.run([root / PLACE / "uninstall.sh"], check=True)
    assert own.exists()
