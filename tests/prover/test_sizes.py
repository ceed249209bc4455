"""The smallest batch that fits, and the registry's agreement with the table."""

import pytest

from proofbook.protocol.table import PRESETS, SIZES
from proofbook.prover.errors import CircuitError
from proofbook.prover.registry import load_circuits
from proofbook.prover.sizes import batch_circuit, choose_size, deployment_circuits, exit_circuit
from proofbook.prover.workspace import default_workspace


def fits(needed, size):
    return all(n <= o for n, o in zip(needed, (size.requests, size.actions, size.accounts, size.fees), strict=True))


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_smallest_size_that_fits_is_chosen(preset):
    small, *_, large = SIZES[preset]
    assert choose_size(preset, 0, 0, 1, 0) == 0
    rows = [small.requests, small.actions, small.accounts, small.fees]
    assert choose_size(preset, *rows) == 0
    limits = [large.requests, large.actions, large.accounts, large.fees]
    for kind, limit in enumerate(limits):
        more = [*rows]
        more[kind] += 1
        if more[kind] <= limit:
            chosen = choose_size(preset, *more)
            assert chosen > 0 and fits(more, SIZES[preset][chosen])
            assert not any(fits(more, size) for size in SIZES[preset][:chosen])
        more[kind] = limit + 1
        with pytest.raises(CircuitError) as caught:
            choose_size(preset, *more)
        assert caught.value.code == "circuit/size"


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_registry_has_every_size_of_the_table(preset):
    circuits = load_circuits(default_workspace())
    depths = (PRESETS[preset].account_depth, PRESETS[preset].order_depth)
    for size_id, size in enumerate(SIZES[preset]):
        entry = circuits[batch_circuit(preset, size_id)]
        rows = (size.requests, size.actions, size.accounts, size.fees)
        assert (entry.requests, entry.actions, entry.accounts, entry.fees) == rows
        assert entry.params == (*depths, *rows) and entry.public == ("C", "z", "y")
    assert circuits[exit_circuit(preset)].params == depths[:1]
    assert set(deployment_circuits(preset)) <= set(circuits)


def test_unknown_presets_and_sizes_are_refused():
    for call in (lambda: batch_circuit("minimal", 2), lambda: batch_circuit("x", 0), lambda: exit_circuit("x")):
        with pytest.raises(CircuitError) as caught:
            call()
        assert caught.value.code == "circuit/size"
    with pytest.raises(CircuitError):
        choose_size("x", 0, 0, 0, 0)
    with pytest.raises(CircuitError):
        batch_circuit("minimal", -1)
