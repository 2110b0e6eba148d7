"""What the bench of the data plane makes of its measurements; it needs neither nginx nor wrk."""

import asyncio
import gc
import io
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from bench.data_plane.campaign import rotated
from bench.data_plane.meter import Meter
from bench.data_plane.nginx import configuration
from bench.data_plane.report import as_json, show
from bench.data_plane.results import Kind, Results, Row, Sample, summarize
from bench.data_plane.streams import held_open
from bench.data_plane.subjects import Other, Subject, read_other
from bench.data_plane.tools import require_files, require_programs
from bench.data_plane.upstreams import question
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
    results = summarize([sample(1, "direct", None), sample(1, "nginx", 0.1), sample(1, "x", 0.3)], {}, 10)
    row = next(row for row in results.rounds if row.subject == "x")
    assert [row.cpu, row.ratio, row.rate] == pytest.approx([30, 3, 10_000])


def test_the_median_ratio_is_that_of_the_rounds_ratios() -> None:
    """A machine that is half as fast in one round slows both, and changes no ratio."""
    rounds = [(0.1, 0.2), (0.2, 0.4), (0.1, 0.25)]
    samples = [s for n, (a, b) in enumerate(rounds, 1) for s in (sample(n, "nginx", a), sample(n, "x", b))]
    row = median_of(summarize(samples, {}, 10), "x")
    assert row.round is None
    assert [row.ratio, row.cpu] == pytest.approx([2, 25])


def test_added_time_is_beside_going_direct_in_the_same_round() -> None:
    """In milliseconds; going direct adds nothing to itself."""
    samples = [sample(1, "x", 0.1, load(p50=1500, p99=4000)), sample(1, "direct", None)]
    results = summarize(samples, {}, 10)
    row = median_of(results, "x")
    assert (row.p50, row.p99) == (1.5, 4.0)
    assert [row.added_p50, row.added_p99] == pytest.approx([0.5, 2.0])
    assert median_of(results, "direct").added_p50 is None


def test_the_kinds_of_answers_are_never_compared_with_each_other() -> None:
    """A stream's ratio is by nginx's for streams."""
    samples = [sample(1, "nginx", 0.1), sample(1, "nginx", 2.0, kind="stream"), sample(1, "x", 3.0, kind="stream")]
    assert median_of(summarize(samples, {}, 10), "x", "stream").ratio == pytest.approx(1.5)


def test_a_router_whose_process_is_not_known_has_times_only() -> None:
    """No figure is made up, in rounds or in medians; failures add up."""
    bad = load(refused=2)
    samples = [s for n in (1, 2) for s in (sample(n, "nginx", 0.1), sample(n, "x", None, bad), sample(n, "direct", 0))]
    row = median_of(summarize(samples, {}, 10), "x")
    assert (row.cpu, row.ratio, row.failed) == (None, None, 4)
    assert row.added_p99 == pytest.approx(0)


def test_the_table_shows_each_round_and_then_the_medians() -> None:
    """With processor time, ratio, throughput, times and failures, and the memory of a stream."""
    samples = [sample(n, name, cpu) for n in (1, 2) for name, cpu in (("direct", None), ("nginx", 0.1), ("x", 0.25))]
    out = io.StringIO()
    show(summarize(samples, {"nginx": 18_100.0}, 1000), Console(file=out, width=120))
    lines = [line.split() for line in out.getvalue().splitlines()]
    figures = ["25.0", "2.50", "10000", "1.00", "2.00", "0.00", "0.00", "0"]
    assert [line for line in lines if "x" in line] == [
        *(["round", n, "x", *figures] for n in ("1", "2")),
        ["median", "x", *figures],
    ]
    assert ["median", "direct", "10000", "1.00", "2.00", "0"] in lines
    assert ["nginx", "18.1"] in lines


def test_json_holds_everything() -> None:
    """What a program reads is what was measured."""
    results = summarize([sample(1, "nginx", 0.1)], {"nginx": 1.5}, 10)
    assert msgspec.json.decode(as_json(results), type=Results) == results


def test_each_subject_is_first_in_its_turn() -> None:
    """And neighbours stay neighbours."""
    subjects = [Subject(name, "") for name in "abc"]
    orders = ["".join(s.name for s in rotated(subjects, n)) for n in range(4)]
    assert orders == ["abc", "bca", "cab", "abc"]


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
    assert str(caught.value) == "not installed: nginx, wrk, cc. Try: apt-get install nginx-light wrk gcc"


def test_more_streams_than_files_can_be_opened_are_refused() -> None:
    """Before anything is started, with the limit; and what fits is told."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY:
        with pytest.raises(NotReadyError, match=f"the limit is {hard}"):
            require_files(hard)
    assert require_files(10) == 276


def test_a_meter_reads_this_process() -> None:
    """Its memory, and its processor time, which only grows; a process that is not there is told."""
    meter = Meter(os.getpid())
    assert meter.memory() > 1_000_000
    assert 0 < meter.cpu() <= meter.cpu()
    with pytest.raises(NotReadyError, match="there is no process"):
        Meter(2**22 + 1)  # above what Linux numbers processes with


class Server(asyncio.Protocol):
    """A connection: answers its request so, and stays. `of_all`: all that are open; `left`: there are none any more."""

    def __init__(self, answer: bytes, of_all: set[asyncio.BaseTransport], left: asyncio.Event) -> None:
        self._answer = answer
        self._of_all = of_all
        self._left = left

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._of_all.add(transport)
        self._left.clear()

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"POST "):
            self._transport.write(self._answer)

    def connection_lost(self, _: Exception | None) -> None:
        self._of_all.discard(self._transport)
        if not self._of_all:
            self._left.set()


@asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[tuple[str, set[asyncio.BaseTransport]]]:
    """Its URL, and the connections that are open; it waits for their end."""
    of_all: set[asyncio.BaseTransport] = set()
    left = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Server(answer, of_all, left), "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1/chat/completions", of_all
        await left.wait()


async def test_streams_are_open_all_at_once_while_they_are_measured() -> None:
    """Every one of them has said something by then; afterwards all are closed."""
    answer = b"HTTP/1.1 200 OK\r\n\r\ndata: {}\n\ndata: {}\n\n"
    async with server(answer) as (url, connections), held_open(url, question("slow", 10), 20):
        await asyncio.to_thread(gc.collect)  # a turn of the loop: who is not held is gone
        assert len(connections) == 20


async def test_streams_that_are_refused_are_no_streams() -> None:
    """The bench ends with the router's status line."""
    async with server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n") as (url, _):
        with pytest.raises(NotReadyError, match="503 Service Unavailable"):
            async with held_open(url, question("slow", 10), 3):
                pass


@pytest.mark.parametrize("options", [["--url", "nameless"], ["--rounds", "0"], ["--streams", "many"]])
def test_what_cannot_be_measured_is_refused(options: list[str]) -> None:
    """With status 2, and a line that says what to write."""
    command = [sys.executable, "-m", "bench.data_plane", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert "Error:" in done.stderr
