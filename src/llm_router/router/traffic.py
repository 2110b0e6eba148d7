"""What requests add up to since the router started: counts, tokens, times.

Rule 1: a request pays nothing; its record is added when the ledger shows it to those who watch.
Rule 2: what is counted by is bounded. A model that no node lists counts as OTHER, since clients can think of any name;
        and when there are LIMIT combinations, all new ones count as one.
"""

from bisect import bisect_left
from collections.abc import Container, Sequence
from copy import copy

import msgspec

from llm_router.core.usage import RequestRecord

# What OpenTelemetry advises for how long models take ("gen_ai.server.request.duration"), and three more for models that
# are loaded first or answer at length. One set for all times, so that they can be compared.
BOUNDS = tuple(0.01 * 2**step for step in range(17))
OTHER = "other"
# Combinations of labels: 20 models on 50 nodes. Each takes 40 lines of the answer to a visit, 4 MB for all.
LIMIT = 1000

Place = tuple[str, str, str]  # model, node, its id
Ending = tuple[str, str, str, str, int, str]  # these, operation, status, outcome

_ANY_PLACE: Place = (OTHER, OTHER, OTHER)


class Times:
    """How often which time occurred: one count for each of BOUNDS, and one for what is over all of them. Seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """It occurred once more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def __copy__(self) -> "Times":
        other = Times()
        other.counts, other.total = self.counts.copy(), self.total
        return other


class Answers(msgspec.Struct):
    """What one node answered for one model. `first`: until the first token of a stream; `whole`: until the last."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    first: Times = msgspec.field(default_factory=Times)
    whole: Times = msgspec.field(default_factory=Times)

    def __copy__(self) -> "Answers":
        return Answers(self.prompt_tokens, self.completion_tokens, copy(self.first), copy(self.whole))


class Traffic:
    """A watcher of the ledger."""

    def __init__(self, models: Container[str]) -> None:
        """`models`: those that any node lists."""
        self._models = models
        self.requests: dict[Ending, int] = {}
        self.answers: dict[Place, Answers] = {}
        self.waits: dict[str, Times] = {}  # in the queue, by model

    def __call__(self, records: Sequence[RequestRecord]) -> None:
        """Add these."""
        for record in records:
            self._add(record)

    def __copy__(self) -> "Traffic":
        """As it is now, for another thread."""
        other = Traffic(())
        other.requests = self.requests.copy()
        other.answers = {place: copy(answers) for place, answers in self.answers.items()}
        other.waits = {model: copy(times) for model, times in self.waits.items()}
        return other

    def _add(self, record: RequestRecord) -> None:
        model = record.model if record.model in self._models else OTHER
        place = (model, record.node, record.node_id)
        self._count(place, record)
        if record.node_id or record.waited:  # the others never came as far as the queue
            self._waits_of(model).add(record.waited)
        if record.node_id and record.status < 400:
            self._add_answer(self._answers_of(place), record)

    def _count(self, place: Place, record: RequestRecord) -> None:
        ending = (*place, record.operation, record.status, record.outcome)
        if ending not in self.requests and len(self.requests) >= LIMIT:
            ending = (*_ANY_PLACE, OTHER, 0, record.outcome)
        self.requests[ending] = self.requests.get(ending, 0) + 1

    def _add_answer(self, answers: Answers, record: RequestRecord) -> None:
        answers.prompt_tokens += record.prompt_tokens
        answers.completion_tokens += record.completion_tokens
        if record.streamed and record.first_byte:
            answers.first.add(record.first_byte)
        if record.outcome == "done":
            answers.whole.add(record.seconds)

    def _answers_of(self, place: Place) -> Answers:
        answers = self.answers.get(place)
        if answers is None:
            if len(self.answers) >= LIMIT:
                place = _ANY_PLACE
            answers = self.answers.setdefault(place, Answers())
        return answers

    def _waits_of(self, model: str) -> Times:
        times = self.waits.get(model)
        if times is None:
            times = self.waits.setdefault(model if len(self.waits) < LIMIT else OTHER, Times())
        return times
