"""How a machine of the bench behaves. Its times are next to nothing here: only order and counts are looked at."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from bench.fleet.machine import Ask, Emit, Machine, Part, Spec

MakeMachine = Callable[..., Machine]

SCALE = 1e5
TOKENS = 40


@pytest.fixture
async def make() -> AsyncIterator[MakeMachine]:
    made: list[Machine] = []

    def make_one(slots: int = 1, holds: int = 1) -> Machine:
        made.append(Machine(Spec("it", prefill=1000, decode=50, slots=slots, holds=holds, load=8), SCALE))
        return made[-1]

    yield make_one
    for machine in made:
        machine.close()


def ask(model: str = "a", *keys: int) -> Ask:
    """Messages of 100 tokens each; the answer's key is what comes after the last one's."""
    prompt = tuple(Part(key, 100) for key in keys or (1,))
    return Ask(model, prompt, Part(prompt[-1].key + 1, TOKENS))


async def ignore(_tokens: int) -> None:
    pass


def heard(into: list[str], name: str) -> Emit:
    async def emit(_tokens: int) -> None:
        into.append(name)

    return emit


async def test_every_token_is_made_the_first_one_by_itself(make: MakeMachine) -> None:
    """The pieces add up to the answer, and the first is a single token: it is seen when it is made."""
    pieces: list[int] = []

    async def emit(tokens: int) -> None:
        pieces.append(tokens)

    await make().serve(ask(), emit)
    assert sum(pieces) == TOKENS
    assert pieces[0] == 1


async def test_as_many_requests_run_at_once_as_there_are_slots(make: MakeMachine) -> None:
    """Two slots: pairs run side by side, and never three."""
    machine = make(slots=2)
    pair = asyncio.Barrier(2)
    running = peak = 0

    async def one() -> None:
        nonlocal running, peak
        begun = False

        async def emit(_tokens: int) -> None:
            nonlocal running, peak, begun
            if not begun:
                begun = True
                running += 1
                peak = max(peak, running)
                await pair.wait()

        await machine.serve(ask(), emit)
        running -= 1

    await asyncio.gather(*(one() for _ in range(6)))
    assert peak == 2
    assert machine.stats.served == 6


async def test_requests_are_let_in_as_they_came(make: MakeMachine) -> None:
    """One slot: the answers come in the order of the questions."""
    machine = make()
    order: list[str] = []
    await asyncio.gather(*(machine.serve(ask(), heard(order, name)) for name in "abcd"))
    assert list(dict.fromkeys(order)) == ["a", "b", "c", "d"]
    assert order == sorted(order)


async def test_a_model_is_loaded_once_and_stays(make: MakeMachine) -> None:
    """The first requests wait for one load together; a later one waits for none."""
    machine = make(slots=2)
    await asyncio.gather(machine.serve(ask(), ignore), machine.serve(ask(), ignore))
    later = await machine.serve(ask(), ignore)
    assert machine.stats.loads == 1
    assert machine.loaded == ["a"]
    assert later.load < later.decode


async def test_the_model_idle_longest_makes_room(make: MakeMachine) -> None:
    """Memory for two: of a, b, a, the next one displaces b."""
    machine = make(holds=2)
    for model in ("a", "b", "a", "c"):
        await machine.serve(ask(model), ignore)
    assert sorted(machine.loaded) == ["a", "c"]
    assert machine.stats.loads == 3


async def test_a_model_in_use_is_not_displaced(make: MakeMachine) -> None:
    """A load waits until a model is idle, and who comes later does not overtake it."""
    machine = make(slots=2)
    order: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_tokens: int) -> None:
        order.append("a")
        begun.set()
        await go_on.wait()

    first = asyncio.create_task(machine.serve(ask("a"), slow))
    await begun.wait()
    others = [asyncio.create_task(machine.serve(ask(m), heard(order, later))) for m, later in (("b", "b"), ("a", "c"))]
    go_on.set()
    await asyncio.gather(first, *others)
    assert list(dict.fromkeys(order)) == ["a", "b", "c"]
    assert order == sorted(order)
    assert machine.stats.loads == 3


async def test_what_continues_a_conversation_is_not_read_again(make: MakeMachine) -> None:
    """Question, answer and what came before are known; only the new question is read."""
    machine = make(slots=2)
    await machine.serve(ask("a", 1), ignore)
    await machine.serve(ask("a", 1001), ignore)  # another conversation, in the other slot
    await machine.serve(Ask("a", (Part(1, 100), Part(2, TOKENS), Part(3, 50)), Part(4, TOKENS)), ignore)
    assert machine.stats.reused == 100 + TOKENS


async def test_what_a_slot_knew_is_lost_when_another_conversation_takes_it(make: MakeMachine) -> None:
    """One slot remembers one conversation."""
    machine = make()
    await machine.serve(ask("a", 1), ignore)
    await machine.serve(ask("a", 1001), ignore)
    await machine.serve(ask("a", 1, 2, 3), ignore)
    assert machine.stats.reused == 0


async def test_what_a_model_knew_is_lost_when_it_is_unloaded(make: MakeMachine) -> None:
    """It comes back with empty slots."""
    machine = make()
    for question in (ask("a", 1), ask("b", 1), ask("a", 1, 2, 3)):
        await machine.serve(question, ignore)
    assert machine.stats.loads == 3
    assert machine.stats.reused == 0


async def test_a_request_that_is_given_up_gives_its_slot_back(make: MakeMachine) -> None:
    """Whether it waits, loads or answers."""
    machine = make()
    begun = asyncio.Event()

    async def stuck(_tokens: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    answering = asyncio.create_task(machine.serve(ask(), stuck))
    await begun.wait()
    waiting = asyncio.create_task(machine.serve(ask(), ignore))
    next_one = asyncio.create_task(machine.serve(ask("b"), ignore))
    waiting.cancel()
    answering.cancel()
    await next_one
    assert answering.cancelled()
    assert waiting.cancelled()
    assert (machine.stats.served, machine.stats.cancelled) == (1, 1)
