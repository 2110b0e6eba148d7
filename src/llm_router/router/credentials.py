"""The nodes' secrets: by one of these, an agent proves on every call that it is the node it says it is.

Rule 1: a secret leaves here once, when it is issued; what is kept is its hash.
Rule 2: a node that never showed its secret may not have received it (the answer to its registration was lost), so it is
        given another one, if it might come as a new node. From the first time on that it shows one, only that one
        counts.
"""

import hmac
import secrets
from hashlib import sha256

import msgspec

from llm_router.errors import WrongSecret


class Credential(msgspec.Struct, frozen=True):
    """What is known of one node's secret."""

    hash: str = ""
    proven: bool = False


class Credentials:
    """All nodes' secrets, by node id."""

    def __init__(self) -> None:
        self._known: dict[str, Credential] = {}

    def restore(self, node_id: str, credential: Credential) -> None:
        """Take over what the database kept."""
        self._known[node_id] = credential

    def of(self, node_id: str) -> Credential:
        """What is to be kept of a node; an empty one for a server without an agent."""
        return self._known.get(node_id, Credential())

    def issue(self, node_id: str) -> str:
        """A new secret, for a node that has none or did not prove that it got it."""
        secret = secrets.token_urlsafe(32)
        self._known[node_id] = Credential(_hash(secret))
        return secret

    def forget(self, node_id: str) -> None:
        """The node was removed."""
        self._known.pop(node_id, None)

    def matches(self, node_id: str, secret: str) -> bool:
        """Whether this is the node's secret."""
        return bool(secret) and hmac.compare_digest(self.of(node_id).hash, _hash(secret))

    def prove(self, node_id: str, secret: str) -> bool:
        """The caller says that it is this node. The bool: it has proven it for the first time.

        Raises:
            WrongSecret: it is not, as far as one can tell.
        """
        if not self.matches(node_id, secret):
            raise WrongSecret(
                f"this is not the secret of node {node_id}; an agent keeps it in its home directory. If that is lost, "
                f"remove the node here (`llm-router nodes remove {node_id}`) and start the agent again"
            )
        if self.of(node_id).proven:
            return False
        self._known[node_id] = Credential(_hash(secret), proven=True)
        return True

    def readmit(self, node_id: str, secret: str, *, invited: bool) -> str:
        """A known node registers again; the secret it shall use from now on. `invited`: it might come as a new one.

        Raises:
            WrongSecret: this is not its secret, and it has proven one before, or is not invited.
        """
        known = self.of(node_id)
        if invited and known.hash and not known.proven and not self.matches(node_id, secret):
            return self.issue(node_id)
        self.prove(node_id, secret)
        return secret


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
