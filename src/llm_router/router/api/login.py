"""`/login`: a person becomes somebody who is known, by a one-time link or an administrator's key.

The page works without a script, and says what to do to whoever has neither.
"""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import Any
from urllib.parse import parse_qs

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery

from llm_router.errors import RouterError
from llm_router.router.access.access import Access

Call = Request[Any, Any, Any]
Page = Response[str]

MAX_FORM = 4096  # bytes: a token, or a key
DASHBOARD = "/dashboard"


class Words(msgspec.Struct, frozen=True):
    """What the page says in one language."""

    language: str
    title: str
    how: str
    field: str
    button: str
    already: str
    wrong: str
    often: str
    away: str


ENGLISH = Words(
    "en",
    "Sign in to LLM Router",
    "Run this command on the router's machine, and open the link that it prints:",
    "Or enter an administrator's API key",
    "Sign in",
    "Already signed in? Open the dashboard",
    "This link or key is wrong, was used before, or is over. A link works once, within ten minutes: make a new one.",
    "Too many attempts from your address. Wait a little, then try again.",
    "The database cannot be reached to check a link. Try again soon, or enter an administrator's API key.",
)
JAPANESE = Words(
    "ja",
    "LLM Router にサインイン",
    "ルーターのマシンで次のコマンドを実行し、表示されたリンクを開いてください。",
    "または、管理者の API キーを入力してください",
    "サインイン",
    "サインイン済みの場合はダッシュボードを開く",
    "このリンクまたはキーは無効か、使用済みか、期限切れです。"
    "リンクは 10 分以内に一度だけ使えます。新しいリンクを作成してください。",
    "このアドレスからの試行が多すぎます。しばらく待ってからもう一度お試しください。",
    "データベースに接続できないため、リンクを確認できません。"
    "管理者の API キーを入力するか、しばらく待ってからもう一度お試しください。",
)

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 0; min-height: 100vh; display: grid; place-items: center }
main { box-sizing: border-box; width: 100%; max-width: 30rem; padding: 1.5rem }
h1 { font-size: 1.5rem; margin: 0 0 1rem }
code { display: block; padding: .6rem .8rem; border: 1px solid #8886; border-radius: 6px; user-select: all }
label { display: block; margin: 1.5rem 0 .4rem }
input, button { font: inherit; padding: .5rem .8rem; border: 1px solid #888; border-radius: 6px }
form div { display: flex; flex-wrap: wrap; gap: .5rem }
input { flex: 1 1 14rem; min-width: 0 }
button { background: #0b6bcb; border-color: #0b6bcb; color: #fff; cursor: pointer }
[role=alert] { border-inline-start: 4px solid #d33; padding: .4rem .8rem }
"""
_STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()

# Nothing but the page itself, in no frame; its address, which may have had a token, is told nobody.
SAFE = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def login_routes(access: Access) -> list[HTTPRouteHandler]:
    """The handlers."""

    # Pages for people: no part of the API that the schema describes.
    @get("/login", include_in_schema=False)
    async def login(request: Call, token: FromQuery[str] = "") -> Page:
        """Sign in by a link; without its token, say how to come by one."""
        return await _signed_in(access, request, token) if token else _page(request, 200)

    @post("/login", include_in_schema=False, request_max_body_size=MAX_FORM)
    async def login_by_form(request: Call) -> Page:
        """Sign in by what was typed into the page."""
        form = parse_qs((await request.body()).decode())
        return await _signed_in(access, request, form.get("token", [""])[0])

    @post("/v0/logout", status_code=204, tags=["access"])
    async def logout(request: Call) -> Response[None]:
        """End the session of the cookie that is shown."""
        cookie = await access.sign_out(request.headers.get("cookie", "").encode("latin-1"))
        return Response(None, status_code=204, headers={"set-cookie": cookie})

    return [login, login_by_form, logout]


async def _signed_in(access: Access, request: Call, token: str) -> Page:
    try:
        cookie = await access.sign_in(token, request.client.host if request.client else "")
    except RouterError as error:
        wait = {"retry-after": str(error.retry_after)} if error.retry_after else {}
        return _page(request, error.status, wait)
    return Response("", status_code=303, headers={**SAFE, "location": DASHBOARD, "set-cookie": cookie})


def _page(request: Call, status: int, headers: Mapping[str, str] | None = None) -> Page:
    words = JAPANESE if _prefers_japanese(request.headers.get("accept-language", "")) else ENGLISH
    alert = {401: words.wrong, 429: words.often, 503: words.away}.get(status, "")
    challenge = {"www-authenticate": "Bearer"} if status == 401 else {}  # RFC 9110, section 15.5.2
    return Response(
        _html(words, alert),
        status_code=status,
        media_type="text/html; charset=utf-8",
        headers={**SAFE, **challenge, **(headers or {})},
    )


def _prefers_japanese(accepted: str) -> bool:
    """Whether Japanese stands before English: browsers name languages in the order of preference."""
    languages = [part.split(";")[0].strip().lower()[:2] for part in accepted.split(",")]
    return next((language for language in languages if language in ("en", "ja")), "en") == "ja"


def _html(words: Words, alert: str) -> str:
    return f"""<!doctype html>
<html lang="{words.language}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(words.title)}</title>
<style>{STYLE}</style>
<main>
<h1>{escape(words.title)}</h1>
{f'<p role="alert">{escape(alert)}</p>' if alert else ""}
<p>{escape(words.how)}</p>
<code>llm-router login-link</code>
<form method="post" action="/login">
<label for="token">{escape(words.field)}</label>
<div><input id="token" name="token" type="password" autocomplete="current-password" required>
<button>{escape(words.button)}</button></div>
</form>
<p><a href="{DASHBOARD}">{escape(words.already)}</a></p>
</main>
</html>
"""
