"""`GET /health`: anybody may ask, and it says what is wrong without saying what is there."""

import aiohttp
import msgspec

from llm_router import __version__


async def test_a_router_that_is_well_says_so(api: aiohttp.ClientSession) -> None:
    """With how many nodes it has, and that its history is written."""
    async with api.get("/health") as response:
        assert response.status == 200
        health = msgspec.json.decode(await response.read())
    assert health == {
        "status": "ok",
        "version": __version__,
        "nodes": 0,
        "online": 0,
        "ledger": {"pending": 0, "lost": 0, "trouble": ""},
        "replica": "",
        "replicas": [],
        "alone": "",
    }
