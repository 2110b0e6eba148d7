"""Which nodes shall have which model, as nodes come and go (requirement H6)."""

from hypothesis import given
from hypothesis import strategies as st

from llm_router.router.models.placement import GRACE, Place, Wish, place


def node(name: str, *, has: str = "", fetching: str = "", room: int = 0, away: float | None = None) -> Place:
    return Place(name, {"m", "n", "k"}, set(has), set(fetching), room, away)


def chosen(wish: Wish, *places: Place, before: str = "", now: float = 1000.0) -> str:
    """The nodes that shall have `m`, by their one-letter names."""
    return "".join(sorted(place([wish], places, {"m": frozenset(before)}, now)["m"]))


def test_as_many_as_were_asked_for() -> None:
    """Where there are so many; where not, all."""
    assert len(chosen(Wish("m", 2), node("a"), node("b"), node("c"))) == 2
    assert chosen(Wish("m", 5), node("a"), node("b")) == "ab"
    assert chosen(Wish("m", 2)) == ""


def test_who_has_it_counts() -> None:
    """So nothing is fetched that lies somewhere already; then who is fetching it."""
    assert chosen(Wish("m", 1), node("a"), node("b", has="m")) == "b"
    assert chosen(Wish("m", 1), node("a"), node("b", fetching="m")) == "b"
    assert chosen(Wish("m", 2), node("a"), node("b", fetching="m"), node("c", has="m")) == "bc"


def test_most_room_first() -> None:
    """And the one that was given least so far before that."""
    places = [node("a", room=1), node("b", room=3), node("c", room=2)]
    assert chosen(Wish("m", 1), *places) == "b"
    wanted = place([Wish("m", 1), Wish("n", 1), Wish("k", 1)], places, {}, 0.0)
    assert wanted == {"m": {"b"}, "n": {"c"}, "k": {"a"}}


def test_who_was_chosen_stays_chosen() -> None:
    """Room that comes and goes moves nothing."""
    assert chosen(Wish("m", 1), node("a", room=1), node("b", room=9), before="a") == "a"


def test_pinned_nodes_always() -> None:
    """Also more of them than were asked for, also while they are away; not those that nobody knows."""
    assert chosen(Wish("m", 1, ("a", "b")), node("a"), node("b", away=0.0), node("c", has="m")) == "ab"
    assert chosen(Wish("m", 2, ("a", "x")), node("a"), node("b"), node("c", has="m")) == "ac"


def test_who_cannot_run_it_is_not_asked() -> None:
    """It does not list it."""
    assert chosen(Wish("m", 2), node("a"), Place("b", {"n"}, room=99)) == "a"


def test_who_goes_away_is_waited_for() -> None:
    """A minute; then another takes its place."""
    places = (node("a", has="m", away=1000.0), node("b"))
    assert chosen(Wish("m", 1), *places, before="a", now=1000.0 + GRACE - 1) == "a"
    assert chosen(Wish("m", 1), *places, before="a", now=1000.0 + GRACE) == "b"


def test_who_comes_back_with_its_copy_counts() -> None:
    """The one that was to take its place need not fetch it any more; if it has it by then, it stays."""
    assert chosen(Wish("m", 1), node("a", has="m"), node("b", fetching="m"), before="b") == "a"
    assert chosen(Wish("m", 1), node("a", has="m"), node("b", has="m"), before="b") == "b"


def test_who_is_away_is_asked_for_nothing_new() -> None:
    """Only what it has, or was to have, is waited for."""
    assert chosen(Wish("m", 1), node("a", away=1000.0, room=9), node("b")) == "b"
    assert chosen(Wish("m", 2), node("a", away=1000.0, has="m"), node("b")) == "ab"


@given(
    st.lists(
        st.builds(
            Place,
            st.sampled_from("abcdef"),
            st.sets(st.sampled_from("mn")),
            st.sets(st.sampled_from("mn")),
            st.sets(st.sampled_from("mn")),
            st.integers(0, 9),
            st.sampled_from([None, 0.0, 950.0]),
        ),
        unique_by=lambda place: place.id,
    ),
    st.lists(
        st.builds(Wish, st.sampled_from("mn"), st.integers(1, 4), st.lists(st.sampled_from("abx")).map(tuple)),
        unique_by=lambda wish: wish.model,
    ),
)
def test_it_settles(places: list[Place], wishes: list[Wish]) -> None:
    """Asked again with nothing changed it says the same, in whatever order the nodes come; and never too many."""
    wanted = place(wishes, places, {}, 1000.0)
    assert place(wishes, places[::-1], wanted, 1000.0) == wanted
    for wish in wishes:
        assert len(wanted[wish.model]) <= max(wish.nodes, len(set(wish.pinned)))
