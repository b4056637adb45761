"""Bias correction: the mean of what is computed is that of the float model."""

import numpy as np
import pytest

from onnxgru.core.choices import GRANULARITIES
from onnxgru.rounding.bias import BiasCorrection
from onnxgru.rounding.gptq import Gptq
from onnxgru.rounding.nearest import Nearest
from tests.rounding.networks import network


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("method", ["nearest", "gptq"])
def test_mean_error_is_none(method: str, granularity: str) -> None:
    net = network(0)
    layers = (net.layer,)
    plain = Nearest(layers) if method == "nearest" else Gptq(layers, net.seconds)
    corrected = BiasCorrection(plain, net.means)
    for operator in net.linear:
        weight, bias = operator.weight, operator.bias
        rows = net.samples[operator.inputs[0]]
        exact = rows @ weight.T + bias
        distances = []
        for rounding in (plain, corrected):
            found = rounding(net.recurrence, operator, granularity, 3)
            quantised = found.scales[:, None].astype(np.float64) * found.codes
            distances.append(np.abs((exact - rows @ quantised.T - found.bias).mean(axis=0)))
        before, after = distances
        assert after.max() < 1e-5 and before.max() > 0.01


def test_codes_and_scales_stay() -> None:
    net = network(1)
    plain = Nearest((net.layer,))
    operator = net.linear[0]
    least = np.full(operator.width, 0.3)
    a, b = (
        rounding(net.recurrence, operator, "gate", 4, least)
        for rounding in (plain, BiasCorrection(plain, net.means))
    )
    assert (a.codes == b.codes).all() and (a.scales == b.scales).all()
    assert a.bias.dtype == b.bias.dtype == np.float32 and (a.scales == np.float32(0.3)).all()
