"""The exit circuit refuses every input that is not the account's."""

from __future__ import annotations

from typing import Any

import pytest

from proofbook.prover.errors import WitnessError
from proofbook.prover.witness import exit_inputs

MISSING = "pick[h].out === nodes[h];"
ROOT = "root === found;"


@pytest.fixture
def claim(scene: Any, exit_circuit: Any, calculate: Any, forging: Any) -> Any:
    """Return a function that bends an honest exit of account 1 and says which line refuses it, "" if none."""

    def bent(**changes: Any) -> str:
        inputs = {**exit_inputs(scene.state, 1), **changes}
        try:
            calculate(exit_circuit, inputs)
        except WitnessError as error:
            assert error.code == "witness/unsatisfied", error
            line: str = forging.Refusal(str(error)).line
            return line
        return ""

    return bent


def test_m24_an_account_has_one_index(scene: Any, claim: Any) -> None:
    assert claim() == ""
    line = "signal bits[3 * depth] <== Num2Bits(3 * depth)(index);"
    for index in (1 + scene.state.preset.accounts, 1 + (1 << 24), 1 + (1 << 253)):
        assert claim(index=index) == line
    assert claim(index=2) == claim(index=2, path=scene.state.path(2)) == MISSING


def test_m24_an_exit_is_of_the_root(scene: Any, claim: Any) -> None:
    assert claim(root=scene.state.root + 1) == ROOT
    path = scene.state.path(1)
    path[1][5] += 1
    assert claim(path=path) == ROOT
    path = scene.state.path(1)
    path[0][3] += 1
    assert claim(path=path) == MISSING


def test_m24_what_is_paid_is_what_the_account_holds(scene: Any, claim: Any) -> None:
    account = scene.state.account(1)
    assert claim(owner=666) == MISSING
    assert claim(T=account.positions_words()[0] + 1) == MISSING
    assert claim(pub=[1, 2]) == claim(ordersRoot=7) == MISSING
    amounts = list(account.positions_words()[1])
    more = [*amounts[:-1], amounts[-1] + 1]
    assert claim(amounts=more) == "a4 === packed[4];"
    packed: Any = exit_inputs(scene.state, 1)["a4"]
    assert claim(a4=packed + 1) == "a4 === packed[4];"
    assert claim(a4=packed + (1 << 128), amounts=more) == MISSING
    for k in range(4):
        assert claim(**{f"a{k}": 1}) == f"a{k} === packed[{k}];"
    # The same packed amounts, split otherwise.
    other = [*amounts[:12], (1 << 64) + amounts[12], amounts[13] - 1, amounts[14]]
    assert claim(amounts=other) == "RangeChecks(POSITIONS(), AMOUNT_BITS())(amounts);"


def test_an_exit_of_another_account_with_its_own_data_is_its_own(scene: Any, claim: Any) -> None:
    assert claim(**exit_inputs(scene.state, 2)) == ""
