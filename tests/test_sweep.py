"""The generator draws what it promises, and a sample of its models comes out right."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.sweep import FORMS, judge
from tests import generator

pytestmark = pytest.mark.slow

PLANS = [generator.plan(seed) for seed in range(400)]
REFUSED = ("has no step form", "so that the step form would lose it")
CHOSEN = [plan.seed for plan in PLANS[:12]]


def test_everything_is_drawn_in_four_hundred_models() -> None:
    assert {p.opset for p in PLANS} == set(generator.OPSETS)
    assert {p.ir for p in PLANS} == set(generator.IR_VERSIONS)
    assert {p.dtype for p in PLANS} == set(generator.TYPES)
    assert {p.names for p in PLANS} == set(range(len(generator.NAMES)))
    assert {p.inner for p in PLANS} == set(generator.INNER)
    assert {p.axes for p in PLANS} == {"named", "own", "open", "fixed"}
    assert {p.end for p in PLANS} == {"states", "last", "both", "logits", "classes", "mean"}
    assert {p.side for p in PLANS} == {"", "scalar", "table"}
    assert {p.long_domain for p in PLANS} == {"", "ai.onnx", "both"}
    layers = [layer for p in PLANS for layer in p.layers]
    assert {layer.initial for layer in layers} == {"", "input", "constant", "zero", "learned"}
    assert {layer.activations for layer in layers} == {None, *range(len(generator.ACTIVATIONS))}
    for name in ("layout", "lengths", "reset_after", "bias", "folded"):
        assert {bool(getattr(layer, name)) for layer in layers} == {False, True}
    assert {layer.direction for layer in layers} == {"forward", "reverse", "bidirectional"}
    assert {kind for p in PLANS for kind in p.between} == {
        "codes", "dense", "normalised", "residual", "concatenated",
    }  # fmt: skip


def test_models_are_valid_and_the_same_every_time() -> None:
    for seed in range(0, 40, 4):
        sample, again = generator.draw(seed), generator.draw(seed)
        onnx.checker.check_model(sample.model, full_check=True)
        assert sample.model.SerializeToString() == again.model.SerializeToString()
        for name, array in sample.inputs.items():
            np.testing.assert_array_equal(array, again.inputs[name])
            assert all(len(chunk[name]) for chunk in sample.chunks() if array.ndim)


@pytest.mark.parametrize(
    ("seed", "form"), [(seed, FORMS[index % 3]) for index, seed in enumerate(CHOSEN)]
)
def test_a_sample_comes_out_right(seed: int, form: str, tmp_path: Path) -> None:
    outcome = judge(generator.draw(seed), form, tmp_path)
    if form == "step" and outcome.kind == "refused":
        assert any(sentence in outcome.text for sentence in REFUSED), outcome.text
    else:
        assert outcome.kind == "right", outcome.text
