"""Which files are models, and what they are called (requirements C1, C2, H7)."""

import os
import sys
from pathlib import Path

import pytest
from tests.models import ggufs
from tests.models.ggufs import LLAMA, Value

from llm_router.errors import BadRequest, Forbidden, ModelNotFound
from llm_router.node.models.store import Scan, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def put(store: Store, name: str, **more: Value) -> Path:
    """A GGUF file that is a whole model; `more` keys: `__` is a full stop."""
    return ggufs.write(store.directory / name, LLAMA | {key.replace("__", "."): value for key, value in more.items()})


def put_bytes(store: Store, name: str, content: bytes | str) -> Path:
    path = store.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def put_part(store: Store, name: str, part: int, parts: int) -> Path:
    """One file of several: all but the first say nothing but which they are (llama.cpp, gguf-split)."""
    numbers: dict[str, Value] = {"split.no": part, "split.count": parts}
    return ggufs.write(store.directory / name, numbers if part else LLAMA | numbers)


def ids(store: Store) -> list[str]:
    return [model.id for model in store.scan().models]


def reason(store: Store, path: Path) -> str:
    """Why this file is no model; nothing else is found."""
    scan = store.scan()
    assert not scan.models
    assert list(scan.skipped) == [path]
    return scan.skipped[path]


# -- names


def test_every_stored_model_is_listed(store: Store) -> None:
    """A model's id is its path in the store, without `.gguf` and in lower case (C1)."""
    put(store, "tiny.gguf")
    put(store, "Qwen/Qwen3-0.6B-Q8_0.GGUF")
    assert ids(store) == ["qwen/qwen3-0.6b-q8_0", "tiny"]


@pytest.mark.parametrize("name", [".hidden.gguf", ".cache/x.gguf", "x.gguf.partial", "notes.txt", "config.json"])
def test_not_models(store: Store, name: str) -> None:
    """Hidden files, downloads under way and other files are passed over without a word."""
    put(store, name)
    assert store.scan() == Scan([], {})


@pytest.mark.parametrize("name", ["my model.gguf", "größe.gguf", "a..b.gguf", "a$b.gguf"])
def test_unusable_names(store: Store, name: str) -> None:
    """A name that no request could carry is said to be skipped, with the reason (H7)."""
    assert "characters" in reason(store, put(store, name))


def test_two_of_one_name(store: Store) -> None:
    """Where lower case makes two names one, the first is listed and the other said to be skipped."""
    put(store, "A.gguf")
    second = put(store, "a.gguf")
    scan = store.scan()
    if len(list(store.directory.iterdir())) == 1:
        pytest.skip("this file system does not tell the two apart")
    assert [model.id for model in scan.models] == ["a"]
    assert "same id" in scan.skipped[second]


def test_no_directory_yet(tmp_path: Path) -> None:
    """A store that was never written to is empty."""
    assert not Store(tmp_path / "nowhere").scan().models


def test_builtin_is_written_once(store: Store) -> None:
    """The first start writes the built-in model; what is there stays as it is."""
    store.ensure_builtin()
    assert ids(store) == ["hello-world"]
    put_bytes(store, "hello-world.gguf", "mine")
    store.ensure_builtin()
    assert (store.directory / "hello-world.gguf").read_bytes() == b"mine"


# -- GGUF files


def test_facts(store: Store) -> None:
    """Size and time are the file's; what it is stands in its header (C2)."""
    path = put(store, "tiny.gguf", general__architecture="qwen3", qwen3__context_length=40_960)
    (model,) = store.scan().models
    state = path.stat()
    assert (model.path, model.size, model.modified) == (path, state.st_size, state.st_mtime)
    assert (model.format, model.architectures, model.families) == ("gguf", ("qwen3",), ("qwen",))
    assert model.facts is not None
    assert model.facts.context == 40_960


def test_not_a_gguf_file(store: Store) -> None:
    """Something else under that name is not listed, and the reason given (C2)."""
    path = put_bytes(store, "page.gguf", "<!DOCTYPE html><html></html>")
    assert "it is not a GGUF file" in reason(store, path)


