"""The commands. Each one imports its own side only: `llm-router chat` loads neither the router nor the node.

Rule 1: the options of `serve` and `node` are the settings that `config.py` declares, documented there and nowhere else.
Rule 2: exit status 0 is success, 1 a failure, explained in one line, 2 a command or setting that cannot be used, 130
Ctrl-C.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin
from urllib.parse import quote

import click

from llm_router import __version__
from llm_router.config import Config, NodeConfig, RouterConfig, Setting, default_home
from llm_router.contract import Address
from llm_router.errors import ConfigError, RouterError

if TYPE_CHECKING:
    import asyncio

Run = Callable[..., Coroutine[Any, Any, None]]
Command = Callable[..., object]

KEY = "llm_router.key"  # where click keeps the API key for a moment
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
DEFAULT_ROUTER = "http://127.0.0.1:8080"  # where `llm-router up` listens when it is told nothing
CLICK_TYPES: dict[object, click.ParamType[Any]] = {int: click.INT, float: click.FLOAT, Path: click.Path(path_type=Path)}


class Misused(click.ClickException):
    """A setting that cannot be used."""

    exit_code = 2


class Commands(click.Group):
    """Commands that end with one line and a status, never with a traceback, when something expected goes wrong."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; see Rule 2."""
        try:
            return super().invoke(ctx)
        except RouterError as error:
            failure = Misused if isinstance(error, ConfigError) else click.ClickException
            raise failure(error.message) from error
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


class Listing(Commands):
    """A group whose `list` may be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` where no command is named."""
        named = args and (args[0] in self.commands or not args[0].startswith("-") or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["list", *args])


class SettingOption(click.Option):
    """A declared setting as an option. `Config.load` reads the environment variable; here it is only shown."""

    def __init__(self, setting: Setting, default: object, name: str = "") -> None:
        kind = _bare(setting.type)
        flag = (name or setting.name).replace("_", "-")
        self._default_shown = _shown(default)
        super().__init__(
            [f"--{flag}"],
            type=_click_type(kind),
            multiple=get_origin(kind) is list,
            help=f"{flag.split('-')[0].capitalize()}: {setting.description}" if name else setting.description,
            envvar=setting.env,
            show_envvar=True,
        )

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:  # noqa: ARG002 - click's signature
        """Leave it to `Config.load`, which knows the order of sources and how lists are written."""
        return None

    def get_help_extra(self, ctx: click.Context) -> click.types.OptionHelpExtra:
        """Show the default that `Config` declares; given to click, it would hide the other sources."""
        extra = super().get_help_extra(ctx)
        if self._default_shown:
            extra["default"] = self._default_shown
        return extra


def _bare(annotation: object) -> object:
    """`Annotated[Annotated[int, …], …]` -> `int`."""
    return getattr(annotation, "__origin__", annotation) if hasattr(annotation, "__metadata__") else annotation


def _click_type(kind: object) -> click.ParamType[Any]:
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    return CLICK_TYPES.get(kind, click.STRING)


def _shown(default: object) -> str:
    """A default for people: lists with commas, 10.0 as 10, the home directory as ~."""
    if isinstance(default, list):
        return ", ".join(map(str, default))
    if isinstance(default, float):
        return f"{default:g}"
    return str(default).replace(str(Path.home()), "~", 1)


def settings(config: type[Config], *only: str, **renamed: str) -> Callable[[Command], Command]:
    """Options for the settings of `config`: all of them, or `only` these, or these under another name."""

    def decorate(command: Command) -> Command:
        defaults = config()
        options: list[click.Parameter] = [
            SettingOption(s, getattr(defaults, s.name), renamed.get(s.name, ""))
            for s in config.settings()
            if not s.secret and (not (only or renamed) or s.name in only or s.name in renamed)
        ]
        # click collects options bottom up, as stacked decorators run
        command.__click_params__ = [*getattr(command, "__click_params__", []), *reversed(options)]  # type: ignore[attr-defined]
        return command

    return decorate


with_parent_option = click.option("--with-parent", is_flag=True, hidden=True, help="End when standard input is closed.")


def _hold_key(context: click.Context, _: click.Parameter, key: str) -> None:
    context.meta[KEY] = key


