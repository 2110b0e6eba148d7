"""The bench of a whole house: what it counts, and a small house."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from bench.live.metrics import buckets, quantile, share_within
from bench.live.results import Results
from bench.live.trouble import unwritable

TEXT = """
# TYPE llm_router_event_loop_lag_seconds histogram
llm_router_event_loop_lag_seconds_bucket{{le="0.01"}} {}
llm_router_event_loop_lag_seconds_bucket{{le="0.02"}} {}
llm_router_event_loop_lag_seconds_bucket{{le="+Inf"}} {}
llm_router_event_loop_lag_seconds_sum 0.5
"""
ROOT = Path(__file__).parents[2]
WIDE = "500"  # milliseconds: on whatever machine the tests run, beside whatever else


def test_the_lag_is_that_between_two_looks() -> None:
    """What was late before the measurement does not count."""
    before, after = buckets(TEXT.format(0, 0, 50)), buckets(TEXT.format(98, 99, 150))
    assert share_within(before, after, 0.02) == 0.99
    assert quantile(before, after, 0.99) == 0.02
    assert quantile(before, after, 0.999) == float("inf")


def test_a_router_that_tells_nothing_has_no_lag() -> None:
    """Neither a good one nor a bad one."""
    assert quantile({}, buckets("llm_router_nodes 3\n"), 0.99) is None
    assert share_within({}, {}, 0.02) is None


def test_a_database_in_trouble_cannot_be_written_by_who_has_it_open(tmp_path: Path) -> None:
    """And can be afterwards."""
    file = tmp_path / "it.db"
    connection = sqlite3.connect(file, timeout=0, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (a)")
    with unwritable(file), pytest.raises(sqlite3.OperationalError):
        connection.execute("INSERT INTO t VALUES (1)")
    connection.execute("INSERT INTO t VALUES (2)")
    assert connection.execute("SELECT a FROM t").fetchall() == [(2,)]
    connection.close()


@pytest.mark.slow
def test_a_small_house_loses_nothing() -> None:
    """Issue 7, in small: nodes report, people ask and watch, and meanwhile the database is in trouble."""
    size = ["--nodes", "100", "--rate", "50", "--watchers", "10", "--seconds", "12"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.live", *size, "--max-lag", WIDE, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = msgspec.json.decode(done.stdout, type=Results)
    assert results.chats.count == 600
    assert results.broken.count > 100
    assert results.told > 10
