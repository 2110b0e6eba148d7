"""The agent as a service (requirement G8): what is written for each platform, and what is done with it."""

import os
import plistlib
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import list2cmdline
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from llm_router.cli import commands
from llm_router.config import NodeConfig
from llm_router.errors import ConfigError
from llm_router.node.service import launchd, systemd, windows
from llm_router.node.service.plan import Service, service

TOKEN = "https://router.example/t0ken"  # noqa: S105 - a URL that is to stay private
ODD = 'my $HOME "box" 100% \\ é'
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
PROGRAM = (sys.executable, "-P", "-m", "llm_router")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="installs for the platform that it runs on")


def made(home: Path, *, system: bool = False, environment: dict[str, str] | None = None, **flags: object) -> Service:
    given = environment or {}
    config = NodeConfig.load({"home": home, **flags}, given)
    return service(config, given, program=PROGRAM, user="alice", system=system)


# -- what runs


def test_only_what_differs(tmp_path: Path) -> None:
    """A service is given the settings that differ from the defaults, from wherever they came, and its home."""
    runs = made(tmp_path, environment={"LLM_NODE_PARALLEL": "7"}, name="box", log_level="info")
    assert runs.command == (*PROGRAM, "node", "--home", str(tmp_path), "--name", "box", "--parallel", "7")


def test_the_file_goes_on_to_count(tmp_path: Path) -> None:
    """What stands in node.toml is not written down a second time: it can be changed there."""
    (tmp_path / "node.toml").write_text("parallel = 7\ncontext = 512\n")
    runs = made(tmp_path, context=1024)
    assert runs.command[-4:] == ("--home", str(tmp_path), "--context", "1024")


def test_the_service_loads_what_was_given(tmp_path: Path) -> None:
    """Every kind of value comes back as it was: lists with commas in them, switches, fractions."""
    flags: dict[str, Any] = {
        "runtime": ("ollama", "openai=http://a/b,c"),
        "ollama_verify_checksum": False,
        "drain_timeout": 0.25,
    }
    before = NodeConfig.load({"home": tmp_path, "name": ODD, **flags}, {})
    node = commands.commands["node"]
    given = node.make_context("node", list(made(tmp_path, name=ODD, **flags).command[len(PROGRAM) + 1 :])).params
    after = NodeConfig.load({name: value for name, value in given.items() if name != "with_parent"}, {})
    assert after == before


def test_paths_of_this_directory(tmp_path: Path) -> None:
    """A path that is relative to the directory of the shell is written down in full."""
    runs = made(tmp_path, llama_server="./llama-server")
    assert runs.command[-2:] == ("--llama-server", str(Path.cwd() / "llama-server"))


def test_private(tmp_path: Path) -> None:
    """A URL, a proxy, a key of Hugging Face are in no command line: they may hold secrets (PATH goes with them)."""
    environment = {"HTTPS_PROXY": "http://u:pw@proxy", "HF_TOKEN": "hf_x", "PATH": "/bin:rel:/bin:/opt", "LANG": "C"}
    runs = made(tmp_path, environment=environment, router=TOKEN)
    assert runs.command[-2:] == ("--home", str(tmp_path))
    assert runs.private_environment == {
        "HTTPS_PROXY": "http://u:pw@proxy",
        "HF_TOKEN": "hf_x",
        "PATH": "/bin:/opt",
        "ROUTER_URL": TOKEN,
    }


def test_line_breaks(tmp_path: Path) -> None:
    """A value that would break out of its line is refused."""
    with pytest.raises(ConfigError, match="characters that a service cannot be given"):
        made(tmp_path, name="x\nExecStart=/bin/sh")


# -- systemd