def _with_key(context: click.Context, _: click.Parameter, url: str) -> str:
    """Put the key where `client.Router` finds it, unless the URL has one: it wins, as it was given for this router."""
    key, scheme, rest = context.meta[KEY], *url.rpartition("://")[::2]
    return f"{scheme or 'http'}://{quote(key)}@{rest}" if key and "@" not in rest.partition("/")[0] else url


def router_option(command: Command) -> Command:
    """Options for the router to talk to, and the key to show there; the command gets them as one URL."""
    key = click.option(
        "--key",
        envvar="LLM_ROUTER_KEY",
        default="",
        show_envvar=True,
        metavar="KEY",
        is_eager=True,  # known before --router is read
        expose_value=False,
        callback=_hold_key,
        help="API key to show it; needed from other machines.",
    )
    router = click.option(
        "--router",
        envvar="ROUTER_URL",
        default=DEFAULT_ROUTER,
        show_default=True,
        show_envvar=True,
        metavar="URL",
        callback=_with_key,
        help="The router to talk to.",
    )
    return router(key(command))


json_option = click.option(
    "--json", "as_json", is_flag=True, envvar="LLM_ROUTER_JSON", show_envvar=True, help="Print JSON."
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="llm-router")
def commands() -> None:
    """One address for all your language models.

    `llm-router up` starts a router and a node on this machine; `llm-router node --router URL` adds another machine.
    Clients speak the Ollama, the OpenAI or the Anthropic API to the router.
    """


# -- the two sides


@commands.command()
@settings(RouterConfig, "port", "home")
@settings(NodeConfig, "runtime", port="node_port")
@click.option(
    "--share",
    is_flag=True,
    envvar="LLM_ROUTER_SHARE",
    show_envvar=True,
    help="Listen for other machines too, and print how they join; their clients need API keys.",
)
def up(node_port: int | None, runtime: tuple[str, ...], *, share: bool, **flags: object) -> None:
    """Start a router and a node on this machine.

    The node runs models with llama.cpp alone, unless it is told otherwise. Other settings of the two come from their
    files and environment variables, see `llm-router serve --help` and `llm-router node --help`.
    """
    import asyncio

    from llm_router import up as both

    router = RouterConfig.load(flags)
    node = NodeConfig.load({"port": node_port, "runtime": runtime, "home": router.home})
    sys.exit(asyncio.run(both.run(router, node, share=share)))


@commands.command()
@settings(RouterConfig)
@with_parent_option
def serve(*, with_parent: bool, **flags: object) -> None:
    """Run the router alone."""
    config = RouterConfig.load(flags)
    if config.workers > 1:
        from llm_router.router import workers

        _run(workers.run, config, with_parent=with_parent)
    else:
        from llm_router.router import app

        _run(app.run, config, with_parent=with_parent)


@commands.group(invoke_without_command=True)
@settings(NodeConfig)
@with_parent_option
def node(*, with_parent: bool, **flags: object) -> None:
    """Run the agent of this machine, and join a router.

    The commands below make a service of it, which starts by itself, and show its logs.
    """
    command = click.get_current_context()  # not an argument: there is a setting of that name
    if command.invoked_subcommand:
        _refuse_options(command)
        return
    from llm_router.node import logs

    with logs.last_words(Path(str(flags["home"] or default_home()))):
        config = NodeConfig.load(flags)
        from llm_router.node.app import placed, run

        _run(run, placed(config), with_parent=with_parent)


def _refuse_options(context: click.Context) -> None:
    """Raise where an option stands before a subcommand, which would not see it."""
    for option in context.command.params:
        if context.get_parameter_source(option.name or "") == click.core.ParameterSource.COMMANDLINE:
            flag = option.opts[0]
            raise click.UsageError(f"{flag} belongs behind the command: node {context.invoked_subcommand} {flag} …")


@node.command("install")
@settings(NodeConfig)
@click.option(
    "--system",
    is_flag=True,
    envvar="LLM_NODE_INSTALL_SYSTEM",
    show_envvar=True,
    help="Start it with the machine, for everybody; needs an administrator's rights.",
)
@click.option(
    "--print",
    "show",
    is_flag=True,
    envvar="LLM_NODE_INSTALL_PRINT",
    show_envvar=True,
    help="Show what would be written, and do nothing.",
)
def install_node(*, system: bool, show: bool, **flags: object) -> None:
    """Make the agent a service of this machine, and start it.

    The service is systemd's, launchd's or the Task Scheduler's, and runs the agent with the settings given here and in
    this shell's environment. What node.toml says goes on to count. Done again, it changes the settings.
    """
    from llm_router.node.service.install import install

    install(flags, system=system, show=show, say=click.echo)


