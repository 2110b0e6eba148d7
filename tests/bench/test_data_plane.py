"""What the bench of the data plane makes of its measurements; it needs neither nginx nor wrk."""

import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from bench.data_plane.campaign import Plan, in_turn
from bench.data_plane.guard import complaints
from bench.data_plane.meter import Meter
from bench.data_plane.nginx import configuration
from bench.data_plane.report import as_json, show
from bench.data_plane.results import Held, Kind, Results, Row, Sample, summarize
from bench.data_plane.subjects import Other, Subject, read_other
from bench.data_plane.tools import require_files, require_programs, room_for
from bench.data_plane.wrk import Load, parse
from bench.processes import NotReadyError
from rich.console import Console

ROOT = Path(__file__).parents[2]

SAID_BY_WRK = """\
Running 3s test @ http://127.0.0.1:41205/v1/chat/completions
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.97ms    1.21ms  18.20ms   95.10%
  97965 requests in 3.00s, 56.05MB read
  Non-2xx or 3xx responses: 2
Requests/sec:  32654.81
Transfer/sec:     18.68MB
{"requests":97965,"duration":3000053,"p50":852,"p99":1640,"refused":2,"broken":1}
"""


def load(requests: int = 10_000, p50: int = 1000, p99: int = 2000, refused: int = 0) -> Load:
    return Load(requests, 1_000_000, p50, p99, refused, broken=0)


def sample(n: int, subject: str, cpu: float | None, loaded: Load | None = None, kind: Kind = "unary") -> Sample:
    return Sample(n, kind, subject, loaded or load(), cpu)


def results_of(*samples: Sample, streams: list[Held] | None = None, idle: list[Held] | None = None) -> Results:
    return Results(*summarize(samples), streams or [], idle or [], idle_wanted=20_000, rate=5000)


def held(subject: str, memory: float | None, connections: int = 5000, lost: int = 0) -> Held:
    return Held(subject, connections, 10.0, lost, memory, 0.42, 490_000, 100.1, 130.2, 204.5, 3)


def median_of(results: Results, subject: str, kind: Kind = "unary") -> Row:
    return next(row for row in results.medians if (row.subject, row.kind) == (subject, kind))


def test_what_wrk_says_is_read_from_the_line_of_the_script() -> None:
    """Numbers come exactly, and requests that were refused or broken off count as failed."""
    found = parse(SAID_BY_WRK)
    assert found == Load(97965, 3_000_053, 852, 1640, 2, 1)
    assert found.failed == 3


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:1 Connection refused\n", '{"requests":1}'])
def test_a_wrk_that_did_not_measure_is_quoted(output: str) -> None:
    """Whoever started the bench reads wrk's own words."""
    with pytest.raises(NotReadyError, match="wrk did not measure") as caught:
        parse(output)
    assert output.strip() in str(caught.value)


def test_processor_time_is_per_request_and_beside_nginx_of_the_same_round() -> None:
    """0.3 s for 10,000 requests are 30 µs each; nginx's 0.1 s make that a ratio of 3."""
    results = results_of(sample(1, "direct", None), sample(1, "nginx", 0.1), sample(1, "x", 0.3))
    row = next(row for row in results.rounds if row.subject == "x")
    assert [row.cpu, row.ratio, row.rate] == pytest.approx([30, 3, 10_000])


def test_the_median_ratio_is_that_of_the_rounds_ratios() -> None:
    """A machine that is half as fast in one round slows both, and changes no ratio."""
    rounds = [(0.1, 0.2), (0.2, 0.4), (0.1, 0.25)]
    samples = [s for n, (a, b) in enumerate(rounds, 1) for s in (sample(n, "nginx", a), sample(n, "x", b))]
    row = median_of(results_of(*samples), "x")
    assert row.round is None
    assert [row.ratio, row.cpu] == pytest.approx([2, 25])


def test_added_time_is_beside_going_direct_in_the_same_round() -> None:
    """In milliseconds; going direct adds nothing to itself."""
    samples = [sample(1, "x", 0.1, load(p50=1500, p99=4000)), sample(1, "direct", None)]
    results = results_of(*samples)
    row = median_of(results, "x")
    assert (row.p50, row.p99) == (1.5, 4.0)
    assert [row.added_p50, row.added_p99] == pytest.approx([0.5, 2.0])
    assert median_of(results, "direct").added_p50 is None


