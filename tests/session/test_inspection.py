"""Looking at a model: sizes first, a line per layer, and what stays in float."""

from pathlib import Path

import onnx
import pytest
from onnx import helper

import onnxgru
from onnxgru.cli import terminal
from onnxgru.cost.account import account
from onnxgru.passes.lowering.estimate import estimate
from onnxgru.session.inspection import WIDTHS, Inspection, inspect
from tests import grus
from tests.pipeline import pipeline


def saved(message: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "m.onnx"
    onnx.save(message, path)
    return path


def shown(found: Inspection, capsys: pytest.CaptureFixture[str]) -> list[str]:
    terminal.show_inspection(found)
    return capsys.readouterr().out.splitlines()


def test_sizes_without_data_are_near_those_with_data(tmp_path: Path) -> None:
    cases = [grus.Case(direction="bidirectional"), grus.Case(I=12, H=5, seed=2)]
    message = grus.stacked(cases)
    found = onnxgru.inspect(str(saved(message, tmp_path)))
    made = pipeline(message, grus.feeds(cases[0]))
    guessed = estimate(made.model.graph, made.layers, WIDTHS)
    for bits in WIDTHS:
        assert found.flash[bits] == guessed[bits].flash_bytes
        exact, about = account(made.uniform(bits)).flash, guessed[bits].flash
        assert abs(about.pop("bias") - exact.pop("bias")) <= 102  # a byte for each of them
        assert abs(sum(about.values()) - sum(exact.values())) <= 0.03 * sum(exact.values())
    assert sorted(found.flash, reverse=True) == list(WIDTHS)
    assert found.nothing == ""


def test_a_big_model_is_shown_in_a_few_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    cases = [grus.Case(I=6, seed=seed) for seed in range(10)]
    lines = shown(inspect(saved(grus.stacked(cases), tmp_path)), capsys)
    assert len(lines) < 26
    assert lines[1].startswith("recurrent layers: 10,080")
    assert " bytes in float32; flash about " in lines[1] and lines[2].endswith(" at 2 bits")
    assert max(map(len, lines[1:5])) <= 80
    rows = [line for line in lines if line.startswith("gru")]
    assert rows[0].split() == "gru0 6 -> 6 (T, B, 6) B Y 216".split()
    assert "all layers: forward, linear_before_reset 1" in lines
    assert rows[-1].split()[-3:] == ["Y,", "Y_h", "216"]
    start = "operators of /gru0/forward and every layer like it: reset.input,"
    (place,) = (index for index, line in enumerate(lines) if line.startswith(start))
    assert all(line.startswith("  ") for line in lines[place + 1 :])
    assert max(map(len, lines[place:])) <= 80


def test_other_activations_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    case = grus.Case(activations=("Sigmoid", "Relu"))
    lines = shown(inspect(saved(grus.model(case), tmp_path)), capsys)
    assert "activations Sigmoid, Relu" in "\n".join(lines)


def test_what_stays_in_float_is_grouped_by_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = grus.stacked([grus.Case(I=6), grus.Case(I=6, seed=3)])
    message.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    for node in message.graph.node:
        if node.op_type == "GRU":
            node.op_type, node.domain = "DynamicQuantizeLSTM", "com.microsoft"
            del node.attribute[1:]
    found = inspect(saved(message, tmp_path))
    assert found.flash == {}
    text = " ".join(" ".join(shown(found, capsys)).split())
    assert (
        "gru0, gru1 stay in float: DynamicQuantizeLSTM of domain com.microsoft is not supported "
        "yet; onnxgru quantises GRU, LSTM and RNN nodes, and cells in the body of a Scan or Loop"
        in text
    )
    assert "recurrent layers: " not in text


def test_a_model_without_recurrences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", 1, [2])], [value("y", 1, [2])]
    )
    message = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    text = " ".join(" ".join(shown(inspect(saved(message, tmp_path)), capsys)).split())
    assert text.endswith(
        "the model holds no GRU, LSTM or RNN that can be quantised; it must have such a node, "
        "or a cell in the body of a Scan or Loop, but has only Relu"
    )


def test_dense_layers_are_counted_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    digits = Path(__file__).parents[2] / "models" / "digits_row.onnx"
    plain, with_head = inspect(digits), inspect(digits, head=True)
    assert [layer.node for layer in with_head.layers] == ["gru", "head"]
    assert with_head.flash[8] > plain.flash[8]
    assert "14,464 MACs per step (640 of dense layers, as if they ran at every step)" in " ".join(
        line.strip() for line in shown(with_head, capsys)
    )
    assert "of dense layers" not in " ".join(shown(plain, capsys))


def test_what_is_usual_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = grus.Case(operator="LSTM", direction="bidirectional", linear_before_reset=0)
    assert "activations" not in " ".join(shown(inspect(saved(grus.model(usual), tmp_path)), capsys))
    odd = grus.Case(activations=("Tanh", "Sigmoid"))
    text = " ".join(shown(inspect(saved(grus.model(odd), tmp_path)), capsys))
    assert "activations Tanh, Sigmoid" in text
