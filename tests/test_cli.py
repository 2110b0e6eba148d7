"""The command line, as far as it needs no router: options, status, speed."""

import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from llm_router import __version__, client
from llm_router.cli import SettingOption, commands
from llm_router.config import NodeConfig, RouterConfig
from llm_router.contract import (
    Candidate,
    ExcludedModel,
    Explanation,
    NodeSettings,
    NodeView,
    NotCandidate,
    RuntimeFacts,
)
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
    """The options of the two sides are exactly the settings of `config.py`; a secret is in no command line."""
    options = [o for o in commands.commands[command].params if isinstance(o, SettingOption)]
    public = [s for s in config.settings() if not s.secret]
    assert [o.name for o in options] == [s.name for s in public]
    assert [o.envvar for o in options] == [s.env for s in public]


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["nodes"],
        ["nodes", "list", "--json"],
        ["nodes", "lift", "n", "m"],
        ["nodes", "set", "n", "--drain"],
        ["models"],
        ["explain", "m"],
        ["chat", "m", "hi"],
    ],
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
        ["node", "nonsense"],
        ["node", "logs", "--lines", "-1"],
        ["nodes", "attach", "http://a"],
        ["nodes", "set", "n"],
        ["status", "--router", "ftp://a"],
        ["chat", "m", " "],
    ],
)
def test_misuse(arguments: list[str], tmp_path: Path) -> None:
    """What cannot be understood is status 2."""
    said = run(*arguments, env={"LLM_ROUTER_HOME": str(tmp_path), "ROUTER_URL": NOBODY})
    assert said.exit_code == 2
    assert "Traceback" not in said.output


def test_node_is_a_command_and_a_group() -> None:
    """`llm-router node --help` shows every setting of the agent, and the commands around it beneath (G7, G8)."""
    said = run("node", "--help").output
    settings, _, beneath = said.partition("\nCommands:\n")
    assert all(
        f"--{setting.name.replace('_', '-')} " in settings for setting in NodeConfig.settings() if not setting.secret
    )
    assert [line.split()[0] for line in beneath.splitlines()] == ["install", "logs", "uninstall"]


def test_option_before_the_command(tmp_path: Path) -> None:
    """A setting that stands where the command would not see it is not lost in silence."""
    said = run("node", "--home", str(tmp_path), "install", "--print")
    assert said.exit_code == 2
    assert "--home belongs behind the command: node install --home" in said.stderr


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
        exclusions=[],
        slots=4,
        in_flight=1,
        done=2,
        failed=0,
        cpu=0.0,
        memory=0.0,
        gpus=[],
        backend="cpu",
        progress=[],
        settings=NodeSettings(),
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


def test_drained() -> None:
    """A drained node is shown as such, and none of its models can be asked for there (requirement F3)."""
    drained = msgspec.structs.replace(node("a", "online", ["m"], []), settings=NodeSettings(drain=True))
    assert client.models_of([drained]) == []
    assert client.who(drained)["state"] == client.how(drained)["state"] == "online, drained"
    assert client.who(drained)[""] == "○"


def test_table_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the output is not a terminal, nothing is coloured, cut off or wrapped, however long."""
    name = "a-very-long-name-for-a-machine" * 3
    client._print_nodes([node(name, "online", ["m"], [])], client.who)  # noqa: SLF001 - what is printed is the promise
    out = capsys.readouterr().out
    assert name in out
    assert f"id-of-{name}" in out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2


def test_exclusions(capsys: pytest.CaptureFixture[str]) -> None:
    """What is kept from a node is shown with the reason (requirement C6); where nothing is, nothing is said of it."""
    plain = node("plain", "online", ["m"], [])
    client._print_exclusions([plain])  # noqa: SLF001 - as above
    assert capsys.readouterr().out == ""
    excluded = ExcludedModel("org/m:1", "it answered 500", since=1_000_000.0, until=1_000_030.0)
    client._print_exclusions([plain, msgspec.structs.replace(plain, name="box", exclusions=[excluded])])  # noqa: SLF001 - as above
    _, head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["excluded", "on", "because", "tried", "again", "from"]
    assert row.split()[:-1] == ["org/m:1", "box", "it", "answered", "500"]
    assert row.split()[-1].endswith(":10")  # 30 s past 1,000,000, in whichever time zone


LEASED = Explanation(
    model="m",
    policy="expected-latency",
    decision="lease",
    node_id="id-fast",
    node="fast",
    reason="lowest cost",
    code="",
    candidates=[
        Candidate("id-fast", "fast", 4, 1, loaded=True, cost={"cost": 0.5, "wait": 0.0, "credit": -0.0}),
        Candidate("id-slow", "slow", 2, 2, loaded=False, cost={"cost": 12.0, "wait": 11.25, "credit": -0.75}),
    ],
    others=[NotCandidate("id-old", "old", "it is offline")],
)
QUEUED = msgspec.structs.replace(LEASED, decision="queue", node_id="", node="", reason="every candidate is busy")
REFUSED = msgspec.structs.replace(
    QUEUED, decision="refuse", reason="no node lists it", code="model_not_found", candidates=[]
)


@pytest.mark.parametrize(
    ("explanation", "line"),
    [
        (LEASED, "m goes to fast: lowest cost (policy expected-latency, costs in seconds)"),
        (msgspec.structs.replace(LEASED, policy="metrics"), "m goes to fast: lowest cost (policy metrics)"),
        (QUEUED, "m is queued: every candidate is busy (policy expected-latency, costs in seconds)"),
        (REFUSED, "m is refused: no node lists it (model_not_found)"),
    ],
)
def test_verdict(explanation: Explanation, line: str) -> None:
    """The decision and its reason are in one line."""
    assert client.verdict(explanation) == line


def test_explanation(capsys: pytest.CaptureFixture[str]) -> None:
    """The decision; the candidates with their costs in parts, the chosen one marked; who is out, and why."""
    client._print_explanation(LEASED)  # noqa: SLF001 - as above
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:4] == ["m", "goes", "to", "fast:"]
    assert lines[2] == ["node", "in", "flight", "in", "memory", "cost", "wait", "credit"]
    assert lines[3] == ["→", "fast", "1", "of", "4", "yes", "0.500", "0", "0"]
    assert lines[4] == ["slow", "2", "of", "2", "no", "12", "11.250", "-0.750"]
    assert lines[7] == ["old", "it", "is", "offline"]


def test_explanation_of_a_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    """Without candidates there is no table of them."""
    client._print_explanation(msgspec.structs.replace(REFUSED, others=[]))  # noqa: SLF001 - as above
    assert capsys.readouterr().out == client.verdict(REFUSED) + "\n"


def test_answer_cannot_steer_the_terminal() -> None:
    """Control characters in an answer do not reach the terminal; text of every script does."""
    assert client._plain("a\x1b[2J\x07b\r\n\tä漢\u200d👩‍🚀\x9b") == "a[2Jb\n\tä漢\u200d👩‍🚀"  # noqa: SLF001 - as above


def test_lines_to_try() -> None:
    """The lines name the router only where it is not the default one."""
    curl, chat = lines_to_try("http://127.0.0.1:8080", "m")
    assert curl == """curl http://127.0.0.1:8080/api/generate -d '{"model":"m","prompt":"hi"}'"""
    assert chat == "llm-router chat m hi"
    assert lines_to_try("http://127.0.0.1:1", "m")[1] == "llm-router chat --router http://127.0.0.1:1 m hi"
