"""The report of a model whose cell nobody has published draws it like others."""

import json
from pathlib import Path

import numpy as np
import onnx

from onnxgru.cli import main
from onnxgru.core.cells import Cell
from tests import scans


def test_a_cell_without_a_table_of_ours_is_drawn(tmp_path: Path) -> None:
    message = scans.model(scans.ODD, initial=False)
    onnx.save(message, tmp_path / "odd.onnx")
    x = np.random.default_rng(0).standard_normal((scans.T, 8, scans.I), np.float32)
    np.save(tmp_path / "x.npy", x)
    arguments = ["quantize", "odd.onnx", "--calibration", "x.npy", "-o", "out", "--bits", "4"]
    places = [
        str(tmp_path / a) if a.endswith((".onnx", ".npy")) or a == "out" else a for a in arguments
    ]
    assert main(places) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    (layer,) = report["layers"]
    assert layer["operator"] == "Scan"
    cell = Cell.parse(layer["table"])
    assert cell.name == layer["cell"]
    assert cell.to_dict() == layer["table"]
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert all(f"{layer['recurrences'][0]}/{row.name}" in page for row in cell.rows)
