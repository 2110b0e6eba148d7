"""The Windows installer is really built, and its tables say what Windows will do (I3)."""

import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

PROGRAM = Path(__file__).parents[2] / "packaging" / "windows" / "msi.py"
MSI = runpy.run_path(str(PROGRAM))
FILES = {
    "llm-router.exe": b"MZ",
    "README.md": b"# LLM Router",
    "README.ja.md": b"# LLM Router",
    "LICENSE": b"MIT",
    "_internal/python311.dll": b"MZ",
    "_internal/llm_router/router/dashboard/index.html": b"<!doctype html>",
    "_internal/llm_router/with a space & more.js": b"",
}

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("wixl", "msibuild", "msiinfo", "msiextract"))),
    reason="no wixl and msitools: Debian's packages of these names",
)


def build(directory: Path, version: str = "1.2.3") -> Path:
    """An installer of a small tree, packed as `make dist` packs it on Windows."""
    name = f"or-router-windows-x86_64-{version}"
    with zipfile.ZipFile(directory / f"{name}.zip", "w") as packed:
        for path, content in FILES.items():
            packed.writestr(f"{name}/{path}", content)
    subprocess.run([sys.executable, PROGRAM, directory / f"{name}.zip", directory], check=True)
    return directory / f"{name}.msi"


@pytest.fixture(scope="module")
def msi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("msi"))


def rows(msi: Path, table: str) -> list[list[str]]:
    """A table's rows; a file of that form has three lines of names and types before them."""
    command = ["msiinfo", "export", str(msi), table]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split("\t") for line in lines[3:]]


def test_files(msi: Path, tmp_path: Path) -> None:
    """It installs what is in the .zip, and nothing else, in a directory of its own among the programs."""
    subprocess.run(["msiextract", "-C", tmp_path, msi], check=True, capture_output=True)  # noqa: S607 - whichever is installed
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    # msiextract shows no directory that is Windows' own.
    assert found == {f"LLM Router/{path}": content for path, content in FILES.items()}
    directories = {row[0]: row[1:] for row in rows(msi, "Directory")}
    assert directories["INSTALLDIR"] == ["ProgramFiles64Folder", "LLM Router"]


def test_product(msi: Path) -> None:
    """For everybody on a 64-bit Windows; a newer version replaces it, also one that Windows takes for the same."""
    properties = dict(rows(msi, "Property"))
    assert properties["ProductVersion"] == "1.2.3"
    assert properties["UpgradeCode"] == "{7C3E8C8B-4B0E-4D0E-9A63-3C6B7B1B0F52}"  # never another
    assert properties["ALLUSERS"] == "1"
    found = {row[-1]: row for row in rows(msi, "Upgrade")}
    older = found["WIX_UPGRADE_DETECTED"]
    assert older[:3] == [properties["UpgradeCode"], "", "1.2.3"]
    assert int(older[4]) & 0x200  # VersionMaxInclusive
    newer = found["WIX_DOWNGRADE_DETECTED"]
    assert newer[:3] == [properties["UpgradeCode"], "1.2.3", ""]
    assert int(newer[4]) & 0x002  # OnlyDetect
    assert ["NOT WIX_DOWNGRADE_DETECTED", "A newer version is installed."] in rows(msi, "LaunchCondition")
    summary = subprocess.check_output(["msiinfo", "suminfo", msi], text=True)  # noqa: S607 - as above
    assert "Template: x64;" in summary


def test_path(msi: Path) -> None:
    """The command is found by its name: the machine's PATH gets the directory, and loses it when it is uninstalled."""
    assert rows(msi, "Environment") == [["PATH", "=-*PATH", "[~];[INSTALLDIR]", "OnPath"]]
    steps = {action: int(number) for action, _, number in rows(msi, "InstallExecuteSequence")}
    assert steps["InstallInitialize"] < steps["RemoveEnvironmentStrings"] < steps["WriteEnvironmentStrings"]
    assert steps["WriteEnvironmentStrings"] < steps["InstallFinalize"]
    assert ["Everything", "OnPath"] in rows(msi, "FeatureComponents")


def test_menu(msi: Path) -> None:
    """The start menu has an entry that starts router and node."""
    (shortcut,) = rows(msi, "Shortcut")
    assert shortcut[1:6] == ["ProgramMenuFolder", "LLM Router", "InMenu", "[INSTALLDIR]llm-router.exe", "up"]


def test_components(msi: Path, tmp_path: Path) -> None:
    """Each file is a component, whose GUID is the same in the next version; all are 64-bit, and all are installed."""
    components = {row[0]: row for row in rows(msi, "Component")}
    files = {row[0]: row for row in rows(msi, "File")}
    assert len(files) == len(FILES)
    assert all(components[file[1]][5] == name for name, file in files.items())  # its key path
    assert all(int(row[3]) & 0x100 for row in components.values())
    assert {row[1] for row in rows(msi, "FeatureComponents")} == components.keys()
    later = rows(build(tmp_path, "1.3.0"), "Component")
    assert {row[1] for row in later} == {row[1] for row in components.values()}


@pytest.mark.parametrize(("version", "number"), [("1.2.3", "1.2.3"), ("1.2.3rc1", "1.2.3"), ("0.10.0.dev4", "0.10.0")])
def test_numeric(version: str, number: str) -> None:
    """Windows Installer knows three numbers only."""
    assert MSI["numeric"](version) == number


def test_not_numeric() -> None:
    """A version that has none is refused before anything is built."""
    with pytest.raises(ValueError, match="does not begin with three numbers"):
        MSI["numeric"]("main")


def test_identifiers() -> None:
    """A file's name in the tables is one that Windows Installer takes, however long or odd its path."""
    name = MSI["identifier"](PurePosixPath("_internal", *["very long"] * 30, "&.js"))
    assert re.fullmatch(r"[A-Za-z_][\w.]{0,71}", name)
