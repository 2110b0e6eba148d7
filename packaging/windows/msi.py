"""Builds the Windows installer out of the .zip, on Linux: `python packaging/windows/msi.py ZIP DIRECTORY`.

It needs wixl and msibuild (Debian's packages wixl and msitools). Out of `or-router-windows-x86_64-1.2.3.zip` comes
`or-router-windows-x86_64-1.2.3.msi`.
"""

import re
import subprocess
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from xml.etree.ElementTree import Element, SubElement, tostring

PRODUCT = Path(__file__).with_name("or-router.wxs")
NAMESPACE = "http://schemas.microsoft.com/wix/2006/wi"
UPGRADE_CODE = "7C3E8C8B-4B0E-4D0E-9A63-3C6B7B1B0F52"  # names the product, whatever its version. Never to be changed
# Below it each file's component has its GUID, by its path: it stays the same from one version to the next, as Windows
# Installer asks ("Changing the Component Code"). Never to be changed.
COMPONENTS = uuid.UUID("f1d5a7de-6c5b-4cf1-8b43-5b8f0c8d6a90")


def numeric(version: str) -> str:
    """The three numbers a version begins with: Windows Installer knows no others (`ProductVersion`).

    Raises:
        ValueError: it does not begin with three numbers.
    """
    found = re.match(r"\d+\.\d+\.\d+", version)
    if not found:
        raise ValueError(f"{version} does not begin with three numbers")
    return found[0]


def identifier(path: PurePath) -> str:
    """A name for a file's rows in the tables: letters and digits, at most 72 of them, and no digit first."""
    return f"p{uuid.uuid5(COMPONENTS, path.as_posix()).hex}"


def program(tree: Path) -> Element:
    """All files below `tree` as WiX's group `Program`, one component each, as its directories below INSTALLDIR.

    They are looked for from where `tree` lies: wixl takes no others.
    """
    root = Element("Wix", xmlns=NAMESPACE)
    place = SubElement(SubElement(root, "Fragment"), "DirectoryRef", Id="INSTALLDIR")
    group = SubElement(SubElement(root, "Fragment"), "ComponentGroup", Id="Program")
    for component in _fill(place, tree, tree):
        SubElement(group, "ComponentRef", Id=component)
    return root


def _fill(place: Element, directory: Path, tree: Path) -> Iterator[str]:
    """Put what is in `directory` into `place`; the components' names."""
    for path in sorted(directory.iterdir()):
        name = identifier(path.relative_to(tree))
        if path.is_dir():
            yield from _fill(SubElement(place, "Directory", Id=name, Name=path.name), path, tree)
            continue
        guid = uuid.uuid5(COMPONENTS, path.relative_to(tree).as_posix())
        component = SubElement(place, "Component", Id=name, Guid=str(guid).upper(), Win64="yes")
        SubElement(component, "File", Id=name, Name=path.name, Source=str(path.relative_to(tree.parent)), KeyPath="yes")
        yield name


def amendments(version: str) -> tuple[str, ...]:
    """What wixl 0.101 has no words for, as SQL; Windows Installer documents the tables.

    PATH: the machine's (*) is appended to at installation (=) and taken out of again (-); [~] is what is there already
    ("Environment Table"; the numbers are those of "Suggested InstallExecuteSequence").
    Upgrade: what is replaced may have the same version (512), as 1.0.0rc1 and 1.0.0 have here; features are kept (1).
    """
    return (
        (
            "CREATE TABLE `Environment` (`Environment` CHAR(72) NOT NULL, `Name` CHAR(255) NOT NULL LOCALIZABLE, "
            "`Value` CHAR(255) LOCALIZABLE, `Component_` CHAR(72) NOT NULL PRIMARY KEY `Environment`)"
        ),
        (
            "INSERT INTO `Environment` (`Environment`, `Name`, `Value`, `Component_`) "
            "VALUES ('PATH', '=-*PATH', '[~];[INSTALLDIR]', 'OnPath')"
        ),
        "INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ('RemoveEnvironmentStrings', 3300)",
        "INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ('WriteEnvironmentStrings', 5200)",
        "DELETE FROM `Upgrade` WHERE `ActionProperty` = 'WIX_UPGRADE_DETECTED'",
        (
            "INSERT INTO `Upgrade` (`UpgradeCode`, `VersionMax`, `Attributes`, `ActionProperty`) "  # noqa: S608 - digits, dots
            f"VALUES ('{{{UPGRADE_CODE}}}', '{version}', 513, 'WIX_UPGRADE_DETECTED')"
        ),
    )


def build(archive: Path, out: Path) -> Path:
    """Build it, and return where it is."""
    made = out.resolve() / f"{archive.stem}.msi"
    version = numeric(archive.stem.rpartition("-")[2])
    with tempfile.TemporaryDirectory() as directory:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(directory)
        files = Path(directory) / "program.wxs"
        files.write_bytes(tostring(program(Path(directory) / archive.stem), "utf-8", xml_declaration=True))
        defined = ["-D", f"Version={version}", "-D", f"UpgradeCode={UPGRADE_CODE}"]
        _run("wixl", "--arch", "x64", *defined, "-o", made, PRODUCT, files, cwd=directory)
    for statement in amendments(version):
        _run("msibuild", made, "-q", statement)
    return made


def _run(*command: str | Path, cwd: str | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd)  # noqa: S603 - our own arguments


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
