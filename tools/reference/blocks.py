"""Every generated part by its name."""

from collections.abc import Callable, Mapping

from tools.reference import calls, commands, errors, inference, metrics, settings

BLOCKS: Mapping[str, Callable[[], str]] = {
    "settings of both": settings.of_both,
    "settings of the router": settings.of_the_router,
    "settings of the node": settings.of_the_node,
    "options of many": commands.options_of_many,
    "commands": commands.every_command,
    "calls": calls.every_call,
    "types": calls.every_type,
    "inference": inference.every_route,
    "errors": errors.every_error,
    "metrics": metrics.every_metric,
}
