"""What is asked, and when: conversations whose turns arrive at a given rate. Pure: a seed gives the same trace.

Conversations come as a Poisson process over MODELS by Zipf's law. The trace shows a window of a world that has been
running for a while: conversations that began before it come with what was said already, so that the rate is the same
from the first second on.
"""

import math
from collections.abc import Iterator
from itertools import accumulate
from random import Random
from typing import Literal

import msgspec

MODELS = tuple(f"model-{n}:8b" for n in range(1, 7))
ZIPF = tuple(1 / rank for rank in range(1, len(MODELS) + 1))  # s = 1

BYTES_PER_TOKEN = 4  # English text in the tokenizers of today; exact here, so that bytes tell tokens
MOST_TURNS = 8
LAST_TURN = 0.25  # the chance that a turn is the last one
THINK = 20.0  # seconds, mean: reading the answer and typing the next question
READING = 35.0  # tokens/s at which answers are taken to come when the trace is drawn; a medium machine's decode rate
LEAD = 600.0  # seconds before the window from which conversations begin; longer than nearly all of them

SYSTEM = 100  # tokens
FEWEST_TOKENS = 10  # of a question: room for the words that make it unlike any other


class Message(msgspec.Struct, frozen=True):
    """One message, as the APIs have it."""

    role: Literal["system", "user", "assistant"]
    content: str


class Turn(msgspec.Struct, frozen=True):
    """One request: `at` seconds into the trace `question` is asked, and answered with `output` tokens."""

    at: float
    question: Message
    output: int


class Conversation(msgspec.Struct, frozen=True):
    """Turns about one thing. Each one sends `opening`, all questions and answers so far, and its own question."""

    model: str
    opening: tuple[Message, ...]
    turns: tuple[Turn, ...]


class Spread(msgspec.Struct, frozen=True):
    """Log-normal sizes with this mean, in tokens; `sigma` is that of the logarithm."""

    mean: float
    sigma: float
    fewest: int
    most: int

    def draw(self, dice: Random) -> int:
        """One size."""
        size = dice.lognormvariate(math.log(self.mean) - self.sigma**2 / 2, self.sigma)
        return round(min(max(size, self.fewest), self.most))


QUESTION = Spread(mean=120, sigma=1.0, fewest=FEWEST_TOKENS, most=4000)  # mostly a line or two, sometimes a pasted page
OUTPUT = Spread(mean=300, sigma=0.8, fewest=20, most=1500)


def draw(rate: float, requests: int, seed: int) -> list[Conversation]:
    """A trace of `requests` requests, `rate` of them per second.

    Chance alone would make the rate of a short trace differ from the one asked for by 10 % and more, since turns come
    in bunches; the times are stretched or shortened so that it is exact.
    """
    dice = Random(seed)
    everything: list[Conversation] = []
    begin = -LEAD
    while _count(everything, begin) < requests:  # what begins from now on comes later than what is there
        begin += dice.expovariate(rate / mean_turns())
        everything.append(_conversation(dice, begin, len(everything)))
    return _window(everything, requests, rate)


def mean_turns() -> float:
    """Turns of a conversation, on average: geometric, cut at MOST_TURNS."""
    return (1 - (1 - LAST_TURN) ** MOST_TURNS) / LAST_TURN


def filler(label: str, tokens: int) -> str:
    """Text of so many tokens that begins with `label`."""
    size = tokens * BYTES_PER_TOKEN
    return (f"{label} " * (size // (len(label) + 1) + 1))[:size]


def tokens_of(text: str) -> int:
    """How many tokens a text has."""
    return math.ceil(len(text) / BYTES_PER_TOKEN)


def _count(conversations: list[Conversation], until: float) -> int:
    return sum(0 <= turn.at <= until for c in conversations for turn in c.turns) if until > 0 else 0


def _conversation(dice: Random, begin: float, number: int) -> Conversation:
    model = dice.choices(MODELS, ZIPF)[0]
    system = Message("system", filler(f"conversation {number}", SYSTEM))
    return Conversation(model, (system,), tuple(_turns(dice, begin, number)))


def _turns(dice: Random, begin: float, number: int) -> Iterator[Turn]:
    at = begin
    for n in range(MOST_TURNS):
        question = Message("user", filler(f"question {n} of {number}", QUESTION.draw(dice)))
        turn = Turn(at, question, OUTPUT.draw(dice))
        yield turn
        if dice.random() < LAST_TURN:
            return
        at += turn.output / READING + dice.expovariate(1 / THINK)


def _window(everything: list[Conversation], requests: int, rate: float) -> list[Conversation]:
    times = sorted(turn.at for c in everything for turn in c.turns if turn.at >= 0)[:requests]
    stretch = requests / rate / times[-1]
    cut = (_cut(c, times[-1], stretch) for c in everything)
    return [c for c in cut if c.turns]


def _cut(conversation: Conversation, end: float, stretch: float) -> Conversation:
    """The part between 0 and `end`; what was said before stands in the opening."""
    said = (pair for turn in conversation.turns if turn.at < 0 for pair in (turn.question, missing_answer(turn)))
    left = (msgspec.structs.replace(t, at=t.at * stretch) for t in conversation.turns if 0 <= t.at <= end)
    return msgspec.structs.replace(conversation, opening=(*conversation.opening, *said), turns=tuple(left))


def missing_answer(turn: Turn) -> Message:
    """An answer of the right length, for one that this trace's player has not heard."""
    return Message("assistant", filler("unheard", turn.output))


def sizes(conversations: list[Conversation]) -> list[int]:
    """The prompt tokens of every request, conversation by conversation."""
    return [size for c in conversations for size in _sizes(c)]


def _sizes(conversation: Conversation) -> Iterator[int]:
    opening = sum(tokens_of(m.content) for m in conversation.opening)
    grown = accumulate((tokens_of(t.question.content) + t.output for t in conversation.turns), initial=opening)
    return (before + tokens_of(t.question.content) for before, t in zip(grown, conversation.turns, strict=False))
