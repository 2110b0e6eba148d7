"""Tables of the settings that `config.py` declares."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from llm_router.config import Config, NodeConfig, RouterConfig, Setting
from tools.reference.markdown import code, codes, table

KINDS: dict[object, str] = {str: "text", int: "number", float: "number", bool: "true, false", Path: "directory"}
PLATFORM = "the platform's place for data"  # a home differs from machine to machine


def of_both() -> str:
    """What router and node have alike."""
    node = {setting.name: setting for setting in NodeConfig.settings()}
    rows = [
        (_option(s), *dict.fromkeys((code(s.env), code(node[s.name].env))), _takes(s), _defaults(s.name), s.description)
        for s in _shared(RouterConfig)
    ]
    return table(("option", "environment", "takes", "default", "what"), map(_joined, rows))


def _joined(row: tuple[str, ...]) -> tuple[str, ...]:
    """One cell for both variables, which are one where both sides read the same."""
    option, *variables, takes, default, what = row
    return option, ", ".join(variables), takes, default, what


def of_the_router() -> str:
    """What `llm-router serve` alone has."""
    return _own(RouterConfig)


def of_the_node() -> str:
    """What `llm-router node` alone has."""
    return _own(NodeConfig)


def _own(config: type[RouterConfig | NodeConfig]) -> str:
    shared = {setting.name for setting in _shared(config)}
    rows = [
        (_option(s), code(s.env), _takes(s), _default(config, s.name), s.description)
        for s in config.settings()
        if s.name not in shared
    ]
    return table(("option", "environment", "takes", "default", "what"), rows)


def _shared(config: type[RouterConfig | NodeConfig]) -> Iterable[Setting]:
    names = {field.name for field in msgspec.structs.fields(Config)}
    return [setting for setting in config.settings() if setting.name in names]


def _option(setting: Setting) -> str:
    return f"in the file: `{setting.name}`" if setting.secret else code("--" + setting.name.replace("_", "-"))


def _takes(setting: Setting) -> str:
    kind, limits = _taken_apart(setting.type)
    if get_origin(kind) is list:
        return "list"
    return codes(get_args(kind)) if get_origin(kind) is Literal else KINDS[kind] + _limited(limits)


def _taken_apart(annotation: Any) -> tuple[object, list[msgspec.Meta]]:  # noqa: ANN401 - annotations are of any type
    if get_origin(annotation) is not Annotated:
        return annotation, []
    inner, limits = _taken_apart(annotation.__origin__)
    return inner, [*limits, *(m for m in annotation.__metadata__ if isinstance(m, msgspec.Meta))]


def _limited(limits: list[msgspec.Meta]) -> str:
    least = next((m.ge for m in limits if m.ge is not None), None)
    most = next((m.le for m in limits if m.le is not None), None)
    if most is not None:
        return f", {least or 0} to {most}"
    return f" from {least}" if least else ""


def _defaults(name: str) -> str:
    """The default; both where they differ."""
    router, node = _default(RouterConfig, name), _default(NodeConfig, name)
    return router if router == node else f"{router}; node: {node or 'see below'}"


def _default(config: type[RouterConfig | NodeConfig], name: str) -> str:
    if name == "home":
        return PLATFORM
    value = getattr(config(), name)
    if isinstance(value, list):
        return codes(value)
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(f"{value:g}" if isinstance(value, float) else value)
