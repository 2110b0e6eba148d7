"""Every error that a client of the router can get."""

from collections.abc import Iterator

from llm_router import errors
from llm_router.errors import RouterError
from llm_router.models import failures
from tools.reference.markdown import code, meaning, table


def every_error() -> str:
    """By status and code."""
    rows = sorted({(e.status, e.code, e.kind, meaning(" ".join((e.__doc__ or "").split()))) for e in classes()})
    return table(
        ("status", "code", "type", "what it means"), [(str(s), code(c), code(k), text) for s, c, k, text in rows]
    )


def classes() -> Iterator[type[RouterError]]:
    """Those that are raised, not what they have in common; without what only the command line says."""
    found = [e for e in (*vars(errors).values(), *vars(failures).values()) if isinstance(e, type)]
    ours = {e for e in found if issubclass(e, RouterError)}
    common = {base for e in ours for base in e.__bases__} - {errors.Unavailable, failures.DownloadFailed}
    yield from ours - common - {errors.ConfigError, errors.RegistrationRefused}
