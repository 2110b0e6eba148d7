"""Which files are models, and what they are called (requirements C1, H7)."""

from pathlib import Path

import pytest

from llm_router.node.models.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def put(store: Store, name: str, content: bytes = b"GGUF\x03\0\0\0") -> Path:
    path = store.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def ids(store: Store) -> list[str]:
    return [model.id for model in store.scan().models]


def test_every_stored_model_is_listed(store: Store) -> None:
    """A model's id is its path in the store, without `.gguf` and in lower case (C1)."""
    put(store, "tiny.gguf")
    put(store, "Qwen/Qwen3-0.6B-Q8_0.GGUF")
    assert ids(store) == ["qwen/qwen3-0.6b-q8_0", "tiny"]


def test_facts(store: Store) -> None:
    """Size and time are the file's."""
    path = put(store, "tiny.gguf")
    (model,) = store.scan().models
    assert (model.path, model.size, model.modified) == (path, 8, path.stat().st_mtime)


@pytest.mark.parametrize("name", [".hidden.gguf", ".cache/x.gguf", "x.gguf.partial", "notes.txt"])
def test_not_models(store: Store, name: str) -> None:
    """Hidden files, downloads under way and other files are passed over without a word."""
    put(store, name)
    scan = store.scan()
    assert not scan.models
    assert not scan.skipped


@pytest.mark.parametrize("name", ["my model.gguf", "größe.gguf", "a..b.gguf", "a$b.gguf"])
def test_unusable_names(store: Store, name: str) -> None:
    """A name that no request could carry is said to be skipped, with the reason (H7)."""
    path = put(store, name)
    scan = store.scan()
    assert not scan.models
    assert "characters" in scan.skipped[path]


def test_not_a_gguf_file(store: Store) -> None:
    """Something else under that name is not listed, and the reason given (C2 begins here)."""
    path = put(store, "page.gguf", b"<html>")
    scan = store.scan()
    assert not scan.models
    assert "GGUF" in scan.skipped[path]


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
    put(store, "hello-world.gguf", b"GGUF mine")
    store.ensure_builtin()
    assert (store.directory / "hello-world.gguf").read_bytes() == b"GGUF mine"
