"""The Grafana dashboard is whole, and asks for nothing that the router does not tell (issue's item 4)."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tools.reference.metrics import everything

from llm_router.router.metrics import write

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "deploy" / "grafana" / "llm-router.json"
DOCS = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")


class Spot(msgspec.Struct, forbid_unknown_fields=True):
    """Where a panel is: Grafana's grid has 24 columns."""

    x: int
    y: int
    w: int
    h: int

    def cells(self) -> set[tuple[int, int]]:
        return {(x, y) for x in range(self.x, self.x + self.w) for y in range(self.y, self.y + self.h)}


class Target(msgspec.Struct):
    """A query."""

    refId: str  # noqa: N815 - Grafana's name
    expr: str
    datasource: dict[str, str]


class Panel(msgspec.Struct):
    """What every panel has."""

    id: int
    type: str
    title: str
    gridPos: Spot  # noqa: N815 - Grafana's name
    targets: list[Target] = []


class Dashboard(msgspec.Struct):
    """The part of Grafana's dashboard model that is used here."""

    title: str
    uid: str
    schemaVersion: int  # noqa: N815 - Grafana's name
    templating: dict[str, list[dict[str, Any]]]
    panels: list[Panel]


DASHBOARD = msgspec.json.decode(PLACE.read_bytes(), type=Dashboard)
QUERIES = [target.expr for panel in DASHBOARD.panels for target in panel.targets]
NAME = re.compile(r"\b(?:llm_router|process)_\w+")


def told() -> dict[str, set[str]]:
    """Every name that the router tells, as queries write it, with its labels."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(write(everything())):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


TOLD = told()


def selectors(query: str) -> Iterator[tuple[str, str]]:
    """Each metric in a query, and a label that it is selected by."""
    for name, inside in re.findall(r"\b((?:llm_router|process)_\w+)\{([^}]*)\}", query):
        for label in re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", inside):
            yield name, label


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_what_there_is(query: str) -> None:
    """Metrics, and labels of theirs; `job` and `instance` are Prometheus' own. Its brackets close."""
    names = set(NAME.findall(query))
    assert names
    if not any(name.startswith("process_") for name in names - set(TOLD)):  # Linux alone tells those
        assert names <= set(TOLD)
    for name, label in selectors(query):
        assert label in TOLD.get(name, set()) | {"job", "instance"} or name.startswith("process_")
    assert all(query.count(a) == query.count(b) for a, b in ("()", "{}", "[]"))


@pytest.mark.parametrize("query", QUERIES)
def test_what_only_grows_is_asked_for_its_growth(query: str) -> None:
    """A counter or a bucket as it stands is a line that only rises."""
    for name in re.findall(r"\w+_(?:total|bucket|sum|count)\b", query):
        assert re.search(rf"(?:rate|increase)\({name}\b", query)


@pytest.mark.parametrize("variable", DASHBOARD.templating["list"], ids=lambda v: v["name"])
def test_a_variable_takes_its_values_from_what_there_is(variable: dict[str, Any]) -> None:
    """And is used."""
    for name, label in re.findall(r"label_values\((\w+), (\w+)\)", str(variable["query"])):
        assert label in TOLD[name] | {"job"}
    text = PLACE.read_text("utf-8")
    assert f"${variable['name']}" in text or f"${{{variable['name']}}}" in text


def test_panels_stand_beside_each_other() -> None:
    """Each with a number and a title, within 24 columns, none over another."""
    panels = DASHBOARD.panels
    assert len({panel.id for panel in panels}) == len(panels)
    assert all(panel.title and panel.gridPos.x + panel.gridPos.w <= 24 for panel in panels)
    assert not any(a.gridPos.cells() & b.gridPos.cells() for a, b in combinations(panels, 2))
    assert all(panel.targets for panel in panels if panel.type != "row")


def test_panels_ask_whatever_source_is_chosen() -> None:
    """None has the id of somebody's Prometheus in it."""
    assert {t.datasource["uid"] for panel in DASHBOARD.panels for t in panel.targets} == {"${datasource}"}


def families() -> set[str]:
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in TOLD}
    return {name for name in names if name.startswith("llm_router")}


@pytest.mark.parametrize("name", sorted(families()))
def test_every_metric_is_described(name: str) -> None:
    """In docs/reference/metrics.md, with each of its labels on the same line."""
    (line,) = [line for line in DOCS.splitlines() if f"| `{name}` |" in line]
    labels = set().union(
        *(found for told_name, found in TOLD.items() if re.sub(r"_(bucket|sum|count)$", "", told_name) == name)
    )
    assert {label for label in labels - {"le"} if f"`{label}`" not in line} == set()


def test_no_metric_is_described_that_is_not_there() -> None:
    """What the page names exists."""
    named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bllm_router_\w+", DOCS)}
    assert named - families() == set()
