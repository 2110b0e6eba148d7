"""Where the blobs go of which a client is about to create a model: all to one node, since it needs all of them."""

from collections import OrderedDict

MEANT_FOR = 900.0  # seconds after a blob in which the next one belongs to the same model
CLIENTS = 1_000  # that are remembered; who is forgotten sends some blobs again


class Places:
    """Which node each client's last blob went to, or was found on. Times in seconds on one clock."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def of(self, client: str, now: float) -> str:
        """A node's id; "": none."""
        node_id, at = self._last.get(client, ("", 0.0))
        return node_id if now - at <= MEANT_FOR else ""

    def put(self, client: str, node_id: str, now: float) -> None:
        """A blob went there, or was found there."""
        self._last[client] = (node_id, now)
        self._last.move_to_end(client)
        while len(self._last) > CLIENTS:
            self._last.popitem(last=False)