def test_half_fetched(store: Store) -> None:
    """A file that was not fetched whole is not listed (C2)."""
    path = put(store, "tiny.gguf")
    os.truncate(path, path.stat().st_size - 100)
    assert "only a part of it was fetched" in reason(store, path)


def test_listed_once_it_is_whole(store: Store) -> None:
    """A file that changes is read again."""
    path = put(store, "tiny.gguf")
    size = path.stat().st_size
    os.truncate(path, size - 100)
    assert not ids(store)
    os.truncate(path, size)
    assert ids(store) == ["tiny"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing is hidden from this user")
def test_not_ours_to_read(store: Store) -> None:
    """A file that may not be read is not listed, and the system's reason given (C2)."""
    path = put(store, "tiny.gguf")
    path.chmod(0)
    assert "it cannot be read: Permission denied" in reason(store, path)


@pytest.mark.skipif(sys.platform == "win32", reason="not every user may make links there")
def test_a_link_to_nothing(store: Store) -> None:
    """A link whose target has gone is passed over."""
    (store.directory / "x.gguf").symlink_to(store.directory / "gone")
    assert store.scan() == Scan([], {})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"general__type": "adapter"}, "adapter (LoRA)"),
        ({"general__type": "mmproj"}, "a projector"),
        ({"general__type": "imatrix"}, "importance matrix"),
        ({"general__architecture": "clip"}, "a projector"),
        ({"general__architecture": ""}, "names no architecture"),
    ],
)
def test_what_goes_with_a_model(store: Store, more: dict[str, Value], said: str) -> None:
    """Files that go with a model are none by themselves, and it is said what they are (C2)."""
    assert said in reason(store, put(store, "x.gguf", **more))


def test_a_vocabulary_alone(store: Store) -> None:
    """A file without weights is no model."""
    path = ggufs.write(store.directory / "vocabulary.gguf", LLAMA, {})
    assert "no weights" in reason(store, path)


# -- in several files


def test_in_several_files(store: Store) -> None:
    """A model in several files is one, named without their numbers, as large as all of them."""
    parts = [put_part(store, f"Big-0000{number + 1}-of-00003.gguf", number, 3) for number in range(3)]
    (model,) = store.scan().models
    assert (model.id, model.path) == ("big", parts[0])
    assert model.size == sum(part.stat().st_size for part in parts)
    assert model.facts is not None
    assert (model.facts.tensors, model.facts.weights) == (6, 3 * 2 * 64 * 8 * 4)


def test_a_file_is_not_there_yet(store: Store) -> None:
    """As long as one of its files is missing it is not listed, and the reason names it."""
    first = put_part(store, "big-00001-of-00003.gguf", 0, 3)
    last = put_part(store, "big-00003-of-00003.gguf", 2, 3)
    assert "not here: 2" in reason(store, first)
    second = put_part(store, "big-00002-of-00003.gguf", 1, 3)
    assert ids(store) == ["big"]
    first.unlink()
    second.unlink()
    assert "not here: 1, 2" in reason(store, last)


def test_a_damaged_file_of_several(store: Store) -> None:
    """When one of its files is no good the model is not listed, and the reason names that file (C2)."""
    first = put_part(store, "big-00001-of-00002.gguf", 0, 2)
    put_bytes(store, "big-00002-of-00002.gguf", bytes(100))
    assert reason(store, first).startswith("big-00002-of-00002.gguf: it is not a GGUF file")


@pytest.mark.parametrize(("name", "part", "parts"), [("big.gguf", 0, 3), ("big-00001-of-00001.gguf", 1, 2)])
def test_a_file_under_another_name(store: Store, name: str, part: int, parts: int) -> None:
    """llama.cpp finds the other files by the name of the first: one with another name is no model."""
    path = put_part(store, name, part, parts)
    assert f"file {part + 1} of {parts}" in reason(store, path)


# -- safetensors


CONFIG = '{"architectures": ["Qwen3ForCausalLM"]}'


