"""`python -m bench.fleet.simulate`: the same trace, machines and scheduler in virtual time.

Where all wait, the clock leaps to what happens next. So a run takes a fraction of a second, and a seed gives the same
numbers again, however busy the computer. The machines are those of `machine`; the scheduler and its policies are the
router's. What lies between them takes no time here; `python -m bench.fleet` has HTTP and sockets, too.
"""

import asyncio
import selectors
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from bench.fleet.__main__ import POLICIES, WIDTH, Numbers
from bench.fleet.dialects import Ollama
from bench.fleet.fleet import FLEETS
from bench.fleet.machine import Ask as Work
from bench.fleet.machine import Machine, Part, Spec, Times
from bench.fleet.player import Sample
from bench.fleet.results import REFERENCE, WARM_UP, Run, quantiles, summarize
from bench.fleet.routers import PROBE_EVERY, QUEUE_SIZE, QUEUE_TIMEOUT, WARM_FIRST
from bench.fleet.trace import MODELS, Conversation, Message, Turn, draw, missing_answer, tokens_of
from bench.fleet.warm_first import WarmFirst
from llm_router.config import RouterConfig
from llm_router.contract import Heartbeat
from llm_router.core import latency
from llm_router.core.ask import Ask
from llm_router.core.estimates import Estimates
from llm_router.core.latency import ExpectedLatency
from llm_router.core.node import EVERY_DIALECT, Lease, Node
from llm_router.core.policies import Policy, make_policy
from llm_router.core.rates import Sample as Lesson
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Decision, Queued, Scheduler
from llm_router.errors import RouterError
from llm_router.gateway.peek import peek

LOOK_EVERY = 0.6  # seconds of the trace between looks at the queue: the gateway's tenth of a second at scale 6
AT_ONCE = sys.maxsize  # tokens of a piece: nobody watches an answer grow here


# -- time


