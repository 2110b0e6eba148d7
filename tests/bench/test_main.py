"""The bench as people start it."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from bench.fleet.results import Run

BENCH = [sys.executable, "-m", "bench.fleet"]
ROOT = Path(__file__).parents[2]


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BENCH, *options], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.slow
def test_policies_are_measured_side_by_side_against_real_routers() -> None:
    """A short and hasty run tells of each policy which machine served how many, and what that cost."""
    load = ["--rates", "0.3", "--requests", "30", "--scale", "60"]
    done = bench("--policies", "least-requests,round-robin", *load, "--json")
    assert done.returncode == 0, done.stderr
    runs = msgspec.json.decode(done.stdout, type=list[Run])
    assert [(run.policy, run.requests) for run in runs] == [("least-requests", 27), ("round-robin", 27)]
    assert all(len(run.served) == 8 and sum(run.served.values()) > run.failed for run in runs)
    assert all(set(run.cpu) == {"router", "machines"} for run in runs)


@pytest.mark.slow
def test_a_policy_that_the_router_does_not_know_is_explained() -> None:
    """The router's own words, and no traceback."""
    done = bench("--policies", "wishful-thinking", "--requests", "20")
    assert done.returncode == 1
    assert "LLM_ROUTER_POLICY" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("options", [["--rates", "fast"], ["--rates", "0"], ["--url", "nameless"], ["--policies", ""]])
def test_what_cannot_be_measured_is_refused(options: list[str]) -> None:
    """With status 2, and a line that says what to write."""
    done = bench(*options)
    assert done.returncode == 2
    assert "Error:" in done.stderr
