"""How fast each node runs each model, learned from the requests that it answered.

Rule 1: a rate is amount by time, both summed up and fading, so that a long prompt says more than a short one.
Rule 2: what was not measured is assumed: as fast as the fastest node, times how this node compares with the fastest
        where both were measured (design.md §5: as good as its best equal).
Rule 3: what a runtime says of its own times counts more than what was seen from outside.
"""

from llm_router.core.node import Lease, Node
from llm_router.core.rates import FADE, NOTICEABLE, Rates, Sample

# What is assumed of a model that nobody has run yet: a small model on a small machine. Only comparisons matter.
UNKNOWN = (500.0, 25.0, 0.2)  # tokens of prompt per second, tokens of answer per second, loads per second
SHORTEST_LOAD = 0.05  # seconds; a model that comes sooner was in memory, or might as well have been
OUTPUT = 200.0  # tokens of an answer, until some were seen
BYTES_PER_TOKEN = 4.0  # of a request's body, until some were seen
LARGEST_PROMPT = 131_072.0  # tokens; a body with images has bytes beyond all contexts


class Model:
    """One model wherever it runs. `best` are the highest rates: prefill, decode, loads per second."""

    __slots__ = ("best", "bytes_per_token", "name", "nodes", "output", "seconds", "version")

    def __init__(self, name: str) -> None:
        self.name = name
        self.best = [0.0, 0.0, 0.0]
        self.nodes: dict[str, Rates] = {}  # by id, of those that have run it
        self.output = OUTPUT
        self.bytes_per_token = BYTES_PER_TOKEN
        self.seconds = 0.0  # that a request takes, all in all; 0 until one was seen
        self.version = 1  # moves when `best` does


class Estimates:
    """All that was learned."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}

    def model(self, name: str) -> Model:
        """What is known of a model wherever it runs."""
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = Model(name)
        return model

    def of(self, node: Node, model: Model) -> Rates:
        """How fast this node runs this model."""
        rates = node.rates.get(model.name)
        if rates is None or rates.version != model.version:
            rates = self._assume(node, model)
        return rates

    def tokens(self, model: Model, size: int) -> float:
        """How many tokens a prompt of `size` bytes is likely to be."""
        return min(size / model.bytes_per_token, LARGEST_PROMPT)

    def learn(self, lease: Lease, sample: Sample) -> Rates:
        """A request was answered; what is known now of this model on this node."""
        node, model = lease.node, self.model(lease.ask.model)
        _learn_of_all(model, lease.ask.size, sample)
        rates = self.of(node, model)
        prefill, decode, load = rates.measured
        moved = prefill.add(*_prefill(lease, sample)) if sample.prompt_seconds or sample.streamed else False
        moved |= decode.add(*_decode(lease, sample, rates))
        if lease.cold:
            moved |= load.add(*_load(sample, rates))
        if moved:
            self._tell(node, model, rates)
        return rates

    def _tell(self, node: Node, model: Model, rates: Rates) -> None:
        """What was assumed of other nodes, and of other models of this one, may be out of date."""
        model.nodes[node.id] = rates
        best = _best(model, rates)
        if best != model.best:
            model.best = best
            model.version += 1
        for rate in rates.measured:
            rate.told = rate.value
        self._compare(node)
        self._assume(node, model)

    def _compare(self, node: Node) -> None:
        """How this node's rates stand to the best ones, over all models that another node has run too."""
        pace = list(node.pace)
        for i in range(3):
            ratios = [
                rates.measured[i].value / model.best[i]
                for rates, model in ((rates, self._models[name]) for name, rates in node.rates.items())
                if rates.measured[i].value and len(model.nodes) > 1
            ]
            if ratios:
                pace[i] = sum(ratios) / len(ratios)
        if any(not 1 / NOTICEABLE < new / old < NOTICEABLE for new, old in zip(pace, node.pace, strict=True)):
            node.pace = pace
            node.change()
            for rates in node.rates.values():
                rates.version = 0

    def _assume(self, node: Node, model: Model) -> Rates:
        rates = node.rates.get(model.name)
        if rates is None:
            rates = node.rates[model.name] = Rates()
        prefill, decode, loads = (
            rate.value or (best or unknown) * pace
            for rate, best, unknown, pace in zip(rates.measured, model.best, UNKNOWN, node.pace, strict=True)
        )
        rates.prefill, rates.decode, rates.load = prefill, decode, 1 / loads
        rates.version = model.version
        node.change()
        return rates


def _best(model: Model, rates: Rates) -> list[float]:
    """The highest rates, now that one node's are other than it told."""
    best = []
    for i, (old, rate) in enumerate(zip(model.best, rates.measured, strict=True)):
        fell = rate.told >= old > rate.value  # the fastest is that no more: who is?
        told = [r.measured[i].told for r in model.nodes.values() if r is not rates] if fell else [old]
        best.append(max((rate.value, *told)))
    return best


def _learn_of_all(model: Model, size: int, sample: Sample) -> None:
    """What does not depend on the node."""
    model.seconds = FADE * model.seconds + (1 - FADE) * sample.seconds if model.seconds else sample.seconds
    if sample.completion_tokens:
        model.output = FADE * model.output + (1 - FADE) * sample.completion_tokens
    if sample.prompt_tokens and size:
        model.bytes_per_token = FADE * model.bytes_per_token + (1 - FADE) * size / sample.prompt_tokens


def _prefill(lease: Lease, sample: Sample) -> tuple[float, float]:
    """Tokens and seconds. Some runtimes count cached tokens as evaluated, so a cached prompt says nothing then."""
    cached = lease.ask.held > 0
    if sample.prompt_seconds:
        known = not cached or sample.evaluated < sample.prompt_tokens
        return (sample.evaluated, sample.prompt_seconds) if known else (0.0, 0.0)
    if cached or lease.cold or not sample.streamed:
        return 0.0, 0.0
    return sample.prompt_tokens, sample.first_byte


def _decode(lease: Lease, sample: Sample, rates: Rates) -> tuple[float, float]:
    """Tokens and seconds; of a whole answer what is left after the prompt."""
    if sample.completion_seconds:
        return sample.completion_tokens, sample.completion_seconds
    if sample.streamed:
        return sample.completion_tokens - 1, sample.seconds - sample.first_byte
    if lease.cold:
        return 0.0, 0.0
    return sample.completion_tokens, sample.seconds - sample.prompt_tokens / rates.prefill


def _load(sample: Sample, rates: Rates) -> tuple[float, float]:
    """Loads and seconds; where the runtime does not tell, what the prompt does not explain of the first byte's time."""
    seconds = sample.load_seconds
    if not seconds:
        seconds = sample.first_byte - sample.prompt_tokens / rates.prefill
        if not sample.streamed:
            seconds -= sample.completion_tokens / rates.decode
    return (1.0, seconds) if seconds > SHORTEST_LOAD else (0.0, 0.0)
