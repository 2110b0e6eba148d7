"""Why a model was not loaded, from llama.cpp's log."""

from pathlib import Path

import pytest

from llm_router.errors import UpstreamFailed
from llm_router.node.runtimes.llamacpp.log import why_not_loaded
from llm_router.node.runtimes.process import OutOfMemory

NO_HEADER = """\
0.00.003.212 W srv          init: security: no API key is set, which some call a failed setup
0.00.004.599 I srv    load_model: loading model 'm.gguf'
0.00.006.343 E gguf_init_from_reader: failed to read header
0.00.006.369 E llama_model_load: error loading model: failed to load model from m.gguf
0.00.006.433 I srv    operator(): operator(): cleaning up before exit...
"""
NO_MEMORY = """\
0.00.004.599 I srv    load_model: loading model 'm.gguf'
0.31.335.538 E graph_reserve: failed to allocate compute buffers
0.32.308.435 E llama_init_from_model: failed to initialize the context: failed to allocate compute pp buffers
"""
OLDER = """\
llama_model_loader: loaded meta data with 26 key-value pairs
ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 0: cudaMalloc failed: out of memory
llama_model_load: error loading model: unable to allocate CUDA0 buffer
"""


@pytest.mark.parametrize(
    ("log", "kind", "reason"),
    [
        (NO_HEADER, UpstreamFailed, "gguf_init_from_reader: failed to read header"),
        (NO_MEMORY, OutOfMemory, "graph_reserve: failed to allocate compute buffers"),
        (OLDER, OutOfMemory, "cudaMalloc failed: out of memory"),
        ("nothing of note\n", UpstreamFailed, "its process ended"),
        ("", UpstreamFailed, "its process ended"),
        (None, UpstreamFailed, "its process ended"),
    ],
)
def test_the_first_error_is_the_reason(tmp_path: Path, log: str | None, kind: type[Exception], reason: str) -> None:
    """What went wrong first is told, and whether memory ran out; without a log, or a word in it, what else is known."""
    path = tmp_path / "m.log"
    if log is not None:
        path.write_text(log)
    error = why_not_loaded(path, "its process ended")
    assert type(error) is kind
    assert reason in error.message


def test_a_long_log_is_read_from_its_end(tmp_path: Path) -> None:
    """What a server printed in days before does not matter, and is not read."""
    path = tmp_path / "m.log"
    path.write_text("0.00.000.001 E old: failed long ago\n" + "0.00.000.002 I srv: fine\n" * 10_000 + NO_HEADER)
    assert "failed to read header" in why_not_loaded(path, "").message
