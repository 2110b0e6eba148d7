"""How a URL is asked for; most of it is seen in the tests of `download`."""

import pytest
from yarl import URL

from llm_router.models.way import proxy_for, shown

pytestmark = pytest.mark.usefixtures("no_proxies")


def test_which_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scheme has its own proxy; one written without http:// is one with it; ports in NO_PROXY count."""
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", ".internal,other.example:8080")
    assert proxy_for(URL("http://example.com/")) == "http://proxy.example:3128"
    assert proxy_for(URL("https://example.com/")) is None
    assert proxy_for(URL("http://mirror.internal/")) is None
    assert proxy_for(URL("http://other.example:8080/")) is None
    assert proxy_for(URL("http://other.example/")) == "http://proxy.example:3128"


def test_shown() -> None:
    """Of a URL people see where it leads, and nothing that may be a secret."""
    assert shown("https://me:secret@host.example:8443/a/b?ticket=secret#x") == "https://host.example:8443/a/b"
    assert shown(URL("https://host.example/a@b?c@d")) == "https://host.example/a@b"
