"""`GET /dashboard`: the pages for people, files as they stand in `router/dashboard/`.

They are read once, at the start: a file that changes is another release's.
"""

import gzip
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from llm_router.errors import NotFound
from llm_router.gateway.control_app import AnyRequest

# Litestar adds the charset to text. Not what `mimetypes` says: it asks the system, and on Windows any program may have
# made scripts text/plain in the registry.
TYPES = {
    "html": "text/html",
    "js": "text/javascript",
    "css": "text/css",
    "json": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
}
START = "index.html"
WORTH_IT = 0.9  # a file is sent compressed if it is smaller than this part of itself

# Nothing but our own files and calls (CSP, level 3); a browser asks each time whether a file is still the same, since
# a router that was upgraded has others under the same names.
HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "vary": "accept-encoding",
}


class Page(msgspec.Struct, frozen=True):
    """One file. `packed` is it in gzip, empty where that is no gain."""

    kind: str
    tag: str
    plain: bytes
    packed: bytes


def dashboard_routes(files: Traversable | None = None) -> list[HTTPRouteHandler]:
    """The handlers. `files`: the directory, where it is not the project's own."""
    pages = dict(_pages(files or resources.files("llm_router.router") / "dashboard"))

    @get("/dashboard", include_in_schema=False)
    async def start(request: AnyRequest) -> Response[bytes]:
        """The page that draws all others."""
        return _answer(request, pages, START)

    @get("/dashboard/{name:path}", include_in_schema=False)
    async def file(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
        """What it needs: scripts, styles, pictures."""
        return _answer(request, pages, name.lstrip("/"))

    return [start, file]


def _pages(directory: Traversable, prefix: str = "") -> list[tuple[str, Page]]:
    if not directory.is_dir():
        return []
    found: list[tuple[str, Page]] = []
    for entry in directory.iterdir():
        name = f"{prefix}{entry.name}"
        kind = TYPES.get(name.rpartition(".")[2])
        if entry.is_dir():
            found += _pages(entry, f"{name}/")
        elif kind is not None:
            found.append((name, page(kind, entry.read_bytes())))
    return found


def page(kind: str, content: bytes) -> Page:
    """A file of this media type."""
    packed = gzip.compress(content, mtime=0)
    tag = sha256(content).hexdigest()[:16]
    return Page(kind, tag, content, packed if len(packed) < len(content) * WORTH_IT else b"")


def _answer(request: AnyRequest, pages: dict[str, Page], name: str) -> Response[bytes]:
    page = pages.get(name)
    if page is None:
        raise NotFound(f"no such path: {request.url.path}")
    packed = bool(page.packed) and _takes_gzip(request.headers.get("accept-encoding", ""))
    # Of one file, two representations have two tags (RFC 9110, section 8.8.3.3).
    tag = f'"{page.tag}-gzip"' if packed else f'"{page.tag}"'
    headers = HEADERS | {"etag": tag}
    if _has(request.headers.get("if-none-match", ""), tag):
        return Response(b"", status_code=304, headers=headers, media_type=page.kind)
    if packed:
        headers["content-encoding"] = "gzip"
    return Response(page.packed if packed else page.plain, headers=headers, media_type=page.kind)


def _takes_gzip(accepted: str) -> bool:
    """Whether `Accept-Encoding` names gzip, and not with weight 0 (RFC 9110, section 12.5.3)."""
    for coding in accepted.split(","):
        name, _, weight = coding.partition(";")
        if name.strip().lower() in {"gzip", "*"}:
            return weight.replace(" ", "").lower().removeprefix("q=").strip("0.") != "" or not weight
    return False


def _has(listed: str, tag: str) -> bool:
    """Whether `If-None-Match` lists the tag; weak ones count as strong here (RFC 9110, section 13.1.2)."""
    return any(t.strip().removeprefix("W/") in {tag, "*"} for t in listed.split(","))
