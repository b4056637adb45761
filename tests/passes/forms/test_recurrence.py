"""The forms of a recurrence: what their graphs hold, and what is refused."""

import onnx
import pytest

from onnxgru.passes.forms.form import Form
from tests import grus
from tests.pipeline import pipeline
from tests.runtime.exact import to_step


def sizes(value: onnx.ValueInfoProto) -> list[int | str | None]:
    return [
        d.dim_value if d.HasField("dim_value") else d.dim_param or None
        for d in value.type.tensor_type.shape.dim
    ]


@pytest.mark.parametrize("named", [True, False])
def test_every_step_of_an_unrolled_graph_has_a_batch_that_is_known(named: bool) -> None:
    """onnxruntime loads long graphs slowly where it cannot tell that two sizes are equal."""
    cases = [grus.Case(I=3, H=6, seed=1), grus.Case(I=6, H=5, seed=2, direction="bidirectional")]
    message = grus.stacked(cases)
    if not named:
        for value in [*message.graph.input, *message.graph.output]:
            for size in value.type.tensor_type.shape.dim:
                size.ClearField("dim_param")
    model = pipeline(message, grus.feeds(cases[0]))
    emitted = model.emit(model.uniform(8), Form("unrolled", steps=4))
    assert 0 < len(emitted.graph.value_info) <= 6  # and nothing else is in the file
    assert not any(value.metadata_props for value in emitted.graph.value_info)
    inferred = onnx.shape_inference.infer_shapes(emitted)
    shapes = [sizes(value) for value in inferred.graph.value_info]
    steps = [shape for shape in shapes if len(shape) == 2 and shape[1] in (5, 6, 15, 18)]
    assert len(steps) > 300
    assert all(None not in shape for shape in steps)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_steps_read_the_input_themselves(direction: str) -> None:
    """Then the values of all steps are never in memory at once."""
    case = grus.Case(T=3, B=2, I=3, H=4, direction=direction, dynamic=False)
    model = pipeline(grus.model(case), grus.feeds(case))
    emitted = model.emit(model.uniform(8), Form("scan"))
    scans = [node for node in emitted.graph.node if node.op_type == "Scan"]
    assert len(scans) == case.D
    for scan in scans:
        (body,) = (attribute.g for attribute in scan.attribute if attribute.name == "body")
        assert [sizes(value) for value in body.input] == [[case.B, case.H], [case.B, case.I]]
    assert Form("step").whole and not Form("unrolled", steps=3).whole


@pytest.mark.parametrize("form", ["step", "unrolled"])
def test_factors_of_products_are_in_tables(form: str) -> None:
    """And products side by side are joined, which needs no Max behind it."""
    case = grus.Case(T=2, B=2, I=3, H=4, dynamic=False)
    model = pipeline(grus.model(case), grus.feeds(case))
    model = to_step(model) if form == "step" else model
    emitted = model.emit(model.uniform(8), Form(form))
    names = " ".join(node.name for node in emitted.graph.node)
    assert "/state.new/product" in names and "/state.new/scaled" not in names
    assert ("/integer" in names) == (form == "unrolled")
