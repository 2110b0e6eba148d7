"""Every command as click declares it."""

import inspect
from collections.abc import Iterator

import click

from llm_router.cli import SettingOption, commands
from tools.reference.markdown import code, codes, table
from tools.reference.settings import PLATFORM

NAME = "llm-router"
FEW = 8  # of the settings of a side; where all are options, their own page lists them
SHARED = ("router", "key", "as_json")


def every_command() -> str:
    """A section for each, in the order of their names."""
    return "\n\n".join(_section(path, command) for path, command in walk())


def walk(group: click.Group = commands, path: str = NAME) -> Iterator[tuple[str, click.Command]]:
    """Each command with how it is called; a group that does something by itself before its own commands."""
    for name, command in sorted(group.commands.items()):
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from walk(command, f"{path} {name}")


def options_of_many() -> str:
    """Those of every command that talks to a router; `--json` where there is something to list."""
    found = {p.name: (p, command) for _, command in walk() for p in command.params if p.name in SHARED}
    return _table([_row(option, command) for option, command in found.values() if isinstance(option, click.Option)])


def _section(path: str, command: click.Command) -> str:
    usage = " ".join([path, *command.collect_usage_pieces(click.Context(command))])
    parts = [f"### `{path}`", f"```text\n{usage}\n```", inspect.cleandoc(command.help or "")]
    return "\n\n".join([*parts, *_options(path, command)])


def _options(path: str, command: click.Command) -> Iterator[str]:
    """What says which options it has."""
    shown = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    side = [p for p in shown if isinstance(p, SettingOption)]
    if len(side) > FEW:
        yield f"Every setting of the {'node' if 'node' in path else 'router'} is an option: [settings](settings.md)."
        shown = [p for p in shown if p not in side]
    if rows := [_row(option, command) for option in shown if option.name not in SHARED]:
        yield _table(rows)
    if shared := [code(option.opts[0]) for option in shown if option.name in SHARED]:
        yield f"And {', '.join(shared)}: [as all have them](#options-of-many)."


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    return table(("option", "environment", "default", "what"), rows)


def _row(option: click.Option, command: click.Command) -> tuple[str, str, str, str]:
    default = PLATFORM if option.name == "home" else code(_default(option, command))
    values = option.type.choices if isinstance(option.type, click.Choice) else []
    what = (option.help or "") + (f" One of {codes(values)}." if values else "")
    return codes((*option.opts, *option.secondary_opts)), code(option.envvar or ""), default, what


def _default(option: click.Option, command: click.Command) -> str:
    return str(option.get_help_extra(click.Context(command)).get("default", ""))
