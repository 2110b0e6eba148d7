"""Who made a request, on its way from the gateway to the API."""

import pytest
from litestar.testing import RequestFactory

from llm_router.gateway.control import WHO
from llm_router.gateway.guard import Grant
from llm_router.router.access.who import Who, who


@pytest.mark.parametrize("name", ["", "ci", "Anna's laptop; really", "鍵 100 %", "a\r\nb"])
def test_what_the_gateway_says_arrives(name: str) -> None:
    """Whatever the key is called."""
    request = RequestFactory().get("/", headers={WHO.decode(): Grant("key", "admin", name).line()})
    assert who(request) == Who("key", "admin", name)


def test_nobody_is_nobody() -> None:
    """What did not come through the gateway may do nothing."""
    assert who(RequestFactory().get("/")) == Who("public", "none")


def test_as_the_log_has_it() -> None:
    """Readable, with the key's name where there is one."""
    shown = [str(Who("local", "admin")), str(Who("key", "admin", "ci")), str(Who("session", "admin", "ci"))]
    assert shown == ["this machine", "key 'ci'", "session 'ci'"]
