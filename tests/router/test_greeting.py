"""What a router says when it has started (requirement A10)."""

from pathlib import Path
from typing import Any

import pytest

from llm_router.config import RouterConfig
from llm_router.router.greeting import Reach, greeting, open_to

WORD = "the-join-token"


def settings(tmp_path: Path, **more: Any) -> RouterConfig:  # noqa: ANN401 - any setting
    return RouterConfig.load({"home": tmp_path, "host": "192.0.2.5", "port": 8080} | more, env={})


async def said(config: RouterConfig, login: str = "") -> dict[str, str]:
    lines = await greeting(config, Reach(config), WORD, login)
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in lines}


async def test_others_can_reach_it(tmp_path: Path) -> None:
    """The address, who needs a key, where one signs in, and how a machine joins."""
    rows = await said(settings(tmp_path), "/login?token=once")
    assert "http://192.0.2.5:8080" in rows["Address"]
    assert rows["Here"] == "everything, without a key"
    assert "API key" in rows["Others"]
    assert rows["Dashboard"].startswith("http://192.0.2.5:8080/login?token=once")
    assert rows["Join"] == f"ROUTER_URL=http://{WORD}@192.0.2.5:8080 llm-router node"


async def test_nobody_else_can(tmp_path: Path) -> None:
    """On a loopback address nobody joins from elsewhere, so no token is shown."""
    rows = await said(settings(tmp_path, host="127.0.0.1"))
    assert "this machine alone" in rows["Others"]
    assert rows["Dashboard"] == "http://127.0.0.1:8080/dashboard"
    assert "Join" not in rows


@pytest.mark.parametrize(
    ("more", "row", "words"),
    [
        ({"auth": "always"}, "Here", "with a key"),
        ({"auth": "off"}, "Others", "without a key (--auth off)"),
        ({"join": "open"}, "Join", "ROUTER_URL=http://192.0.2.5:8080 llm-router node"),
        ({"tls_cert": "cert.pem"}, "Join", f"ROUTER_URL=https://{WORD}@192.0.2.5:8080 llm-router node"),
    ],
)
async def test_settings_are_told(tmp_path: Path, more: dict[str, Any], row: str, words: str) -> None:
    """What is open to whom is what the settings say."""
    assert words in (await said(settings(tmp_path, **more)))[row]


async def test_every_address_is_told(tmp_path: Path) -> None:
    """0.0.0.0 is no address that anybody could call."""
    rows = await said(settings(tmp_path, host="0.0.0.0"))
    assert "0.0.0.0" not in " ".join(rows.values())
    assert rows["Address"].startswith("http://127.0.0.1:8080")


async def test_the_log_gets_no_secrets(tmp_path: Path) -> None:
    """It says what is open to whom, and no token."""
    config = settings(tmp_path)
    assert WORD not in repr(await open_to(config, Reach(config)))


@pytest.mark.parametrize(
    ("asked", "url"),
    [
        ("router.lan:8080", "http://router.lan:8080"),
        ("10.0.0.5:8080", "http://10.0.0.5:8080"),
        ("[fd00::5]:8080", "http://[fd00::5]:8080"),
        ("127.0.0.1:8080", "http://192.0.2.5:8080"),
        ("localhost:8080", "http://192.0.2.5:8080"),
        ("0.0.0.0:8080", "http://192.0.2.5:8080"),
        ("", "http://192.0.2.5:8080"),
    ],
)
async def test_the_url_for_others(tmp_path: Path, asked: str, url: str) -> None:
    """It is the one by which somebody elsewhere has come; a name that means everybody's own machine is none."""
    config = settings(tmp_path)
    assert await Reach(config).url(asked) == url
