"""Brings a database to the newest schema: `python -m llm_router.router.store.migrate URL`.

A process of its own, so that a router that runs for weeks does not carry Alembic.
"""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

MIGRATIONS = Path(__file__).parent / "migrations"


def config() -> Config:
    """Alembic's settings: where the migrations are; there is no alembic.ini."""
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))  # it interpolates `%`
    return settings


def upgrade(url: str) -> None:
    """Apply what is missing, each migration in its own transaction."""
    settings = config()
    engine = create_engine(url)
    with engine.connect() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
    engine.dispose()


def main() -> int:
    """Exit status 1, with the reason as the last line on standard error, when it cannot be done."""
    try:
        upgrade(sys.argv[1])
    except (CommandError, SQLAlchemyError) as error:
        sys.stderr.write(str(error).splitlines()[0] + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