def test_a_safetensors_model(store: Store) -> None:
    """A directory with a config.json and weights is a model, whose architecture stands in there (C2)."""
    config = put_bytes(store, "Qwen/Qwen3-0.6B/config.json", CONFIG)
    put_bytes(store, "Qwen/Qwen3-0.6B/model.safetensors", bytes(1000))
    put_bytes(store, "Qwen/Qwen3-0.6B/original/notes.txt", "")
    (model,) = store.scan().models
    assert (model.id, model.path, model.format) == ("qwen/qwen3-0.6b", config.parent, "safetensors")
    assert (model.architectures, model.families) == (("Qwen3ForCausalLM",), ("qwen",))
    assert (model.size, model.facts) == (1000 + len(CONFIG), None)


def test_an_mlx_model(store: Store) -> None:
    """One whose weights are packed for MLX is of a format of its own (C4)."""
    put_bytes(
        store, "m/config.json", '{"architectures": ["LlamaForCausalLM"], "quantization": {"group_size": 64, "bits": 4}}'
    )
    put_bytes(store, "m/model.safetensors", bytes(10))
    assert [model.format for model in store.scan().models] == ["mlx"]


def test_a_gguf_file_beside_a_config(store: Store) -> None:
    """A config.json beside a GGUF file makes no model of its own."""
    put_bytes(store, "m/config.json", CONFIG)
    put(store, "m/q8.gguf")
    assert ids(store) == ["m/q8"]


@pytest.mark.parametrize(
    ("content", "said"), [(None, "missing"), ("", "empty"), ("{", "malformed"), ("{}", "names no")]
)
def test_a_config_that_is_no_good(store: Store, content: str | None, said: str) -> None:
    """Weights whose config.json cannot be read are not listed, and that file is named (C2)."""
    put_bytes(store, "m/model.safetensors", bytes(10))
    if content is not None:
        put_bytes(store, "m/config.json", content)
    assert said in reason(store, store.directory / "m" / "config.json")


def test_weights_that_are_not_all_there(store: Store) -> None:
    """Of numbered weights all have to be there."""
    put_bytes(store, "m/config.json", CONFIG)
    put_bytes(store, "m/model-00001-of-00002.safetensors", bytes(10))
    assert "not here: 2" in reason(store, store.directory / "m" / "config.json")


def test_weights_in_the_store_itself(store: Store) -> None:
    """A model that is a directory has to have one of its own: its name is the model's."""
    put_bytes(store, "config.json", CONFIG)
    put_bytes(store, "model.safetensors", bytes(10))
    assert "directory of its own" in reason(store, store.directory / "config.json")


# -- the shared directory


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    directory = tmp_path / "shared"
    directory.mkdir()
    return directory


@pytest.fixture
def both(tmp_path: Path, shared: Path) -> Store:
    return Store(tmp_path / "own", shared)


def test_shared_models_are_used_where_they_lie(both: Store, shared: Path) -> None:
    """H1: in place, nothing is copied; our own counts where both have a model."""
    ggufs.write(shared / "a.gguf")
    ggufs.write(shared / "b.gguf")
    put(both, "b.gguf")
    found = {model.id: model for model in both.scan().models}
    assert (found["a"].shared, found["a"].path) == (True, shared / "a.gguf")
    assert not found["b"].shared
    assert list(both.directory.iterdir()) == [both.directory / "b.gguf"]


def test_a_shared_directory_that_is_gone_has_nothing(both: Store, shared: Path) -> None:
    """H2: its models are gone from the list, ours are not."""
    ggufs.write(shared / "a.gguf")
    put(both, "b.gguf")
    assert len(both.scan().models) == 2
    (shared / "a.gguf").unlink()
    shared.rmdir()
    assert ids(both) == ["b"]


def test_a_file_that_has_changed(both: Store, shared: Path) -> None:
    """H2: its time or its size tell, and so does a chat template that comes or goes."""
    path = ggufs.write(shared / "a.gguf")
    assert both.find("a").is_unchanged()
    before = both.find("a")
    (shared / "a.jinja").write_text("{{ messages }}")
    assert not before.is_unchanged()
    before = both.find("a")
    assert before.template == shared / "a.jinja"
    os.utime(path, (1, 1))
    os.utime(shared / "a.jinja", (1, 1))
    assert not before.is_unchanged()
    before = both.find("a")
    path.unlink()
    assert not before.is_unchanged()


