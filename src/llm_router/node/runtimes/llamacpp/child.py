"""The child process that runs one model: `python -m llm_router.node.runtimes.llamacpp.child`.

On standard input comes one line of JSON, `Settings`; on standard output goes one line of JSON, `Answer`: the port
once it serves, or why it does not. What llama.cpp prints goes to the log file.

It ends when its standard input closes, so that it never outlives the agent, however that ended; and at SIGTERM, at
once, as signals do by default: the kernel frees what it holds. (llama.cpp keeps Python's lock while it loads a model,
so a child whose agent died meanwhile ends when the model is loaded.)

It imports no more of ours than it needs: there is one for every model in memory.
"""

import os
import sys

import msgspec


class Settings(msgspec.Struct, frozen=True):
    """What to run: `parallel` requests at once, each with `context` tokens.

    `cache`: MiB of memory for the beginnings of conversations that no slot holds any more; by default llama.cpp takes
    up to 8 GiB for that, which nobody has counted. `pools`: the file says how one vector is made of many. A model that
    generates text has no way of its own; the last token's is what Ollama takes. `template`: the file with the chat
    template that stands in for the model's own, if any.
    """

    id: str
    path: str
    log: str
    parallel: int
    context: int
    threads: int
    cache: int = 0
    pools: bool = False
    template: str = ""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """How it went: `port` on 127.0.0.1, or `error`."""

    port: int = 0
    error: str = ""


def main() -> None:
    """Serve until standard input closes."""
    settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=Settings)
    answers = os.dup(1)
    _send_output_to(settings.log)
    try:
        server = _serve(settings)
        answer = Answer(port=int(server.listening_address.rsplit(":", 1)[1]))
    except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: whatever llama.cpp refuses
        answer = Answer(error=str(error))
    os.write(answers, msgspec.json.encode(answer) + b"\n")
    if answer.error:
        sys.exit(1)  # as usual: llama.cpp's log is written by a thread of its own, which finishes at the end
    sys.stdin.buffer.read()
    os._exit(0)  # without waiting for answers that nobody reads any more


def _send_output_to(log: str) -> None:
    """Point descriptors 1 and 2 at the file, emptied: llama.cpp prints from C++, past Python's streams."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _serve(settings: Settings):  # type: ignore[no-untyped-def]  # noqa: ANN202 - xllamacpp ships no types
    """Load the model and start llama.cpp's server; it answers from its own threads.

    Raises:
        RuntimeError: llama.cpp cannot load it.
    """
    import xllamacpp  # noqa: PLC0415 - it prints when imported, and a failing import is to be reported too

    params = xllamacpp.CommonParams()
    params.model.path = settings.path
    params.model_alias = {settings.id}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = False
    params.cors_origins = ""  # its default lets every web page in, and the gateway passes its headers on
    params.n_parallel = settings.parallel
    params.n_ctx = settings.parallel * settings.context  # the total over all slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
    params.warmup = False  # the first request warms it up as well, and starts sooner
    params.cache_ram_mib = settings.cache
    if settings.template:
        with open(settings.template, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - without pathlib's memory
            params.chat_template = file.read()
    params.embedding = True  # beside generation, not instead of it
    if settings.pools:
        params.n_batch = params.n_ubatch = settings.context  # what is pooled over is computed at once
    else:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
