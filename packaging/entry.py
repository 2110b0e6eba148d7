"""Where the self-contained program begins: it is the command `llm-router`, or one module of it.

What shall run apart (a model, the agent, the process that writes) is started as `sys.executable [-P] -m llm_router.…`.
In this program `sys.executable` is the program itself, so it takes these words as Python would. It runs no other
modules and no code: it is no Python for everybody.
"""

import os
import runpy
import sys
from collections.abc import MutableMapping, Sequence

PACKAGE = "llm_router"


def module_of(arguments: Sequence[str]) -> tuple[str, list[str]] | None:
    """The module that is asked for and its arguments; None where these are a command's own."""
    match arguments:
        case ["-P", "-m", name, *rest] | ["-m", name, *rest] if name.partition(".")[0] == PACKAGE:
            return name, rest
        case _:
            return None


def give_back(environment: MutableMapping[str, str]) -> None:
    """Undo what PyInstaller's loader has said in the environment: whatever is started from here would inherit it.

    An `ollama` or a `llama-server` would run with the libraries in here in place of its machine's own. Copies of this
    program say it anew. (PyInstaller's manual, "Launching External Programs from the Frozen Application".)
    """
    for name in [name for name in environment if name.startswith("_PYI_")]:
        del environment[name]
    before = environment.pop("LD_LIBRARY_PATH_ORIG", None)
    environment.pop("LD_LIBRARY_PATH", None)
    if before is not None:
        environment["LD_LIBRARY_PATH"] = before


def main() -> None:
    """Run what is asked for."""
    give_back(os.environ)
    module, sys.argv[1:] = module_of(sys.argv[1:]) or (PACKAGE, sys.argv[1:])
    if module != PACKAGE:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    from llm_router.cli import main as command  # noqa: PLC0415 - a model's process is not to load the command line

    command()


if __name__ == "__main__":
    main()
