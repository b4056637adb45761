"""States that stand still because every step is rounded away are found, and no others."""

from dataclasses import replace

import numpy as np
import pytest

from onnxgru.core.integers import Quantization
from onnxgru.core.scheme import Scheme
from onnxgru.runtime.observation import Observation, Standstill, compare
from tests import grus
from tests.badfiles import edited
from tests.pipeline import Pipeline, dataset, pipeline

CASE = grus.Case(T=120, B=4, H=6)
SLOW = 4
"""Units whose update gate is all but 1."""


def slow(direction: str = "forward") -> tuple[Pipeline, dict[str, np.ndarray]]:
    """Units that go to 0.9 in small steps, and two whose state follows the input."""
    case = replace(CASE, direction=direction)
    arrays = {name: np.zeros_like(a) for name, a in grus.weights(case).items()}
    gates = arrays["B"].reshape(case.D, 2, 3, case.H)
    gates[:, 0, 0, :SLOW] = 5.5  # z = 0.996
    gates[:, 0, 2, :SLOW] = 1.5  # n = 0.905
    arrays["W"].reshape(case.D, 3, case.H, case.I)[:, 2, SLOW:] = 0.5
    inputs = grus.feeds(case)
    return pipeline(edited(grus.model(case), **arrays), inputs), inputs


def stuck(made: Pipeline, scheme: Scheme, inputs: dict[str, np.ndarray]) -> dict[str, int]:
    found = compare(
        Observation(made.model, made.layers),
        made.host,
        made.lower(scheme),
        dataset(made.host, inputs),
    )
    assert set(found.sqnr) == {o.name for layer in made.layers for o in layer.operators}
    return found.stuck


def narrow(made: Pipeline, row: str, bits: int) -> Scheme:
    """Everything at 8 bits but one operator of all directions."""
    scheme = Scheme.uniform(made.layers, 8)
    names = [name for name in scheme.operators if name.endswith(row)]
    changed = {name: replace(scheme.operators[name], bits=bits) for name in names}
    return Scheme(scheme.inputs, {**scheme.operators, **changed})


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_slow_units_with_a_narrow_state_are_stuck(direction):
    made, inputs = slow(direction)
    directions = 2 if direction == "bidirectional" else 1
    assert stuck(made, narrow(made, "state.sum", 4), inputs) == {"/gru": SLOW * directions}
    assert stuck(made, Scheme.uniform(made.layers, 8), inputs) == {"/gru": 0}


def test_what_is_added_may_be_lost_in_its_own_quantisation():
    made, inputs = slow()
    assert stuck(made, narrow(made, "update.complement", 5), inputs) == {"/gru": SLOW}


def test_steps_beyond_a_sequence_do_not_count():
    """Two sequences of which only the second moves within its steps, and is stuck."""
    found = Standstill(Quantization(1.0, 0, 8), 1)
    exact = np.arange(6, dtype=np.float32).reshape(6, 1, 1).repeat(2, axis=1)
    codes = np.zeros((6, 2, 1), np.uint8)
    going = np.arange(6)[:, None] < np.asarray([2, 6])[None]
    codes[2:, 0] = 9
    found.update(exact, codes, going)
    assert (found._moved.tolist(), found._stood.tolist(), found.stuck) == ([1], [1], 1)
    found.update(exact, codes, None)  # the first one's codes move now
    assert (found._moved.tolist(), found._stood.tolist(), found.stuck) == ([3], [2], 1)
    found.update(exact[:, :1], codes[:, :1], None)
    assert (found._moved.tolist(), found._stood.tolist(), found.stuck) == ([4], [2], 0)


def test_a_state_beyond_its_range_is_not_stuck():
    found = Standstill(Quantization(0.125, 0, 4), 2)
    exact = np.linspace(2, 9, 5, dtype=np.float32).reshape(5, 1, 1) * np.asarray(
        [1, 0.001], np.float32
    )
    found.update(exact, np.full((5, 1, 2), 15, np.uint8), None)
    assert found.stuck == 0
