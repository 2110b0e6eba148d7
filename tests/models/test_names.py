"""What may be a model's name, and that it stays where it is put (requirement H7)."""

import ntpath
import posixpath
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.errors import BadRequest
from llm_router.models.names import LONGEST, check, check_foreign, is_name, name_of, path_below, place_below

GOOD = [
    *("a", "llama3", "llama3:8b", "org/model", "org/sub/model:q4_k_m", "qwen2.5-0.5b-instruct:q4_k_m", "_x", "-x", "0"),
    *("hf.co/org/model-gguf:q4_k_m", "localhost:5000/lib/model:tag", "registry.example:443/a/b:c", "a.b.c", "console"),
    *("com", "com10", "nullify", "auxiliary/con-text", "a:b:c", "x" * LONGEST),
]
BAD = [
    *("", "/", "//", ".", "..", "../x", "x/..", "a/../b", "a..b", "...", "./x", "x/.", "a/./b", ".x", "a/.x", "a/b/.c"),
    *("/x", "x/", "a//b", "//server/share", "/etc/passwd", "~/x", "~", "$home", "*", "?", "[a]", "{a}", "a,b", "a;b"),
    *(
        "\\",
        "..\\x",
        "a\\b",
        "\\\\server\\share",
        "\\\\?\\c:\\x",
        "c:",
        "c:\\x",
        "c:/x",
        "c:/windows/win.ini",
        "a:/b",
        ":a",
    ),
    *(
        "x::$data",
        "x:$data",
        "x::",
        "::",
        "a/:b",
        "x:",
        "x.",
        "a./b",
        "x:.",
        "x ",
        " x",
        "a b",
        "x\t",
        "x\n",
        "\nx",
        "x\r\n",
    ),
    *(
        "a\0b",
        "\0",
        "x\x7f",
        "x\x1b",
        "%2e%2e%2fx",
        "%00",
        "a%2fb",
        "..%c0%af",
        "a=b",
        "a+b",
        "a@b",
        "a|b",
        "a<b>",
        'a"b',
    ),
    *(
        "con",
        "nul",
        "aux",
        "prn",
        "com1",
        "lpt9",
        "con.txt",
        "nul.gguf",
        "aux.a.b",
        "con:x",
        "a/con",
        "con/a",
        "a/nul.x/b",
    ),
    *(
        "conin$",
        "conout$",
        "com¹",
        "CON",
        "Model",
        "É",
        "é",
        "\uff41",
        "\u2024\u2024/x",
        "\uff0e\uff0e\uff0fx",
        "a\uff0fb",
        "a\u2215b",
        "a\u2044b",
        "\u2025",
        "\u202ex",
    ),
    *("\u200b", "\ufeffx", "\u212aelvin", "🦙", "x" * (LONGEST + 1), "a/" * 150 + "b"),
]
# Of text, and of pieces that mean something to file systems; many are names, many nearly are.
PIECES = st.sampled_from(
    ["a", "b", "con", "nul", "com1", "0", ".", "..", "/", ":", "=", "-", "_", "\\", "\0", " ", "A", "\n"]
)
TEXTS = st.one_of(st.text(), st.text("abc./:-_=\\ "), st.lists(PIECES, max_size=8).map("".join))
NAMES = st.lists(st.sampled_from(["a", "b", "ab", "a.b", "a-", "_"]), min_size=1, max_size=5).flatmap(
    lambda words: st.lists(st.sampled_from("/:."), min_size=len(words), max_size=len(words)).map(
        lambda joints: "".join(w + j for w, j in zip(words, joints, strict=True))[:-1]
    )
)

BELOW = Path("store").absolute()


@pytest.mark.parametrize("name", GOOD)
def test_these_are_names(name: str) -> None:
    """Ollama's, Hugging Face's, with and without registry and tag."""
    assert check(name) == name
    assert name_of(PurePosixPath(path_below(BELOW, name).relative_to(BELOW).as_posix())) == name


@pytest.mark.parametrize("name", BAD)
def test_these_are_none(name: str) -> None:
    """Whatever some file system, shell or decoder takes for something else; the message does not repeat all of it."""
    with pytest.raises(BadRequest, match="is no name of a model") as refused:
        check(name)
    assert len(refused.value.message) < 1000
    with pytest.raises(BadRequest):
        path_below(BELOW, name)


@pytest.mark.parametrize("name", ["hf.co/Org/Model-GGUF:Q4_K_M", "Llama3"])
def test_a_runtime_s_name_may_have_capitals(name: str) -> None:
    """Where only a runtime reads it."""
    assert check_foreign(name) == name


@pytest.mark.parametrize("name", ["../X", "NUL", "Con.gguf", "/X", "C:/X", "C:\\X", "\u212aelvin", "X::$DATA", "X."])
def test_a_runtime_s_name_is_no_path_either(name: str) -> None:
    """In capitals or not; a letter whose lower case happens to be ASCII is none."""
    with pytest.raises(BadRequest):
        check_foreign(name)


@given(TEXTS)
def test_a_name_is_a_path_below_the_store_or_none(name: str) -> None:
    """As both kinds of paths are read, by Python's own library: relative, of plain parts, the same when normalised."""
    if not is_name(name):
        return
    path = path_below(BELOW, name)
    inside = path.relative_to(BELOW).as_posix()
    assert posixpath.normpath(inside) == inside
    assert ntpath.normpath(inside) == inside.replace("/", "\\")
    assert not PureWindowsPath(inside).is_absolute()
    assert not PureWindowsPath(inside).drive
    assert not any(PureWindowsPath(part).is_reserved() for part in inside.split("/"))
    assert not any(part.endswith((".", " ")) or part.startswith(".") for part in inside.split("/"))
    assert name_of(PurePosixPath(inside)) == name


@given(NAMES, NAMES)
def test_two_names_are_two_paths(one: str, other: str) -> None:
    """Also where letters' case is nothing, and a dot at the end."""
    assert is_name(one)
    assert is_name(other)
    assert (_on_windows(one) == _on_windows(other)) is (one == other)


def _on_windows(name: str) -> list[str]:
    return [part.rstrip(". ").casefold() for part in path_below(BELOW, name).relative_to(BELOW).parts]


def test_what_is_put_around_the_longest_name_fits(tmp_path: Path) -> None:
    """A part of a path has 255 bytes."""
    stem = path_below(tmp_path, "x" * LONGEST)
    assert not stem.with_name(f".{stem.name}-00001-of-00003.gguf.4194304.partial").exists()


def test_a_link_in_the_store_may_lead_about_in_it_and_not_out(tmp_path: Path) -> None:
    """`place_below` is for what is about to be written; the store itself may be a link."""
    real, store = tmp_path / "real", tmp_path / "store"
    (real / "here").mkdir(parents=True)
    store.symlink_to(real)
    (real / "there").symlink_to("here")
    (real / "out").symlink_to(tmp_path)
    (real / "here" / "up").symlink_to("../..")
    for name in ("x", "new/x", "here/x", "there/x"):
        assert place_below(store, name) == path_below(store, name)
    for name in ("out/x", "out/real-2/x", "here/up/x", "there/up/x"):
        with pytest.raises(BadRequest, match="leads out of"):
            place_below(store, name)
