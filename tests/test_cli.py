"""The command line, as far as it needs no router: options, status, speed."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from llm_router import __version__, client
from llm_router.cli import SettingOption, commands
from llm_router.config import NodeConfig, RouterConfig
from llm_router.contract import NodeView, RuntimeFacts
from llm_router.up import lines_to_try

NOBODY = "http://127.0.0.1:9"  # the discard port: nobody listens there


Words = tuple[str, ...]


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(commands, arguments, env=env, prog_name="llm-router")


def all_commands(group: click.Group = commands, path: Words = ()) -> list[tuple[Words, click.Command]]:
    found: list[tuple[Words, click.Command]] = []
    for name, command in group.commands.items():
        found.append(((*path, name), command))
        if isinstance(command, click.Group):
            found += all_commands(command, (*path, name))
    return found


def test_version() -> None:
    """`--version` says it."""
    assert run("--version").output == f"llm-router, version {__version__}\n"


@pytest.mark.parametrize("path", [path for path, _ in all_commands()])
def test_help(path: tuple[str, ...]) -> None:
    """Every command explains itself."""
    said = run(*path, "--help")
    assert said.exit_code == 0
    assert said.output.startswith("Usage: llm-router " + " ".join(path))


def test_every_option_is_an_environment_variable() -> None:
    """Every option that is shown names its environment variable in the help."""
    for _, command in all_commands():
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.envvar
                assert option.show_envvar


@pytest.mark.parametrize(("command", "config"), [("serve", RouterConfig), ("node", NodeConfig)])
def test_every_setting_is_an_option(command: str, config: type[RouterConfig | NodeConfig]) -> None:
    """The options of the two sides are exactly the settings of `config.py`."""
    options = [o for o in commands.commands[command].params if isinstance(o, SettingOption)]
    assert [o.name for o in options] == [s.name for s in config.settings()]
    assert [o.envvar for o in options] == [s.env for s in config.settings()]


@pytest.mark.parametrize(
    "arguments", [["status"], ["nodes"], ["nodes", "list", "--json"], ["models"], ["chat", "m", "hi"]]
)
def test_no_router(arguments: list[str]) -> None:
    """Without a router a client command fails with status 1 and one line that says what to do."""
    said = run(*arguments, env={"ROUTER_URL": NOBODY})
    assert said.exit_code == 1
    assert said.stdout == ""
    assert said.stderr.startswith(f"Error: no router at {NOBODY}: start one with `llm-router up`")
    assert len(said.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--nonsense"],
        ["serve", "--policy", "best"],
        ["serve", "--port", "70000"],
        ["nodes", "attach", "http://a"],
        ["status", "--router", "ftp://a"],
        ["chat", "m", " "],
    ],
)
def test_misuse(arguments: list[str], tmp_path: Path) -> None:
    """What cannot be understood is status 2."""
    said = run(*arguments, env={"LLM_ROUTER_HOME": str(tmp_path), "ROUTER_URL": NOBODY})
    assert said.exit_code == 2
    assert "Traceback" not in said.output


def test_bad_environment(tmp_path: Path) -> None:
    """A bad value from the environment is named, too."""
    said = run("serve", env={"LLM_ROUTER_HOME": str(tmp_path), "LLM_ROUTER_PORT": "eighty"})
    assert said.exit_code == 2
    assert "LLM_ROUTER_PORT is 'eighty'" in said.stderr


def test_one_side_only() -> None:
    """A client command loads neither side, nor what only they need: it has to answer at once."""
    script = (
        "import sys; from llm_router import cli, client; "
        "print([m for m in sys.modules if m.split('.')[0] in ('asyncio', 'aiohttp', 'litestar', 'rich', 'sqlalchemy')"
        " or m.startswith(('llm_router.router', 'llm_router.node', 'llm_router.gateway'))])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout == b"[]\n"


def node(name: str, state: str, models: list[str], loaded: list[str]) -> NodeView:
    return NodeView(
        id=f"id-of-{name}",
        name=name,
        kind="agent",
        state=state,
        url=f"http://{name}:11435",
        local=False,
        runtimes=[RuntimeFacts("llamacpp", "1")],
        models=models,
        loaded=loaded,
        excluded=[],
        slots=4,
        in_flight=1,
        done=2,
        failed=0,
        cpu=0.0,
        memory=0.0,
        gpus=[],
        os="",
        last_seen=0.0,
    )


def test_models_of() -> None:
    """A model is listed once, with the nodes that can be used (requirement C8)."""
    nodes = [
        node("a", "online", ["m", "n"], ["m"]),
        node("b", "suspect", ["m"], []),
        node("c", "offline", ["x"], ["x"]),
    ]
    assert client.models_of(nodes) == [
        client.ModelRow("m", ["a", "b"], ["a"]),
        client.ModelRow("n", ["a"], []),
    ]


def test_table_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the output is not a terminal, nothing is coloured, cut off or wrapped, however long."""
    name = "a-very-long-name-for-a-machine" * 3
    client._print_nodes([node(name, "online", ["m"], [])], client.who)  # noqa: SLF001 - what is printed is the promise
    out = capsys.readouterr().out
    assert name in out
    assert f"id-of-{name}" in out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2


def test_answer_cannot_steer_the_terminal() -> None:
    """Control characters in an answer do not reach the terminal; text of every script does."""
    assert client._plain("a\x1b[2J\x07b\r\n\tä漢\u200d👩‍🚀\x9b") == "a[2Jb\n\tä漢\u200d👩‍🚀"  # noqa: SLF001 - as above


def test_lines_to_try() -> None:
    """The lines name the router only where it is not the default one."""
    curl, chat = lines_to_try("http://127.0.0.1:8080", "m")
    assert curl == """curl http://127.0.0.1:8080/api/generate -d '{"model":"m","prompt":"hi"}'"""
    assert chat == "llm-router chat m hi"
    assert lines_to_try("http://127.0.0.1:1", "m")[1] == "llm-router chat --router http://127.0.0.1:1 m hi"
