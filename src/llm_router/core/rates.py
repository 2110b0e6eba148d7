"""How fast one node runs one model: what was measured, or assumed."""

import msgspec

FADE = 0.8  # what is left of the earlier sums when something new comes in: about the last five requests count
NOTICEABLE = 1.05  # a rate that has moved by less is not compared with others' again


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One answered request. Seconds from outside begin with the lease; what the runtime did not say is 0.

    `evaluated`: tokens of the prompt that `prompt_seconds` were spent on, the rest was cached.
    """

    prompt_tokens: int
    completion_tokens: int
    evaluated: int
    prompt_seconds: float
    completion_seconds: float
    load_seconds: float
    first_byte: float
    seconds: float
    streamed: bool


class Rate:
    """Amount by time. `value` is 0 until there was a sample; `told`: the value last compared with others'."""

    __slots__ = ("_amount", "_time", "told", "value")

    def __init__(self) -> None:
        self._amount = 0.0
        self._time = 0.0
        self.value = 0.0
        self.told = 0.0

    def add(self, amount: float, time: float) -> bool:
        """One more sample. Whether the value has moved noticeably since it was told."""
        if amount <= 0 or time <= 0:
            return False
        self._amount = self._amount * FADE + amount
        self._time = self._time * FADE + time
        self.value = value = self._amount / self._time
        told = self.told
        return value > told * NOTICEABLE or value * NOTICEABLE < told


class Rates:
    """One model on one node: tokens per second, and seconds to load. Where `measured` has 0, the rest is assumed.

    `learned`: when it was learned from last.
    """

    __slots__ = ("decode", "learned", "load", "measured", "prefill", "version")

    def __init__(self) -> None:
        self.measured = (Rate(), Rate(), Rate())  # prefill, decode, and loads per second
        self.prefill = self.decode = self.load = 0.0
        self.version = 0
        self.learned = 0.0
