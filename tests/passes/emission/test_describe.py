"""Graph inputs and outputs say what their numbers are, and nodes what they compute."""

import re

import onnx
import pytest
from onnx import helper

import onnxgru
from onnxgru.events import silent
from tests import grus

CASE = grus.Case(T=3, B=2, I=3, H=4)
GRID = r"codes of \d bits, scale [\d.e-]+, zero point \d+"


def nodes(graph: onnx.GraphProto):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def written(place, **settings) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The integer and the annotated graph of a layer with a float operator behind it."""
    model = grus.model(CASE)
    model.graph.input[0].doc_string = "Sensor values."
    model.graph.node.append(helper.make_node("Relu", ["Y_h"], ["relu"], name="relu"))
    relu = helper.make_tensor_value_info("relu", onnx.TensorProto.FLOAT, [1, "B", CASE.H])
    model.graph.output.append(relu)
    onnx.save(model, place / "m.onnx")
    folder = onnxgru.quantize(
        place / "m.onnx", bits=4, calibration=grus.feeds(CASE), output=place / "o", listener=silent,
        **settings,
    ).folder  # fmt: skip
    return onnx.load(folder / "integer.onnx"), onnx.load(folder / "annotated.onnx")


@pytest.mark.parametrize("profile", ["onnxruntime", "plain"])
def test_graphs_explain_themselves(tmp_path, profile):
    integer, annotated = written(tmp_path, profile=profile)
    for message in (integer, annotated):
        told = {v.name: v.doc_string for v in (*message.graph.input, *message.graph.output)}
        assert re.fullmatch(f"Sensor values. Layer /gru rounds these numbers to {GRID}.", told["X"])
        for name in ("Y", "Y_h"):
            assert re.fullmatch(f"Layer /gru gives these numbers, from {GRID}.", told[name])
        assert told["relu"] == "Computed outside of the quantised layers."
        assert all(told.values())
    # What computes parameters has no name of its own; everything on the data's way has one.
    moving = {value.name for value in integer.graph.input}
    for node in nodes(integer.graph):
        for attribute in node.attribute:
            moving |= {value.name for value in attribute.g.input}
        if moving & {*node.input}:
            moving |= {*node.output}
            assert re.search("/[a-z]{2}", node.name) or node.op_type in ("Cast", "Relu"), node
        assert not node.name or re.search("[a-z]{2}", node.name), node
