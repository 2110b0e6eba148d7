"""Sessions of people at the dashboard."""

from llm_router.router.access.sessions import (
    MAX_SESSIONS,
    SESSION_LASTS,
    Sessions,
)


def cookies(sessions: Sessions, token: str) -> bytes:
    """As the browser sends them."""
    return f"theme=dark; {sessions.cookie(token).partition(';')[0]};last=1".encode()


def test_a_session_is_known_by_its_cookie() -> None:
    """Among others; not by its hash, not by another router's."""
    sessions, other = Sessions(8080, tls=False), Sessions(8081, tls=False)
    session, token = sessions.begin("ci", 0.0)
    assert sessions.of(cookies(sessions, token), 1.0) is session
    assert (session.grant.via, session.grant.scope, session.grant.name) == ("session", "admin", "ci")
    for wrong in (b"", b"=", b"x", cookies(sessions, "x"), cookies(sessions, session.hash), cookies(other, token)):
        assert sessions.of(wrong, 1.0) is None


def test_no_script_and_no_other_site_gets_at_the_cookie() -> None:
    """HttpOnly, SameSite=Strict, for the whole router and no other host; over HTTPS nowhere else."""
    plain, secure = Sessions(8080, tls=False).cookie("t"), Sessions(8443, tls=True).cookie("t")
    for cookie in (plain, secure):
        assert {"Path=/", "HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
    assert plain.startswith("llm-router-8080=t;")
    assert secure.startswith("__Host-llm-router-8443=t;")
    assert secure.endswith("; Secure")
    assert "Secure" not in plain


def test_only_hashes_are_kept() -> None:
    """Of the session in memory and in the database."""
    session, token = Sessions(8080, tls=False).begin("", 0.0)
    assert token not in str(session.stored())


def test_a_session_slides_and_ends() -> None:
    """It goes on while it is used, and outlives a restart."""
    sessions, restarted = Sessions(8080, tls=False), Sessions(8080, tls=False)
    session, token = sessions.begin("", 0.0)
    assert sessions.of(cookies(sessions, token), SESSION_LASTS - 1) is session
    assert session.used() == SESSION_LASTS - 1
    restarted.restore([session.stored()])
    assert restarted.of(cookies(sessions, token), 2 * SESSION_LASTS - 2) is not None
    assert restarted.of(cookies(sessions, token), 4 * SESSION_LASTS) is None
    assert list(restarted) == []


def test_a_session_is_ended() -> None:
    """By signing out, by its key's end, by time."""
    sessions = Sessions(8080, tls=False)
    (one, token), (ci, _), (old, _) = (sessions.begin(name, now) for name, now in (("", 9.0), ("ci", 9.0), ("", 0.0)))
    assert sessions.end(cookies(sessions, token)) is one
    assert sessions.end(cookies(sessions, token)) is None
    assert sessions.end_of("ci") == [ci]
    assert sessions.expired(SESSION_LASTS) == [old]
    assert list(sessions) == []
    assert "Max-Age=0" in sessions.cookie("")


def test_memory_is_bounded() -> None:
    """The last ones count."""
    sessions = Sessions(8080, tls=False)
    for _ in range(MAX_SESSIONS + 1):
        sessions.begin("", 0.0)
    assert len(list(sessions)) == MAX_SESSIONS
