"""One node's health, as a table.

Rule 1: the table is the whole truth; what it does not list changes nothing.
Rule 2: this file does not know why a signal came, or what follows from a state.

PENDING      waits for an operator's approval, be it there or not: nothing else ends that
REGISTERING  its models are being pulled
ONLINE       in rotation
SUSPECT      a request to it failed and a probe is under way: used only when nobody else can
OFFLINE      said goodbye, fell silent, or cannot be reached
"""

from enum import Enum


class State(Enum):
    """Where a node stands; the value is what people and programs see."""

    PENDING = "pending"
    REGISTERING = "registering"
    ONLINE = "online"
    SUSPECT = "suspect"
    OFFLINE = "offline"


class Signal(Enum):
    """What was learned about a node, named as it happened."""

    REGISTERED = "registered"
    APPROVED = "approved"
    MODELS_PULLED = "models pulled"
    PULL_FAILED = "models could not be pulled"
    HEARTBEAT = "heartbeat"
    REQUEST_FAILED = "a request failed"
    PROBE_OK = "probe answered"
    PROBE_FAILED = "probe failed"
    SILENT = "no heartbeat"
    GOODBYE = "said goodbye"


_P, _R, _ON, _SUS, _OFF = State.PENDING, State.REGISTERING, State.ONLINE, State.SUSPECT, State.OFFLINE

# A heartbeat does not clear a suspicion: an agent can live while its runtime hangs (requirement E2); only a probe does.
TRANSITIONS: dict[State, dict[Signal, State]] = {
    # Not offline when it goes: from there a heartbeat would bring it back as one that had been approved.
    _P: {Signal.APPROVED: _R},
    _R: {Signal.MODELS_PULLED: _ON, Signal.PULL_FAILED: _OFF, Signal.GOODBYE: _OFF, Signal.SILENT: _OFF},
    _ON: {
        Signal.REGISTERED: _R,
        Signal.REQUEST_FAILED: _SUS,
        Signal.PROBE_FAILED: _SUS,
        Signal.PULL_FAILED: _SUS,
        Signal.SILENT: _OFF,
        Signal.GOODBYE: _OFF,
    },
    _SUS: {
        Signal.REGISTERED: _R,
        Signal.PROBE_OK: _ON,
        Signal.MODELS_PULLED: _ON,
        Signal.PROBE_FAILED: _OFF,
        Signal.PULL_FAILED: _OFF,
        Signal.SILENT: _OFF,
        Signal.GOODBYE: _OFF,
    },
    _OFF: {Signal.REGISTERED: _R, Signal.HEARTBEAT: _R, Signal.PROBE_OK: _R},
}


def after(state: State, signal: Signal) -> State:
    """The state that follows; the same one where the table has no entry."""
    return TRANSITIONS[state].get(signal, state)
