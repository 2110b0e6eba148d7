"""Why something could not be fetched, and what an HTTP client gets to see of it.

    DownloadFailed          502 download_failed
    ├── Unreachable         502 download_failed     later it may go better
    ├── NotOffered          502 download_failed
    ├── WrongChecksum       502 wrong_checksum
    ├── NoRoom              507 no_room
    └── OriginDenied        403 origin_denied

A class of its own beside those in `llm_router.errors`: it is the way to a file that failed, not the request for it.
"""

from llm_router.errors import RouterError


class DownloadFailed(RouterError):
    """Something could not be fetched; the message says what, and what to do."""

    status = 502
    code = "download_failed"
    kind = "api_error"


class Unreachable(DownloadFailed):
    """The network or the server gave way, also on further attempts: later it may be there again."""


class NotOffered(DownloadFailed):
    """The server answers, but not with this file. `answered`: its HTTP status, 0 where it was something else."""

    def __init__(self, message: str, answered: int = 0) -> None:
        super().__init__(message)
        self.answered = answered


class WrongChecksum(DownloadFailed):
    """What came is not what was announced, by its checksum or its size."""

    code = "wrong_checksum"


class NoRoom(DownloadFailed):
    """The disk cannot take it."""

    status = 507  # Insufficient Storage: RFC 4918, 11.5
    code = "no_room"


class OriginDenied(DownloadFailed):
    """It is not on the list of places that models may come from (requirement H3)."""

    status = 403
    code = "origin_denied"
    kind = "permission_error"
