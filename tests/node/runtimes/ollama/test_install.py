"""The node's own Ollama, from a release server to a program that can be started."""

import asyncio
import os
import random
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.doubles.release_server import Fault, ReleaseServer, ollama_packages, pack, publish, write_checksums
from tests.node.conftest import Journal

from llm_router.contract import Progress
from llm_router.models.download import Patience
from llm_router.models.failures import NoRoom, NotOffered, Unreachable, WrongChecksum
from llm_router.node.archive import ArchiveRefused
from llm_router.node.runtimes.ollama.install import Install, Installer, find, put_in_place
from llm_router.node.runtimes.ollama.release import Machine, NoPackage, Source

LINUX = Machine("linux", "amd64")
PACKAGE = "ollama-linux-amd64.tar.zst"
PROGRAM = b"#!/bin/sh\necho ollama version is 0.12.3\n"
NOISE = random.Random(6).randbytes(300_000)  # noqa: S311 - any bytes do that cannot be compressed
AT_ONCE = Patience(max_backoff=0)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ReleaseServer]:
    publish(tmp_path / "releases", "0.12.3", ollama_packages(PROGRAM, NOISE))
    async with ReleaseServer(tmp_path / "releases") as server:
        yield server


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "node" / "ollama"


class Setting:
    """What an installer is made of; a test changes what it is about."""

    def __init__(
        self, directory: Path, server: ReleaseServer, session: aiohttp.ClientSession, journal: Journal
    ) -> None:
        self.directory = directory
        self.machine = LINUX
        self.source = Source(server.url)
        self.patience = AT_ONCE
        self._session = session
        self._journal = journal

    def installer(self) -> Installer:
        return Installer(
            self.directory, self.machine, self.source, self._session, self._journal.log, patience=self.patience
        )


@pytest.fixture
def setting(directory: Path, server: ReleaseServer, session: aiohttp.ClientSession, journal: Journal) -> Setting:
    return Setting(directory, server, session, journal)


def files(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir())


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*"))


def install_by_hand(directory: Path, version: str, program: bytes = PROGRAM) -> Path:
    path = directory / version / "bin" / "ollama"
    path.parent.mkdir(parents=True)
    path.write_bytes(program)
    path.chmod(0o755)
    return path


async def test_from_nothing(setting: Setting, journal: Journal) -> None:
    """Ollama missing: it is there afterwards, whole, and runs; nothing else is left (requirement G1)."""
    installer = setting.installer()
    assert await installer.find() is None
    install = await installer.install()
    assert install == Install("0.12.3", setting.directory / "0.12.3" / "bin" / "ollama")
    assert await installer.find() == install
    answer = await asyncio.to_thread(subprocess.run, [install.program], capture_output=True, check=True, timeout=10)
    assert answer.stdout == b"ollama version is 0.12.3\n"
    libraries = ["lib/ollama/libggml-base.so", "lib/ollama/libggml-base.so.0"]
    assert files(setting.directory / "0.12.3") == ["bin/ollama", *libraries]
    assert names(setting.directory) == ["0.12.3"]
    assert journal.find("ollama.installed")[0]["version"] == "0.12.3"


@pytest.mark.parametrize(
    ("machine", "program"),
    [
        (Machine("darwin", "arm64"), "ollama"),
        (Machine("windows", "amd64"), "ollama.exe"),
        (Machine("linux", "arm64"), "bin/ollama"),
    ],
)
async def test_other_platforms(setting: Setting, machine: Machine, program: str) -> None:
    """The program is found where each platform's package has it (requirement G2)."""
    setting.machine = machine
    install = await setting.installer().install()
    assert install.program == setting.directory / "0.12.3" / program


async def test_gpu_libraries(setting: Setting) -> None:
    """The libraries for an AMD GPU come from a package of their own into the same directory (requirement G1)."""
    setting.machine = Machine("linux", "amd64", ("rocm",))
    await setting.installer().install()
    assert "lib/ollama/rocm/libggml-hip.so" in files(setting.directory / "0.12.3")


async def test_no_gpu_libraries(setting: Setting, journal: Journal) -> None:
    """A release without them is installed all the same, and the log says that they are missing."""
    setting.machine = Machine("linux", "arm64", ("jetpack6",))
    await setting.installer().install()
    assert journal.find("ollama.no_gpu_libraries")[0]["package"] == "ollama-linux-arm64-jetpack6"


async def test_older_format(setting: Setting, server: ReleaseServer) -> None:
    """A release that has .tgz only is installed from that (requirement G2)."""
    publish(server.directory, "0.9.0", {"ollama-linux-amd64.tgz": {"bin/ollama": PROGRAM}})
    setting.source = Source(server.url, "0.9.0")
    assert (await setting.installer().install()).version == "0.9.0"


