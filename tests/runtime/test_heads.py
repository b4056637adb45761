"""Dense layers around recurrent ones, quantised: floats, integers, engines, the whole command."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxgru
from onnxgru.core.cells import DENSE, DENSE_ACTIVATED
from onnxgru.passes.forms.form import Form
from onnxgru.passes.graph.reach import Maker, maker
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.population import PopulationEngine
from onnxgru.runtime.verify import oracle_engine
from onnxgru.session.model import NO_HEAD, Model
from tests import grus
from tests.passes.emission.test_decompose import TOLERANCE, distance
from tests.pipeline import Pipeline, dataset, pipeline
from tests.runtime.exact import RUNTIMES, require_exact

ROOT = Path(__file__).resolve().parents[2]
CASE = grus.Case(T=4, B=3, I=6, H=5, outputs=("Y", "Y_h"))


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def surrounded(case: grus.Case = CASE) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """x -> MatMul, Add, Relu -> GRU -> last state -> Gemm (scores), and every state -> MatMul."""
    node = grus.node(case, x="entered")
    arrays = grus.weights(case) | {
        "first.weight": drawn(3, case.I),
        "first.bias": drawn(case.I, seed=1),
        "one": np.asarray(0, np.int64),
        "axis": np.asarray([1], np.int64),
        "last.weight": drawn(4, case.H, seed=2),
        "last.bias": drawn(4, seed=3),
        "tags.weight": drawn(case.H, 2, seed=4),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "first.weight"], ["a"], name="a"),
        helper.make_node("Add", ["a", "first.bias"], ["b"], name="b"),
        helper.make_node("Relu", ["b"], ["entered"], name="c"),
        node,
        helper.make_node("Gather", ["Y_h", "one"], ["state"], name="d", axis=0),
        helper.make_node(
            "Gemm", ["state", "last.weight", "last.bias"], ["scores"], name="e", transB=1
        ),
        helper.make_node("Squeeze", ["Y", "axis"], ["states"], name="f"),
        helper.make_node("MatMul", ["states", "tags.weight"], ["t"], name="g"),
        helper.make_node("Sigmoid", ["t"], ["tags"], name="h"),
    ]
    value, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "heads",
        [value("x", kind, ["T", "B", 3])],
        [value("scores", kind, ["B", 4]), value("tags", kind, ["T", "B", 2])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model, {"x": drawn(case.T, case.B, 3, seed=5)}


def made() -> tuple[Pipeline, dict[str, np.ndarray]]:
    message, inputs = surrounded()
    return pipeline(message, inputs, heads=True), inputs


def test_dense_layers_are_layers() -> None:
    model, inputs = made()
    assert [layer.cell for layer in model.layers if not layer.recurrent] == [
        DENSE_ACTIVATED, DENSE, DENSE_ACTIVATED,
    ]  # fmt: skip
    names = {layer.name for layer in model.layers}
    assert {"/first", "/last", "/tags"} < names
    program = model.uniform(8)
    reads = {layer.name: layer.reads_codes for layer in program.layers}
    assert reads == {"/first": False, "/gru": True, "/last": True, "/tags": True}
    found = grus.run(onnx.load_from_string(model.emit(program).SerializeToString()), inputs)
    assert distance(grus.run(surrounded()[0], inputs), found) < 0.05


def test_floats_are_those_of_the_model() -> None:
    import onnx_ir as ir

    from onnxgru.passes.emission.decompose import Decompose
    from onnxgru.passes.graph import source

    model, inputs = made()
    clone = model.model.clone()
    Decompose(model.layers)(clone)
    found = grus.run(source.proto(clone), inputs)
    assert distance(grus.run(surrounded()[0], inputs), found) < TOLERANCE
    before = grus.run(ir.to_proto(model.model), inputs)
    assert distance(grus.run(surrounded()[0], inputs), before) < TOLERANCE


def test_functions_have_the_defaults_of_their_operators() -> None:
    """ThresholdedRelu has an alpha of 1; as an activation of a recurrent operator it has 0."""
    import onnx_ir as ir

    message, inputs = surrounded()
    message.graph.node[2].op_type = "ThresholdedRelu"
    model = pipeline(message, inputs, heads=True)
    found = grus.run(ir.to_proto(model.model), inputs)
    assert distance(grus.run(message, inputs), found) < TOLERANCE


@pytest.mark.parametrize("form", [Form(), Form("unrolled", steps=4)], ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_integers_are_the_oracles(form: Form, seed: int) -> None:
    model, inputs = made()
    require_exact(model, model.mixed(seed), inputs, form, names=RUNTIMES)


def test_engines_are_the_oracle() -> None:
    torch = pytest.importorskip("torch")
    from onnxgru.runtime.walk import Group, Walk

    model, inputs = made()
    for program in (model.uniform(3), model.mixed(4)):
        walk = Walk(Group(model.host.plan(), [dataset(model.host, inputs)], [0]))
        layer = next(layer for layer in program.layers if layer.name == "/first")
        (job,) = walk.jobs(0, layer)
        wanted = oracle_engine(layer)(job.x, None, None, trace=False)
        for engine in (LayerEvaluator(layer), FusedEngine(layer)):
            np.testing.assert_array_equal(engine(job.x, None, None).y, wanted.y)
        ((y, last),) = PopulationEngine([layer], torch.device("cpu"))([job.x], [None], [None])
        np.testing.assert_array_equal(y, wanted.y)
        assert last == {}


def test_a_model_without_dense_layers_is_told(tmp_path: Path) -> None:
    onnx.save(grus.model(grus.Case()), tmp_path / "m.onnx")
    found = Model.read(tmp_path / "m.onnx", head=True)
    assert found.recognition.notes == (NO_HEAD,)


def test_how_outputs_are_made_is_known() -> None:
    model, _ = made()
    found = {
        output.name: maker(model.model.graph, str(output.name), model.layers)
        for output in model.model.graph.outputs
    }
    assert found == {"scores": Maker("Gemm", 4), "tags": Maker("Sigmoid")}


def test_without_the_option_they_stay_in_float() -> None:
    message, inputs = surrounded()
    assert [layer.name for layer in pipeline(message, inputs).layers] == ["/gru"]


@pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning")  # few data
def test_a_classifier_is_called_step_by_step(tmp_path: Path) -> None:
    """Its dense layer reads the state of the last call."""
    onnxgru.quantize(
        ROOT / "models" / "digits_row.onnx", bits=8, head=True, recurrence="step",
        output=tmp_path / "out",
    )  # fmt: skip
    names = [value.name for value in onnx.load(tmp_path / "out" / "integer.onnx").graph.input]
    assert names == ["rows", "/gru/forward/state"]


@pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning")  # few data
def test_the_digits_are_integer_to_the_logits(tmp_path: Path) -> None:
    onnxgru.quantize(
        ROOT / "models" / "digits_row.onnx", bits=8, head=True, output=tmp_path / "out"
    )
    graph = onnx.load(tmp_path / "out" / "integer.onnx").graph
    (softmax,) = (node for node in graph.node if node.op_type == "Softmax")
    makers = {name: node for node in graph.node for name in node.output}
    assert makers[softmax.input[0]].op_type in ("Mul", "Squeeze")
    assert not {"Gemm", "MatMul"} & {node.op_type for node in graph.node}


@pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning")  # few data
def test_dense_layers_are_fine_tuned(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    message, _ = surrounded()
    onnx.save(message, tmp_path / "m.onnx")
    data = {"x": drawn(4, 60, 3)}
    onnxgru.quantize(
        tmp_path / "m.onnx", bits=4, head=True, calibration=data, validation=data,
        training_data={"x": drawn(4, 64, 3, seed=9)}, epochs=1, output=tmp_path / "out",
    )  # fmt: skip
    before, after = (
        {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
        for path in (tmp_path / "m.onnx", tmp_path / "out" / "integer.onnx")
    )
    assert "last.weight" in before and "/last/forward/product/weight" in after


@pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning")  # few data
def test_report_and_evaluate_count_the_same_products(tmp_path: Path) -> None:
    """A dense layer has no step before: no share of a delta network counts it."""
    folder, model = ROOT / "models", ROOT / "models" / "digits_row.onnx"
    onnxgru.quantize(model, bits=8, head=True, delta="2", output=tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    told = report["delta"]["roles"]
    assert report["sizes"]["macs"] == 13_824 + 640 and report["sizes"]["dense_macs"] == 640
    assert "14,464 (640 of dense layers, as if they ran at every step)" in (
        (tmp_path / "out" / "report.md").read_text("utf-8")
    )
    (row,) = onnxgru.evaluate(tmp_path / "out/integer.onnx", folder / "digits_row.holdout.npz").rows
    assert row.eliminated == pytest.approx(told["holdout"]["eliminated"], abs=1e-3)
