"""How busy a machine is (requirement D1)."""

from llm_router.node.hardware.load import Mean


def test_a_spike_is_no_load() -> None:
    """Two busy seconds do not make a machine one that is left alone (D1), however often it is asked in them."""
    cpu = Mean(0.0)
    cpu.add(10.0, 15.0)
    assert [cpu.add(100.0, 15.0 + i / 4) for i in range(1, 9)][-1] == 22.0


def test_lasting_load_shows() -> None:
    """A machine that is busy shows as busy after three heartbeats, and as idle again after three more."""
    cpu = Mean(0.0)
    assert [cpu.add(90.0, now) for now in (5.0, 10.0, 15.0, 20.0)] == [30.0, 60.0, 90.0, 90.0]
    assert [cpu.add(0.0, now) for now in (25.0, 30.0, 35.0)] == [60.0, 30.0, 0.0]