async def test_older_format_unlisted(setting: Setting, server: ReleaseServer) -> None:
    """Without a list of checksums, what is there is found by asking."""
    release = server.directory / "v0.9.0"
    publish(server.directory, "0.9.0", {"ollama-linux-amd64.tgz": {"bin/ollama": PROGRAM}})
    (release / "sha256sum.txt").unlink()
    setting.source = Source(server.url, "0.9.0", verify=False)
    assert (await setting.installer().install()).version == "0.9.0"


async def test_wrong_checksum(setting: Setting, server: ReleaseServer) -> None:
    """A package that is not what the release says: an error with both checksums, nothing installed (requirement G2)."""
    announced = "0" * 64
    write_checksums(server.directory / "v0.12.3", {PACKAGE: announced})
    installer = setting.installer()
    with pytest.raises(WrongChecksum, match=f"SHA-256 checksum [0-9a-f]{{64}}, but {announced}"):
        await installer.install()
    assert await installer.find() is None
    assert names(setting.directory) == [".downloads"]


async def test_checksum_not_wanted(setting: Setting, server: ReleaseServer) -> None:
    """OLLAMA_VERIFY_CHECKSUM=false takes what comes."""
    write_checksums(server.directory / "v0.12.3", {PACKAGE: "0" * 64})
    setting.source = Source(server.url, verify=False)
    assert (await setting.installer().install()).version == "0.12.3"


async def test_cut_three_times(setting: Setting, server: ReleaseServer, journal: Journal) -> None:
    """A connection cut at 40 % three times: resumed, one file, the right one (requirement G3)."""
    server.faults.append(Fault(PACKAGE, "cut", times=3))
    await setting.installer().install()
    ranges = [seen.range for seen in server.asked(PACKAGE)]
    assert ranges[0] == ""
    assert all(seen.startswith("bytes=") for seen in ranges[1:])
    assert len(set(ranges)) == 4
    assert len(journal.find("ollama.download_paused")) == 3


async def test_no_network_then_some(setting: Setting, server: ReleaseServer) -> None:
    """When attempts run out, the next call goes on where the last one broke off (requirement G3)."""
    setting.patience = Patience(retries=0)
    server.faults.append(Fault(PACKAGE, "cut"))
    with pytest.raises(Unreachable):
        await setting.installer().install()
    await setting.installer().install()
    assert server.asked(PACKAGE)[-1].range.startswith("bytes=")


async def test_package_that_would_escape(setting: Setting, server: ReleaseServer) -> None:
    """A package with a `../` member is refused, and nothing of it is installed."""
    publish(server.directory, "0.12.4", {PACKAGE: {"bin/ollama": PROGRAM, "../../escaped": b"x"}})
    with pytest.raises(ArchiveRefused, match=r"'\.\./\.\./escaped' could lead out of it"):
        await setting.installer().install()
    assert names(setting.directory) == []
    assert "escaped" not in names(setting.directory.parent)


async def test_package_without_program(setting: Setting, server: ReleaseServer) -> None:
    """A package in which there is no Ollama is not installed."""
    publish(server.directory, "0.12.4", {PACKAGE: {"README": b"x"}})
    with pytest.raises(ArchiveRefused, match="holds no bin/ollama"):
        await setting.installer().install()
    assert names(setting.directory) == []


async def test_not_for_this_machine(setting: Setting, server: ReleaseServer) -> None:
    """A release without a package for this machine is an error that says so."""
    publish(server.directory, "0.12.4", {"ollama-darwin.tgz": {"ollama": PROGRAM}})
    with pytest.raises(NoPackage, match="lists no package ollama-linux-amd64"):
        await setting.installer().install()


async def test_listed_but_not_there(setting: Setting, server: ReleaseServer) -> None:
    """A package that is listed, but missing, is an error with its URL."""
    (server.directory / "v0.12.3" / PACKAGE).unlink()
    with pytest.raises(NotOffered, match=f"v0.12.3/{PACKAGE} answered with status 404"):
        await setting.installer().install()


async def test_new_version_replaces_the_old(setting: Setting, server: ReleaseServer) -> None:
    """Of several versions of ours one remains; what else lies there is not touched."""
    install_by_hand(setting.directory, "0.11.0")
    models = setting.directory / "models" / "blobs"
    models.mkdir(parents=True)
    setting.source = Source(server.url, "0.12.3")
    installer = setting.installer()
    assert await installer.find() is None
    await installer.install()
    assert names(setting.directory) == ["0.12.3", "models"]


