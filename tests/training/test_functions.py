"""Every activation in torch equals its NumPy formula, and its gradient the formula's slope."""

import numpy as np
import pytest

from onnxgru.core.activations import FORMS, Activation
from onnxgru.training.functions import apply

torch = pytest.importorskip("torch")

X = np.linspace(-30, 30, 2001) + 1e-4


@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize("name", FORMS)
def test_function_and_slope(name, clip):
    for alpha, beta in ((0.3, 0.6), (1.7, -0.4)):
        function = Activation(name, alpha, beta, clip)
        x = torch.from_numpy(X).requires_grad_()
        found = apply(function, x)
        np.testing.assert_allclose(found.detach().numpy(), function(X), rtol=1e-8, atol=1e-8)
        found.sum().backward()
        slope = (function(X + 1e-6) - function(X - 1e-6)) / 2e-6
        np.testing.assert_allclose(x.grad.numpy(), slope, atol=1e-6)


@pytest.mark.parametrize("name", FORMS)
def test_function_at_zero(name):
    """Where many formulas have their kink."""
    function = Activation(name, 0.3, 0.6)
    found = apply(function, torch.zeros(1, dtype=torch.float64))
    assert found.item() == pytest.approx(float(function(np.zeros(1))[0]), abs=1e-12)