@node.command("uninstall")
@click.option(
    "--system",
    is_flag=True,
    envvar="LLM_NODE_INSTALL_SYSTEM",
    show_envvar=True,
    help="The service that was installed with --system.",
)
def uninstall_node(*, system: bool) -> None:
    """Stop the service, and remove it; models, logs and the node's identity stay."""
    from llm_router.node.service.install import uninstall

    uninstall(system=system, say=click.echo)


@node.command("logs")
@click.argument("name", required=False)
@settings(NodeConfig, "home")
@click.option(
    "--follow", "-f", is_flag=True, envvar="LLM_NODE_LOGS_FOLLOW", show_envvar=True, help="Go on as it grows."
)
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(min=0),
    default=100,  # two or three screens
    show_default=True,
    envvar="LLM_NODE_LOGS_LINES",
    show_envvar=True,
    help="How many of the last lines to show.",
)
@click.option(
    "--list", "names", is_flag=True, envvar="LLM_NODE_LOGS_LIST", show_envvar=True, help="List what has a log."
)
def node_logs(name: str | None, home: Path | None, lines: int, *, follow: bool, names: bool) -> None:
    """Show the agent's log, or that of NAME: a model, or ollama."""
    from llm_router.node import logs

    home = home or default_home()
    shown = logs.names(home) if names else logs.show(logs.find(home, name or logs.AGENT), lines, follow=follow)
    for line in shown:
        click.echo(line)


def _run(run: Run, config: RouterConfig | NodeConfig, *, with_parent: bool) -> None:
    """Run one side until it is told to end."""
    import asyncio

    from llm_router.gateway import files

    files.raise_limit()
    if with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()

    def ready(port: int) -> None:
        click.echo(f"listening on {Address(config.host, port, bool(config.tls_cert)).url}")

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run(config, ready=ready))
    except OSError as error:
        raise click.ClickException(f"cannot start: {error}") from error


def _loop_factory() -> "Callable[[], asyncio.AbstractEventLoop] | None":
    """Make uvloop's where it exists (not on Windows)."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _end_with_parent() -> None:
    """Wait for whoever started this process to be gone, then end as if asked to."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


# -- clients


@commands.group(cls=Listing)
def nodes() -> None:
    """The nodes of a router: list, approve, attach, set, lift, remove."""


@nodes.command("list")
@router_option
@json_option
def list_nodes(router: str, *, as_json: bool) -> None:
    """List the nodes."""
    from llm_router import client

    client.list_nodes(client.Router(router), as_json=as_json)


@nodes.command()
@click.argument("url")
@click.option(
    "--kind",
    type=click.Choice(["ollama", "openai"]),
    required=True,
    envvar="LLM_ROUTER_ATTACH_KIND",
    show_envvar=True,
    help="The API that the server speaks.",
)
@click.option("--name", default="", envvar="LLM_ROUTER_ATTACH_NAME", show_envvar=True, help="Name to show for it.")
@click.option(
    "--slots",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    envvar="LLM_ROUTER_ATTACH_SLOTS",
    show_envvar=True,
    help="Requests that it runs at once.",
)
@router_option
def attach(url: str, kind: Literal["ollama", "openai"], name: str, slots: int, router: str) -> None:
    """Add a server that has no agent: an Ollama, or anything that speaks the OpenAI API.

    URL is the server's address as the router reaches it, for example http://192.168.1.20:11434.
    """
    from llm_router import client
    from llm_router.contract import Attach

    client.attach(client.Router(router), Attach(url, kind, name, slots))