def words(command: str) -> list[str]:
    """The words of an ExecStart= line, by the rules of systemd.service(5)."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', command)
    return [
        re.sub(r"\\(.)", r"\1", quoted).replace("%%", "%").replace("$$", "$") if quoted else plain
        for quoted, plain in found
    ]


def value_of(unit: str, key: str) -> str:
    lines = [line.removeprefix(f"{key}=") for line in unit.splitlines() if line.startswith(f"{key}=")]
    assert len(lines) == 1, key
    return lines[0]


@pytest.mark.parametrize("system", [False, True])
@pytest.mark.skipif(not SYSTEMD_ANALYZE, reason="systemd-analyze is not installed (package systemd)")
def test_systemd_verifies(tmp_path: Path, *, system: bool) -> None:
    """The real systemd finds nothing wrong with the unit, of the machine's manager or of a user's."""
    runs = made(tmp_path, system=system, name=ODD, runtime=("ollama", "llamacpp"), router=TOKEN)
    plan = systemd.install(runs, tmp_path)
    unit = tmp_path / systemd.UNIT
    unit.write_bytes(plan.files[0].content)
    done = subprocess.run(
        [str(SYSTEMD_ANALYZE), *([] if system else ["--user"]), "verify", unit],
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_command(tmp_path: Path) -> None:
    """The unit runs exactly the command: no character of it means anything to systemd."""
    runs = made(tmp_path, name=ODD)
    unit = systemd.unit_file(runs, tmp_path / "100% env")
    assert words(value_of(unit, "ExecStart")) == list(runs.command)
    assert value_of(unit, "EnvironmentFile") == f"{tmp_path}/100%% env"


def test_systemd_life(tmp_path: Path) -> None:
    """It is started again when it fails, unless a setting is wrong; it has the time that it needs to end."""
    unit = systemd.unit_file(made(tmp_path, drain_timeout=60.0), tmp_path / "env")
    assert value_of(unit, "Restart") == "on-failure"
    assert value_of(unit, "RestartPreventExitStatus") == "2"
    assert int(value_of(unit, "TimeoutStopSec")) > 60
    assert value_of(unit, "WantedBy") == "default.target"


def test_systemd_hardening(tmp_path: Path) -> None:
    """The machine's unit runs as a user, without new privileges; nothing in it keeps a GPU away."""
    unit = systemd.unit_file(made(tmp_path, system=True), tmp_path / "env")
    assert value_of(unit, "User") == "alice"
    assert value_of(unit, "NoNewPrivileges") == "yes"
    assert value_of(unit, "WantedBy") == "multi-user.target"
    assert not re.search(
        "^(PrivateDevices|Device|ProtectClock|MemoryDenyWriteExecute|PrivateUsers)", unit, re.MULTILINE
    )


@pytest.mark.skipif(sys.platform == "win32", reason="the rules for quotes are the shell's, so it is asked")
def test_systemd_environment(tmp_path: Path) -> None:
    """A value of the environment file is what it was, whatever is in it (systemd.exec(5): quotes as in a shell)."""
    file = tmp_path / "node.env"
    file.write_text(systemd.environment_file({"A": ODD + "`x` 'y'", "B": "# no comment "}))
    done = subprocess.run(["/bin/sh", "-c", '. "$0"; printf "%s|%s" "$A" "$B"', file], capture_output=True, check=True)
    assert done.stdout.decode() == ODD + "`x` 'y'|# no comment "


# -- launchd

# launchd.plist(5): the keys that we use, and the types that it says they have.
LAUNCHD: dict[str, type] = {
    "Label": str,
    "UserName": str,
    "ProgramArguments": list,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "Umask": int,
}


@pytest.mark.parametrize("system", [False, True])
def test_launchd(tmp_path: Path, *, system: bool) -> None:
    """The property list has keys that launchd knows, of its types; a daemon says whose rights it has."""
    runs = made(tmp_path, system=system, name=ODD, router=TOKEN)
    file = launchd.install(runs, tmp_path, 501).files[0]
    job = plistlib.loads(file.content, fmt=plistlib.FMT_XML)
    assert {key: type(value) for key, value in job.items()} == {key: LAUNCHD[key] for key in job}
    assert file.path.name == f"{job['Label']}.plist"
    assert file.private
    assert job["ProgramArguments"] == list(runs.command)
    assert job["EnvironmentVariables"] == {"ROUTER_URL": TOKEN}
    assert job["KeepAlive"] == {"SuccessfulExit": False}
    assert job["ProcessType"] in {"Background", "Standard", "Adaptive", "Interactive"}
    assert job.get("UserName") == ("alice" if system else None)


