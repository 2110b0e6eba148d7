"""Looks at a model where it lies, before it is registered: a repository of the hub, or a GGUF file by its URL.

Nothing of its weights is fetched here: lists of files, headers, small texts.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec

from llm_router.config import RouterConfig
from llm_router.errors import BadRequest
from llm_router.models.allow import Allowlist
from llm_router.models.download import Part, fetch_part
from llm_router.models.manifest import Format, ModelFile
from llm_router.router.models import choosing
from llm_router.router.models.choosing import GGUF, Choice, RepoFile
from llm_router.router.models.entry import NewModel
from llm_router.router.models.hub import PATIENCE, Hub, Listing, Repo, repo_of
from llm_router.router.models.remote import Told, told_by_config, told_by_gguf

SETTING = "LLM_ROUTER_MODEL_ORIGINS"  # as an operator who is refused something has to change it
RUNTIMES: dict[Format, list[str]] = {"gguf": ["llamacpp"], "safetensors": []}  # kinds of ours that read the format


class Found(msgspec.Struct, frozen=True):
    """A model as it lies there. `base`: what its name begins with; `page`: its origin, for people."""

    format: Format
    files: list[ModelFile]
    told: Told
    base: str
    quantization: str
    page: str

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


class Looker:
    """Asks the hub and other origins, as far as the allowlist lets it."""

    def __init__(self, config: RouterConfig, session: aiohttp.ClientSession) -> None:
        """Raises ConfigError: an entry of `model_origins` makes no sense."""
        self._session = session
        self._allow = Allowlist(config.model_origins, SETTING)
        self._hub = Hub(config.hf_endpoint, config.hf_token, session, self._allow)

    async def look(self, new: NewModel) -> Found:
        """What is there, of what is asked for.

        Raises:
            BadRequest: it is not said what, or is nothing that could be run; the message says what there is.
            DownloadFailed: an origin may not be asked, or does not answer.
        """
        if bool(new.repo.strip()) == bool(new.url.strip()):
            raise BadRequest("either `repo` or `url` says where the model comes from")
        place = (new.repo or new.url).strip()
        repo = repo_of(place, self._hub.endpoint) if new.repo or "://" in place else None
        if repo is not None:
            return await self._in_repo(repo, new)
        return await self._at_url(place, new)

    # -- a repository

    async def _in_repo(self, repo: Repo, new: NewModel) -> Found:
        listing = await self._hub.files(repo)
        try:
            choice = choosing.choose(listing.files, new.file or repo.file, new.policy)
            if choice.index is not None:
                index = await self._hub.read(repo, self._hub.url(repo, listing.revision, choice.index.path))
                choice = choosing.complete(choice, listing.files, index)
            told = await self._told(repo, listing, choice)
            return self._found(repo, listing, choice, told)
        except BadRequest as error:
            raise BadRequest(f"{repo.name}: {error.message}") from error

    def _found(self, repo: Repo, listing: Listing, choice: Choice, told: Told) -> Found:
        files = [
            ModelFile(
                name=choosing.file_name(choice, file),
                size=file.size,
                sha256=file.sha256,
                url=self._hub.url(repo, listing.revision, file.path),
            )
            for file in choice.files
        ]
        quantization = choice.quantization or told.quantization
        base = repo.name.partition("/")[2]
        return Found(choice.format, files, told, base, quantization, self._hub.page(repo))

    async def _told(self, repo: Repo, listing: Listing, choice: Choice) -> Told:
        if choice.format == "gguf":
            url = self._hub.url(repo, listing.revision, choice.files[0].path)
            return await told_by_gguf(partial(self._part, url, self._hub.headers))
        texts = {
            file.path: await self._hub.read(repo, self._hub.url(repo, listing.revision, file.path))
            for file in choice.files
            if file.path in (choice.directory + choosing.CONFIG, choice.directory + choosing.TOKENIZER_CONFIG)
        }
        told = await told_by_config(
            texts[choice.directory + choosing.CONFIG], texts.get(choice.directory + choosing.TOKENIZER_CONFIG, b"")
        )
        has_template = told.chat_template or any(file.name.startswith("chat_template.") for file in choice.files)
        return msgspec.structs.replace(told, chat_template=has_template)

    # -- a URL

    async def _at_url(self, url: str, new: NewModel) -> Found:
        parts = urlsplit(url)
        name = parts.path.rpartition("/")[2]
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise BadRequest(f"{url!r:.200} is no URL that can be fetched: write https://host/path/model.gguf")
        if not name.lower().endswith(GGUF):
            raise BadRequest(f"{url!r:.200} is no GGUF file: give one, or as `repo` a repository of the hub, org/name")
        if new.file or new.policy:
            raise BadRequest("`file` and `policy` choose from a repository; a URL is of one file")
        urls = [parts._replace(path=parts.path[: -len(name)] + part).geturl() for part in choosing.parts_of(name)]
        told = await told_by_gguf(partial(self._part, urls[0], {}))
        sizes = [told.size, *[(await self._part(other, {}, 0, 1)).total for other in urls[1:]]]
        if not all(sizes):
            raise BadRequest(f"{parts.hostname} does not tell how large the file is, so it cannot be registered")
        page = parts._replace(query="", fragment="").geturl()  # a query may be a signature
        quantization = choosing.quantization(name) or told.quantization
        return Found("gguf", _files(urls, sizes), told, choosing.short_name(unquote(name)), quantization, page)

    async def _part(self, url: str, headers: Mapping[str, str], start: int, count: int) -> Part:
        return await fetch_part(self._session, url, start, count, patience=PATIENCE, allow=self._allow, headers=headers)


def _files(urls: Sequence[str], sizes: Sequence[int]) -> list[ModelFile]:
    """The files of a GGUF at these URLs; nobody tells their checksums."""
    files = [RepoFile(unquote(urlsplit(url).path), size) for url, size in zip(urls, sizes, strict=True)]
    choice = Choice("gguf", tuple(files))
    return [
        ModelFile(choosing.file_name(choice, file), file.size, url=url) for url, file in zip(urls, files, strict=True)
    ]
