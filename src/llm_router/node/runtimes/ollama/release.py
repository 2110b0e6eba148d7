"""What Ollama's project publishes, and where: versions, packages per platform, checksums.

    <releases>/download/v<version>/<file>     a version
    <releases>/latest/download/<file>         the newest; GitHub answers with a redirect to the above

A release has one package per platform, more for AMD's GPUs and Nvidia's Jetsons, which only hold libraries and belong
over the first one, and `sha256sum.txt` with the lines `<hash>  ./<file>` (Ollama, `.github/workflows/release.yaml` and
`scripts/install.sh`). The program is `bin/ollama` on Linux, `ollama` on macOS, `ollama.exe` on Windows.
"""

import platform
import re
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp
import msgspec

from llm_router.contract import Backend
from llm_router.errors import ConfigError
from llm_router.models.download import Patience, Text, fetch_text
from llm_router.models.failures import DownloadFailed, NotOffered

CHECKSUMS = "sha256sum.txt"
LATEST = "latest"  # stands for a version where nothing tells its number

ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
SYSTEMS = {"linux": "linux", "darwin": "darwin", "win32": "windows"}
# By preference: new releases have .tar.zst for Linux, older ones .tgz; a list of checksums says which it is.
FORMATS = {"linux": (".tar.zst", ".tgz"), "darwin": (".tgz",), "windows": (".zip",)}
PROGRAMS = {"linux": ("bin/ollama",), "darwin": ("ollama", "bin/ollama"), "windows": ("ollama.exe",)}


class NoPackage(DownloadFailed):
    """Ollama's project publishes nothing for this machine."""


class Machine(msgspec.Struct, frozen=True):
    """What a package must fit, in Ollama's words: `system` is linux, darwin or windows; `arch` amd64 or arm64.

    `extras`: GPU libraries that come in packages of their own: rocm, jetpack5, jetpack6.
    """

    system: str
    arch: str
    extras: tuple[str, ...] = ()

    @property
    def stems(self) -> list[str]:
        """Names of the packages, without their endings; the first one holds the program."""
        stem = f"ollama-{self.system}" + ("" if self.system == "darwin" else f"-{self.arch}")
        return [stem, *(f"{stem}-{extra}" for extra in self.extras)]


def this_machine(backend: Backend, tegra: str = "") -> Machine:
    """The machine this runs on. `tegra`: what /etc/nv_tegra_release says, on a Jetson.

    Raises:
        NoPackage: there is no Ollama for it.
    """
    return machine(sys.platform, platform.machine(), backend, tegra)


def machine(system: str, arch: str, backend: Backend, tegra: str = "") -> Machine:
    """As `this_machine`, of a machine whose `sys.platform` and `platform.machine()` these are."""
    known = SYSTEMS.get(system), ARCHITECTURES.get(arch.lower())
    if known[0] is None or known[1] is None:
        advice = "start one yourself, and attach it with --runtime ollama=http://…"
        raise NoPackage(f"there is no Ollama to fetch for {system} on {arch}; {advice}")
    return Machine(known[0], known[1], _extras(known[0], known[1], backend, tegra))


def _extras(system: str, arch: str, backend: Backend, tegra: str) -> tuple[str, ...]:
    if backend == "rocm" and system != "darwin" and arch == "amd64":
        return ("rocm",)
    # The first line is "# R36 (release), REVISION: 3.0, …"; R36 is JetPack 6, R35 is 5 (install.sh)
    release = re.match(r"# R(\d+) ", tegra)
    jetpack = {"36": "jetpack6", "35": "jetpack5"}.get(release[1]) if release else None
    return (jetpack,) if jetpack else ()


class Source(msgspec.Struct, frozen=True):
    """Where Ollama is fetched from: `releases` as above, `version` or the latest if empty, `verify` its checksums."""

    releases: str
    version: str = ""
    verify: bool = True

    def checked(self) -> "Source":
        """The same, as the code below wants it: no slash at the end, no `v` before the number.

        Raises:
            ConfigError: it is no URL, or no version.
        """
        releases, version = self.releases.strip().rstrip("/"), self.version.strip().removeprefix("v")
        parts = urlsplit(releases)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"OLLAMA_DOWNLOAD_URL is {self.releases!r}: expected http:// or https://, host and path")
        if version and not VERSION.fullmatch(version):  # it becomes the name of a directory
            raise ConfigError(f"OLLAMA_VERSION is {self.version!r}: expected a number as 0.12.3")
        return Source(releases, "" if version == LATEST else version, self.verify)


VERSION = re.compile(rf"{LATEST}|\d[0-9A-Za-z.+-]*")


class Package(msgspec.Struct, frozen=True):
    """One file to fetch. `sha256` is empty where it is not to be checked."""

    name: str
    url: str
    sha256: str = ""


class Release(msgspec.Struct, frozen=True):
    """One version: `base` is the URL that its files lie below, `checksums` their hashes by name, where known."""

    version: str
    base: str
    checksums: dict[str, str] = {}
    verify: bool = True

    def choices(self, stem: str, system: str) -> list[Package]:
        """The packages of this name that may be there, best first; those listed, where there is a list."""
        names = [stem + ending for ending in FORMATS[system]]
        if self.checksums:
            names = [name for name in names if name in self.checksums]
        return [Package(n, f"{self.base}/{n}", self.checksums[n] if self.verify else "") for n in names]


async def find_release(
    session: aiohttp.ClientSession, source: Source, patience: Patience, waiting: Callable[[str, float], None]
) -> Release:
    """Look what the version is, and what its checksums are. `patience` and `waiting` are `download.fetch_text`'s.

    Raises:
        Unreachable, NotOffered: as `download.fetch_text`.
        ConfigError: the source makes no sense.
    """
    source = source.checked()
    base = f"{source.releases}/" + (f"download/v{source.version}" if source.version else f"{LATEST}/download")
    try:
        text = await fetch_text(session, f"{base}/{CHECKSUMS}", patience=patience, waiting=waiting)
    except NotOffered as error:
        if not source.verify:
            return Release(source.version or LATEST, base, verify=False)
        advice = "without it nothing is installed, unless OLLAMA_VERIFY_CHECKSUM=false"
        raise NotOffered(f"{error.message}; {advice}") from error
    return _release(source, base, text)


def _release(source: Source, base: str, text: Text) -> Release:
    version, base = (source.version, base) if source.version else _pinned(text.urls, base)
    checksums = parse_checksums(text.body)
    if source.verify and not checksums:
        raise NotOffered(f"{text.urls[0]} holds no checksums: is OLLAMA_DOWNLOAD_URL right?")
    return Release(version, base, checksums, source.verify)


def _pinned(urls: list[str], base: str) -> tuple[str, str]:
    """The version that "latest" led to: a newer one may come out while its packages are fetched."""
    for url in urls:
        if match := _VERSIONED.match(url):
            return match["version"], match["base"]
    return LATEST, base


_VERSIONED = re.compile(rf"(?P<base>.+/download/v(?P<version>\d[0-9A-Za-z.+-]*))/{re.escape(CHECKSUMS)}$")


def parse_checksums(text: str) -> dict[str, str]:
    """The hashes of a release, by file name; lines that are none of `sha256sum` are passed over."""
    lines = (re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(\S+)", line.strip()) for line in text.splitlines())
    return {line[2]: line[1].lower() for line in lines if line}
