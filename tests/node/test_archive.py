"""Unpacking: what is packed comes out, and nothing comes out beside the directory."""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.doubles.release_server import Members, pack

from llm_router.node.archive import ArchiveRefused, unpack

KINDS = ("x.tar.zst", "x.tgz", "x.tar.gz", "x.zip")
PACKAGE: Members = {
    "bin/ollama": b"#!/bin/sh\n",
    "lib/ollama/libggml.so.0": b"library" * 1000,
    "lib/ollama/libggml.so": ("libggml.so.0",),
    "lib/ollama/cuda/libggml.so": ("../libggml.so",),
}


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def unpacked(archives: list[Path], directory: Path, limit: int = 1_000_000) -> list[int]:
    """Unpack; what was told of bytes read."""
    told: list[int] = []
    unpack(archives, directory, read=told.append, limit=limit)
    return told


def tar(*infos: tarfile.TarInfo) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for info in infos:
            archive.addfile(info, io.BytesIO(b"x" * info.size) if info.isreg() else None)
    return gzip.compress(packed.getvalue())


def member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0, mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, target, size, mode
    return info


@pytest.mark.parametrize("kind", KINDS)
def test_a_package(tmp_path: Path, kind: str) -> None:
    """Files, the right to execute them, and links within the package come out as they went in (requirement G1)."""
    archive = written(tmp_path / kind, pack(kind, PACKAGE))
    directory = tmp_path / "out"
    told = unpacked([archive], directory)
    assert (directory / "bin/ollama").read_bytes() == PACKAGE["bin/ollama"]
    assert (directory / "bin/ollama").stat().st_mode & stat.S_IXUSR
    assert not (directory / "lib/ollama/libggml.so.0").stat().st_mode & stat.S_IXUSR
    assert (directory / "lib/ollama/cuda/libggml.so").read_bytes() == PACKAGE["lib/ollama/libggml.so.0"]
    assert (directory / "lib/ollama/libggml.so").is_symlink()
    assert sum(told) >= archive.stat().st_size


