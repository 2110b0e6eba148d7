"""The self-contained program's beginning; that it works from there is test_built.py's."""

import runpy
from pathlib import Path

import pytest

ENTRY = runpy.run_path(str(Path(__file__).parents[2] / "packaging" / "entry.py"))
CHILD = "llm_router.node.runtimes.llamacpp.child"


@pytest.mark.parametrize("flags", [(), ("-P",)])
def test_modules_of_its_own(flags: tuple[str, ...]) -> None:
    """What the router and the node start by `sys.executable` is understood as Python would."""
    assert ENTRY["module_of"]([*flags, "-m", CHILD, "log", "-m"]) == (CHILD, ["log", "-m"])


@pytest.mark.parametrize(
    "arguments", [[], ["up"], ["-m", "json.tool"], ["-m"], ["chat", "-m", CHILD], ["-c", "print()"]]
)
def test_a_command(arguments: list[str]) -> None:
    """Everything else is a command's."""
    assert ENTRY["module_of"](arguments) is None


def test_the_machines_libraries() -> None:
    """What is started from it finds the libraries of its machine, not those that came with the program."""
    said = {"LD_LIBRARY_PATH": "/program", "_PYI_ARCHIVE_FILE": "/program/x", "HOME": "/root"}
    variables = dict(said)
    ENTRY["give_back"](variables)
    assert variables == {"HOME": "/root"}
    variables = said | {"LD_LIBRARY_PATH_ORIG": "/opt/cuda"}
    ENTRY["give_back"](variables)
    assert variables == {"HOME": "/root", "LD_LIBRARY_PATH": "/opt/cuda"}