def test_the_kinds_of_answers_are_never_compared_with_each_other() -> None:
    """A stream's ratio is by nginx's for streams."""
    samples = [sample(1, "nginx", 0.1), sample(1, "nginx", 2.0, kind="stream"), sample(1, "x", 3.0, kind="stream")]
    assert median_of(results_of(*samples), "x", "stream").ratio == pytest.approx(1.5)


def test_a_router_whose_process_is_not_known_has_times_only() -> None:
    """No figure is made up, in rounds or in medians; failures add up."""
    bad = load(refused=2)
    samples = [s for n in (1, 2) for s in (sample(n, "nginx", 0.1), sample(n, "x", None, bad), sample(n, "direct", 0))]
    row = median_of(results_of(*samples), "x")
    assert (row.cpu, row.ratio, row.failed) == (None, None, 4)
    assert row.added_p99 == pytest.approx(0)


def test_the_table_shows_each_round_and_then_the_medians() -> None:
    """With processor time, ratio, throughput, times and failures; what was not measured has no table."""
    samples = [sample(n, name, cpu) for n in (1, 2) for name, cpu in (("direct", None), ("nginx", 0.1), ("x", 0.25))]
    out = io.StringIO()
    show(results_of(*samples), Console(file=out, width=120))
    lines = [line.split() for line in out.getvalue().splitlines()]
    figures = ["25.0", "2.50", "10000", "1.00", "2.00", "0.00", "0.00", "0"]
    assert [line for line in lines if "x" in line] == [
        *(["round", n, "x", *figures] for n in ("1", "2")),
        ["median", "x", *figures],
    ]
    assert ["median", "direct", "10000", "1.00", "2.00", "0"] in lines
    assert "streams at once" not in out.getvalue()


def test_what_is_held_open_is_shown_with_what_it_takes_and_its_pauses() -> None:
    """Of streams the gaps, how many were over a second and how many broke; of idle connections how many are left."""
    out = io.StringIO()
    streams, idle = [held("direct", None), held("x", 14_800, lost=2)], [held("x", 4650, 19_744, lost=4)]
    show(results_of(sample(1, "x", 0.1), streams=streams, idle=idle), Console(file=out, width=120))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["x", "14.8", "42.0", "49000", "100", "130", "204", "3", "2"] in lines
    assert ["x", "4.65", "42.0", "19740"] in lines
    assert "5000 streams at once, a token every 100 ms, for 10 s" in out.getvalue()
    assert "20000 were wanted; the limit of open files allows no more." in out.getvalue()


def test_json_holds_everything() -> None:
    """What a program reads is what was measured."""
    results = results_of(sample(1, "nginx", 0.1), streams=[held("nginx", 1.5)], idle=[held("nginx", None)])
    assert msgspec.json.decode(as_json(results), type=Results) == results


def test_nginx_and_the_router_follow_right_after_one_another() -> None:
    """Whichever is first: each of them is as often, so a machine that slows down favours nobody (issue 5)."""
    subjects = [Subject(name, "") for name in ("direct", "nginx", "ours", "other")]
    orders = [[s.name for s in in_turn(subjects, n)] for n in range(3)]
    assert orders == [["direct", "nginx", "ours", "other"], ["other", "ours", "nginx", "direct"], orders[0]]


def test_without_a_rate_nothing_is_paced() -> None:
    """0 switches a measurement off."""
    plan = Plan(1, 1, 32, rate=0, streams=0, idle=0, hold=1, others=[], first_port=0)
    assert plan.kinds() == ["unary", "stream"]
    assert msgspec.structs.replace(plan, rate=5000).kinds() == ["unary", "stream", "paced"]


