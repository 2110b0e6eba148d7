"""A `llama-server`: the arguments of llama.cpp's own server, and the wheel's llama.cpp behind them.

It takes what `llm_router.node.runtimes.llamacpp.llama_server` says, and refuses what it does not know, as the real one
does.
What it pretends to be is said in variables:

    DOUBLE_BUILD    number of its build
    DOUBLE_DEVICES  lines of --list-devices, such as "CUDA0: Some GPU (24124 MiB, 23700 MiB free)"
    DOUBLE_ROOM     "directory:number": memory runs out where more than so many of them run at once
"""

import argparse
import os
import sys
import time
from pathlib import Path

VERSION = "version: 0.0.0 (build {}, commit 0000000)\nbuilt with a text editor for tests"


def main() -> None:
    """Tell, or serve until killed."""
    if "--version" in sys.argv:
        print(VERSION.format(os.environ.get("DOUBLE_BUILD", "1")), file=sys.stderr)  # noqa: T201 - as the real one
        return
    if "--list-devices" in sys.argv:
        print("Available devices:\n  " + os.environ.get("DOUBLE_DEVICES", ""))  # noqa: T201 - as the real one
        return
    asked = arguments()
    take_room(os.environ.get("DOUBLE_ROOM", ""))
    server = serve(asked)
    while server:
        time.sleep(3600)


def arguments() -> argparse.Namespace:
    """Those of the real one that we use."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--ctx-size", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--ubatch-size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pooling", choices=["none", "mean", "cls", "last", "rank"])
    for flag in ("--embeddings", "--jinja", "--no-warmup"):
        parser.add_argument(flag, action="store_true")
    return parser.parse_args()


def take_room(room: str) -> None:
    """Fail as llama.cpp does where there is no memory, if too many run already."""
    directory, _, number = room.rpartition(":")
    if not directory:
        return
    places = Path(directory)
    others = [place for place in places.iterdir() if Path(f"/proc/{place.name}").exists()]
    if len(others) >= int(number):
        print("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 1")  # noqa: T201
        sys.exit(1)
    (places / str(os.getpid())).touch()


def serve(asked: argparse.Namespace) -> object:
    """The wheel's server, with these arguments."""
    import xllamacpp  # noqa: PLC0415 - `--version` is to be answered at once

    params = xllamacpp.CommonParams()
    params.model.path = asked.model
    params.model_alias = {asked.alias}
    params.hostnames = [asked.host]
    params.port = asked.port
    params.n_parallel = asked.parallel
    params.n_ctx = asked.ctx_size
    params.n_batch, params.n_ubatch = asked.batch_size, asked.ubatch_size
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = asked.threads
    params.warmup = not asked.no_warmup
    params.embedding = asked.embeddings
    params.cache_ram_mib = int(os.environ["LLAMA_ARG_CACHE_RAM"])
    params.ui = False
    if asked.pooling == "last":
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
