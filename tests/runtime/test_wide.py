"""A carry with wide codes, the cell state of an LSTM: the same codes everywhere.

Its cell state, and what is added up to it, have 16 bits; then its hidden state too, which matrix
products read, or other values here and there, with peepholes that read the cell state.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru.core.cells import STATE
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.cost.account import account
from onnxgru.events import silent
from onnxgru.passes.forms.form import Form
from onnxgru.passes.forms.recurrence import last_name
from onnxgru.passes.graph import source
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.population import PopulationEngine
from onnxgru.runtime.verify import oracle_engine
from tests import grus
from tests.pipeline import Pipeline, dataset, first_job
from tests.runtime.exact import RUNTIMES, made, require_exact, to_step

pytestmark = pytest.mark.slow

CELL = ("cell.keep", "cell.new", "cell.sum")
STATES = (*CELL, "state.output")
MIXED = ("cell.sum", "cell.activation", "output.gate", "new.sum", "new.hidden", "input.peephole")
PLAIN = grus.Case(operator="LSTM", outputs=("Y", "Y_h", "Y_c"))
WHOLE = replace(PLAIN, direction="bidirectional", initial=True, lengths=(5, 2, 0), peepholes=True)
SOME = [
    n
    for n in RUNTIMES
    if n in ("onnxruntime (disabled)", "onnxruntime (all)", "OpenVINO", "onnx.reference")
]


def wide(model: Pipeline, bits: int, rows: tuple[str, ...], input_bits: int = 8) -> IntegerProgram:
    """Everything has `bits`, but the results of some rows have 16."""
    return model.lower(wide_scheme(model, bits, rows, input_bits))


def wide_scheme(model: Pipeline, bits: int, rows: tuple[str, ...], input_bits: int = 8) -> Scheme:
    """The scheme of that."""
    scheme = Scheme.uniform(model.layers, bits, input_bits=input_bits, cell_state="plain")
    operators = {
        operator.name: replace(scheme.operators[operator.name], bits=16)
        for layer in model.layers
        for operator in layer.operators
        if operator.row in rows
    }
    return replace(scheme, operators={**scheme.operators, **operators})


@pytest.mark.parametrize("name", SOME)
def test_integers_are_the_oracles(name: str) -> None:
    model, inputs = made(PLAIN)
    program = wide(model, 8, CELL)
    expected = require_exact(model, program, inputs, names=(name,))
    require_exact(model, program, inputs, Form("unrolled", steps=PLAIN.T), names=(name,))
    (states,) = expected.states.values()
    assert (states.y.dtype, states.last["cell"].dtype) == (np.uint8, np.uint16)


@pytest.mark.parametrize("rows", [STATES, MIXED], ids=["states", "mixed"])
def test_matrix_products_read_them_too(rows: tuple[str, ...]) -> None:
    """With two directions, first values and lengths."""
    model, inputs = made(WHOLE)
    program = wide(model, 8, rows, 16 if rows == MIXED else 8)
    names = [name for name in RUNTIMES if name in ("onnxruntime (all)", "OpenVINO")]
    expected = require_exact(model, program, inputs, names=names)
    (states,) = expected.states.values()
    assert states.y.dtype == (np.uint16 if rows == STATES else np.uint8)


def test_evaluators_are_the_oracle() -> None:
    torch = pytest.importorskip("torch")
    model, inputs = made(WHOLE)
    programs = [
        wide(model, 8, CELL),
        wide(model, 5, ()),
        wide(model, 3, STATES),
        wide(model, 4, CELL),
    ]
    layers = [program.layers[0] for program in programs]
    jobs = [first_job(model, layer, inputs) for layer in layers]
    together = PopulationEngine(layers, torch.device("cpu"))(
        [job.x for job in jobs], [job.initial for job in jobs], [job.lengths for job in jobs]
    )
    for layer, job, (y, last) in zip(layers, jobs, together, strict=True):
        wanted = oracle_engine(layer)(job.x, job.initial, job.lengths, trace=True)
        plain, fused = (
            engine(job.x, job.initial, job.lengths)
            for engine in (LayerEvaluator(layer), FusedEngine(layer))
        )
        for found in (plain.y, fused.y, y):
            np.testing.assert_array_equal(found, wanted.y)
            assert found is not None and found.dtype == wanted.y.dtype
        for carry, codes in wanted.last.items():
            for carried in (plain.last, fused.last, last):
                np.testing.assert_array_equal(carried[carry], codes)
                assert carried[carry].dtype == layer.carried(carry).type.container
        traced = LayerEvaluator(layer)(job.x, job.initial, job.lengths, trace=True).trace
        assert traced.keys() == wanted.trace.keys()
        for name, codes in traced.items():
            np.testing.assert_array_equal(codes, wanted.trace[name])


@pytest.mark.parametrize("name", SOME[1:])
def test_the_step_form_hands_on_two_bytes(name: str) -> None:
    from onnxgru.runtime.sessions import runtimes

    model, inputs = made(PLAIN)
    program = wide(model, 8, CELL)
    message = to_step(model).emit(program, Form("step"))
    types = [value.type.tensor_type.elem_type for value in message.graph.input]
    assert types[1:] == [onnx.TensorProto.UINT8, onnx.TensorProto.UINT16]
    (layer,) = program.layers
    job = first_job(model, layer, inputs)
    wanted = oracle_engine(layer)(job.x, job.initial, job.lengths, trace=False)
    run = runtimes()[name](message)
    names = [value.name for value in message.graph.input]
    following = [value.name for value in message.graph.output][-2:]
    carried = [np.full((PLAIN.B, PLAIN.H), layer.carried(carry).zero) for carry in (STATE, "cell")]
    for t in range(PLAIN.T):
        found = run(dict(zip(names, [inputs["X"][t : t + 1], *carried], strict=True)))
        carried = [found[output] for output in following]
        np.testing.assert_array_equal(carried[0], wanted.y[t, 0])
    np.testing.assert_array_equal(carried[1], wanted.last["cell"][0])
    assert carried[1].dtype == np.uint16
    assert last_name(layer, "cell") == "y_h/cell"


def test_two_bytes_are_counted() -> None:
    model, _ = made(PLAIN)
    plain, cell = account(wide(model, 8, ())), account(wide(model, 8, CELL))
    curve = 2 * (2**8 + 2) + 2 + 1
    assert cell.flash["table"] - plain.flash["table"] == curve - 256
    assert cell.flash["zero_point"] - plain.flash["zero_point"] == 3
    assert cell.ram - plain.ram == PLAIN.H  # the carry alone: the rest stays in registers


def test_training_follows_the_program() -> None:
    """In torch, values are rounded to 65,536 codes too, and functions of them are tables."""
    pytest.importorskip("torch")
    from onnxgru.training.finetune import Finetuning, FinetuningSettings

    model, inputs = made(PLAIN)
    scheme = wide_scheme(model, 8, CELL)
    program = model.lower(scheme)
    data = dataset(model.host, inputs)
    values = Evaluator(model.host, data).outputs(program)
    for output, carry, codes in (("Y_c", "cell", 600), ("Y_h", STATE, 3)):
        twin = Finetuning(
            source.proto(model.model), model.layers, program, scheme, output,
            model.host.interface.outputs[output], FinetuningSettings(),
        )  # fmt: skip
        distance = np.abs(twin.outputs(data) - values[output])
        assert distance.max() < codes * program.layers[0].carried(carry).scale
    (layer,) = twin._layers
    assert layer.grid(layer.plans[0]).container == np.uint16


def test_the_annotated_graph_has_opset_21(tmp_path: Path) -> None:
    """And its codes are uint16, without a Clip."""
    model, inputs = made(PLAIN)
    onnx.save(source.proto(model.model), tmp_path / "model.onnx")
    (tmp_path / "scheme.json").write_bytes(wide_scheme(model, 8, CELL).dumps())
    folder = tmp_path / "out"
    onnxgru.quantize(
        tmp_path / "model.onnx", scheme=tmp_path / "scheme.json", calibration=inputs,
        validation=inputs, output=folder, listener=silent,
    )  # fmt: skip
    message = onnx.load(folder / "annotated.onnx")
    onnx.checker.check_model(message, full_check=True)
    assert [entry.version for entry in message.opset_import] == [21]
    zero = next(t for t in message.graph.initializer if t.name.endswith("cell.sum/zero_point"))
    assert zero.data_type == onnx.TensorProto.UINT16
    report = json.loads((folder / "report.json").read_text())
    bits = {entry["name"].rsplit("/", 1)[-1]: entry["bits"] for entry in report["operators"]}
    assert {bits[row] for row in CELL} == {16} and bits["state.output"] == 8
    assert Scheme.load(folder / "scheme.json") == wide_scheme(model, 8, CELL)
