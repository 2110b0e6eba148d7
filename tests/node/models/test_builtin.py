"""The built-in model's file. That it answers is shown in runtimes/llamacpp/test_runtime.py, by llama.cpp itself."""

import hashlib
from pathlib import Path

import pytest

from llm_router.node.models import builtin

gguf = pytest.importorskip("gguf")  # the oracle: the format's own reader


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "hello-world.gguf"
    builtin.write(path)
    return path


def test_the_same_bytes_each_time(path: Path) -> None:
    """Whoever writes it, wherever: one file, of some hundred kB (design.md §5)."""
    again = builtin.model_bytes()
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(again).digest()
    assert 100_000 < len(again) < 1_000_000


def test_words_differ() -> None:
    """A word that came twice would make the answer run in a circle."""
    words = builtin.SENTENCE.split()
    assert len(set(words)) == len(words) < builtin.DIM


def test_no_word_can_come_from_a_prompt() -> None:
    """Tokenizing joins two pieces at a time, so only a word of one letter could be made out of a prompt."""
    first, *others = builtin.SENTENCE.split()
    assert len(first) > 2
    assert all(len(word) > 1 for word in others)


def test_says_what_it_is() -> None:
    """Nobody shall take it for a language model."""
    assert "built-in model" in builtin.SENTENCE
    assert "fixed numbers" in builtin.SENTENCE


def test_oracle_reads_the_metadata(path: Path) -> None:
    """The `gguf` package finds a llama with ChatML and as many scores and types as tokens."""
    fields = gguf.GGUFReader(path).fields
    assert fields["general.architecture"].contents() == "llama"
    assert fields["general.name"].contents() == builtin.NAME
    assert "<|im_start|>" in fields["tokenizer.chat_template"].contents()
    counts = {len(fields[f"tokenizer.ggml.{part}"].contents()) for part in ("tokens", "scores", "token_type")}
    assert counts == {fields["llama.vocab_size"].contents()}


def test_oracle_reads_the_tensors(path: Path) -> None:
    """Embedding and output are the chain: each token's unit leads to the next word and nowhere else."""
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    embedding, output = tensors["token_embd.weight"], tensors["output.weight"]
    words = len(builtin.SENTENCE.split())
    first = len(embedding) - words
    following = [int((output @ embedding[token]).argmax()) for token in (0, *range(first, first + words))]
    assert following == [*range(first, first + words), builtin.EOT]


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    """A file that cannot be put in place leaves nothing behind."""
    (tmp_path / "taken.gguf").mkdir()
    with pytest.raises(OSError, match="taken"):
        builtin.write(tmp_path / "taken.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["taken.gguf"]