@nodes.command("set")
@click.argument("node_id", metavar="ID")
@click.option(
    "--name", envvar="LLM_ROUTER_SET_NAME", show_envvar=True, help="Name to show for it; '' for the machine's own."
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    envvar="LLM_ROUTER_SET_TAGS",
    show_envvar=True,
    help="Tag to have, in place of those it had; may be given several times; '' for none.",
)
@click.option("--notes", envvar="LLM_ROUTER_SET_NOTES", show_envvar=True, help="Notes to keep about it.")
@click.option(
    "--drain/--no-drain",
    default=None,
    envvar="LLM_ROUTER_SET_DRAIN",
    show_envvar=True,
    help="Send it nothing new; or use it again.",
)
@router_option
def change(node_id: str, router: str, tags: tuple[str, ...], **given: object) -> None:
    """Change what is given of the node with this ID; the rest stays.

    The node keeps a copy, so this outlives restarts of both. A drained node finishes what it is answering.
    """
    from llm_router import client

    settings = {name: value for name, value in given.items() if value is not None}
    if tags:
        settings["tags"] = [tag for tag in tags if tag]
    if not settings:
        raise ConfigError("there is nothing to change: give --name, --tag, --notes, --drain or --no-drain")
    client.change(client.Router(router), node_id, settings)


@nodes.command()
@click.argument("node_id", metavar="ID")
@router_option
def approve(node_id: str, router: str) -> None:
    """Let the node with this ID join, which waits for it (see `llm-router nodes list`)."""
    from llm_router import client

    client.approve(client.Router(router), node_id)


@nodes.command()
@click.argument("node_id", metavar="ID")
@router_option
def remove(node_id: str, router: str) -> None:
    """Forget the node with this ID (see `llm-router nodes list`)."""
    from llm_router import client

    client.remove(client.Router(router), node_id)


@nodes.command()
@click.argument("node_id", metavar="ID")
@click.argument("model")
@router_option
def lift(node_id: str, model: str, router: str) -> None:
    """Let MODEL be asked of the node with this ID again though it failed there."""
    from llm_router import client

    client.lift(client.Router(router), node_id, model)


@commands.group(cls=Listing)
def keys() -> None:
    """The API keys of a router: list, create, revoke."""


@keys.command("list")
@router_option
@json_option
def list_keys(router: str, *, as_json: bool) -> None:
    """List the keys: what they may do, until when, and when they were last used."""
    from llm_router import client

    client.list_keys(client.Router(router), as_json=as_json)


@keys.command("create")
@click.option(
    "--name", required=True, envvar="LLM_ROUTER_KEYS_NAME", show_envvar=True, help="Name to know it by, in the log too."
)
@click.option(
    "--scope",
    type=click.Choice(["inference", "admin"]),
    default="inference",
    show_default=True,
    envvar="LLM_ROUTER_KEYS_SCOPE",
    show_envvar=True,
    help="What it is for: asking models, or everything.",
)
@click.option(
    "--expires",
    default="",
    envvar="LLM_ROUTER_KEYS_EXPIRES",
    show_envvar=True,
    help="When it ends: a date like 2030-12-31, or a time from now like 30d or 12h; never where not given.",
)
@click.option(
    "--models",
    "models",
    multiple=True,
    envvar="LLM_ROUTER_KEYS_MODELS",
    show_envvar=True,
    help="Model that it may ask for; may be given several times; all where not given.",
)
@router_option
def create_key(router: str, models: tuple[str, ...], **wanted: str) -> None:
    """Make an API key, and print it: it is not shown again."""
    from llm_router import client

    client.create_key(client.Router(router), {**wanted, "models": list(models)})


@keys.command("revoke")
@click.argument("name")
@router_option
def revoke_key(name: str, router: str) -> None:
    """Revoke the key with this NAME or id: it fails from now on."""
    from llm_router import client

    client.revoke_key(client.Router(router), name)


@commands.command("login-link")
@router_option
def login_link(router: str) -> None:
    """Print a link that signs one person in at the dashboard, once, within ten minutes."""
    from llm_router import client

    client.login_link(client.Router(router))


@commands.command()
@click.option(
    "--rotate",
    is_flag=True,
    envvar="LLM_ROUTER_JOIN_ROTATE",
    show_envvar=True,
    help="Make a new token first; the old one lets nobody in any more. Nodes that have joined stay.",
)
@router_option
@json_option
def join(router: str, *, rotate: bool, as_json: bool) -> None:
    """Print the command to type on another machine so that it joins this router.

    It holds the join token: whoever has it can add machines, which then see what they are asked.
    """
    from llm_router import client

    client.join(client.Router(router), rotate=rotate, as_json=as_json)