@pytest.mark.parametrize(
    ("system", "path", "domain"),
    [(False, "Library/LaunchAgents", "gui/501"), (True, "/Library/LaunchDaemons", "system")],
)
def test_launchd_steps(tmp_path: Path, path: str, domain: str, *, system: bool) -> None:
    """It is loaded into the domain that it belongs to, in place of an earlier one, and taken out of it again."""
    plan = launchd.install(made(tmp_path, system=system), tmp_path, 501)
    file = str(tmp_path / path / "llm-router.node.plist")
    assert str(plan.files[0].path) == file
    assert [step.command for step in plan.after] == [("launchctl", "bootstrap", domain, file)]
    assert plan.before[0].may_fail
    gone = launchd.uninstall(tmp_path, 501, system=system)
    assert gone.files[0].path == plan.files[0].path
    assert gone.before[0].command == plan.before[0].command == ("launchctl", "bootout", f"{domain}/llm-router.node")


# -- the Task Scheduler

# [MS-TSCH] 2.5: the children of each element that we use, in the schema's order, and the form of each text.
CHILDREN = {
    "Task": ["RegistrationInfo", "Triggers", "Settings", "Data", "Principals", "Actions"],
    "RegistrationInfo": ["URI", "SecurityDescriptor", "Source", "Date", "Author", "Version", "Description"],
    "Triggers": ["BootTrigger", "RegistrationTrigger", "IdleTrigger", "LogonTrigger", "TimeTrigger"],
    "BootTrigger": ["Enabled", "StartBoundary", "EndBoundary", "Repetition", "ExecutionTimeLimit", "Delay"],
    "LogonTrigger": ["Enabled", "StartBoundary", "EndBoundary", "Repetition", "ExecutionTimeLimit", "UserId", "Delay"],
    "TimeTrigger": ["Enabled", "StartBoundary", "EndBoundary", "Repetition", "ExecutionTimeLimit", "RandomDelay"],
    "Repetition": ["Interval", "Duration", "StopAtDurationEnd"],
    "Settings": [
        "AllowStartOnDemand",
        "RestartOnFailure",
        "MultipleInstancesPolicy",
        "DisallowStartIfOnBatteries",
        "StopIfGoingOnBatteries",
        "AllowHardTerminate",
        "StartWhenAvailable",
        "NetworkProfileName",
        "RunOnlyIfNetworkAvailable",
        "WakeToRun",
        "Enabled",
        "Hidden",
        "DeleteExpiredTaskAfter",
        "IdleSettings",
        "NetworkSettings",
        "ExecutionTimeLimit",
        "Priority",
        "RunOnlyIfIdle",
    ],
    "RestartOnFailure": ["Interval", "Count"],
    "Principals": ["Principal"],
    "Principal": ["UserId", "LogonType", "GroupId", "DisplayName", "RunLevel"],
    "Actions": ["Exec", "ComHandler"],
    "Exec": ["Command", "Arguments", "WorkingDirectory"],
}
BOOLEAN, DURATION, WORDS = "true|false", r"P(\d+D)?(T(\d+H)?(\d+M)?(\d+S)?)?", ".+"
TEXTS = {
    "Description": WORDS,
    "StartBoundary": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
    "Interval": DURATION,
    "UserId": WORDS,
    "AllowStartOnDemand": BOOLEAN,
    "MultipleInstancesPolicy": "Parallel|Queue|IgnoreNew|StopExisting",
    "DisallowStartIfOnBatteries": BOOLEAN,
    "StopIfGoingOnBatteries": BOOLEAN,
    "StartWhenAvailable": BOOLEAN,
    "ExecutionTimeLimit": DURATION,
    "Priority": r"\d|10",
    "Count": r"[1-9]\d?|1\d\d|2[0-4]\d|25[0-5]",
    "LogonType": "S4U|Password|InteractiveToken|InteractiveTokenOrPassword",
    "RunLevel": "LeastPrivilege|HighestAvailable",
    "Command": WORDS,
    "Arguments": WORDS,
}
ATTRIBUTES = {"Task": {"version": "1.2"}, "Principal": {"id": "Agent"}, "Actions": {"Context": "Agent"}}


def named(element: ET.Element) -> str:
    return element.tag.removeprefix(f"{{{windows.NAMESPACE}}}")


