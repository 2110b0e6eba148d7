"""API keys (requirement A10)."""

import re
from datetime import UTC, datetime
from hashlib import sha256

import msgspec
import pytest

from llm_router.errors import BadRequest
from llm_router.router.access.keys import Key, KeyNotFound, Keys, NewKey, is_ours, parse_expiry

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
DAY = 86_400


def made(keys: Keys, name: str = "ci", expires: str = "", models: list[str] | None = None) -> tuple[Key, bytes]:
    key, secret = keys.make(NewKey(name, expires=expires, models=models or []), NOW)
    keys.add(key)
    return key, secret.encode()


def test_a_key_is_found_by_itself_alone() -> None:
    """Nothing that is nearly it, and not its hash."""
    keys = Keys()
    key, secret = made(keys)
    assert keys.find(secret, NOW) is key
    for wrong in (b"", secret[:-1], secret + b"x", secret.swapcase(), sha256(secret).hexdigest().encode()):
        assert keys.find(wrong, NOW) is None


def test_a_key_is_seen_for_what_it_is() -> None:
    """`lr-` and 43 characters that need no quoting anywhere; no two are alike."""
    keys = Keys()
    secrets = {made(keys, f"key {n}")[1] for n in range(50)}
    assert len(secrets) == 50
    assert all(re.fullmatch(rb"lr-[A-Za-z0-9_-]{43}", secret) and is_ours(secret) for secret in secrets)
    assert not is_ours(b"sk-something-else")


def test_only_hashes_are_kept() -> None:
    """What is in the database is of no use to anybody."""
    key, secret = made(Keys())
    kept = msgspec.json.encode(key.stored)
    assert secret not in kept
    assert secret[3:] not in kept
    assert secret.decode() not in str(key.view())


def test_a_restart_remembers() -> None:
    """The same keys, with what they may do, until when."""
    before, after = Keys(), Keys()
    key, secret = made(before, expires="1h", models=["llama3"])
    after.restore([key.stored])
    found = after.find(secret, NOW)
    assert found is not None
    assert found.grant == key.grant
    assert after.find(secret, NOW + 3600) is None


def test_a_key_that_is_dropped_fails_at_once() -> None:
    """Though it was seen before; the others go on."""
    keys = Keys()
    key, secret = made(keys)
    _, other = made(keys, "other")
    assert keys.find(secret, NOW)
    assert keys.find(other, NOW)
    keys.drop(key)
    assert keys.find(secret, NOW) is None
    assert keys.find(other, NOW)


def test_when_a_key_was_used_is_known() -> None:
    """To see which ones nobody needs any more."""
    keys = Keys()
    key, secret = made(keys)
    assert key.view().last_used == 0
    keys.find(secret, NOW + 5)
    assert key.view().last_used == NOW + 5


def test_a_name_names_one_key() -> None:
    """By it, or by its id, a key is revoked; a second of this name cannot be made."""
    keys = Keys()
    key, _ = made(keys)
    assert keys.named("ci") is keys.named(key.stored.id) is key
    for taken in ("ci", key.stored.id):
        with pytest.raises(BadRequest, match="already"):
            keys.make(NewKey(taken), NOW)
    with pytest.raises(KeyNotFound):
        keys.named("another")


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb", "a/b", "\x1b[2J"])
def test_a_name_is_one_for_people(name: str) -> None:
    """It stands in lists, logs and paths."""
    with pytest.raises(BadRequest, match="name"):
        Keys().make(NewKey(name), NOW)


@pytest.mark.parametrize("models", [["m"] * 1001, [""], ["x" * 257], ["a\x00"]])
def test_models_have_limits(models: list[str]) -> None:
    """They are held in memory."""
    with pytest.raises(BadRequest, match="models"):
        Keys().make(NewKey("ci", models=models), NOW)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("", 0),
        ("90s", NOW + 90),
        ("12h", NOW + DAY / 2),
        (" 30d ", NOW + 30 * DAY),
        ("1y", NOW + 365 * DAY),
        ("2026-06-01", datetime(2026, 6, 2, tzinfo=UTC).timestamp()),
        ("2030-12-31", datetime(2031, 1, 1, tzinfo=UTC).timestamp()),
        ("2030-12-31T08:00", datetime(2030, 12, 31, 8, tzinfo=UTC).timestamp()),
        ("2030-12-31T08:00+09:00", datetime(2030, 12, 30, 23, tzinfo=UTC).timestamp()),
    ],
)
def test_when_a_key_ends(text: str, end: float) -> None:
    """A time from now, or a date, with the whole of that day."""
    assert parse_expiry(text, NOW) == end


@pytest.mark.parametrize("text", ["soon", "30", "-1d", "0s", "2026-05-31", "1999-01-01T00:00", "2030-13-01", "d"])
def test_what_is_no_end(text: str) -> None:
    """400 that repeats it; also what is past."""
    with pytest.raises(BadRequest, match="expires"):
        parse_expiry(text, NOW)


def test_a_model_is_allowed_as_requests_name_it() -> None:
    """For the Ollama API, a name without a tag means `:latest`."""
    key, _ = made(Keys(), models=["llama3", "qwen:7b"])
    assert key.grant.models == {"llama3", "llama3:latest", "qwen:7b"}
