"""Keeps what schemathesis makes up from being asked of other machines: loaded by it through SCHEMATHESIS_HOOKS.

RUNTIME in the environment is the port of a server of this machine, which is where every node of this test is.
"""

import contextlib
import os
from typing import Any

import schemathesis

from llm_router.contract import parse_address
from llm_router.errors import BadRequest

PORT = int(os.environ.get("RUNTIME", "0"))


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, Any]) -> None:
    """Whatever the router would take for an address is that server's."""
    body: object = case.body
    if not isinstance(body, dict):
        return
    if isinstance(body.get("port"), int) and 0 < body["port"] < 65536:
        body["port"] = PORT
    if isinstance(body.get("address"), str) and body["address"]:
        body["address"] = "127.0.0.1"
    if _is_address(body.get("url")):
        body["url"] = f"http://127.0.0.1:{PORT}"


def _is_address(text: object) -> bool:
    with contextlib.suppress(BadRequest):
        return isinstance(text, str) and bool(parse_address(text))
    return False
