"""GPTQ: less error on what is read, with the same codes and scales as plain rounding may have."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from onnxgru.core.choices import GRANULARITIES, WIDTHS
from onnxgru.core.integers import WeightType
from onnxgru.core.weights import SPREAD, Rounded
from onnxgru.rounding import gptq
from onnxgru.rounding.gptq import Gptq
from onnxgru.rounding.nearest import Nearest
from tests.rounding.networks import Network, network

pytestmark = pytest.mark.slow


def error(net: Network, name: str, weight: np.ndarray, found: Rounded) -> float:
    """E|(W - S q_W) x|^2 over the samples."""
    left = weight - found.scales[:, None].astype(np.float64) * found.codes
    return float(np.square(net.samples[name] @ left.T).sum(axis=1).mean())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", WIDTHS)
def test_less_error_than_nearest(bits: int, granularity: str, seed: int) -> None:
    net = network(seed)
    plain, ours = Nearest((net.layer,)), Gptq((net.layer,), net.seconds)
    for operator in net.linear:
        weight, name = operator.weight, operator.inputs[0]
        before, after = (
            error(net, name, weight, method(net.recurrence, operator, granularity, bits))
            for method in (plain, ours)
        )
        assert after < (0.7 if bits <= 4 else 0.9) * before


@pytest.mark.parametrize("bits", WIDTHS)
def test_uncorrelated_inputs_round_to_the_nearest(bits: int) -> None:
    net = network(0)
    ones = {name: np.eye(rows.shape[1]) for name, rows in net.samples.items()}
    plain, ours = Nearest((net.layer,)), Gptq((net.layer,), ones)
    for operator in net.linear:
        for granularity in GRANULARITIES:
            a, b = (method(net.recurrence, operator, granularity, bits) for method in (plain, ours))
            assert (a.codes == b.codes).all() and (a.scales == b.scales).all()
            assert (a.bias == b.bias).all()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", WIDTHS)
def test_codes_and_scales_keep_their_limits(bits: int, granularity: str) -> None:
    net = network(1)
    ours = Gptq((net.layer,), net.seconds)
    top = WeightType(bits).maximum
    scales = {}
    for operator in net.linear:
        weight, bias = operator.weight, operator.bias
        found = ours(net.recurrence, operator, granularity, bits)
        assert found.codes.dtype == np.int8 and found.scales.dtype == np.float32
        largest = int(np.abs(found.codes).max())
        # A scale of the whole matrix may be another operator's.
        assert largest <= top if granularity == "tensor" else largest == top
        assert found.scales.max() / found.scales.min() <= SPREAD * (1 + 1e-6)
        assert (found.scales * top <= np.abs(weight).max() * (1 + 1e-6)).all() or (
            granularity == "tensor"
        )
        assert len(set(found.scales.tolist())) == (len(weight) if granularity == "channel" else 1)
        scales.setdefault(operator.matrix, set()).update(found.scales.tolist())
        floor = np.full(len(weight), 2.0 * float(found.scales.max()))
        wider = ours(net.recurrence, operator, granularity, bits, floor)
        assert (wider.scales >= floor.astype(np.float32)).all()
        assert (found.bias == bias).all()
    if granularity == "tensor":
        assert all(len(found) == 1 for found in scales.values())


def test_dead_and_equal_inputs() -> None:
    """Zeros on the diagonal, none but zeros, and a singular matrix."""
    net = network(2)
    name = net.recurrence.input
    dead = net.samples[name].copy()
    dead[:, 3:7] = 0.0
    equal = net.samples[name].copy()
    equal[:, 5] = equal[:, 6]
    operator = net.linear[0]
    weight = operator.weight
    plain = Nearest((net.layer,))(net.recurrence, operator, "channel", 3)
    for rows in (dead, equal, np.zeros_like(dead)):
        samples = net.samples | {name: rows}
        seconds = {n: r.T @ r / len(r) for n, r in samples.items()}
        found = Gptq((net.layer,), seconds)(net.recurrence, operator, "channel", 3)
        changed = Network(net.layer, samples)
        before, after = error(changed, name, weight, plain), error(changed, name, weight, found)
        assert after < before or not rows.any()
        left = np.abs(weight - found.scales[:, None] * found.codes)
        inside = np.abs(weight) <= 3 * found.scales[:, None]
        silent = ~rows.any(axis=0)
        # What reads nothing is rounded by itself, to be right if it is ever read.
        assert (left <= found.scales[:, None] * 0.5001)[inside & silent].all()


def test_rows_without_weights() -> None:
    net = network(0)
    operator = net.linear[0]
    weight = operator.weight.copy()
    weight[2] = 0
    weight[5] *= 1e-30
    object.__setattr__(operator, "weight", weight)
    found = Gptq((net.layer,), net.seconds)(net.recurrence, operator, "channel", 4)
    assert not found.codes[2].any() and not found.codes[5].any()
    assert np.isfinite(found.scales).all()


def test_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from another instance, in another order, and when the grid is rounded in other parts."""
    net = network(1)
    tasks = [(o, g, b) for o in net.linear for g in GRANULARITIES for b in (2, 5)]
    first, second = (Gptq((net.layer,), net.seconds) for _ in range(2))
    before = [first(net.recurrence, *task) for task in tasks]
    monkeypatch.setattr(gptq, "ROWS", 1000)
    after = [second(net.recurrence, *task) for task in reversed(tasks)][::-1]
    for a, b in zip(before, after, strict=True):
        assert (a.codes == b.codes).all() and (a.scales == b.scales).all()


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("size", [1, 31, 33, 100])
def test_errors_are_those_of_the_codes(size: int, bits: int) -> None:
    """What is summed on the way equals e H e^T, in every number of blocks."""
    generator = np.random.default_rng(size)
    rows = generator.standard_normal((3 * size, size)) @ generator.standard_normal((size, size))
    second = rows.T @ rows / len(rows)
    order, upper = gptq.factor(second)
    damped = second + gptq.DAMPING * np.diag(second).mean() * np.eye(size)
    np.testing.assert_allclose(
        upper.T @ upper @ damped[np.ix_(order, order)], np.eye(size), rtol=0, atol=1e-6
    )
    weight = generator.standard_normal((7, size))
    scales = generator.uniform(0.2, 0.5, 7)
    codes, errors = gptq.rounded(weight.T[order], scales, upper, WeightType(bits))
    left = weight[:, order] - scales[:, None] * codes.T
    expected = ((left @ damped[np.ix_(order, order)]) * left).sum(axis=1)
    np.testing.assert_allclose(errors, expected, rtol=1e-6)


DIGEST = """
import hashlib
import numpy as np
from onnxgru.core.integers import WeightType
from onnxgru.rounding import gptq

found = hashlib.sha256()
generator = np.random.default_rng(0)
for inputs, rows in ((5, 70), (28, 96), (64, 192)):
    read = generator.integers(-1000, 1000, (200, inputs)).astype(np.float64)
    read[:, 1:] += read[:, :-1]
    second = sum(row[:, None] * row[None, :] for row in read)
    order, upper = gptq.factor(second)
    scales = 0.2 + 0.1 * generator.random(rows)
    for bits in (2, 3):
        columns = generator.standard_normal((inputs, rows))
        for array in (order, upper, *gptq.rounded(columns, scales, upper, WeightType(bits))):
            found.update(array.tobytes())
print(found.hexdigest())
"""
PROCESSORS = {
    "this one": {},
    "any": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    "with fused multiply-add": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for x86-64 processors")
def test_processors_round_alike(tmp_path):
    digests = set()
    for name, variables in PROCESSORS.items():
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / name)} | variables
        done = subprocess.run(
            [sys.executable, "-c", DIGEST],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1
