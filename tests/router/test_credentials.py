"""The nodes' secrets."""

import pytest

from llm_router.errors import WrongSecret
from llm_router.router.credentials import Credentials


def test_a_node_proves_itself_by_its_secret() -> None:
    """Requirement A10: its own is taken, any other, or none, is not."""
    credentials = Credentials()
    mine, theirs = credentials.issue("mine"), credentials.issue("theirs")
    credentials.prove("mine", mine)
    for wrong in (theirs, "", "x", mine + "x"):
        with pytest.raises(WrongSecret, match="llm-router nodes remove mine"):
            credentials.prove("mine", wrong)


def test_an_unknown_node_has_no_secret_that_fits() -> None:
    """Not even the empty one."""
    with pytest.raises(WrongSecret):
        Credentials().prove("nobody", "")


def test_only_hashes_are_kept() -> None:
    """What could be read from memory dumps or the database is of no use to anybody."""
    credentials = Credentials()
    secret = credentials.issue("n")
    assert secret not in credentials.of("n").hash
    assert len(credentials.of("n").hash) == 64


def test_a_node_that_may_not_have_got_its_secret_is_given_another() -> None:
    """The answer to a registration can be lost; then the node asks again without one, and is let in."""
    credentials = Credentials()
    lost = credentials.issue("n")
    received = credentials.readmit("n", "", invited=True)
    with pytest.raises(WrongSecret):
        credentials.prove("n", lost)
    credentials.prove("n", received)


def test_nobody_takes_over_a_node_that_has_proven_itself() -> None:
    """design.md §8: knowing a node's id is not enough to come back as it."""
    credentials = Credentials()
    secret = credentials.issue("n")
    credentials.prove("n", secret)
    with pytest.raises(WrongSecret):
        credentials.readmit("n", "", invited=True)
    assert credentials.readmit("n", secret, invited=False) == secret


def test_a_lost_secret_is_no_way_in() -> None:
    """Requirement A10: who might not come as a new node does not come in as one whose secret was never shown."""
    credentials = Credentials()
    credentials.issue("n")
    with pytest.raises(WrongSecret):
        credentials.readmit("n", "", invited=False)


def test_a_restart_remembers() -> None:
    """Requirement A8: what the database kept is enough to know a node again."""
    before, after = Credentials(), Credentials()
    secret = before.issue("n")
    before.prove("n", secret)
    after.restore("n", before.of("n"))
    after.prove("n", secret)
    with pytest.raises(WrongSecret):
        after.readmit("n", "", invited=True)
    after.forget("n")
    assert not after.matches("n", secret)


def test_what_another_replica_has_written_counts() -> None:
    """The secret that it issued, and that the node has shown it there."""
    here, there = Credentials(), Credentials()
    secret = there.issue("n")
    there.prove("n", secret)
    here.issue("n")
    here.restore("n", there.of("n"))
    assert not here.prove("n", secret)  # that is no news
    with pytest.raises(WrongSecret):
        here.readmit("n", "", invited=True)
