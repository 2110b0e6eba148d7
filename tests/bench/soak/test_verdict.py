"""When memory, descriptors and tasks are called flat (requirement I2)."""

from pathlib import Path

from bench.soak.outages import ROUTER, Outage
from bench.soak.report import report
from bench.soak.results import Files, Plan, Run, Strange, read
from bench.soak.trouble import Often
from bench.soak.verdict import FILES, LONG, MEMORY, complaints, drifts
from bench.soak.watch import Held, Sample, Times, tasks, times

EVERY = 10.0
PLAN = Plan(seconds=2 * LONG, rate=30, often=Often(nodes=180, router=1200, unload=60), seed=1)


def sample(number: int, held: dict[str, Held], tasks: int = 10) -> Sample:
    return Sample(
        at=number * EVERY,
        held=held,
        models=None,
        tasks={ROUTER: tasks},
        online=4,
        in_flight=1,
        first=Times(),
        whole=Times(1, 1.0, 2.0, 3.0, 4.0),
        real=Times(),
        endings={"answered": number},
        again=0,
        turned_away=0,
        unexpected=0,
        unloads=1,
    )


def life(seconds: float, growth: float = 0.0, pid: int = 1, files: int = 40) -> list[Sample]:
    """Of a router that begins with 1 MB and has `growth` more of it at the end."""
    count = round(seconds / EVERY) + 1
    return [
        sample(number, {ROUTER: Held(pid, round(1e6 * (1 + growth * number / count)), files, 0.0)})
        for number in range(count)
    ]


def written(out: Path, samples: list[Sample], *more: Outage | Strange) -> Run:
    """A run as it is read from its files."""
    files = Files(out, PLAN)
    for one in samples:
        files.add(one)
    for what in more:
        files.add(what)
    return read(out)


def test_what_stays_as_it_is_is_flat(tmp_path: Path) -> None:
    """Nothing is complained of."""
    assert complaints(written(tmp_path, life(LONG))) == []


def test_memory_that_grows_is_complained_of(tmp_path: Path) -> None:
    """By a twentieth between the first and the last third, the warm-up left out."""
    assert complaints(written(tmp_path, life(LONG, growth=0.1))) == []
    (line,) = complaints(written(tmp_path, life(LONG, growth=0.2)))
    assert line.startswith("memory of router: +")


def test_a_process_that_is_started_again_has_a_new_life() -> None:
    """What the one had before is not compared with what the other has; short lives are not judged."""
    first, second = life(LONG, pid=1), life(LONG, pid=2, files=80)
    assert [d.last for d in drifts([*first, *second], ROUTER, FILES)] == [40, 80]
    assert list(drifts(life(LONG / 2), ROUTER, MEMORY)) == []


def test_tasks_that_are_never_done_are_complained_of(tmp_path: Path) -> None:
    """Looks at which the router did not answer are left out."""
    samples = life(LONG)
    for number, one in enumerate(samples):
        one.tasks = {} if number % 7 == 0 else {ROUTER: 10 + number}
    (line,) = complaints(written(tmp_path, samples))
    assert line.startswith("tasks of router: +")


def test_whatever_was_unexpected_is_complained_of(tmp_path: Path) -> None:
    """With an example, and in the report."""
    run = written(tmp_path, life(LONG), Strange(5.0, "wrong: 418"))
    assert complaints(run) == ["1 unexpected: wrong: 418"]
    assert "0.1 min: wrong: 418" in report(run)


def test_a_report_says_how_long_what_was_away(tmp_path: Path) -> None:
    """Of a run that is not at its end, too."""
    outage = Outage(name="left", what="killed", began=1, gone=2, ended=8.5)
    text = report(written(tmp_path, life(LONG), outage), ["soak-memory.png"])
    assert "**Verdict: as it should be.**" in text
    assert "| left killed | 1 | 7.5 |" in text
    assert "![soak-memory.png](soak-memory.png)" in text


def test_percentiles_are_in_milliseconds() -> None:
    """Of those that there are."""
    assert times([]) == Times()
    assert times([n / 1000 for n in range(100)]) == Times(100, 50.0, 95.0, 99.0, 99.0)


def test_a_router_that_does_not_say_its_tasks_has_none_known() -> None:
    """It is not 0."""
    assert tasks("llm_router_event_loop_tasks 12.0\n") == 12
    assert tasks("llm_router_nodes 3\n") is None
