"""One node's health."""

import pytest

from llm_router.core.health import TRANSITIONS, Signal, State, after

USABLE = {State.ONLINE, State.SUSPECT}


def test_every_state_has_its_row() -> None:
    """No state is forgotten in the table."""
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("state", set(State) - {State.PENDING})
def test_goodbye_and_silence_end_in_offline(state: State) -> None:
    """Requirement A5: whatever it was doing, a node that is gone is offline."""
    assert after(state, Signal.GOODBYE) is State.OFFLINE
    assert after(state, Signal.SILENT) is State.OFFLINE


def test_one_failed_request_takes_a_node_out_of_rotation() -> None:
    """Requirement E1: out at the first failure, and offline if a probe fails as well."""
    suspect = after(State.ONLINE, Signal.REQUEST_FAILED)
    assert suspect is State.SUSPECT
    assert after(suspect, Signal.PROBE_FAILED) is State.OFFLINE


def test_only_a_probe_clears_a_suspicion() -> None:
    """Requirement E2: an agent can live while its runtime hangs, so its heartbeat proves nothing."""
    assert after(State.SUSPECT, Signal.HEARTBEAT) is State.SUSPECT
    assert after(State.SUSPECT, Signal.PROBE_OK) is State.ONLINE


@pytest.mark.parametrize("signal", [Signal.REGISTERED, Signal.HEARTBEAT, Signal.PROBE_OK])
def test_a_node_comes_back_by_having_its_models_pulled(signal: Signal) -> None:
    """Requirements C9 and E3: no way leads from offline to online past a fresh list of models."""
    assert after(State.OFFLINE, signal) is State.REGISTERING
    assert after(State.REGISTERING, Signal.MODELS_PULLED) is State.ONLINE


@pytest.mark.parametrize("signal", Signal)
def test_nothing_leads_from_offline_or_pending_straight_into_rotation(signal: Signal) -> None:
    """A late answer to a probe does not revive a node that said goodbye meanwhile."""
    assert after(State.OFFLINE, signal) not in USABLE
    assert after(State.PENDING, signal) not in USABLE


def test_a_node_that_awaits_approval_waits_for_that_alone() -> None:
    """Requirement A10: neither heartbeats nor registrations, nor going and coming back, let in whom nobody approved."""
    assert {s for s in Signal if after(State.PENDING, s) is not State.PENDING} == {Signal.APPROVED}
    assert after(State.PENDING, Signal.APPROVED) is State.REGISTERING
