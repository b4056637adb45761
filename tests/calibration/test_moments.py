"""Moments: exact in whole quanta, whatever the order, and the same after a file."""

import numpy as np
import pytest

from onnxgru.calibration import moments
from onnxgru.calibration.moments import Moment, Moments
from onnxgru.core.errors import SchemeError

DIGEST = "ab" * 32


def drawn(count: int = 3000, features: int = 5, size: float = 1.0) -> np.ndarray:
    generator = np.random.default_rng(3)
    mixed = generator.standard_normal((count, features)) @ generator.normal(size=(features,) * 2)
    return (size * (mixed + 0.3)).astype(np.float32)


def seen(*parts: np.ndarray, minimum: float = -9.0, maximum: float = 9.0) -> Moment:
    moment = Moment.of_extremes(parts[0].shape[-1], minimum, maximum)
    for part in parts:
        moment.update(part)
    return moment


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_moments_are_those_of_the_values(size: float) -> None:
    values = drawn(size=size)
    moment = seen(values, minimum=float(values.min()), maximum=float(values.max()))
    wide = values.astype(np.float64) / size
    np.testing.assert_allclose(moment.mean / size, wide.mean(axis=0), rtol=0, atol=1e-5)
    second = wide.T @ wide / len(wide)
    distance = np.abs(moment.second / size**2 - second).max()
    assert distance < 1e-4 * np.abs(second).max()
    assert moment.count == len(values)


def test_order_and_batches_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    values = drawn()
    whole = seen(values)
    shuffled = np.random.default_rng(0).permutation(values)
    monkeypatch.setattr(moments, "ROWS", 70)
    parts = seen(*np.array_split(shuffled, [1, 500, 501]), values[:0])
    assert (parts.count, parts.exponent) == (whole.count, whole.exponent)
    assert (parts.sum == whole.sum).all() and (parts.product == whole.product).all()
    quanta = np.rint(np.ldexp(values.astype(np.float64), -whole.exponent)).astype(np.int64)
    assert (whole.product == quanta.T @ quanta).all()


def test_largest_value_is_as_fine_as_said() -> None:
    moment = seen(np.asarray([[3.0], [-5.0]], np.float32), minimum=-5.0, maximum=3.0)
    assert 2 ** (moments.PRECISION - 1) < 5.0 / 2.0**moment.exponent <= 2**moments.PRECISION


def test_nothing_seen_is_all_zeros() -> None:
    moment = Moment.of_extremes(3, 0.0, 0.0)
    assert not moment.mean.any() and not moment.second.any()


def test_file_holds_the_same_bits(tmp_path) -> None:
    found = Moments({"/gru/forward/input": seen(drawn()), "b": seen(drawn(9, 2))}, DIGEST)
    path = tmp_path / "moments.npz"
    path.write_bytes(found.dumps())
    again = Moments.load(path)
    assert again.dumps() == found.dumps() and again.model == DIGEST
    for name, second in found.seconds.items():
        assert (again.seconds[name] == second).all() and (
            again.means[name] == found.means[name]
        ).all()


@pytest.mark.parametrize("content", ["missing", b"", b"PK\x03\x04 no", "format", "part"])
def test_other_files_are_refused(tmp_path, content) -> None:
    path = tmp_path / "moments.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content != "missing":
        path.write_bytes(Moments({"a": seen(drawn(9, 2))}, DIGEST).dumps())
        with np.load(path) as stored:
            arrays = dict(stored)
        if content == "format":
            arrays["format"] = np.asarray("onnxgru.moments/0")
        else:
            del arrays["a:sum"]
        np.savez(path, **arrays)
    with pytest.raises(SchemeError, match=r"moments\.npz: must be moments in the format .*again"):
        Moments.load(path)
