"""launchd: an agent of the user's session, or a daemon of the machine. See launchd.plist(5), launchctl(1)."""

import plistlib
from pathlib import Path

from llm_router.node.service.plan import RESTART_AFTER, File, Plan, Service, Step

LABEL = "llm-router.node"
FILE = f"{LABEL}.plist"  # launchd.plist(5): named after its label
DAEMONS = Path("/Library/LaunchDaemons")
AGENTS = Path("Library/LaunchAgents")  # in the user's home directory


def install(service: Service, user_home: Path, uid: int) -> Plan:
    """Write the property list, and load it, which starts it."""
    path, domain = _place(user_home, uid, system=service.system)
    when = f"with the machine, as user {service.user}" if service.system else "when you log in"
    return Plan(
        files=(File(path, property_list(service), private=True),),  # it holds the environment
        before=(Step(("launchctl", "bootout", f"{domain}/{LABEL}"), may_fail=True),),
        after=(Step(("launchctl", "bootstrap", domain, str(path))),),
        notes=(f"It starts {when}.", f"How it is: launchctl print {domain}/{LABEL}"),
    )


def uninstall(user_home: Path, uid: int, *, system: bool) -> Plan:
    """Stop it, and remove what `install` wrote."""
    path, domain = _place(user_home, uid, system=system)
    return Plan(
        files=(File(path, b"", private=True),),
        before=(Step(("launchctl", "bootout", f"{domain}/{LABEL}")),),
    )


def _place(user_home: Path, uid: int, *, system: bool) -> tuple[Path, str]:
    """Where the property list is, and the domain that it is loaded into."""
    return (DAEMONS / FILE, "system") if system else (user_home / AGENTS / FILE, f"gui/{uid}")


def property_list(service: Service) -> bytes:
    """The property list, as XML. Nothing takes what it prints: its log is its own file."""
    job: dict[str, object] = {
        "Label": LABEL,
        "ProgramArguments": list(service.command),
        "EnvironmentVariables": service.private_environment,
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_AFTER,
        "ExitTimeOut": service.stop_within,
        "ProcessType": "Interactive",  # no limits on CPU and disk: somebody waits for what it answers
        "Umask": 0o077,
    }
    if service.system:
        job["UserName"] = service.user
    return plistlib.dumps(job, sort_keys=False)