def test_one_over_the_other(tmp_path: Path) -> None:
    """Libraries that come in a package of their own belong into the same directory; the later file counts."""
    first = written(tmp_path / "a.tgz", pack("a.tgz", PACKAGE))
    second = written(
        tmp_path / "b.tgz", pack("b.tgz", {"lib/ollama/rocm.so": b"rocm", "lib/ollama/libggml.so": b"new"})
    )
    unpacked([first, second], tmp_path / "out")
    assert (tmp_path / "out/lib/ollama/rocm.so").read_bytes() == b"rocm"
    assert (tmp_path / "out/lib/ollama/libggml.so").read_bytes() == b"new"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "members",
    [
        {"../evil": b"x"},
        {"lib/../../evil": b"x"},
        {"/evil": b"x"},
        {"C:/evil": b"x"},
        {"C:evil": b"x"},
        {"link": ("../evil",)},
        {"link": ("/etc/passwd",)},
        {"link": ("..",), "link/evil": b"x"},
        {"link": ("..",), "link/evil": ("x",)},
        {"a/b/c": b"x", "a/b/up": ("../..",), "out": ("a/b/up/../..",)},
        {"loop": ("other",), "other": ("../out/../..",)},
    ],
)
def test_nothing_beside_the_directory(tmp_path: Path, kind: str, members: Members) -> None:
    """A member that leads out of the directory, by its path or through links, makes the archive refused."""
    (tmp_path / "in").mkdir()
    archive = written(tmp_path / "in" / kind, pack(kind, members))
    with pytest.raises(ArchiveRefused, match=f"{kind} is refused"):
        unpacked([archive], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == [kind]


def test_backslashes(tmp_path: Path) -> None:
    """A backslash separates in a zip, as Windows PowerShell packs it, and leads nowhere; a tar has none."""
    unpacked([written(tmp_path / "x.zip", pack("x.zip", {"lib\\ollama.dll": b"x"}))], tmp_path / "out")
    assert (tmp_path / "out/lib/ollama.dll").is_file()
    for kind, name in (("y.zip", "..\\evil"), ("y.tgz", "..\\evil")):
        with pytest.raises(ArchiveRefused):
            unpacked([written(tmp_path / kind, pack(kind, {name: b"x"}))], tmp_path / f"out-{kind}")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices(tmp_path: Path, kind: bytes) -> None:
    """Devices and pipes are refused."""
    archive = written(tmp_path / "x.tgz", tar(member("null", kind)))
    with pytest.raises(ArchiveRefused, match="device"):
        unpacked([archive], tmp_path / "out")


def test_pipe_in_a_zip(tmp_path: Path) -> None:
    """Also in a zip, which knows the same kinds."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("pipe")
        info.external_attr = (stat.S_IFIFO | 0o644) << 16
        archive.writestr(info, b"")
    with pytest.raises(ArchiveRefused, match="device"):
        unpacked([tmp_path / "x.zip"], tmp_path / "out")


def test_hard_links(tmp_path: Path) -> None:
    """A hard link to an earlier member is that file; to anything else, it is refused."""
    good = tar(member("a", size=3), member("b", tarfile.LNKTYPE, "a"))
    unpacked([written(tmp_path / "good.tgz", good)], tmp_path / "good")
    assert (tmp_path / "good/b").read_bytes() == b"xxx"
    for number, target in enumerate(["../good.tgz", "/etc/passwd", "later"]):
        bad = written(tmp_path / f"{number}.tgz", tar(member("b", tarfile.LNKTYPE, target), member("later")))
        with pytest.raises(ArchiveRefused):
            unpacked([bad], tmp_path / f"bad-{number}")


def test_modes(tmp_path: Path) -> None:
    """What a package would let everybody write, or run as root, is neither here."""
    archive = written(tmp_path / "x.tgz", tar(member("a", mode=0o6777), member("b", mode=0)))
    unpacked([archive], tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/a").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "out/b").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", KINDS)
def test_bomb(tmp_path: Path, kind: str) -> None:
    """An archive that holds more than it may is refused before it is on the disk."""
    archive = written(tmp_path / kind, pack(kind, {"zeros": bytes(50_000_000)}))
    with pytest.raises(ArchiveRefused, match="more than"):
        unpacked([archive], tmp_path / "out", limit=10_000_000)
    assert (tmp_path / "out/zeros").stat().st_size <= 10_000_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", [lambda b: b[:-200], lambda b: b[:100], lambda _: b"<html>", lambda _: b""])
def test_damaged(tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]) -> None:
    """A damaged archive is an error that names it, wherever the damage is."""
    content = damage(pack(kind, {**PACKAGE, "noise": bytes(range(256)) * 40}))
    archive = written(tmp_path / kind, content)
    with pytest.raises(ArchiveRefused, match=f"{kind} is damaged"):
        unpacked([archive], tmp_path / "out")


def test_two_of_one_name(tmp_path: Path) -> None:
    """A file where a directory is makes no sense, and is refused."""
    archive = written(tmp_path / "x.tgz", tar(member("a/b"), member("a")))
    with pytest.raises(ArchiveRefused, match="two are called a"):
        unpacked([archive], tmp_path / "out")


def test_unknown_kind(tmp_path: Path) -> None:
    """An archive of another kind is refused by name."""
    with pytest.raises(ArchiveRefused, match=r"none of \.zip"):
        unpacked([written(tmp_path / "x.rar", b"Rar!")], tmp_path / "out")


def test_ended_by_whoever_watches(tmp_path: Path) -> None:
    """What `read` raises ends the work."""

    def stop(_count: int) -> None:
        raise InterruptedError

    archive = written(tmp_path / "x.tgz", pack("x.tgz", PACKAGE))
    with pytest.raises(InterruptedError):
        unpack([archive], tmp_path / "out", read=stop)
