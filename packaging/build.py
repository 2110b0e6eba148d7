"""Builds what is given to people: `python packaging/build.py [DIRECTORY]` (`make dist` calls it).

A wheel and a source distribution, and for this platform a program that brings its own Python and llama.cpp, as
`or-router-PLATFORM-VERSION.tar.gz`, on Windows `.zip` (requirement I3). DIRECTORY is `dist` where none is given.

It is run by the Python of an environment that holds requirements/run.txt and requirements/dist.txt and nothing else:
whatever lies there may get into the program.
"""

import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SPEC = ROOT / "packaging" / "llm-router.spec"
TOLD = ("README.md", "README.ja.md", "LICENSE")  # what lies beside the program
SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}
# Machines have one name each, whatever their systems call them: Windows says AMD64, macOS arm64, Linux aarch64.
MACHINES = {"amd64": "x86_64", "aarch64": "arm64"}


def platform_name(system: str, machine: str) -> str:
    """`linux-x86_64`, `macos-arm64`, `windows-x86_64`; from `sys.platform` and `platform.machine()`.

    Raises:
        KeyError: nothing is built for this system.
    """
    machine = machine.lower()
    return f"{SYSTEMS[system]}-{MACHINES.get(machine, machine)}"


def wheel_and_sdist(out: Path) -> Path:
    """Build both, and return the wheel. hatchling is asked directly, so nothing is fetched."""
    with tempfile.TemporaryDirectory() as fresh:  # there may be others in `out`, of other versions
        _run("-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", fresh, cwd=ROOT)
        made = [Path(shutil.copy2(file, out)) for file in Path(fresh).iterdir()]
    return next(file for file in made if file.suffix == ".whl")


def install(wheel: Path) -> None:
    """Put it into the environment that this runs in: the program is made of what people would install."""
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "-q")
    _run(*pip, "--no-index", "--no-deps", "--force-reinstall", wheel)


def program(directory: Path) -> Path:
    """Make the program below `directory`; return where it lies."""
    made = directory / "made"
    places = ("--distpath", made, "--workpath", directory / "work")
    _run("-m", "PyInstaller", *places, "--log-level", "WARN", SPEC)
    return made / "llm-router"


def archive(tree: Path, out: Path) -> Path:
    """Pack a directory under its own name: `.zip` on Windows, `.tar.gz` elsewhere."""
    if sys.platform == "win32":
        return Path(shutil.make_archive(str(out / tree.name), "zip", tree.parent, tree.name))
    path = out / f"{tree.name}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=6) as tar:  # gzip's own default: 9 takes three times as long for 1 %
        tar.add(tree, tree.name, filter=_nobodys)
    return path


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Who built it is nothing to whom it is unpacked for."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _run(*arguments: str | Path, cwd: Path | None = None) -> None:
    subprocess.run([sys.executable, *arguments], check=True, cwd=cwd)  # noqa: S603 - our own arguments


def build(out: Path) -> None:
    """Build everything into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    wheel = wheel_and_sdist(out)
    version = wheel.name.split("-")[1]
    install(wheel)
    with tempfile.TemporaryDirectory() as directory:
        name = f"or-router-{platform_name(sys.platform, platform.machine())}-{version}"
        tree = program(Path(directory)).rename(Path(directory) / name)
        for file in TOLD:
            shutil.copy2(ROOT / file, tree)
        archive(tree, out)


if __name__ == "__main__":
    build(Path(sys.argv[1] if sys.argv[1:] else ROOT / "dist").resolve())
