"""Ollama's releases: names of packages, versions, checksums."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.doubles.release_server import ReleaseServer, publish

from llm_router.contract import Backend
from llm_router.errors import ConfigError
from llm_router.models.download import Patience
from llm_router.models.failures import NotOffered
from llm_router.node.runtimes.ollama.release import (
    NoPackage,
    Release,
    Source,
    find_release,
    machine,
    parse_checksums,
    this_machine,
)

ONCE = Patience(retries=0)
JETSON = "# R36 (release), REVISION: 3.0, GCID: 36106755, BOARD: generic, EABI: aarch64"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ReleaseServer]:
    async with ReleaseServer(tmp_path) as server:
        yield server


async def found(session: aiohttp.ClientSession, source: Source) -> Release:
    return await find_release(session, source, ONCE, lambda *_: None)


@pytest.mark.parametrize(
    ("system", "arch", "backend", "tegra", "stems"),
    [
        ("linux", "x86_64", "cpu", "", ["ollama-linux-amd64"]),
        ("linux", "x86_64", "cuda", "", ["ollama-linux-amd64"]),
        ("linux", "x86_64", "rocm", "", ["ollama-linux-amd64", "ollama-linux-amd64-rocm"]),
        ("linux", "aarch64", "cuda", "", ["ollama-linux-arm64"]),
        ("linux", "aarch64", "cuda", JETSON, ["ollama-linux-arm64", "ollama-linux-arm64-jetpack6"]),
        ("linux", "aarch64", "cuda", "# R35 (release), …", ["ollama-linux-arm64", "ollama-linux-arm64-jetpack5"]),
        ("linux", "aarch64", "cuda", "# R32 (release), …", ["ollama-linux-arm64"]),
        ("darwin", "arm64", "metal", "", ["ollama-darwin"]),
        ("darwin", "x86_64", "cpu", "", ["ollama-darwin"]),
        ("win32", "AMD64", "directml", "", ["ollama-windows-amd64"]),
        ("win32", "AMD64", "rocm", "", ["ollama-windows-amd64", "ollama-windows-amd64-rocm"]),
        ("win32", "ARM64", "cpu", "", ["ollama-windows-arm64"]),
    ],
)
def test_packages_of_a_machine(system: str, arch: str, backend: Backend, tegra: str, stems: list[str]) -> None:
    """Each platform has its package, and some GPUs another one with their libraries (requirement G2)."""
    assert machine(system, arch, backend, tegra).stems == stems


def test_no_package() -> None:
    """A machine that Ollama is not published for is told so, with what to do instead."""
    with pytest.raises(NoPackage, match="freebsd14 on amd64; start one yourself"):
        machine("freebsd14", "amd64", "cpu")
    with pytest.raises(NoPackage):
        machine("linux", "riscv64", "cpu")


def test_this_machine() -> None:
    """Where the tests run, there is one."""
    assert this_machine("cpu").stems


def test_checksums() -> None:
    """The list is read as `sha256sum` writes it, and nothing else in it counts (requirement G2)."""
    one, two = "a" * 64, "B" * 64
    text = f"{one}  ./ollama-darwin.tgz\r\n{two} *ollama-windows-amd64.zip\n\n# comment\n<html>\nabc  ./short\n"
    assert parse_checksums(text) == {"ollama-darwin.tgz": one, "ollama-windows-amd64.zip": two.lower()}


def test_choice_of_the_format() -> None:
    """What is listed is chosen, .tar.zst before .tgz; without a list both may be there (requirement G2)."""
    both = {"ollama-linux-amd64.tgz": "1", "ollama-linux-amd64.tar.zst": "2"}
    old = {"ollama-linux-amd64.tgz": "1", "ollama-darwin.tgz": "3"}
    stem = "ollama-linux-amd64"
    assert [p.sha256 for p in Release("1", "http://x", both).choices(stem, "linux")] == ["2", "1"]
    assert [p.url for p in Release("1", "http://x", old).choices(stem, "linux")] == ["http://x/ollama-linux-amd64.tgz"]
    unchecked = Release("1", "http://x", verify=False)
    assert [p.name for p in unchecked.choices(stem, "linux")] == [f"{stem}.tar.zst", f"{stem}.tgz"]
    assert Release("1", "http://x", old).choices("ollama-windows-amd64", "windows") == []


async def test_the_latest(session: aiohttp.ClientSession, server: ReleaseServer) -> None:
    """The latest release is asked for once; what is fetched then is of the version it was at that moment."""
    publish(server.directory, "0.12.3", {})
    checksums = publish(server.directory, "0.12.4", {"ollama-darwin.tgz": {"ollama": b"x"}})
    release = await found(session, Source(server.url + "/"))
    assert release == Release("0.12.4", f"{server.url}/download/v0.12.4", checksums)


@pytest.mark.parametrize("version", ["0.12.3", "v0.12.3"])
async def test_a_version(session: aiohttp.ClientSession, server: ReleaseServer, version: str) -> None:
    """OLLAMA_VERSION is a number, with or without the v."""
    checksums = publish(server.directory, "0.12.3", {"ollama-darwin.tgz": {"ollama": b"x"}})
    release = await found(session, Source(server.url, version))
    assert release == Release("0.12.3", f"{server.url}/download/v0.12.3", checksums)


async def test_no_checksums(session: aiohttp.ClientSession, server: ReleaseServer) -> None:
    """A release without checksums is an error that names the setting; with the setting it is taken as it is."""
    with pytest.raises(NotOffered, match=r"sha256sum\.txt answered with status 404; .*OLLAMA_VERIFY_CHECKSUM=false"):
        await found(session, Source(server.url, "0.1.0"))
    unchecked = await found(session, Source(server.url, "0.1.0", verify=False))
    assert unchecked == Release("0.1.0", f"{server.url}/download/v0.1.0", verify=False)


async def test_a_page_instead(session: aiohttp.ClientSession, server: ReleaseServer) -> None:
    """A list that holds no checksums, as a login page does, is an error."""
    publish(server.directory, "0.1.0", {})
    with pytest.raises(NotOffered, match="OLLAMA_DOWNLOAD_URL"):
        await found(session, Source(server.url, "0.1.0"))


async def test_unchecked(session: aiohttp.ClientSession, server: ReleaseServer) -> None:
    """OLLAMA_VERIFY_CHECKSUM=false: the list still tells what there is, but not what it must be."""
    publish(server.directory, "0.1.0", {"ollama-linux-amd64.tgz": {"bin/ollama": b"x"}})
    release = await found(session, Source(server.url, "0.1.0", verify=False))
    (package,) = release.choices("ollama-linux-amd64", "linux")
    assert package.name.endswith(".tgz")
    assert package.sha256 == ""


@pytest.mark.parametrize(
    "source",
    [Source("github.com/x"), Source("ftp://x/y"), Source(""), Source("http://x", "../1"), Source("http://x", "newest")],
)
def test_settings_that_make_no_sense(source: Source) -> None:
    """A URL that is none, or a version that could be a path, is an error that names the setting."""
    with pytest.raises(ConfigError, match=r"OLLAMA_(DOWNLOAD_URL|VERSION) is "):
        source.checked()