class Leap(selectors.SelectSelector):
    """What an event loop waits with; it passes the time instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Be there at once; nothing comes from outside.

        Raises:
            RuntimeError: everybody waits for something that will not happen.
        """
        if timeout is None:
            raise RuntimeError("the simulation stands still: everybody waits, and for nothing that has a time")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock begins at 0 and leaps."""

    def __init__(self) -> None:
        self._leap = Leap()
        super().__init__(self._leap)

    def time(self) -> float:
        """Seconds of the trace."""
        return self._leap.now


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - _now()))  # noqa: TID251 - the clock leaps


# -- what is simulated


class NoHolding(ExpectedLatency):
    """Never lets a request wait while a candidate has a free slot."""

    def choose(self, ask: Ask, candidates: Sequence[Node], now: float) -> Node | None:
        """The cheapest of the free ones."""
        free = [n for n in candidates if n.has_room()]
        return super().choose(ask, free, now) if free else None


def policy_of(name: str, estimates: Estimates, *, holding: bool) -> Policy:
    """The policy of this name, as a router has it by default. Raises KeyError."""
    weight = RouterConfig().decode_weight
    if name == WARM_FIRST:
        return WarmFirst()
    if name == REFERENCE and not holding:
        return NoHolding(estimates, weight)
    return make_policy(name, estimates, weight)


class Simulation:
    """A router's scheduler with these machines; for one trace."""

    def __init__(self, fleet: Iterable[Spec], make: Callable[[Estimates], Policy]) -> None:
        estimates = Estimates()
        self._registry = Registry()
        self._scheduler = Scheduler(
            self._registry, make(estimates), estimates, queue_size=QUEUE_SIZE, queue_timeout=QUEUE_TIMEOUT
        )
        self.machines: dict[str, Machine] = {}
        self._samples: list[Sample] = []
        for spec in fleet:
            self.machines[spec.name] = Machine(spec, 1.0, AT_ONCE)
            node = Node(spec.name, spec.name, "ollama", None, dialects=EVERY_DIALECT, slots=spec.slots)
            self._registry.add(node, 0.0)
            self._registry.list_models(node.id, MODELS, 0.0)

    async def play(self, conversations: Iterable[Conversation]) -> list[Sample]:
        """Every request of the trace, in the order in which they were planned. To be run in a VirtualLoop."""
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(self._look_after_queue())]
            for n, name in enumerate(self.machines):
                begin = n / len(self.machines) * PROBE_EVERY  # not all at the same moment
                others.append(group.create_task(self._look_at(name, begin)))
            async with asyncio.TaskGroup() as users:
                for conversation in conversations:
                    users.create_task(self._converse(conversation))
            for task in others:
                task.cancel()
        return sorted(self._samples, key=attrgetter("planned"))

    # -- the router, as far as it is none of `core`

    async def _look_after_queue(self) -> None:
        while True:
            await _until(_now() + LOOK_EVERY)
            if self._scheduler.waiting:
                self._deliver(self._scheduler.on_tick(_now()))

    async def _look_at(self, name: str, begin: float) -> None:
        await _until(begin)
        while True:
            self._registry.heartbeat(name, Heartbeat(loaded=self.machines[name].loaded), _now())
            await _until(_now() + PROBE_EVERY)

    def _deliver(self, decisions: Iterable[Decision]) -> None:
        for ask, decision in decisions:
            assert isinstance(ask.owner, asyncio.Future)
            ask.owner.set_result(decision)

    async def _place(self, ask: Ask) -> Lease | RouterError:
        """A place, or why there is none; after some time, perhaps."""
        placed: asyncio.Future[Lease | RouterError] = asyncio.Future()
        ask.owner = placed
        decision = self._scheduler.on_request(ask, _now())
        return await placed if isinstance(decision, Queued) else decision

    # -- who asks, as `player` does

    async def _converse(self, conversation: Conversation) -> None:
        said = list(conversation.opening)
        for turn in conversation.turns:
            await _until(turn.at)
            said.append(turn.question)
            await self._ask(conversation.model, said, turn)
            said.append(missing_answer(turn))

    async def _ask(self, model: str, said: list[Message], turn: Turn) -> None:
        sample = Sample(turn.at, _now())
        self._samples.append(sample)
        body = Ollama().ask(model, said, turn.output)
        placed = await self._place(Ask(model, _now(), size=len(body), conversation=peek(body).conversation))
        if isinstance(placed, RouterError):
            sample.failure = f"status {placed.status}"
        else:
            prompt = tuple(map(_part, said))
            await self._serve(placed, Work(model, prompt, _part(missing_answer(turn))), sample)
        sample.latency = _now() - sample.sent

    async def _serve(self, lease: Lease, work: Work, sample: Sample) -> None:
        async def emit(_tokens: int) -> None:
            sample.ttft = sample.ttft or _now() - sample.sent

        times = await self.machines[lease.node.id].serve(work, emit)
        lesson = _lesson(work, times, sample.sent + sample.ttft - lease.since)
        self._deliver(self._scheduler.on_done(lease, _now(), failed=False, sample=lesson))


def _part(message: Message) -> Part:
    return Part(hash(message), tokens_of(message.content))


def _lesson(work: Work, times: Times, first_byte: float) -> Lesson:
    """What a router learns of an answer in Ollama's API, which counts cached tokens as evaluated."""
    prompt = sum(part.tokens for part in work.prompt)
    return Lesson(
        prompt_tokens=prompt,
        completion_tokens=work.answer.tokens,
        evaluated=prompt,
        prompt_seconds=times.prefill,
        completion_seconds=times.decode,
        load_seconds=times.load,
        first_byte=first_byte,
        seconds=times.total,
        streamed=True,
    )


def simulate(policy: str, rate: float, requests: int, seed: int, fleet: str, *, holding: bool = True) -> Run:
    """One run, with all of its measurements; seconds of the trace. Raises KeyError for an unknown policy or fleet."""
    simulation = Simulation(FLEETS[fleet], lambda estimates: policy_of(policy, estimates, holding=holding))
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        samples = runner.run(simulation.play(draw(rate, requests, seed)))
    stats = {name: machine.stats for name, machine in simulation.machines.items()}
    return summarize(policy, rate, samples, stats, cpu={})


# -- what is shown

