"""systemd: a unit of the user's own manager, or of the machine's. See systemd.service(5), systemd.exec(5).

Every word is quoted as systemd.syntax(7) and systemd.service(5) "COMMAND LINES" have it, every value of the environment
file as systemd.exec(5) `EnvironmentFile=` does.
"""

import re
from pathlib import Path

from llm_router.node.service.plan import NAME, RESTART_AFTER, File, Plan, Service, Step

UNIT = f"{NAME}.service"
PLAIN = re.compile(r"[\w@:/.,=+-]+", re.ASCII)  # needs no quotes
SYSTEM_UNITS = Path("/etc/systemd/system")
SYSTEM_SETTINGS = Path("/etc/llm-router")

# Of the machine's units only. `NoNewPrivileges` keeps nvidia-modprobe, which is setuid, from making /dev/nvidia-uvm
# when CUDA asks for it; here it has been run before, with all rights (`+`), where there is one (`-`). A user's own
# manager could not do that, and each of systemd's filters implies NoNewPrivileges there: CUDA after a reboot matters
# more. Not here, since they break GPUs: PrivateDevices, DevicePolicy, ProtectClock (it implies a list of devices),
# MemoryDenyWriteExecute (CUDA compiles kernels at run time).
HARDENING = """\
ExecStartPre=+-/usr/bin/nvidia-modprobe -c 0 -u
NoNewPrivileges=yes
ProtectSystem=full
PrivateTmp=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
"""


def install(service: Service, user_config: Path) -> Plan:
    """Write the unit and its settings, and start it. `user_config`: what XDG calls the user's configuration."""
    unit, settings = _places(user_config, system=service.system)
    manager = _manager(system=service.system)
    return Plan(
        files=(
            File(unit, unit_file(service, settings).encode(), private=False),
            File(settings, environment_file(service.private_environment).encode(), private=True),
        ),
        after=(
            Step((*manager, "daemon-reload")),
            Step((*manager, "enable", UNIT)),
            Step((*manager, "restart", UNIT)),  # starts it too; one that runs already gets the new settings
        ),
        notes=_notes(service, manager),
    )


def uninstall(user_config: Path, *, system: bool) -> Plan:
    """Stop it, and remove what `install` wrote."""
    unit, settings = _places(user_config, system=system)
    manager = _manager(system=system)
    return Plan(
        files=(File(unit, b"", private=False), File(settings, b"", private=True)),
        before=(Step((*manager, "disable", "--now", UNIT)),),
        after=(Step((*manager, "daemon-reload")),),
    )


def _places(user_config: Path, *, system: bool) -> tuple[Path, Path]:
    """Where the unit is, and where its settings are."""
    if system:
        return SYSTEM_UNITS / UNIT, SYSTEM_SETTINGS / "node.env"
    return user_config / "systemd" / "user" / UNIT, user_config / "llm-router" / "node.env"


def _manager(*, system: bool) -> tuple[str, ...]:
    return ("systemctl",) if system else ("systemctl", "--user")


def _notes(service: Service, manager: tuple[str, ...]) -> tuple[str, ...]:
    look = f"How it is: {' '.join(manager)} status {NAME}"
    if service.system:
        return (f"It starts with the machine, as user {service.user}.", look)
    linger = f"It starts when you log in. To have it run without that: loginctl enable-linger {service.user}"
    return (linger, look)


def unit_file(service: Service, settings: Path) -> str:
    """The unit; `settings` is its environment file."""
    first, *rest = service.command
    command = " ".join([_quoted(first, is_program=True), *(_quoted(word) for word in rest)])
    return f"""\
[Unit]
Description=LLM Router node agent
{_network(service)}
[Service]
Type=exec
ExecStart={command}
EnvironmentFile={_no_specifiers(str(settings))}
{_user(service)}UMask=0077
Restart=on-failure
RestartSec={RESTART_AFTER}
# A setting that cannot be used: starting again does not change it.
RestartPreventExitStatus=2
# SIGTERM is for the agent alone, which ends its runtimes in order.
KillMode=mixed
TimeoutStopSec={service.stop_within}
# When memory is short and the kernel takes a model's process, the agent goes on.
OOMPolicy=continue
{HARDENING if service.system else ""}
[Install]
WantedBy={"multi-user" if service.system else "default"}.target
"""


def _network(service: Service) -> str:
    """Wait for the network, which only the machine's manager knows of."""
    if not service.system:
        return ""
    return "Wants=network-online.target\nAfter=network-online.target\n"


def _user(service: Service) -> str:
    return f"User={_no_specifiers(service.user)}\n" if service.system else ""


def environment_file(environment: dict[str, str]) -> str:
    """The variables, one in a line."""
    lines = (f"{name}={_value(value)}\n" for name, value in environment.items())
    return "# Settings of the service; what its command line says counts more.\n" + "".join(lines)


def _value(text: str) -> str:
    """Within double quotes, a backslash escapes these four."""
    return '"' + "".join(f"\\{c}" if c in '\\"$`' else c for c in text) + '"'


def _quoted(word: str, *, is_program: bool = False) -> str:
    """One word of a command line. Variables are put in everywhere but in the program's path."""
    if PLAIN.fullmatch(word):
        return word
    escaped = _no_specifiers(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if is_program else f'"{escaped.replace("$", "$$")}"'


def _no_specifiers(text: str) -> str:
    return text.replace("%", "%%")
