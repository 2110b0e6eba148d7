"""Does what the plans say: `llm-router node install` and `llm-router node uninstall`."""

import getpass
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import platformdirs

from llm_router.config import NodeConfig, default_home
from llm_router.gateway.private import write_private
from llm_router.node.service import launchd, systemd, windows
from llm_router.node.service.plan import File, Plan, Service, ServiceFailed, Step, service

STEP_TIMEOUT = 120.0  # seconds; stopping an agent waits for its requests, see `stop_within`

Say = Callable[[str], object]


def install(flags: Mapping[str, object], *, system: bool, show: bool, say: Say) -> None:
    """Install an agent with these settings as a service and start it; or only `show` the files.

    Raises:
        ConfigError: a setting cannot be used.
        ServiceFailed: a file cannot be written, or the service manager refuses; the files stay.
    """
    made = _service(flags, os.environ, system=system)
    plan = _install_plan(made)
    if show:
        say("\n".join(_shown(plan.files)))
        return
    _run(plan.before)
    for file in plan.files:
        _write(file)
        say(f"Wrote {file.path}")
    complaint, undone = _run(plan.after)
    if complaint:
        raise ServiceFailed(f"{complaint}; the files are written, to go on run: {_typed(undone)}")
    say("Started the agent.")
    for note in (*plan.notes, f"Its log: {_own(made)} logs --home {shlex.quote(str(made.home))}"):
        say(note)


def uninstall(*, system: bool, say: Say) -> None:
    """Stop the service and remove its files; what the agent keeps in its home stays.

    Raises:
        ServiceFailed: there is none, it cannot be removed, or the service manager refuses; the files are gone then.
    """
    plan = _uninstall_plan(system=system)
    there = [file for file in plan.files if file.path.exists()]
    if not there:
        raise ServiceFailed(f"no service is installed: there is no {plan.files[0].path}")
    refused, undone_before = _run(plan.before)
    for file in there:
        _remove(file)
        say(f"Removed {file.path}")
    refused_too, undone_after = _run(plan.after)
    if refused or refused_too:
        raise ServiceFailed(f"{refused or refused_too}; to go on run: {_typed((*undone_before, *undone_after))}")
    say("Stopped the agent. Its models, logs and identity are still there.")


# -- whose service


def _service(flags: Mapping[str, object], environment: Mapping[str, str], *, system: bool) -> Service:
    user = _user(environment, system=system)
    named = flags.get("home") or environment.get("LLM_ROUTER_HOME")
    home = {} if named else {"home": _home_of(user)}
    config = NodeConfig.load({**flags, **home}, environment)
    return service(config, environment, program=_program(), user=user, system=system)


def _user(environment: Mapping[str, str], *, system: bool) -> str:
    """Who types this; behind sudo, whoever typed that: nothing here needs root's rights to run."""
    if sys.platform == "win32":
        return f"{environment.get('USERDOMAIN', '.')}\\{getpass.getuser()}"
    return (environment.get("SUDO_USER") if system else None) or getpass.getuser()


def _home_of(user: str) -> Path:
    """Where this user's agent keeps its state when nobody says."""
    own = default_home()
    if sys.platform == "win32" or not own.is_relative_to(Path.home()):
        return own
    return Path(f"~{user}").expanduser() / own.relative_to(Path.home())


def _program() -> tuple[str, ...]:
    """The command that this is, where it was installed as one; it survives an update, which a Python may not."""
    called = Path(sys.argv[0])
    found = shutil.which(called.absolute()) if called.stem == "llm-router" else None
    return (str(found),) if found else (sys.executable, "-P", "-m", "llm_router")


def _own(made: Service) -> str:
    return "llm-router node" if shutil.which("llm-router") else f"{shlex.join(made.program)} node"


# -- which platform


def _install_plan(made: Service) -> Plan:
    if sys.platform == "win32":
        return windows.install(made, platformdirs.user_config_path("llm-router", appauthor=False))
    if sys.platform == "darwin":
        return launchd.install(made, Path.home(), os.getuid())
    return systemd.install(made, platformdirs.user_config_path())


def _uninstall_plan(*, system: bool) -> Plan:
    if sys.platform == "win32":
        return windows.uninstall(platformdirs.user_config_path("llm-router", appauthor=False))
    if sys.platform == "darwin":
        return launchd.uninstall(Path.home(), os.getuid(), system=system)
    return systemd.uninstall(platformdirs.user_config_path(), system=system)


# -- doing it


def _run(steps: Iterable[Step]) -> tuple[str, tuple[Step, ...]]:
    """Run them up to the first that fails; what is the matter ("" is nothing), and the steps that are left."""
    left = tuple(steps)
    while left:
        complaint = _run_one(left[0])
        if complaint and not left[0].may_fail:
            return complaint, left
        left = left[1:]
    return "", ()


def _run_one(step: Step) -> str:
    command = shlex.join(step.command)
    try:
        done = subprocess.run(  # noqa: S603 - the service manager, with words of ours
            step.command, capture_output=True, text=True, errors="replace", timeout=STEP_TIMEOUT, check=False
        )
    except FileNotFoundError:
        return f"there is no {step.command[0]} here"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"`{command}` failed: {error}"
    if done.returncode == 0:
        return ""
    said = " ".join((done.stderr or done.stdout).split())
    return f"`{command}` failed: {said or f'status {done.returncode}'}"


def _typed(steps: Iterable[Step]) -> str:
    """As a line for the shell."""
    join = subprocess.list2cmdline if sys.platform == "win32" else shlex.join
    return " && ".join(join(step.command) for step in steps)


def _write(file: File) -> None:
    try:
        write_private(file.path, file.content)
        if not file.private:
            file.path.chmod(0o644)
    except OSError as error:
        raise ServiceFailed(_refused(file, "written", error)) from error


def _remove(file: File) -> None:
    try:
        file.path.unlink()
    except OSError as error:
        raise ServiceFailed(_refused(file, "removed", error)) from error


def _refused(file: File, what: str, error: OSError) -> str:
    root = "; with --system, this is for root: use sudo" if isinstance(error, PermissionError) else ""
    return f"{file.path} cannot be {what}: {error.strerror}{root}"


def _shown(files: Iterable[File]) -> Iterable[str]:
    """The files with their names, where there are several; a single one as it is, so that it can be piped."""
    several = tuple(files)
    for file in several:
        if len(several) > 1:
            yield f"# {file.path}"
        encoding = "utf-16" if file.content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
        yield file.content.decode(encoding)
