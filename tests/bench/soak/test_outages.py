"""What may come of a trouble (requirement I2)."""

import msgspec
import pytest
from bench.soak.outages import CROWDED, ROUTER, Life, Outage, comes_again, expected
from tests.doubles.rough_clients import Ending, Kind

KILLED = Outage(name="a", what="killed", began=10, gone=11, ended=20)
GOODBYE = Outage(name="a", what="goodbye", began=10, gone=11, ended=20)
OTHER = Outage(name="b", what="goodbye", began=15, gone=16, ended=25)
RESTART = Outage(name=ROUTER, what="restarted", began=10, gone=12, ended=20)
BUSY = Ending("refused", "429 queue_full")


def life(
    kind: Kind,
    asked: float,
    over: float,
    holders: tuple[str, ...] = ("a",),
    *,
    leaves: bool = False,
    stream: bool = True,
) -> Life:
    return Life(kind, leaves, stream, holders, asked, over)


@pytest.mark.parametrize("kind", ["refused", "broken", "lost", "left", "wrong"])
def test_without_trouble_every_request_is_answered(kind: Kind) -> None:
    """Before one and after one, too."""
    for asked, over in ((1, 2), (21, 22)):
        assert not expected(life(kind, asked, over), [KILLED, GOODBYE, RESTART])
        assert expected(life("answered", asked, over), [])


def test_a_client_that_wants_to_leave_may() -> None:
    """No other does."""
    assert expected(life("left", 1, 2, leaves=True), [])
    assert not expected(life("left", 12, 13), [KILLED, RESTART])


def test_a_model_is_refused_while_all_who_have_it_are_away() -> None:
    """One that is there is enough."""
    assert expected(life("refused", 17, 18), [GOODBYE])
    assert not expected(life("refused", 17, 18, ("a", "b")), [GOODBYE])
    assert expected(life("refused", 17, 18, ("a", "b")), [GOODBYE, OTHER])
    assert not expected(life("refused", 17, 18, ("a", "b", "c")), [GOODBYE, OTHER])


def test_an_answer_breaks_with_a_node_that_is_killed() -> None:
    """Not with one that says goodbye, one that has another model, or one that was away before."""
    assert expected(life("broken", 9, 11), [KILLED])
    assert not expected(life("broken", 9, 11), [GOODBYE])
    assert not expected(life("broken", 9, 11, ("b",)), [KILLED])
    assert not expected(life("broken", 12, 13), [KILLED])


def test_an_answer_in_one_piece_is_refused_instead() -> None:
    """Though others have the model: it cannot be known whether it was asked for twice."""
    assert expected(life("refused", 9, 11, ("a", "b"), stream=False), [KILLED])
    assert not expected(life("broken", 9, 11, ("a", "b"), stream=False), [KILLED])


def test_who_asks_another_replica_notices_nothing() -> None:
    """Only the clients of the one that restarts come again."""
    lost = Ending("lost")
    asked = life("lost", 12, 13)
    assert expected(asked, [RESTART])
    assert not expected(msgspec.structs.replace(asked, router="another"), [RESTART])
    assert comes_again(lost, 15, [RESTART], ROUTER)
    assert not comes_again(lost, 15, [RESTART], "another")


def test_while_the_router_is_away_clients_come_again() -> None:
    """And when it is back and all of them come at once, those whom it asks to."""
    lost = Ending("lost")
    assert comes_again(lost, 15, [RESTART])
    assert not comes_again(lost, 21, [RESTART])
    assert not comes_again(lost, 15, [KILLED])
    assert comes_again(BUSY, 20 + CROWDED, [RESTART])
    assert not comes_again(BUSY, 21 + CROWDED, [RESTART])
    assert not comes_again(Ending("refused", "503"), 15, [RESTART])
    assert not comes_again(BUSY, 15, [KILLED])
