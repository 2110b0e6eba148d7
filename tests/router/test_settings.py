"""What operators may set of a node (requirement F3)."""

from typing import Any

import pytest

from llm_router.contract import NodeSettings
from llm_router.errors import BadRequest
from llm_router.router.settings import SettingsChange, changed, check, check_fields

NOW = 1_800_000_000.0
BEFORE = NodeSettings("box", ["lab"], "ask Mia", drain=True, changed=NOW - 60)


def test_what_is_left_out_stays() -> None:
    """Each field can be changed alone, and the time of the change is kept."""
    assert changed(BEFORE, SettingsChange(name="tower"), NOW) == NodeSettings(
        "tower", ["lab"], "ask Mia", drain=True, changed=NOW
    )
    assert changed(BEFORE, SettingsChange(tags=[]), NOW).tags == []
    assert changed(BEFORE, SettingsChange(notes=""), NOW).notes == ""
    assert not changed(BEFORE, SettingsChange(drain=False), NOW).drain


@pytest.mark.parametrize("change", [SettingsChange(), SettingsChange(name="box"), SettingsChange(name=" box ")])
def test_a_change_that_changes_nothing_is_none(change: SettingsChange) -> None:
    """The settings keep their time, so that no node writes them again."""
    assert changed(BEFORE, change, NOW) is BEFORE


def test_what_is_set_is_tidied() -> None:
    """Space around it is no part of it, and a tag is had once."""
    after = changed(NodeSettings(), SettingsChange("  GPU box\n", [" a", "b ", "a"], " first\n\tsecond\n"), NOW)
    assert (after.name, after.tags, after.notes) == ("GPU box", ["a", "b"], "first\n\tsecond")


@pytest.mark.parametrize("now", [NOW, NOW - 3600])
def test_a_change_counts_against_every_copy(now: float) -> None:
    """Though the clock was set back, or two changes come in one tick of it."""
    ahead = NodeSettings("box", changed=NOW)
    assert changed(ahead, SettingsChange(name="tower"), now).changed > ahead.changed


@pytest.mark.parametrize("name", ["x" * 100, "", "GPU box 東京", "full\u3000width", "👩\u200d🚀", "a, b; 'c'"])
def test_names_that_may_be(name: str) -> None:
    """Whatever people write, in any script."""
    assert changed(BEFORE, SettingsChange(name=name), NOW).name == name


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"name": "x" * 101}, "100"),
        ({"name": "two\nlines"}, "one line"),
        ({"name": "bell\x07"}, "name"),
        ({"name": "half \ud800"}, "name"),
        ({"name": "line\u2028line"}, "name"),
        ({"tags": [str(i) for i in range(21)]}, "20"),
        ({"tags": ["x" * 51]}, "50"),
        ({"tags": [""]}, "1 to 50"),
        ({"tags": ["a,b"]}, "commas"),
        ({"tags": ["a\nb"]}, "tags"),
        ({"notes": "x" * 2001}, "2000"),
        ({"notes": "escape \x1b[2J"}, "notes"),
    ],
)
def test_what_is_over_a_limit_is_refused(fields: dict[str, Any], word: str) -> None:
    """The message names the field and what may be; a node's own copy is held to the same."""
    for attempt in (
        lambda: changed(BEFORE, SettingsChange(**fields), NOW),
        lambda: check(NodeSettings(**fields)),
    ):
        with pytest.raises(BadRequest, match=word) as refusal:
            attempt()
        assert next(iter(fields)) in refusal.value.message


def test_unknown_fields_are_named() -> None:
    """All of them, and what there is instead; `changed` is not for others to set."""
    check_fields(["name", "tags", "notes", "drain"])
    with pytest.raises(BadRequest, match="changed, nmae") as refusal:
        check_fields(["nmae", "name", "changed"])
    assert "name, tags, notes, drain" in refusal.value.message
