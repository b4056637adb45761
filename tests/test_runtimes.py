"""The table of runtimes: its models, and its page."""

import numpy as np
import pytest

from benchmarks.runtimes import (
    BATCH,
    HIDDEN,
    INPUTS,
    MEASURED,
    SAMPLES,
    STEPS,
    build,
    quantized,
)
from benchmarks.runtimes_page import page
from onnxgru.firmware.verifying import verify
from onnxgru.runtime.sessions import onnxruntime_session
from onnxgru.runtimes.profiles import PROFILES
from onnxgru.runtimes.table import DEVICES, OPERATOR, RUNTIMES, find
from onnxgru.session.toolchains import DIFFERS, REFUSES, SAME


@pytest.mark.parametrize("operator", sorted({sample.make for sample in SAMPLES}))
def test_models_run(operator):
    x = np.zeros((STEPS, BATCH, INPUTS), np.float32)
    for array in onnxruntime_session(build(operator))({"X": x}).values():
        assert np.isfinite(array).all()


def test_the_second_call_of_an_unrolled_graph_starts_anew(tmp_path):
    """OpenVINO wrote into memory that held what it had computed once, from constants."""
    (sample,) = (one for one in SAMPLES if one.name == "16 bits")
    folder, data = quantized(tmp_path, sample, ("compilers", "unrolled"))
    (row,) = verify(folder, data, ["OpenVINO"]).rows
    assert (row.verdict, row.codes) == (SAME, BATCH * STEPS * (INPUTS + HIDDEN))


def test_the_page_says_what_differs_and_why():
    def row(verdict, detail=""):
        return {"verdict": verdict, "detail": detail}

    refusal = 'error: failed to legalize operation ... name = "onnx.Cast"}> {torch.onnx.to = 4 : si'
    text = page({
        "versions": {"IREE": "3.13.0", "C (native)": "cc 12.2.0"},
        "division": {"given": [266, 6], "divisor": 2, "found": [132, 2]},
        "rows": {
            "plain / step / GRU": {
                "onnxruntime (all)": row(SAME), "onnxruntime (basic)": row(DIFFERS, "3 codes"),
                "IREE": row(REFUSES, refusal),
            },
            "plain / step / RNN": {
                "onnxruntime (all)": row(SAME), "IREE": row(SAME), "C (native)": row(SAME),
            },
        },
    })  # fmt: skip
    assert "| onnxruntime, all levels | **DIFFERS** | same |" in text
    assert "| IREE | refuses | same |" in text
    assert "- onnxruntime, all levels: 3 codes (GRU)" in text
    assert "- IREE: the compiler cannot lower the operator Cast to uint16 (GRU)" in text
    assert "| IREE | 3.13.0 |" in text
    assert "| C (native) |  | same |" in text
    assert "| C (native) | cc 12.2.0 |" in text
    assert "## onnx2c\n\n**Not measured.**" in text
    assert "divides 266, 6 by 2; it gives 132, 2." in text


def test_every_runtime_is_measured_somewhere():
    measured = {runtime for names in MEASURED.values() for name in names for runtime in find(name)}
    assert measured == {*RUNTIMES, OPERATOR, *DEVICES}
    assert {profile for profile, _ in MEASURED} == set(PROFILES)
