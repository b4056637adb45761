"""The shipped model in every runtime: uniform 2 to 8 bits, mixed schemes, and all three forms."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from onnxgru.core.choices import WIDTHS
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.runtime.sessions import runtimes
from onnxgru.runtime.verify import verify
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from tests.pipeline import random_scheme

MODEL = Path(__file__).resolve().parents[2] / "models" / "digits_row.onnx"
RUNTIMES = runtimes()
FORMS = ("scan", "unrolled", "step")
SEQUENCES = 16


@cache
def session(form: str) -> Session:
    return Session.open(MODEL, replace(Config(), recurrence=form))


def check(form: str, runtime: str, scheme: Scheme) -> int:
    """Verify one scheme; state codes compared."""
    made = session(form)
    program: IntegerProgram = made.quantizer(scheme)
    data = made.data["validation"].take(SEQUENCES)
    model = made.emission.integer(program, scheme)
    loader = RUNTIMES[runtime]
    return verify(
        model, made.model.host, program, data, load=loader, time_axes=made.emission.time_axes
    ).codes


@pytest.mark.parametrize("runtime", list(RUNTIMES))
@pytest.mark.parametrize("bits", WIDTHS)
def test_uniform(bits: int, runtime: str) -> None:
    scheme = Scheme.uniform(session("scan").model.layers, bits)
    assert check("scan", runtime, scheme) == SEQUENCES * 64  # the model reads Y_h alone


@pytest.mark.parametrize("runtime", list(RUNTIMES))
@pytest.mark.parametrize("seed", range(3))
def test_mixed(seed: int, runtime: str) -> None:
    assert check("scan", runtime, random_scheme(session("scan").model.layers, seed))


@pytest.mark.parametrize("runtime", list(RUNTIMES))
@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str, runtime: str) -> None:
    assert check(form, runtime, random_scheme(session(form).model.layers, 9))
