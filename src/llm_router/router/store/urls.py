"""Databases by their URLs, as SQLAlchemy writes them and as asyncpg does."""

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from llm_router.errors import ConfigError

POSTGRES = "postgresql+asyncpg"
# What other programs call the same: PostgreSQL's own libraries know both (its manual, "Connection URIs").
_ALSO = ("postgresql", "postgres")
_EXAMPLE = f"{POSTGRES}://USER:PASSWORD@HOST/DATABASE"


def postgres_url(given: str) -> str:
    """`given`, the setting, as `postgresql+asyncpg://…`.

    Raises:
        ConfigError: it is no URL, or that of another kind of database. Its password is not in the message.
    """
    try:
        url = make_url(given)
    except (ArgumentError, ValueError) as error:  # the latter for a port that is no number
        raise ConfigError(f"database_url is no URL: write {_EXAMPLE}") from error
    if url.drivername not in (POSTGRES, *_ALSO):
        raise ConfigError(f"database_url begins with {url.drivername}://, which is not supported: write {_EXAMPLE}")
    return _text(url.set(drivername=POSTGRES))


def dsn(url: str) -> str:
    """What `asyncpg.connect` takes: the same, without the driver."""
    return _text(make_url(url).set(drivername="postgresql"))


def shown(url: str) -> str:
    """For people and logs: without the password."""
    return make_url(url).render_as_string(hide_password=True)


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)
