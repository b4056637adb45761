"""Recurrences written out in a Scan or Loop become layers that compute the same."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from onnxgru.core.cells import CELLS
from onnxgru.passes.graph import source
from onnxgru.passes.graph.description import CELL
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import Recognition, recognize
from tests import grus, scans
from tests.passes.emission.test_decompose import TOLERANCE, decompose, distance

TABLES = {
    "ligru": "ligru",
    "gru": "gru.reset_after",
    "gru_before": "gru.reset_before",
    "lstm": "lstm",
    "rnn": "rnn",
    "sru": "sru.activation.highway",
    "sru_plain": "sru.highway",
    "sru_outside": "sru.activation.highway",
    "sru_bare": "sru",
}


def found(message: onnx.ModelProto) -> tuple[ir.Model, Recognition]:
    model = ir.from_proto(message)
    Normalize()(model)
    return model, recognize(model)


@pytest.mark.parametrize("name", scans.BODIES)
@pytest.mark.parametrize(("reverse", "initial"), [(False, True), (True, False)])
def test_floats_are_those_of_onnxruntime(name: str, reverse: bool, initial: bool) -> None:
    message = scans.model(scans.BODIES[name], reverse=reverse, initial=initial)
    inputs = scans.feeds(message)
    wanted = grus.run(message, inputs)
    model, recognition = found(message)
    assert not recognition.refusals
    (layer,) = recognition.layers
    assert layer.recurrences[0].reverse == reverse
    assert (layer.ports.initial != {}) == initial
    assert distance(wanted, grus.run(source.proto(model), inputs)) < TOLERANCE
    assert distance(wanted, grus.run(decompose(message), inputs)) < TOLERANCE


@pytest.mark.parametrize("name", TABLES)
def test_known_cells_have_their_tables(name: str) -> None:
    _, recognition = found(scans.model(scans.BODIES[name]))
    assert recognition.layers[0].cell is CELLS[TABLES[name]]
    assert recognition.layers[0].attributes["operator"] == "Scan"


def test_the_normal_form_is_stable() -> None:
    model, once = found(scans.model(scans.LSTM))
    again, twice = found(ir.to_proto(model))
    assert once.layers[0].cell == twice.layers[0].cell
    assert once.layers[0].ports == twice.layers[0].ports
    for before, after in zip(once.layers[0].linears, twice.layers[0].linears, strict=True):
        np.testing.assert_array_equal(before.weight, after.weight)
        np.testing.assert_array_equal(before.bias, after.bias)
    assert not Normalize()(again).modified


def test_other_cells_get_readable_names_and_equal_tables_are_equal() -> None:
    first, second = (found(scans.model(scans.ODD, reverse=r))[1].layers[0] for r in (False, True))
    assert first.cell == second.cell
    assert first.cell.name.startswith("body.")
    assert [row.name for row in first.cell.rows] == [
        "new.input",
        "new.hidden",
        "new.sum",
        "new.gate",
        "gate.gate",
        "state.line2",
        "state.new",
        "state.line",
        "state.sum",
        "state.line3",
        "output.leakyrelu",
    ]
    low = found(scans.model(scans.LOW_RANK))[1].layers[0].cell
    assert [row.name for row in low.rows] == [
        "new2.input2",
        "new2.input",
        "new.hidden",
        "new.gate",
        "new2.hidden",
        "new2.sum",
        "new2.gate",
    ]


def test_graphs_of_our_own_are_not_read_again() -> None:
    message = scans.model(scans.LIGRU)
    entry = message.metadata_props.add()
    entry.key, entry.value = "onnxgru.version", "1.2.3"
    model, recognition = found(message)
    assert not recognition.layers
    assert recognition.nothing.startswith("was written by onnxgru 1.2.3 and is quantised already")
    assert not any(CELL in node.metadata_props for node in model.graph)


@pytest.mark.parametrize("name", [n for n in scans.BODIES if n != "low_rank"])
@pytest.mark.parametrize("reverse", [False, True])
def test_products_before_the_recurrence_belong_to_the_cell(name: str, reverse: bool) -> None:
    """The decomposed graph has them there, one for every gate; one product after another stays."""
    message = scans.model(scans.BODIES[name], reverse=reverse)
    inputs = scans.feeds(message)
    model, recognition = found(decompose(message))
    (layer,) = recognition.layers
    assert layer.input_size == scans.BODIES[name].width
    assert layer.cell == found(message)[1].layers[0].cell
    assert distance(grus.run(message, inputs), grus.run(source.proto(model), inputs)) < TOLERANCE


def test_a_first_value_may_be_constant() -> None:
    message = scans.model(scans.RNN)
    (given,) = [v for v in message.graph.input if v.name == "first_h"]
    message.graph.input.remove(given)
    array = np.full((scans.B, scans.H), 0.5, np.float32)
    message.graph.initializer.append(numpy_helper.from_array(array, "first_h"))
    inputs = scans.feeds(message)
    model, recognition = found(message)
    (name,) = recognition.layers[0].ports.initial.values()
    np.testing.assert_array_equal(model.graph.initializers[name].const_value.numpy(), array[None])
    again = ir.from_proto(ir.to_proto(model))
    assert not Normalize()(again).modified
    assert distance(grus.run(message, inputs), grus.run(decompose(message), inputs)) < TOLERANCE
