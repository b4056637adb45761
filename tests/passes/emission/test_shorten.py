"""Short names of numbers."""

import numpy as np
import onnx_ir as ir

from onnxgru.passes.emission import shorten
from onnxgru.passes.emission.shorten import Shorten
from onnxgru.passes.graph import source
from tests import grus
from tests.pipeline import pipeline


def test_names() -> None:
    assert shorten.short("onnxgru/axes/3_16") == "#[3,16]"
    assert shorten.short("onnxgru/axes/-1") == "#[-1]"
    assert shorten.short("onnxgru/-1") == "#-1"


def test_only_numbers_of_ours_get_short_names_that_are_free() -> None:
    case = grus.Case(T=2, B=1, I=2, H=2)
    made = pipeline(grus.model(case), grus.feeds(case))
    flat = made.emit(made.uniform(4, observer="minmax"))
    flat.graph.initializer[0].name, old = "#15", flat.graph.initializer[0].name
    for node in flat.graph.node:
        node.input[:] = ["#15" if name == old else name for name in node.input]
    model = ir.from_proto(flat)
    assert Shorten()(model).modified
    names = set(model.graph.initializers)
    assert not any(name.startswith("onnxgru/") for name in names)
    assert {"#15", "#15_0", "/gru/forward/reset.input/weight"} <= names
    expected, found = (grus.run(m, grus.feeds(case)) for m in (flat, source.proto(model)))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
