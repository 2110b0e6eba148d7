"""The text is what Prometheus reads: `prometheus_client`'s parser is the oracle."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from llm_router.router.exposition import family, histograms, labels


@given(st.text())
def test_any_text_can_be_a_label(value: str) -> None:
    """Names of models and nodes come from people: quotes, backslashes, line ends, every script."""
    text = "\n".join(family("x", "gauge", "about", [(labels(model=value, node="n"), 1)])) + "\n"
    (found,) = text_string_to_metric_families(text)
    assert [(s.labels, s.value) for s in found.samples] == [({"model": value, "node": "n"}, 1.0)]


@given(st.integers(0, 2**62))
def test_counts_are_exact(count: int) -> None:
    """However large they grow."""
    assert family("x", "counter", "about", [("", count)])[-1] == f"x {count}"


def test_a_metric_says_what_it_is() -> None:
    """Its kind, and a sentence for people."""
    text = "\n".join(family("x_total", "counter", "Of all\nkinds.", [("", 1)])) + "\n"
    (found,) = text_string_to_metric_families(text)
    assert (found.name, found.type, found.documentation) == ("x", "counter", "Of all\nkinds.")


def test_without_samples_nothing_is_said() -> None:
    """Neither of a metric nor of a histogram."""
    assert family("x", "gauge", "about", []) == []
    assert histograms("x", "about", ["1"], []) == []


def test_buckets_add_up() -> None:
    """Each has those of the smaller ones in it; the last has all."""
    text = "\n".join(histograms("x", "about", ["0.1", "1.0"], [(labels(model="m"), [3, 2, 1], 6.5)])) + "\n"
    (found,) = text_string_to_metric_families(text)
    buckets = [(s.labels["le"], s.value) for s in found.samples if s.name == "x_bucket"]
    assert buckets == [("0.1", 3.0), ("1.0", 5.0), ("+Inf", 6.0)]
    assert {s.name: s.value for s in found.samples if "le" not in s.labels} == {"x_sum": 6.5, "x_count": 6.0}


def test_a_histogram_needs_no_labels() -> None:
    """Its buckets still have one."""
    assert histograms("x", "about", ["1"], [("", [1, 0], 0.5)])[2] == 'x_bucket{le="1"} 1'
