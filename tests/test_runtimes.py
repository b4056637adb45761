"""The table of runtimes: its models, and its page."""

import numpy as np
import pytest

from benchmarks.runtimes import BATCH, INPUTS, SAMPLES, STEPS, build
from benchmarks.runtimes_page import page
from onnxgru.runtime.sessions import onnxruntime_session
from onnxgru.session.toolchains import DIFFERS, REFUSES, SAME


@pytest.mark.parametrize("operator", sorted({sample.make for sample in SAMPLES}))
def test_models_run(operator):
    x = np.zeros((STEPS, BATCH, INPUTS), np.float32)
    for array in onnxruntime_session(build(operator))({"X": x}).values():
        assert np.isfinite(array).all()


def test_the_page_says_what_differs_and_why():
    def row(verdict, detail=""):
        return {"verdict": verdict, "detail": detail}

    refusal = 'error: failed to legalize operation ... name = "onnx.Cast"}> {torch.onnx.to = 4 : si'
    text = page({
        "versions": {"IREE": "3.13.0"},
        "rows": {
            "plain / step / GRU": {
                "onnxruntime (all)": row(SAME), "onnxruntime (basic)": row(DIFFERS, "3 codes"),
                "IREE": row(REFUSES, refusal),
            },
            "plain / step / RNN": {"onnxruntime (all)": row(SAME), "IREE": row(SAME)},
        },
    })  # fmt: skip
    assert "| onnxruntime, all levels | **DIFFERS** | same |" in text
    assert "| IREE | refuses | same |" in text
    assert "- onnxruntime, all levels: 3 codes (GRU)" in text
    assert "- IREE: the compiler cannot lower the operator Cast to uint16 (GRU)" in text
    assert "| IREE | 3.13.0 |" in text
