"""Nodes, fleets, requests and measurements, as the tests of core/ want them."""

from collections import Counter
from collections.abc import Iterable

from llm_router.contract import Heartbeat
from llm_router.core.affinity import Conversation
from llm_router.core.ask import Ask
from llm_router.core.estimates import Estimates
from llm_router.core.health import State
from llm_router.core.node import Lease, Node
from llm_router.core.policies import make_policy
from llm_router.core.rates import Sample
from llm_router.core.registry import Registry
from llm_router.core.scheduler import Decision, Queued, Scheduler
from llm_router.errors import RouterError

POLICIES = ("expected-latency", "least-requests", "metrics", "round-robin")
EVERYWHERE = frozenset({"ollama", "openai", "anthropic"})
DECODE_WEIGHT = 0.3


def make_node(
    node_id: str = "a", models: Iterable[str] = ("m",), *, slots: int = 4, state: State = State.ONLINE, cpu: float = 10
) -> Node:
    """One that stands alone, with figures of its machine as fresh as 0 s."""
    node = Node(node_id, node_id, "agent", None, dialects=EVERYWHERE, slots=slots, state=state, models=models)
    node.report = Heartbeat(cpu=cpu, memory=1.0)
    return node


def fleet(*nodes: Node | str, models: Iterable[str] = ("m",), slots: int = 4, trial_after: float = 30.0) -> Registry:
    """A registry of these nodes; a name stands for an online node with `models` and `slots`."""
    registry = Registry(trial_after=trial_after)
    for node in nodes:
        registry.add(make_node(node, models, slots=slots) if isinstance(node, str) else node, now=0.0)
    return registry


def make_scheduler(
    registry: Registry,
    policy: str = "round-robin",
    *,
    estimates: Estimates | None = None,
    queue_size: int = 100,
    queue_timeout: float = 60.0,
) -> Scheduler:
    estimates = estimates or Estimates()
    chosen = make_policy(policy, estimates, DECODE_WEIGHT)
    return Scheduler(registry, chosen, estimates, queue_size=queue_size, queue_timeout=queue_timeout)


def leased(decision: Lease | Queued | RouterError) -> Lease:
    assert isinstance(decision, Lease), decision
    return decision


def refused(decision: Lease | Queued | RouterError) -> RouterError:
    assert isinstance(decision, RouterError), decision
    return decision


def placed(decisions: list[Decision]) -> list[tuple[Ask, str]]:
    """Who was let in where; a refusal among them is a failure."""
    return [(ask, leased(decision).node.id) for ask, decision in decisions]


def serve(scheduler: Scheduler, times: int, model: str = "m", now: float = 1.0) -> Counter[str]:
    """Ask one after another; count who answered."""
    answered: Counter[str] = Counter()
    for _ in range(times):
        lease = leased(scheduler.on_request(Ask(model, now), now))
        answered[lease.node.id] += 1
        assert scheduler.on_done(lease, now, failed=False) == []
    return answered


def occupy(node: Node, model: str = "m", *, times: int = 1, since: float = 0.0, until: float = 0.0) -> list[Lease]:
    """Requests that the node is answering, begun at `since` and expected to end at `until`."""
    leases = []
    for _ in range(times):
        lease = Lease(node, Ask(model, since), since)
        lease.until = until
        leases.append(lease)
        node.touch(model, since)
    node.leases.update(leases)
    return leases


def sample(  # the fields of a Sample, each with a value that says nothing
    *,
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
    evaluated: int = 0,
    prompt_seconds: float = 0.0,
    completion_seconds: float = 0.0,
    load_seconds: float = 0.0,
    first_byte: float = 0.0,
    seconds: float = 0.0,
    streamed: bool = True,
) -> Sample:
    return Sample(
        prompt_tokens,
        completion_tokens,
        evaluated,
        prompt_seconds,
        completion_seconds,
        load_seconds,
        first_byte,
        seconds,
        streamed,
    )


def lease_on(
    node: Node, model: str = "m", *, size: int = 0, cold: bool = False, conversation: Conversation = ()
) -> Lease:
    """A lease that nobody counts: what `Estimates.learn` is told of."""
    lease = Lease(node, Ask(model, 0.0, size=size, conversation=conversation), 0.0)
    lease.cold = cold
    return lease


def teach(
    estimates: Estimates,
    node: Node,
    model: str = "m",
    *,
    prefill: float = 0.0,
    decode: float = 0.0,
    load: float = 0.0,
    output: int = 200,
) -> None:
    """The node answered once, and its runtime told these rates: tokens per second, and seconds to load."""
    measured = sample(
        prompt_tokens=1000,
        evaluated=1000,
        prompt_seconds=1000 / prefill if prefill else 0.0,
        completion_tokens=output,
        completion_seconds=output / decode if decode else 0.0,
        load_seconds=load,
    )
    estimates.learn(lease_on(node, model, size=4000, cold=load > 0), measured)


Index = dict[str, list[str]]


def indexes(registry: Registry) -> tuple[Index, Index, Index, Index, Index]:
    """The registry's indexes by model, as sorted ids: online, offered, suspects, excluded, warm."""
    return (
        _ids(registry.online),
        _ids(registry.offered),
        _ids(registry.suspects),
        _ids(registry.excluded),
        _ids(registry.warm),
    )


def _ids(index: dict[str, list[Node]]) -> Index:
    return {model: sorted(n.id for n in nodes) for model, nodes in index.items()}


def scan(registry: Registry) -> tuple[Index, Index, Index, Index, Index]:
    """What the indexes should be, found by looking at every node."""
    online: Index = {}
    offered: Index = {}
    suspects: Index = {}
    excluded: Index = {}
    warm: Index = {}
    for node in sorted(registry, key=lambda n: n.id):
        usual = None if node.settings.drain else {State.ONLINE: online, State.SUSPECT: suspects}.get(node.state)
        for model in node.models:
            absent = usual is online and model in node.absent - node.fetching
            if usual is not None:
                index = excluded if model in node.excluded else offered if absent else usual
                index.setdefault(model, []).append(node.id)
        for model in node.warm:
            warm.setdefault(model, []).append(node.id)
    return online, offered, suspects, excluded, warm
