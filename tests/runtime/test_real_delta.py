"""A delta network at threshold 0 over 1,000 steps of a recording: the codes of the plain graph."""

import os
from pathlib import Path

import numpy as np
import pytest

from onnxgru.core.scheme import Scheme
from onnxgru.data.wav import read
from onnxgru.models.sources import VARIABLE
from onnxgru.models.speech import RATE, features
from onnxgru.runtime.engines import LayerEvaluator
from tests import grus
from tests.models.recordings import needs_data
from tests.pipeline import first_job, pipeline

STEPS = 1000


@needs_data
@pytest.mark.parametrize("operator", ["GRU", "LSTM"])
def test_threshold_0_over_a_recording(operator: str) -> None:
    pytest.importorskip("kaldi_native_fbank")
    place = Path(os.environ[VARIABLE], "audio", "noisy_1.wav")
    samples = read(place).samples[0, :, 0]
    seconds = [features(samples[start : start + RATE]) for start in range(0, 20 * RATE, RATE)]
    found = np.concatenate([each for each in seconds if len(each)])[:STEPS]
    assert len(found) == STEPS
    x = ((found - found.mean(0)) / found.std(0)).astype(np.float32)
    case = grus.Case(I=x.shape[1], H=16, operator=operator, gain=0.3, outputs=("Y",))
    inputs = {"X": x[:, None]}
    made = pipeline(grus.model(case), inputs)
    for bits in (8, 4):
        plain = Scheme.uniform(made.layers, bits)
        zero = plain.with_thresholds(made.layers, lambda *_: 0)
        runs = []
        for scheme in (plain, zero):
            (layer,) = made.lower(scheme).layers
            job = first_job(made, layer, inputs)
            runs.append(LayerEvaluator(layer)(job.x, job.initial, job.lengths).y)
        assert len(runs[0]) == STEPS
        np.testing.assert_array_equal(*runs)