def faults(element: ET.Element) -> Iterator[str]:
    """What the schema says against this element and those in it."""
    name, children = named(element), [named(child) for child in element]
    if name in TEXTS:
        if children or not re.fullmatch(TEXTS[name], element.text or ""):
            yield f"{name}: {element.text}"
    elif children != sorted(children, key=CHILDREN[name].index) or len(set(children)) < len(children):
        yield f"{name}: {children}"
    if element.attrib != ATTRIBUTES.get(name, {}):
        yield f"{name}: {element.attrib}"
    for child in element:
        yield from faults(child)


def text_of(root: ET.Element, path: str) -> str | None:
    found = root.findall("/".join(f"{{{windows.NAMESPACE}}}{part}" for part in path.split("/")))
    assert len(found) == 1, path
    return found[0].text


@pytest.mark.parametrize("system", [False, True])
def test_task(tmp_path: Path, *, system: bool) -> None:
    """The task is as the schema of [MS-TSCH] wants it, in UTF-16, and runs the command with all its settings."""
    runs = made(tmp_path, system=system, name=ODD + "<&>", router=TOKEN)
    data = windows.task(runs)
    assert data.startswith((b"\xff\xfe", b"\xfe\xff"))
    root = ET.fromstring(data)  # noqa: S314 - written here
    assert root.tag == f"{{{windows.NAMESPACE}}}Task"
    assert list(faults(root)) == []
    assert text_of(root, "Actions/Exec/Command") == runs.program[0]
    assert text_of(root, "Actions/Exec/Arguments") == list2cmdline(runs.full_command[1:])
    assert TOKEN in runs.full_command
    assert text_of(root, "Settings/ExecutionTimeLimit") == "PT0S"
    assert text_of(root, "Principals/Principal/LogonType") == ("S4U" if system else "InteractiveToken")


def test_task_steps(tmp_path: Path) -> None:
    """The task is registered from its file in place of an earlier one, and deleted by the same name."""
    plan = windows.install(made(tmp_path), tmp_path)
    created = plan.after[0].command
    assert created[:4] == ("schtasks", "/Create", "/TN", windows.TASK)
    assert created[4:] == ("/XML", str(plan.files[0].path), "/F")
    assert windows.uninstall(tmp_path).before[-1].command == ("schtasks", "/Delete", "/TN", windows.TASK, "/F")


# -- doing it, on Linux