async def test_leftovers(setting: Setting) -> None:
    """What an install that was broken off left does not disturb the next one, and is gone after it."""
    install_by_hand(setting.directory / ".unpacking", "bin")
    (setting.directory / "0.12.3" / "lib").mkdir(parents=True)  # somebody removed the program
    await setting.installer().install()
    assert names(setting.directory) == ["0.12.3"]
    assert "bin/bin/ollama" not in files(setting.directory / "0.12.3")


async def test_unwritable_disk(setting: Setting) -> None:
    """A directory that cannot be written is an error that names the directory; nothing is installed."""
    setting.directory.parent.mkdir()
    setting.directory.write_bytes(b"a file where a directory should be")
    with pytest.raises(NoRoom, match=str(setting.directory)):
        await setting.installer().install()


async def test_ended_while_unpacking(setting: Setting, server: ReleaseServer) -> None:
    """An agent that ends while it unpacks leaves all of it or nothing, and does not fetch the package again."""
    installer = setting.installer()
    task = asyncio.create_task(installer.install())
    while not task.done() and not ((now := installer.progress()) and now.step == "unpacking"):
        await asyncio.wait({task}, timeout=0.001)
    task.cancel()
    await asyncio.wait({task})
    if await installer.find() is None:  # it may have been quicker than this test
        assert names(setting.directory) == [".downloads"]
        await setting.installer().install()
    assert names(setting.directory) == ["0.12.3"]
    assert len(server.asked(PACKAGE)) == 1


async def test_progress(setting: Setting, server: ReleaseServer) -> None:
    """While it is at it, it says what it does and how far it is; before and after, nothing (requirement G5)."""
    server.faults.append(Fault(PACKAGE, "stall"))
    installer = setting.installer()
    assert installer.progress() is None
    task = asyncio.create_task(installer.install())
    await server.stalled.wait()
    while not (now := installer.progress()) or not now.done:
        await asyncio.wait({task}, timeout=0.001)
    package = server.directory / "v0.12.3" / PACKAGE
    size = (await asyncio.to_thread(package.stat)).st_size
    assert (now.kind, now.name, now.step, now.total) == ("runtime", "ollama", "downloading", size)
    assert 0 < now.done < size
    task.cancel()
    await asyncio.wait({task})
    assert installer.progress() is None


async def test_progress_without_network(setting: Setting, server: ReleaseServer) -> None:
    """While it waits to ask again, it says that."""
    server.faults.append(Fault("sha256sum.txt", "status"))
    setting.patience = Patience(max_backoff=60)
    installer = setting.installer()
    task = asyncio.create_task(installer.install())
    while (now := installer.progress()) != Progress("runtime", "ollama", "waiting for the network"):
        assert now is None or now.step == "looking for a release"
        await asyncio.wait({task}, timeout=0.001)
    task.cancel()
    await asyncio.wait({task})


def test_find(directory: Path) -> None:
    """The newest install is found, or the version that is wanted, if its program is there and can be executed."""
    assert find(directory, "linux", "") is None
    for version in ("0.9.6", "0.12.0-rc2", "0.12.0-rc10", "0.12.0", "latest"):
        install_by_hand(directory, version)
    install_by_hand(directory, ".unpacking")
    install_by_hand(directory, "models")
    install_by_hand(directory, "0.13.0").chmod(0o644)
    (directory / "0.14.0").mkdir()
    newest = find(directory, "linux", "")
    assert newest == Install("0.12.0", directory / "0.12.0" / "bin" / "ollama")
    wanted = find(directory, "linux", "0.9.6")
    assert wanted is not None
    assert wanted.version == "0.9.6"
    assert find(directory, "linux", "0.13.0") is None
    (directory / "0.12.0" / "bin" / "ollama").unlink()
    trial = find(directory, "linux", "")
    assert trial is not None
    assert trial.version == "0.12.0-rc10"


def test_what_stops_it_leaves_nothing_half(tmp_path: Path, directory: Path) -> None:
    """Whatever ends the unpacking, what was there before is still what is there."""
    old = install_by_hand(directory, "0.12.3", b"#!/bin/sh\necho old\n")
    archive = tmp_path / PACKAGE
    archive.write_bytes(pack(PACKAGE, {"bin/ollama": PROGRAM}))

    def full(_count: int) -> None:
        raise OSError(28, os.strerror(28))

    with pytest.raises(OSError, match="No space"):
        put_in_place([archive], directory, "linux", "0.12.3", full)
    assert old.read_bytes() == b"#!/bin/sh\necho old\n"
    assert old.stat().st_mode & stat.S_IXUSR
    assert names(directory) == ["0.12.3"]
