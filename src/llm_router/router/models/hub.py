"""A hub as Hugging Face's is: which files a repository has, and where they are fetched.

    GET {endpoint}/api/models/{repo}?blobs=true                     {"sha": …, "siblings": [{"rfilename", "size",
    GET {endpoint}/api/models/{repo}/revision/{revision}?blobs=true     "lfs": {"sha256", "size"}}]}
    GET {endpoint}/{repo}/resolve/{revision}/{file}                 the file, mostly by a redirect to a CDN

That is what huggingface_hub asks (`hf_api.py`: `model_info` with `files_metadata`; `file_download.py`: `hf_hub_url`).
Only files that lie in Git LFS have a checksum there. The commit that the list is of stands in the URLs of files: what
was registered is what is fetched, whatever is pushed later.

The token is shown to the hub alone: `models.download` shows it to nobody that the hub redirects to.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import msgspec

from llm_router.contract import UNREADABLE
from llm_router.errors import BadRequest
from llm_router.models.allow import Allowlist
from llm_router.models.download import Patience, fetch_text
from llm_router.models.failures import DownloadFailed, NotOffered
from llm_router.router.models.choosing import RepoFile

MAIN = "main"  # the revision where none is named
# Somebody waits for the answer: a hub that stumbles is asked again, one that is away is said to be.
PATIENCE = Patience(retries=2, max_backoff=2.0, stall=20.0)

GATED = "; if it is private or gated, accept its terms there and set HF_TOKEN to a token that may read it"

_ITSELF = ("huggingface.co", "www.huggingface.co", "hf.co")  # what people paste, also where a mirror is asked
# huggingface_hub, `validate_repo_id`
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_PAGES = ("tree", "blob", "resolve")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Repo(msgspec.Struct, frozen=True):
    """A repository, and what of it a person meant; "" is not said."""

    name: str
    revision: str = MAIN
    file: str = ""


class Listing(msgspec.Struct, frozen=True):
    """The files of a repository, at this revision: a commit where the hub tells it."""

    revision: str
    files: list[RepoFile]


def repo_of(text: str, endpoint: str) -> Repo | None:
    """The repository that a person named: `org/name`, or the URL of one of its pages; None: it is something else.

    Raises:
        BadRequest: it is of the hub, and no repository's, or no URL at all.
    """
    place = text.strip().rstrip("/")
    if "://" not in place and place.partition("/")[0] not in _ITSELF:
        return _repo(place)
    host, path = _split(place)
    ours, prefix = _split(endpoint.rstrip("/"))
    if host in _ITSELF:
        return _repo(path)
    return _repo(path.removeprefix(prefix)) if host == ours and path.startswith(prefix) else None


def _split(url: str) -> tuple[str, str]:
    """Host with port, and path."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
    except ValueError as error:  # a bracket without its partner
        raise BadRequest(f"{url!r:.200} is no URL that can be fetched: {error}") from error
    return parts.netloc.lower(), unquote(parts.path)


def _repo(path: str) -> Repo:
    """`org/name`, `org/name/tree/v1`, `org/name/blob/main/model.gguf`."""
    org, name, page, revision, file = [*path.strip("/").split("/", 4), "", "", "", "", ""][:5]
    repo = f"{org}/{name}"
    good = _NAME.fullmatch(repo) and ".." not in repo and "--" not in repo
    if not good or (page and (page not in _PAGES or not _REVISION.fullmatch(revision) or ".." in revision)):
        raise BadRequest(f"{path!r:.200} is no repository: write org/name, as the hub does")
    return Repo(repo, revision or MAIN, file if page != "tree" else "")


class Hub:
    """The hub at `endpoint`. It is asked for what the allowlist lets through, and nothing else."""

    def __init__(self, endpoint: str, token: str, session: aiohttp.ClientSession, allow: Allowlist) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token = token
        self._session = session
        self._allow = allow

    @property
    def headers(self) -> Mapping[str, str]:
        """What the hub is shown; nobody else."""
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

    def page(self, repo: Repo) -> str:
        """Where people read about it."""
        return f"{self.endpoint}/{repo.name}"

    def url(self, repo: Repo, revision: str, path: str) -> str:
        """Where a file of it is fetched."""
        return f"{self.endpoint}/{repo.name}/resolve/{quote(revision, safe='')}/{quote(path)}"

    async def files(self, repo: Repo) -> Listing:
        """What the repository has.

        Raises:
            BadRequest: there is none of this name, or it is not for us.
            DownloadFailed: the hub may not be asked, or does not answer.
        """
        part = "" if repo.revision == MAIN else f"/revision/{quote(repo.revision, safe='')}"
        body = await self.read(repo, f"{self.endpoint}/api/models/{repo.name}{part}?blobs=true")
        try:
            return _listing(body, repo.revision)
        except UNREADABLE as error:
            raise DownloadFailed(f"{self.endpoint} does not answer as a hub of models does: {error}") from error

    async def read(self, repo: Repo, url: str) -> bytes:
        """A small text of this repository. Raises as `files`."""
        try:
            text = await fetch_text(self._session, url, patience=PATIENCE, allow=self._allow, headers=self.headers)
        except NotOffered as error:
            raise self._refused(repo, error) from error
        return text.body.encode()

    def _refused(self, repo: Repo, error: NotOffered) -> Exception:
        """The hub answers 401 also for repositories that are not there, so that nobody learns of private ones."""
        if error.answered not in (401, 403, 404):
            return error
        hint = "" if error.answered == 404 else GATED
        return BadRequest(
            f"{self.endpoint} has no repository {repo.name} with this revision for us (status {error.answered}){hint}"
        )


class _Lfs(msgspec.Struct):
    sha256: str = ""
    size: int = 0


class _Sibling(msgspec.Struct):
    rfilename: str
    size: int | None = None
    lfs: _Lfs | None = None


class _Info(msgspec.Struct):
    siblings: list[_Sibling] = []
    sha: str | None = None


def _listing(body: bytes, revision: str) -> Listing:
    info = msgspec.json.decode(body, type=_Info)
    commit = info.sha if info.sha and _COMMIT.fullmatch(info.sha) else revision
    return Listing(commit, [_file(one) for one in info.siblings])


def _file(sibling: _Sibling) -> RepoFile:
    lfs = sibling.lfs or _Lfs()
    sha256 = lfs.sha256.lower()
    return RepoFile(
        sibling.rfilename, max(0, lfs.size or sibling.size or 0), sha256 if _SHA256.fullmatch(sha256) else ""
    )