class Machine:
    """A user's directories, and a systemctl that notes how it was called and says what it is told to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.unit = directory / "config" / "systemd" / "user" / systemd.UNIT
        self.settings = directory / "config" / "llm-router" / "node.env"
        self.bin = directory / "bin"
        self.calls = directory / "calls"
        self.bin.mkdir()

    def systemctl(self, status: int = 0, says: str = "") -> None:
        program = self.bin / "systemctl"
        text = f"#!/bin/sh\necho \"$*\" >> {self.calls}\n[ {status} = 0 ] || echo '{says}' >&2\nexit {status}\n"
        program.write_text(text)
        program.chmod(0o755)

    def run(self, *arguments: str) -> Result:
        env = {
            "XDG_CONFIG_HOME": str(self.directory / "config"),
            "LLM_ROUTER_HOME": str(self.home),
            "PATH": f"{self.bin}:/bin:/usr/bin" if (self.bin / "systemctl").exists() else str(self.bin),
        }
        return CliRunner().invoke(commands, ["node", *arguments], env=env)

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@linux_only
def test_install(machine: Machine) -> None:
    """Installing writes the unit and its settings, which nobody else can read, starts it, and says what it did."""
    machine.systemctl()
    said = machine.run("install", "--router", TOKEN, "--name", "box")
    assert said.exit_code == 0, said.output
    assert TOKEN not in machine.unit.read_text()
    assert f'ROUTER_URL="{TOKEN}"' in machine.settings.read_text()
    assert stat.S_IMODE(machine.settings.stat().st_mode) == 0o600
    assert stat.S_IMODE(machine.unit.stat().st_mode) == 0o644
    assert machine.called() == [f"--user {step}" for step in ("daemon-reload", *map(_of_unit, ("enable", "restart")))]
    assert f"Wrote {machine.unit}" in said.output
    assert "loginctl enable-linger" in said.output
    assert f"logs --home {machine.home}" in said.output


def _of_unit(verb: str) -> str:
    return f"{verb} {systemd.UNIT}"


@linux_only
def test_install_again(machine: Machine) -> None:
    """Installing again changes the settings."""
    machine.systemctl()
    machine.run("install", "--name", "first")
    assert machine.run("install", "--parallel", "2").exit_code == 0
    assert "first" not in machine.unit.read_text()
    assert "--parallel 2" in machine.unit.read_text()


@linux_only
def test_uninstall(machine: Machine) -> None:
    """Uninstalling stops the service and removes what was written; without one it fails and says where it looked."""
    machine.systemctl()
    machine.run("install", "--router", TOKEN)
    machine.calls.unlink()
    said = machine.run("uninstall")
    assert said.exit_code == 0, said.output
    assert not machine.unit.exists()
    assert not machine.settings.exists()
    assert machine.called() == [f"--user disable --now {systemd.UNIT}", "--user daemon-reload"]
    again = machine.run("uninstall")
    assert again.exit_code == 1
    assert str(machine.unit) in again.stderr


@linux_only
def test_systemd_refuses(machine: Machine) -> None:
    """Where systemctl fails, the files stay, and one line says why and what to run."""
    machine.systemctl(1, "Failed to connect to bus")
    said = machine.run("install")
    assert said.exit_code == 1
    assert machine.unit.exists()
    assert len(said.stderr.splitlines()) == 1
    assert "Failed to connect to bus" in said.stderr
    assert said.stderr.rstrip().endswith(f"&& systemctl --user restart {systemd.UNIT}")


@linux_only
def test_no_systemd(machine: Machine) -> None:
    """Where there is no systemctl it is the same; uninstalling removes the files all the same."""
    said = machine.run("install")
    assert said.exit_code == 1
    assert "there is no systemctl here" in said.stderr
    assert machine.unit.exists()
    assert machine.run("uninstall").exit_code == 1
    assert not machine.unit.exists()
    assert not machine.settings.exists()


@linux_only
def test_print(machine: Machine) -> None:
    """`--print` shows the files with their names, writes nothing and starts nothing."""
    machine.systemctl()
    said = machine.run("install", "--print", "--name", "box")
    assert said.exit_code == 0
    assert f"# {machine.unit}\n[Unit]\n" in said.output
    assert f"# {machine.settings}\n" in said.output
    assert not machine.unit.exists()
    assert machine.called() == []


@linux_only
def test_sudo() -> None:
    """The machine's service runs as the one who called sudo, with that user's home."""
    env = {"SUDO_USER": "daemon", "LLM_ROUTER_HOME": ""}
    said = CliRunner().invoke(commands, ["node", "install", "--print", "--system"], env=env)
    home = Path("~daemon").expanduser()
    assert value_of(said.output, "User") == "daemon"
    assert f"node --home {home}/" in value_of(said.output, "ExecStart")


@linux_only
@pytest.mark.parametrize("flags", [["--port", "70000"], ["--name", "a\nb"]])
def test_bad_settings(machine: Machine, flags: list[str]) -> None:
    """A setting that cannot be used is told now, with status 2, and nothing is written."""
    assert machine.run("install", *flags).exit_code == 2
    assert not machine.unit.exists()


@linux_only
def test_what_is_installed_runs(machine: Machine) -> None:
    """The command and the environment that were written start an agent, which ends in order at SIGTERM."""
    machine.systemctl()
    flags = ["--router", "http://127.0.0.1:9", "--port", "0", "--runtime", "openai=http://127.0.0.1:9"]
    assert machine.run("install", *flags).exit_code == 0
    command = shlex.join(words(value_of(machine.unit.read_text(), "ExecStart")))
    script = f"set -a; . {machine.settings}; exec {command}"
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}) as agent:
        assert agent.stdout
        line = agent.stdout.readline()
        agent.send_signal(signal.SIGTERM)
        _, log = agent.communicate(timeout=60)
    assert line.startswith(b"listening on http://127.0.0.1:")
    assert agent.returncode == 0, log.decode()
