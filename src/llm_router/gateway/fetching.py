"""A request whose model is on its way to the node that will answer it: what its client is told meanwhile."""

from llm_router.contract import Progress
from llm_router.core.node import Node
from llm_router.errors import StillFetching

LONGEST_RETRY = 600  # seconds that a refused client is told to wait at most
NOT_TOLD = Progress("model", "", "")  # what a node that has just begun reported


def step(node: Node, model: str) -> str:
    """What is waited for, in a few words: `fetching tiny: 42 % of 4.1 GB`."""
    return f"fetching {model}: {_share(node.fetch_of(model) or NOT_TOLD)}"


def still(node: Node, model: str, seconds: float) -> StillFetching:
    """The refusal after so many seconds."""
    progress = node.fetch_of(model) or NOT_TOLD
    again = _seconds_left(progress)
    return StillFetching(
        f"model '{model}' is being fetched by node '{node.name}' ({_share(progress)}), and was not there within "
        f"{seconds:g} s (fetch-timeout): ask again in {again} s, or for a stream, which waits as long as it takes",
        retry_after=again,
    )


def _share(progress: Progress) -> str:
    if not progress.total:
        return f"{_size(progress.done)} so far" if progress.done else "it has begun"
    return f"{progress.done / progress.total:.0%} of {_size(progress.total)}".replace("%", " %")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _seconds_left(progress: Progress) -> int:
    if not (progress.total and progress.rate):
        return 30
    return min(LONGEST_RETRY, max(1, round((progress.total - progress.done) / progress.rate)))
