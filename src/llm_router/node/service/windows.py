"""Windows: a task of the Task Scheduler.

The format is [MS-TSCH] 2.5, "XML Task Definition Format"; elements stand in the order in which its schema has them. A
task has no environment of its own and gets its user's, so every setting stands in the command line, which other users
cannot see.
"""

from pathlib import Path
from subprocess import list2cmdline
from xml.etree import ElementTree as ET

from llm_router.node.service.plan import File, Plan, Service, Step

TASK = "LLM Router node"
NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
VERSION = "1.2"  # of the schema: Windows Vista's, which has all that is used here
PRINCIPAL = "Agent"
LONG_AGO = "2020-01-01T00:00:00"
NO_LIMIT = "PT0S"  # without it, a task is ended after three days
NORMAL_PRIORITY = "5"  # 7, the default, is below normal, for the disk as well
NET_EVERY = "PT5M"  # not every end counts as a failure there, and RestartOnFailure gives up: see `_triggers`
RESTART_AFTER = "PT1M"  # the shortest that the schema has
RESTARTS = "255"  # the most, an unsigned byte

Tree = list[tuple[str, "str | Tree"]]


def install(service: Service, user_config: Path) -> Plan:
    """Write the task, register it, and start it."""
    path = _place(user_config)
    when = "the machine" if service.system else "your session, in a window of its own"
    return Plan(
        files=(File(path, task(service), private=True),),
        before=(Step(("schtasks", "/End", "/TN", TASK), may_fail=True),),
        after=(
            Step(("schtasks", "/Create", "/TN", TASK, "/XML", str(path), "/F")),
            Step(("schtasks", "/Run", "/TN", TASK)),
        ),
        notes=(f"It starts with {when}, as {service.user}.", f"How it is: {list2cmdline(_query())}"),
    )


def uninstall(user_config: Path) -> Plan:
    """Stop it, and remove what `install` wrote."""
    return Plan(
        files=(File(_place(user_config), b"", private=True),),
        before=(
            Step(("schtasks", "/End", "/TN", TASK), may_fail=True),
            Step(("schtasks", "/Delete", "/TN", TASK, "/F")),
        ),
    )


def _place(user_config: Path) -> Path:
    return user_config / "node-task.xml"


def _query() -> list[str]:
    return ["schtasks", "/Query", "/V", "/FO", "LIST", "/TN", TASK]


def task(service: Service) -> bytes:
    """The task; UTF-16, since schtasks takes no other encoding reliably."""
    root = ET.Element("Task", {"version": VERSION, "xmlns": NAMESPACE})
    _grow(
        root,
        [
            ("RegistrationInfo", [("Description", "The agent of LLM Router on this machine")]),
            ("Triggers", _triggers(service)),
            ("Settings", _settings()),
            ("Principals", [("Principal", _principal(service))]),
            ("Actions", [("Exec", _action(service))]),
        ],
    )
    root.find("Principals/Principal").set("id", PRINCIPAL)  # type: ignore[union-attr]  # written above
    root.find("Actions").set("Context", PRINCIPAL)  # type: ignore[union-attr]  # as above
    ET.indent(root)
    text = ET.tostring(root, "unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="UTF-16"?>\n{text}\n'.encode("utf-16")


def _grow(parent: ET.Element, children: Tree) -> None:
    for name, content in children:
        child = ET.SubElement(parent, name)
        if isinstance(content, str):
            child.text = content
        else:
            _grow(child, content)


def _triggers(service: Service) -> Tree:
    """At the start, and again and again: while it runs, that does nothing (MultipleInstancesPolicy)."""
    first: tuple[str, Tree] = ("BootTrigger", []) if service.system else ("LogonTrigger", [("UserId", service.user)])
    net: Tree = [("StartBoundary", LONG_AGO), ("Repetition", [("Interval", NET_EVERY)])]
    return [first, ("TimeTrigger", net)]


def _settings() -> Tree:
    return [
        ("AllowStartOnDemand", "true"),
        ("RestartOnFailure", [("Interval", RESTART_AFTER), ("Count", RESTARTS)]),
        ("MultipleInstancesPolicy", "IgnoreNew"),
        ("DisallowStartIfOnBatteries", "false"),
        ("StopIfGoingOnBatteries", "false"),
        ("StartWhenAvailable", "true"),
        ("ExecutionTimeLimit", NO_LIMIT),
        ("Priority", NORMAL_PRIORITY),
    ]


def _principal(service: Service) -> Tree:
    """The user, without an administrator's rights; S4U: also while not logged in, without a password kept."""
    logon = "S4U" if service.system else "InteractiveToken"
    return [("UserId", service.user), ("LogonType", logon), ("RunLevel", "LeastPrivilege")]


def _action(service: Service) -> Tree:
    program, *arguments = service.full_command
    return [("Command", program), ("Arguments", list2cmdline(arguments))]
