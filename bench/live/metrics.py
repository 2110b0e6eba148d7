"""What the router says of its own event loop, at /metrics."""

import re
from collections.abc import Mapping

NAME = "llm_router_event_loop_lag_seconds"
_BUCKET = re.compile(rf'^{NAME}_bucket\{{le="([^"]+)"\}} (\S+)$', re.MULTILINE)

Buckets = Mapping[float, float]  # upper end in seconds -> samples up to it


def buckets(text: str) -> Buckets:
    """The histogram in Prometheus' text; empty where there is none."""
    return {float(end): float(count) for end, count in _BUCKET.findall(text)}


def share_within(before: Buckets, after: Buckets, limit: float) -> float | None:
    """Which part of the samples between two looks was at most `limit` seconds, an end of a bucket; None: no samples."""
    taken = {end: count - before.get(end, 0.0) for end, count in after.items()}
    every = taken.get(float("inf"), 0.0)
    return taken[limit] / every if every else None


def quantile(before: Buckets, after: Buckets, part: float) -> float | None:
    """The upper end of the bucket in which that part of the samples is complete, in seconds; None: no samples."""
    ends = (end for end in sorted(after) if (share_within(before, after, end) or 0.0) >= part)
    return next(ends, None)
