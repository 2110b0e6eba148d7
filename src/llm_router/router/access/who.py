"""Who made a request, as the gateway tells the control app (`gateway.guard.Grant.line`)."""

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request

from llm_router.gateway.control import WHO

_HEADER = WHO.decode()
_KINDS = {"local": "this machine", "public": "anybody", "node": "a node", "key": "key", "session": "session"}


class Who(msgspec.Struct, frozen=True):
    """`via`: how that is known, as `Grant` has it; `name`: of the key, "" where there is none."""

    via: str
    scope: str
    name: str = ""

    def __str__(self) -> str:
        """As the log of events has it: `key 'ci'`, `this machine`."""
        kind = _KINDS.get(self.via, self.via)
        return f"{kind} '{self.name}'" if self.name else kind


def who(request: Request[Any, Any, Any]) -> Who:
    """Who made this request; nobody who may do anything, where it did not come through the gateway."""
    via, _, rest = request.headers.get(_HEADER, "public;none;").partition(";")
    scope, _, name = rest.partition(";")
    return Who(via, scope, unquote(name))
