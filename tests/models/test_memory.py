"""What a model takes of memory is estimated before it runs (requirement C1)."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import msgspec
import psutil
import pytest
from tests.models import ggufs
from tests.models.ggufs import LLAMA

from llm_router.models import gguf
from llm_router.models.gguf import Facts
from llm_router.models.memory import in_words, need
from llm_router.node.models import builtin

MB = 1_000_000
FACTS = Facts(3, blocks=32, embedding=4096, heads=32, kv_heads=32 * 8, vocabulary=128_000)


def test_weights_are_the_files() -> None:
    """What lies on the disk is what lies in memory."""
    assert need(FACTS, 5000 * MB, context=4096, parallel=1).weights == 5000 * MB


def test_context() -> None:
    """Each layer remembers of each token a key and a value for each of its heads, two bytes for each number."""
    one = need(FACTS, 0, context=4096, parallel=1).cache
    assert one == 2 * 32 * 8 * 128 * 2 * 4096  # 512 MiB, as llama.cpp says of Llama 3 8B at 4,096 tokens
    assert need(FACTS, 0, context=8192, parallel=4).cache == 8 * one


def test_lengths_of_heads() -> None:
    """A model that says how much a head remembers is taken at its word."""
    facts = Facts(3, blocks=2, embedding=1024, heads=8, kv_heads=2 * 1, key=576, value=512)
    assert need(facts, 0, context=1, parallel=1).cache == 2 * (576 + 512) * 2


EMBEDDER = Facts(3, blocks=12, embedding=384, heads=12, kv_heads=144, causal=False)
RECURRENT = Facts(3, blocks=24, embedding=768)


@pytest.mark.parametrize("facts", [EMBEDDER, RECURRENT])
def test_nothing_to_remember(facts: Facts) -> None:
    """A model that reads a text at once has no cache, nor one without attention."""
    assert need(facts, 0, context=4096, parallel=4).cache == 0


def test_in_words() -> None:
    """It says how much it is, and what for."""
    said = str(need(FACTS, 5000 * MB, context=4096, parallel=4))
    assert said == "7.7 GB of memory: 5.0 GB of weights, 2.1 GB for its context, 512 MB to compute in"


@pytest.mark.parametrize(("size", "said"), [(0, "0 MB"), (999_000_000, "999 MB"), (1_000_000_000, "1.0 GB")])
def test_sizes_in_words(size: int, said: str) -> None:
    """Sizes are said in what people count memory in."""
    assert in_words(size) == said


# -- against processes

pytest.importorskip("xllamacpp")

LOAD = """
import sys, xllamacpp
path, parallel, context = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
params = xllamacpp.CommonParams()
params.model.path, params.port, params.ui, params.hostnames = path, 0, False, ["127.0.0.1"]
params.n_parallel, params.n_ctx, params.embedding = parallel, parallel * context, True
params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def running(path: Path, parallel: int, context: int) -> Iterator[tuple[psutil.Process, str]]:
    """A process that has loaded the model, and the port that it serves at."""
    command = [sys.executable, "-c", LOAD, str(path), str(parallel), str(context)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip().rsplit(":", 1)[1]
            yield psutil.Process(process.pid), port
        finally:
            process.kill()


def post(port: str, path: str, body: object) -> None:
    connection = HTTPConnection("127.0.0.1", int(port), timeout=60)
    connection.request("POST", path, msgspec.json.encode(body), {"content-type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()


def taken(path: Path, parallel: int, context: int) -> tuple[int, int]:
    """What a process of this model takes after it has generated, and after it has embedded a text too."""
    with running(path, parallel, context) as (process, port):
        post(port, "/completion", {"prompt": [9] * 512, "n_predict": 1})
        generated = process.memory_info().rss
        post(port, "/v1/embeddings", {"input": [9] * 512})
        return generated, process.memory_info().rss


def estimate(path: Path, parallel: int, context: int) -> int:
    return need(gguf.read(path), path.stat().st_size, context=context, parallel=parallel).total


SLACK = 50 * MB  # how much of the libraries counts as a process's own differs from system to system


@pytest.mark.parametrize(("parallel", "context"), [(4, 4096), (1, 131_072), (4, 262_144)])
def test_the_builtin_model(tmp_path: Path, parallel: int, context: int) -> None:
    """What the built-in model was estimated to take is about what its process takes, however long its context."""
    path = tmp_path / "m.gguf"
    builtin.write(path)
    generated, embedded = taken(path, parallel, context)
    assert generated * 0.75 - SLACK < estimate(path, parallel, context) < embedded * 1.25 + SLACK


def test_a_model_of_many_tokens(tmp_path: Path) -> None:
    """With 100,000 tokens the estimate is more than generating takes, and less than embedding with it takes."""
    path = ggufs.write(tmp_path / "m.gguf", *llama(tokens=100_000, width=64))
    generated, embedded = taken(path, 4, 4096)
    assert generated - SLACK < estimate(path, 4, 4096) < embedded + SLACK


def llama(tokens: int, width: int) -> tuple[dict[str, ggufs.Value], dict[str, tuple[int, ...]]]:
    """A whole llama of one layer that llama.cpp loads: metadata and tensors."""
    metadata = LLAMA | {
        "llama.block_count": 1,
        "llama.embedding_length": width,
        "llama.feed_forward_length": width,
        "llama.attention.head_count_kv": 4,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [f"<{number}>" for number in range(tokens)],
    }
    tensors: dict[str, tuple[int, ...]] = {f"{name}.weight": (width, tokens) for name in ("token_embd", "output")}
    tensors |= {f"{name}.weight": (width,) for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")}
    return metadata, tensors | {f"blk.0.{name}.weight": (width, width) for name in SQUARE}


SQUARE = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