COLUMNS: dict[str, Callable[[Run], float]] = {
    "\nfailed": lambda run: run.failed,
    "TTFT\np50": lambda run: run.ttft.p50,
    "\np95": lambda run: run.ttft.p95,
    "\np99": lambda run: run.ttft.p99,
    "latency\nmean": lambda run: run.latency.mean,
    "\nloads": lambda run: run.loads,
}


def show(rate: float, rows: dict[str, list[Run]], changes: Iterable[str], console: Console) -> None:
    """A table with a row for every policy; `rows` has its runs, one for each seed.

    `changes`: what is unlike the router, for the title.
    """
    runs = next(iter(rows.values()))
    title = ", ".join([f"{rate:g} requests per second", f"{runs[0].requests} counted", f"seeds: {len(runs)}", *changes])
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("\npolicy", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for policy, measured in rows.items():
        table.add_row(policy, *(_cell([figure(run) for run in measured]) for figure in COLUMNS.values()))
    console.print(table)


def _cell(values: Sequence[float]) -> str:
    """The median; the smallest and the largest behind it."""
    middle, least, most = map(_short, (quantiles(values).p50, min(values), max(values)))
    return f"{middle} ({least}-{most})"


def _short(value: float) -> str:
    """As many digits as two runs may agree on."""
    return (
        f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    )


# -- what is asked for


@contextmanager
def experiment(constants: dict[str, float]) -> Iterator[None]:
    """Other values for constants of `core.latency`, as long as this lasts."""
    before = {name: getattr(latency, name) for name in constants}
    _set(constants)
    try:
        yield
    finally:
        _set(before)


def _set(constants: dict[str, float]) -> None:
    for name, value in constants.items():
        setattr(latency, name, value)


def _constants(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[str, float]:
    return dict(map(_constant, texts))


def _constant(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    if not name.isupper() or not isinstance(getattr(latency, name, None), float):
        known = ", ".join(n for n, v in vars(latency).items() if n.isupper() and isinstance(v, float))
        raise click.BadParameter(f"{name!r} is no constant of core/latency.py; there are {known}")
    try:
        return name, float(value)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER") from None


def _seeds(_context: click.Context, _option: click.Parameter, text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers, such as 1,2,3") from None


def _names(_context: click.Context, _option: click.Parameter, text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        try:
            policy_of(name, Estimates(), holding=True)
        except KeyError:
            raise click.BadParameter(f"there is no policy {name!r}; there are {POLICIES}") from None
    return names


@click.command()
@click.option("--policies", callback=_names, default=POLICIES, show_default=True, help="With commas.")
@click.option("--rates", type=Numbers(), default="0.5,1.0,1.5", show_default=True, help="Requests per second.")
@click.option("--requests", type=click.IntRange(min=20), default=600, show_default=True, help="Requests of each trace.")
@click.option("--seeds", callback=_seeds, default="1,2,3,4,5,6", show_default=True, help="Each one draws a trace.")
@click.option("--fleet", type=click.Choice(list(FLEETS)), default="unequal", show_default=True, help="The machines.")
@click.option(
    "--set",
    "constants",
    callback=_constants,
    multiple=True,
    metavar="NAME=VALUE",
    help="Another value for a constant of core/latency.py.",
)
@click.option("--no-holding", is_flag=True, help="Let expected-latency never wait while a candidate has a free slot.")
def main(
    *,
    policies: list[str],
    rates: list[float],
    requests: int,
    seeds: list[int],
    fleet: str,
    constants: dict[str, float],
    no_holding: bool,
) -> None:
    """Which policy answers soonest, in virtual time?

    Each policy gets the same traces, one for each seed. A cell of the tables has the median over the seeds, and the
    smallest and the largest value behind it.
    """
    changes = [f"{name}={value:g}" for name, value in constants.items()] + ["no holding"] * no_holding
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    with experiment(constants):
        for rate in rates:
            rows = {
                name: [simulate(name, rate, requests, seed, fleet, holding=not no_holding) for seed in seeds]
                for name in policies
            }
            show(rate, rows, changes, console)
    console.print(f"Seconds of the trace. The first {WARM_UP:.0%} of the requests count in loads only.", style="dim")


if __name__ == "__main__":
    main(prog_name="python -m bench.fleet.simulate")
