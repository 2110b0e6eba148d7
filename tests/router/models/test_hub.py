"""The hub of models: what people call a repository, and what is asked (requirements H3, H6)."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.doubles.hub import Hub as Double
from tests.doubles.hub import Options

from llm_router.errors import BadRequest
from llm_router.models.allow import Allowlist
from llm_router.models.failures import DownloadFailed, OriginDenied
from llm_router.router.models.hub import Hub, Repo, repo_of

HERE = "https://hub.example:8443/mirror"


@pytest.mark.parametrize(
    ("text", "repo"),
    [
        ("Qwen/Qwen2-0.5B", Repo("Qwen/Qwen2-0.5B")),
        (" org/name/ ", Repo("org/name")),
        ("hf.co/org/name", Repo("org/name")),
        ("https://huggingface.co/org/name", Repo("org/name")),
        ("https://huggingface.co/org/name/tree/main", Repo("org/name")),
        ("https://huggingface.co/org/name/tree/v1.0/sub", Repo("org/name", "v1.0")),
        ("https://huggingface.co/org/name/blob/main/a/b.gguf?x=1", Repo("org/name", file="a/b.gguf")),
        (f"{HERE}/org/name/resolve/main/b%20c.gguf", Repo("org/name", file="b c.gguf")),
        ("https://elsewhere.example/org/name/m.gguf", None),
        ("https://hub.example/mirror/org/name", None),
    ],
)
def test_what_people_call_a_repository(text: str, repo: Repo | None) -> None:
    """Its name, or the URL of any of its pages, here or where the hub itself is; anything else is a URL."""
    assert repo_of(text, HERE) == repo


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "../name",
        "org/..",
        "org/na me",
        "org/name/settings/x",
        "org/name/tree/..",
        "o\0g/name",
        "org//name",
        "a--b/c",
        "https://huggingface.co/",
        "https://huggingface.co/api/models/org/name",
    ],
)
def test_what_is_no_repository(text: str) -> None:
    """It is refused before anybody is asked (H7)."""
    with pytest.raises(BadRequest, match="write org/name"):
        repo_of(text, HERE)


@pytest.fixture
async def double(tmp_path: Path) -> AsyncIterator[Double]:
    async with Double(tmp_path / "hub") as running:
        yield running


def hub_of(double: Double, session: aiohttp.ClientSession, token: str = "") -> Hub:
    return Hub(double.url, token, session, Allowlist(double.origins))


async def test_files_with_sizes_and_checksums(double: Double, session: aiohttp.ClientSession) -> None:
    """Those in LFS have a checksum; their URLs are those of the commit that the list is of (H6)."""
    double.put("org/name", {"m.gguf": b"abc", "README.md": b"hello"})
    hub = hub_of(double, session)
    listing = await hub.files(Repo("org/name"))
    readme, model = listing.files
    assert (readme.path, readme.size, readme.sha256) == ("README.md", 5, "")
    assert (model.size, model.sha256) == (3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    assert hub.url(Repo("org/name"), listing.revision, "a b.gguf").endswith(f"/resolve/{listing.revision}/a%20b.gguf")
    assert await hub.read(Repo("org/name"), hub.url(Repo("org/name"), listing.revision, "README.md")) == b"hello"


async def test_a_repository_that_is_not_for_us(double: Double, session: aiohttp.ClientSession) -> None:
    """The error names it, and the token's setting where one could help; never the token."""
    hub = hub_of(double, session, "hf_secret")
    with pytest.raises(BadRequest, match="no repository org/name"):
        await hub.files(Repo("org/name"))
    double.put("org/name", {"m.gguf": b"abc"})
    await double.set(Options(token="hf_other"))  # noqa: S106 - nobody's
    with pytest.raises(BadRequest, match="HF_TOKEN") as error:
        await hub.files(Repo("org/name"))
    assert "hf_secret" not in error.value.message
    assert len((await hub_of(double, session, "hf_other").files(Repo("org/name"))).files) == 1


async def test_a_hub_that_is_not_on_the_list(double: Double, session: aiohttp.ClientSession) -> None:
    """It is not asked (H3)."""
    with pytest.raises(OriginDenied):
        await Hub(double.url, "", session, Allowlist(["huggingface.co/*"])).files(Repo("org/name"))


async def test_a_server_that_is_no_hub(double: Double, session: aiohttp.ClientSession) -> None:
    """Its answer is an error that says so."""
    double.put("org/name", {"api/models/org/name": b"<html>"})
    hub = Hub(f"{double.url}/org/name/resolve/main", "", session, Allowlist(double.origins))
    with pytest.raises(DownloadFailed, match="does not answer as a hub"):
        await hub.files(Repo("org/name"))
