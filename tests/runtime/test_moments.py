"""Moments of what linear operators read equal a direct computation from the states of the GRU."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxgru.calibration.moments import Moments
from onnxgru.core.errors import SchemeError
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize, require
from onnxgru.runtime.host import Host
from onnxgru.runtime.observation import Observation, calibrate, observe_moments
from tests import grus
from tests.pipeline import dataset

CASES = [
    grus.Case(direction=direction, linear_before_reset=reset, initial=initial, lengths=lengths)
    for direction in ("forward", "reverse", "bidirectional")
    for reset in (0, 1)
    for initial in (False, True)
    for lengths in (None, (5, 2, 0))
]


def observed(case: grus.Case, *batches: dict[str, np.ndarray]) -> Moments:
    model = ir.from_proto(grus.model(case))
    Normalize()(model)
    layers = require(recognize(model), "test")
    observation = Observation(model, layers)
    data = [dataset(Host(model, layers), inputs) for inputs in batches]
    calibration = calibrate(observation, layers, data, "0" * 64)
    return observe_moments(observation, layers, data, calibration)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def read(case: grus.Case, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows that linear operators read, from ONNX's own GRU: one sequence and step after another."""
    states = grus.run(grus.model(case), inputs)[0]
    start = inputs.get("initial_h", np.zeros((case.D, case.B, case.H), np.float32))
    arrays = grus.weights(case)
    rows: dict[str, list[np.ndarray]] = {}
    names = ("forward", "reverse") if case.D == 2 else (case.direction,)
    for index in range(case.D):
        name = names[index]
        back = name == "reverse"
        w, r = (np.split(arrays[key][index], 3)[1] for key in "WR")
        biases = np.split(arrays["B"][index], 6)
        for b in range(case.B):
            length = case.T if case.lengths is None else case.lengths[b]
            for t in range(length):
                before = t + 1 if back else t - 1
                inside = 0 <= before < length
                h = states[before, index, b] if inside else start[index, b]
                x = inputs["X"][t, b]
                reset = sigmoid(w @ x + r @ h + biases[1] + biases[4])
                for operand, row in (("input", x), ("state", h), ("new.reset", reset * h)):
                    rows.setdefault(f"/gru/{name}/{operand}", []).append(row)
    return {name: np.asarray(found, np.float64) for name, found in rows.items()}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_direct_computation(case: grus.Case) -> None:
    batches = [grus.feeds(case, seed) for seed in (1, 2)]
    found = observed(case, *batches)
    parts = [read(case, inputs) for inputs in batches]
    expected = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if case.linear_before_reset:
        expected = {n: rows for n, rows in expected.items() if not n.endswith("new.reset")}
    assert set(found.operands) == set(expected)
    for name, rows in expected.items():
        assert found.operands[name].count == len(rows)
        np.testing.assert_allclose(found.means[name], rows.mean(axis=0), rtol=0, atol=1e-4)
        second = rows.T @ rows / len(rows)
        np.testing.assert_allclose(found.seconds[name], second, rtol=0, atol=3e-4)


def test_batches_leave_no_trace() -> None:
    case = grus.Case(B=6, direction="bidirectional")
    whole = grus.feeds(case)
    parts = [{"X": part} for part in np.split(whole["X"], [1, 4], axis=1)]
    together, apart = observed(case, whole), observed(case, *parts)
    for name, moment in together.operands.items():
        assert (moment.product == apart.operands[name].product).all()
        assert (moment.sum == apart.operands[name].sum).all()


def test_moments_of_another_model_are_refused() -> None:
    case = grus.Case()
    found = observed(case, grus.feeds(case))
    model = ir.from_proto(grus.model(grus.Case(H=7)))
    Normalize()(model)
    layers = require(recognize(model), "test")
    found.require(require(recognize(ir.from_proto(grus.model(case))), "test"), "0" * 64, "m.npz")
    for other, digest in ((layers, "0" * 64), (layers[:0], "1" * 64)):
        with pytest.raises(
            SchemeError, match=r"m\.npz: must be the moments of this model .* delete"
        ):
            found.require(other, digest, "m.npz")