@commands.group(cls=Listing)
def models() -> None:
    """The models of a router: list, add, rm, pull."""


@models.command("list")
@router_option
@json_option
def list_models(router: str, *, as_json: bool) -> None:
    """List the models that can be asked for now, where they are, and what else is registered."""
    from llm_router import catalogue_client, client

    catalogue_client.list_models(client.Router(router), as_json=as_json)


@models.command("add")
@click.argument("place", metavar="REPO|URL")
@click.option(
    "--file", default="", envvar="LLM_ROUTER_MODELS_FILE", show_envvar=True, help="The file of the repository to take."
)
@click.option(
    "--policy",
    type=click.Choice(["quality", "memory", "speed"]),
    envvar="LLM_ROUTER_MODELS_POLICY",
    show_envvar=True,
    help="Of several quantisations, the best, the smallest or the fastest.",
)
@click.option(
    "--name",
    default="",
    envvar="LLM_ROUTER_MODELS_NAME",
    show_envvar=True,
    help="What requests call it; made from the repository's name where not given.",
)
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    envvar="LLM_ROUTER_MODELS_NODES",
    show_envvar=True,
    help="How many nodes shall have it; with 1, the first request has one fetch it.",
)
@click.option(
    "--pin",
    "pinned",
    multiple=True,
    metavar="ID",
    envvar="LLM_ROUTER_MODELS_PIN",
    show_envvar=True,
    help="Node that shall have it; may be given several times.",
)
@click.option(
    "--preload", is_flag=True, envvar="LLM_ROUTER_MODELS_PRELOAD", show_envvar=True, help="Have it in memory there."
)
@router_option
def add_model(
    place: str, policy: str | None, nodes: int, pinned: tuple[str, ...], router: str, *, preload: bool, **wanted: str
) -> None:
    """Register a model: its nodes can fetch it from then on.

    REPO is a repository of Hugging Face (org/name), URL one of its pages or that of a GGUF file.
    """
    from llm_router import catalogue_client, client

    placement = {"nodes": nodes, "pinned": pinned, "preload": preload}
    catalogue_client.add(client.Router(router), place, {**wanted, "policy": policy or "", "placement": placement})


@models.command("rm")
@click.argument("name")
@click.option(
    "--files",
    is_flag=True,
    envvar="LLM_ROUTER_MODELS_RM_FILES",
    show_envvar=True,
    help="Delete what nodes have of it, too.",
)
@router_option
def remove_model(name: str, router: str, *, files: bool) -> None:
    """Take the model NAME out of the catalogue."""
    from llm_router import catalogue_client, client

    catalogue_client.remove(client.Router(router), name, files=files)


@models.command("pull")
@click.argument("name")
@click.option(
    "--node",
    default="",
    envvar="LLM_ROUTER_MODELS_PULL_NODE",
    show_envvar=True,
    help="Name or id of the node that shall have it; the router's choice where not given.",
)
@router_option
def pull_model(name: str, node: str, router: str) -> None:
    """Have a node fetch the model NAME now."""
    from llm_router import catalogue_client, client

    catalogue_client.pull(client.Router(router), name, node)


@commands.command()
@router_option
@json_option
def status(router: str, *, as_json: bool) -> None:
    """Show how a router and its nodes are doing."""
    from llm_router import client

    client.status(client.Router(router), as_json=as_json)


@commands.command()
@click.argument("model")
@click.argument("prompt", required=False)
@router_option
@json_option
def explain(model: str, prompt: str | None, router: str, *, as_json: bool) -> None:
    """Show which node would answer a request for MODEL now, and why.

    Nothing is asked of any node. A PROMPT shows what its length changes.
    """
    from llm_router import client

    client.explain(client.Router(router), model, prompt, as_json=as_json)


@commands.command()
@click.argument("model")
@click.argument("prompt", required=False)
@router_option
def chat(model: str, prompt: str | None, router: str) -> None:
    """Talk to MODEL.

    With PROMPT, or a prompt on standard input, the answer is printed as it comes. On a terminal without PROMPT a
    conversation begins: Ctrl-C stops an answer, Ctrl-D ends it.
    """
    from llm_router import client

    client.chat(client.Router(router), model, prompt)


def main() -> None:
    """Run the command line."""
    commands(prog_name="llm-router")
