"""What a service runs, and what is to be done to have it or to be rid of it, as data.

Rule: a command line can be read by everyone on the machine, a unit's `Environment=` by everyone on D-Bus. What may hold
a password or a token (a URL, a variable of another program's) stands in a file that its user alone can read.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import get_origin

from msgspec import Struct

from llm_router.config import NodeConfig, Setting
from llm_router.errors import ConfigError, RouterError

NAME = "llm-router-node"
STOP_MARGIN = 15  # seconds on top of the drain time: goodbye to the router, and the runtimes' own end
RESTART_AFTER = 10  # seconds: soon enough for a crash, and no busy loop where every start fails

# What the agent's libraries and runtimes read besides the settings, by the names that those gave it. A service manager
# hands on nothing of the shell that `install` was typed in.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
HANDED_ON = (*PROXIES, *map(str.lower, PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR")
HANDED_ON_PREFIXES = ("HF_", "OLLAMA_", "CUDA_", "HIP_", "ROCR_", "HSA_", "GGML_")


class ServiceFailed(RouterError):
    """The service could not be installed or removed; the message says what is left to do."""

    code = "service_failed"


class Given(Struct, frozen=True):
    """A setting that is written down: `option` with each of `values`, or `variable` with the only one."""

    option: str
    variable: str
    values: tuple[str, ...]
    is_list: bool
    is_secret: bool

    @property
    def may_be_secret(self) -> bool:
        """Whether it is one, or a URL, which can hold a password or a token."""
        return self.is_secret or (not self.is_list and "://" in self.values[0])

    @property
    def flags(self) -> tuple[str, ...]:
        """As words of a command line."""
        return tuple(word for value in self.values for word in (self.option, value))


class Service(Struct, frozen=True):
    """What runs: `program` is the command that was installed, in words; the first is an absolute path.

    `user`: whose rights it has. `system`: whether the machine starts it, or that user's session. `stop_within`: seconds
    that it has to end.
    """

    program: tuple[str, ...]
    home: Path
    settings: tuple[Given, ...]
    environment: dict[str, str]
    user: str
    system: bool
    stop_within: int

    @property
    def command(self) -> tuple[str, ...]:
        """What to start where the environment can be kept from others: see `private_environment`."""
        return self._command(tuple(g for g in self.settings if not g.may_be_secret))

    @property
    def full_command(self) -> tuple[str, ...]:
        """What to start where no environment can be given."""
        return self._command(tuple(g for g in self.settings if not g.is_secret))

    @property
    def private_environment(self) -> dict[str, str]:
        """What belongs to `command`, for nobody else's eyes."""
        return self.environment | {g.variable: g.values[0] for g in self.settings if g.may_be_secret}

    def _command(self, settings: tuple[Given, ...]) -> tuple[str, ...]:
        flags = (word for given in settings for word in given.flags)
        return (*self.program, "node", "--home", str(self.home), *flags)


class File(Struct, frozen=True):
    """A file of the service; `private`: no one but its owner may read it."""

    path: Path
    content: bytes
    private: bool


class Step(Struct, frozen=True):
    """A command of the service manager; `may_fail`: it changes nothing where there is nothing to change."""

    command: tuple[str, ...]
    may_fail: bool = False


class Plan(Struct, frozen=True):
    """What to do, in this order: `before`, then write or remove `files`, then `after`; `notes`: what to tell then."""

    files: tuple[File, ...]
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()


def service(
    config: NodeConfig, environment: Mapping[str, str], *, program: tuple[str, ...], user: str, system: bool
) -> Service:
    """Make a service of `config`, and of what it needs of the `environment` that it was loaded in.

    What stands in `<home>/node.toml` stays there, so that changing it there goes on to count.

    Raises:
        ConfigError: a value has a line break in it, which no service manager takes.
    """
    home = config.home.absolute()
    made = Service(
        program=program,
        home=home,
        settings=_given(config, NodeConfig.load({"home": home}, env={})),
        environment=_handed_on(environment),
        user=user,
        system=system,
        stop_within=int(config.drain_timeout) + STOP_MARGIN,
    )
    for text in (*made.full_command, *made.environment.values()):
        if not text.isprintable():
            raise ConfigError(f"{text!r} has characters that a service cannot be given")
    return made


def _given(config: NodeConfig, base: NodeConfig) -> tuple[Given, ...]:
    """The settings that differ from `base`, the defaults and the file; the home apart."""
    return tuple(
        _given_one(setting, getattr(config, setting.name))
        for setting in config.settings()
        if setting.name != "home" and getattr(config, setting.name) != getattr(base, setting.name)
    )


def _given_one(setting: Setting, value: object) -> Given:
    is_list = get_origin(setting.type.__origin__) is list
    values = tuple(map(_text, value if isinstance(value, list) else [value]))
    return Given(f"--{setting.name.replace('_', '-')}", setting.env, values, is_list, setting.secret)


def _text(value: object) -> str:
    """As `Config.load` reads it, wherever it is run: a service does not start in the directory of this shell."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    is_path = text.startswith(("~", f".{os.sep}", f"..{os.sep}"))
    return str(Path(text).expanduser().absolute()) if is_path else text


def _handed_on(environment: Mapping[str, str]) -> dict[str, str]:
    settings = {setting.env for setting in NodeConfig.settings()}  # these are options already
    found = {
        name: value
        for name, value in sorted(environment.items())
        if value and name not in settings and (name in HANDED_ON or name.startswith(HANDED_ON_PREFIXES))
    }
    directories = [d for d in environment.get("PATH", "").split(os.pathsep) if Path(d).is_absolute()]
    path = (
        {"PATH": os.pathsep.join(dict.fromkeys(directories))} if directories else {}
    )  # llama-server is looked up there
    return found | path