# -- links, and names


@pytest.mark.skipif(sys.platform == "win32", reason="links take privileges there")
def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    """H7: what lies outside of a store is no model of it; a link that stays inside is one."""
    outside = ggufs.write(tmp_path / "outside" / "x.gguf")
    store = Store(tmp_path / "store")
    put(store, "in.gguf")
    (store.directory / "file.gguf").symlink_to(outside)
    (store.directory / "directory").symlink_to(outside.parent)
    (store.directory / "again.gguf").symlink_to(store.directory / "in.gguf")
    assert ids(store) == ["again", "in"]


def test_colons_are_written_as_equals_signs(store: Store) -> None:
    """H7: `:` is in many names and in no file name of Windows."""
    put(store, "org/tiny=q8_0.gguf")
    assert ids(store) == ["org/tiny:q8_0"]
    assert store.places("org/tiny:q8_0", 1) == [store.directory / "org" / "tiny=q8_0.gguf"]


# -- what changes it


def test_delete(store: Store) -> None:
    """A model's files go, its chat template, and directories that are empty then; others stay."""
    put(store, "org/a.gguf")
    put_bytes(store, "org/a.jinja", "{{ messages }}")
    put(store, "b.gguf")
    store.delete("org/a")
    assert sorted(store.directory.iterdir()) == [store.directory / "b.gguf"]
    with pytest.raises(ModelNotFound):
        store.delete("org/a")


def test_delete_in_parts_and_directories(store: Store) -> None:
    """All parts of a model go; of a directory all that belongs to it, and no other model in it."""
    for part in range(2):
        put_part(store, f"m-0000{part + 1}-of-00002.gguf", part, 2)
    put_bytes(store, "s/config.json", '{"architectures": ["X"]}')
    put_bytes(store, "s/tokenizer.json", "{}")
    put_bytes(store, "s/model.safetensors", b"x")
    put(store, "s/other.gguf")
    store.delete("m")
    store.delete("s")
    assert [path.name for path in store.directory.rglob("*") if path.is_file()] == ["other.gguf"]


def test_shared_models_are_not_deleted(both: Store, shared: Path) -> None:
    """Nothing is ever written to the shared directory."""
    path = ggufs.write(shared / "a.gguf")
    with pytest.raises(Forbidden, match="shared directory"):
        both.delete("a")
    assert path.exists()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "..", "", "a\0b", "con", "x/", "a\\..\\b"])
def test_names_that_are_none(store: Store, name: str) -> None:
    """H7: nothing is deleted under them, and nothing gets them."""
    put(store, "a.gguf")
    outside = ggufs.write(store.directory.parent / "x.gguf")
    with pytest.raises(ModelNotFound):
        store.delete(name)
    with pytest.raises(BadRequest):
        store.copy("a", name)
    assert ids(store) == ["a"]
    outside.unlink()


def test_copy(store: Store) -> None:
    """A model under a second name, with all that belongs to it, in place of what had the name."""
    put(store, "a.gguf", general__name="A")
    put_bytes(store, "a.jinja", "{{ messages }}")
    put(store, "b=1.gguf", general__name="B")
    store.copy("a", "b:1")
    copied = store.find("b:1")
    assert copied.facts is not None
    assert copied.facts.name == "A"
    assert copied.template == store.directory / "b=1.jinja"
    store.delete("a")
    assert ids(store) == ["b:1"]


def test_copy_of_shared_and_several(both: Store, shared: Path) -> None:
    """A copy of a shared model lies in our own store; its parts are called as parts are."""
    for part in range(2):
        numbers: dict[str, Value] = {"split.no": part, "split.count": 2}
        ggufs.write(shared / f"m-0000{part + 1}-of-00002.gguf", numbers if part else LLAMA | numbers)
    both.copy("m", "n")
    copied = both.find("n")
    assert [file.name for file in copied.files] == ["n-00001-of-00002.gguf", "n-00002-of-00002.gguf"]
    assert not copied.shared
    assert not copied.path.samefile(shared / "m-00001-of-00002.gguf")
    assert ids(both) == ["n", "m"]
