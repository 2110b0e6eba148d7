"""How a database says no, whichever it is. Texts are the database's own words: without what was to be written."""

from sqlalchemy.exc import SQLAlchemyError


class NotNow(SQLAlchemyError):
    """Nothing was done, or nobody knows: it is worth another try later."""


class Rejected(SQLAlchemyError):
    """Nothing was done, and nothing of it ever will be: a value that the database cannot hold."""