def test_the_guard_names_what_is_too_dear() -> None:
    """By the cheapest round, so no bad one counts; going over is by more than the limit (issue 5)."""
    rounds = [(0.1, 0.36), (0.1, 0.35), (0.1, 0.9), (0.1, 0.6), (0.1, 0.5)]
    unary = [s for n, (a, b) in enumerate(rounds, 1) for s in (sample(n, "nginx", a), sample(n, "llm-router", b))]
    streams = [sample(1, "nginx", 1.0, kind="stream"), sample(1, "llm-router", 2.5, kind="stream")]
    results = results_of(*unary, *streams)
    assert complaints(results, {"unary": 3.5}) == []
    assert complaints(results, {"unary": 3.4, "stream": 2.0}) == [
        "an answer in one piece costs llm-router at least 3.50 times the processor time of nginx; the limit is 3.4",
        "a stream costs llm-router at least 2.50 times the processor time of nginx; the limit is 2",
    ]


def test_the_guard_does_not_pass_what_was_not_measured() -> None:
    """A guard that saw nothing says so."""
    assert complaints(results_of(sample(1, "nginx", 0.1)), {"stream": 2}) == ["a stream was not measured beside nginx"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("olla=http://127.0.0.1:40114", Other("olla", "http://127.0.0.1:40114")),
        ("olla=http://127.0.0.1:40114/v1/@4711", Other("olla", "http://127.0.0.1:40114", 4711)),
        ("x=http://me@host:80", Other("x", "http://me@host:80")),
    ],
)
def test_another_router_is_named_by_address_and_process(text: str, expected: Other) -> None:
    """The process may be left out, and the address may end as OpenAI's clients have it."""
    assert read_other(text) == expected


@pytest.mark.parametrize("text", ["nameless", "=http://x", "x=", "x=ftp://x", "nginx=http://x", "direct=http://x"])
def test_other_texts_and_taken_names_are_refused(text: str) -> None:
    """A name means one router."""
    with pytest.raises(ValueError, match=text):
        read_other(text)


def test_nginx_is_set_up_to_be_as_cheap_as_it_can_be(tmp_path: Path) -> None:
    """One worker, all upstreams, connections kept, nothing buffered, and no file outside its directory."""
    text = configuration(tmp_path, 8081, [1001, 1002, 1003], files=512)
    for part in ("worker_processes 1;", "proxy_buffering off;", "keepalive 128;", "listen 127.0.0.1:8081"):
        assert part in text
    assert "server 127.0.0.1:1001; server 127.0.0.1:1002; server 127.0.0.1:1003;" in text
    assert all(str(tmp_path) in line for line in text.splitlines() if "_path" in line or line.startswith("pid"))


def test_what_is_not_installed_is_told_in_one_line(tmp_path: Path) -> None:
    """With the command that helps."""
    with pytest.raises(NotReadyError) as caught:
        require_programs(str(tmp_path))
    assert str(caught.value) == "not installed: nginx, wrk, cc. Try: apt-get install nginx-light wrk gcc libc6-dev"


def test_more_streams_than_files_can_be_opened_are_refused() -> None:
    """Before anything is started, with the limit; and what fits is told."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY:
        with pytest.raises(NotReadyError, match=f"the limit is {hard}"):
            require_files(hard)
    assert require_files(10) == 276


def test_as_many_connections_are_idle_as_the_files_allow() -> None:
    """Fewer than wanted, rather than none; never more than wanted."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY:
        assert require_files(10, idle=hard) == hard
        assert room_for(hard, hard) == hard - 256
    assert room_for(10, require_files(10, idle=10)) == 10


def test_a_meter_reads_this_process() -> None:
    """Its memory, and its processor time, which only grows; a process that is not there is told."""
    meter = Meter(os.getpid())
    assert meter.memory() > 1_000_000
    assert 0 < meter.cpu() <= meter.cpu()
    with pytest.raises(NotReadyError, match="there is no process"):
        Meter(2**22 + 1)  # above what Linux numbers processes with


@pytest.mark.parametrize(
    "options", [["--url", "nameless"], ["--rounds", "0"], ["--streams", "many"], ["--max-unary", "0"]]
)
def test_what_cannot_be_measured_is_refused(options: list[str]) -> None:
    """With status 2, and a line that says what to write."""
    command = [sys.executable, "-m", "bench.data_plane", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert "Error:" in done.stderr
