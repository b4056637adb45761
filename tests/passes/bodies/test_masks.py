"""Bodies that hold what they carry after the end of a sequence have lengths."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from onnxgru.passes.forms.form import Form
from onnxgru.passes.graph import source
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import Recognition, recognize
from tests import grus, scans
from tests.passes.emission.test_decompose import TOLERANCE, decompose, distance
from tests.pipeline import pipeline
from tests.runtime.exact import require_exact
from tests.scans import H, I

QUICK = ("onnxruntime (all)", "onnx.reference")
STEP = "wx = MatMul (x, W) rh = MatMul (h, R) sum = Add (wx, rh) new = Tanh (sum) "
HELD = STEP + "next_h = Where (m, new, h) "
TIME = "time = Range (zero, steps, one)"
FIRST = "h0 = Expand (nothing, whole)"


def model(
    body: str, *, first: str = FIRST, time: str = TIME, attributes: str = ""
) -> onnx.ModelProto:
    message = parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 18]>
        test (float[T, B, {I}] X, int32[B] n) => (float[T, B, {H}] Y, float[B, {H}] last)
        <int64 zero = {{0}}, int64 one = {{1}}, int64 two = {{2}}, float nothing = {{0.0}},
         float half = {{0.5}}, int64[1] size = {{{H}}}, int64[1] a0 = {{0}}, int64[1] a1 = {{1}},
         int64[1] a2 = {{2}}> {{
          length = Shape <start = 0, end = 1> (X)
          steps = Squeeze (length)
          {time}
          times = Unsqueeze (time, a1)
          n64 = Cast <to = 7> (n)
          ends = Unsqueeze (n64, a0)
          going = Less (times, ends)
          M = Unsqueeze (going, a2)
          batch = Shape <start = 1, end = 2> (X)
          whole = Concat <axis = 0> (batch, size)
          {first}
          last, Y = Scan <num_scan_inputs = 2, {attributes}
            body = step (float[B, {H}] h, float[B, {I}] x, bool[B, 1] m)
              => (float[B, {H}] next_h, float[B, {H}] out)
              <float none = {{0.0}}, float one = {{1.0}}> {{ {body} }}> (h0, X, M)
        }}"""
    )
    for name, shape in scans.RNN.weights.items():
        array = np.random.default_rng(len(name)).normal(0, 0.5, shape).astype(np.float32)
        message.graph.initializer.append(numpy_helper.from_array(array, name))
    return message


def found(message: onnx.ModelProto) -> Recognition:
    made = ir.from_proto(message)
    Normalize()(made)
    return recognize(made)


FORMS = {
    "held": HELD + "out = Identity (next_h)",
    "zero": HELD + "out = Where (m, new, none)",
    "products": STEP
    + """
    on = Cast <to = 1> (m)
    off_m = Not (m)
    off = Cast <to = 1> (off_m)
    p = Mul (on, new)
    q = Mul (off, h)
    next_h = Add (p, q)
    out = Identity (next_h)
    """,
}


@pytest.mark.parametrize("name", FORMS)
def test_lengths_are_those_of_the_mask(name: str) -> None:
    message = model(FORMS[name])
    x = np.random.default_rng(1).standard_normal((scans.T, scans.B, I), np.float32)
    inputs = {"X": x, "n": np.asarray([5, 2, 0], np.int32)}
    wanted = grus.run(message, inputs)
    (layer,) = found(message).layers
    assert layer.cell.name == "rnn"
    assert layer.ports.lengths
    normal = ir.from_proto(message)
    Normalize()(normal)
    assert distance(wanted, grus.run(source.proto(normal), inputs)) < TOLERANCE
    assert distance(wanted, grus.run(decompose(message), inputs)) < TOLERANCE
    made = pipeline(message, inputs)
    program = made.mixed(1)
    require_exact(made, program, inputs, names=QUICK)
    require_exact(made, program, inputs, Form("unrolled", steps=scans.T), names=QUICK)


ODD = {
    "its body uses a mask in Add, and not to hold what it carries": model(
        HELD + "on = Cast <to = 1> (m) out = Add (on, new)"
    ),
    "its body uses a mask in Mul, and not to hold what it carries": model(
        HELD + "on = Cast <to = 1> (m) twice = Mul (on, on) out = Mul (twice, new)"
    ),
    "its body adds what masks do not tell apart": model(
        HELD + "on = Cast <to = 1> (m) p = Mul (on, new) q = Mul (on, h) out = Add (p, q)"
    ),
    "its body holds something else than what it carries, h": model(
        STEP + "next_h = Where (m, new, sum) out = Identity (next_h)"
    ),
    "its body holds only a part of what it carries and gives": model(HELD + "out = Sigmoid (new)"),
    "it runs backwards over sequences of different lengths": model(
        FORMS["zero"],
        attributes="scan_input_directions = [1, 1], scan_output_directions = [1],",
    ),
    "its sequences of different lengths do not start from 0": model(
        FORMS["zero"], first="h0 = Expand (half, whole)"
    ),
    "its mask is not made for all steps of X": model(
        FORMS["zero"],
        time="other = Shape <start = 0, end = 1> (n) count = Squeeze (other) "
        "time = Range (zero, count, one)",
    ),
    "after the end of a sequence, it gives what it does not carry": model(
        HELD + "bent = Sigmoid (new) out = Where (m, bent, h)"
    ),
    "its body reads steps of M, which must be float32, or a mask of lengths": model(
        FORMS["zero"], time="time = Range (one, steps, two)"
    ),
}


@pytest.mark.parametrize("reason", ODD)
def test_other_masks_leave_the_layer_in_float(reason: str) -> None:
    (refusal,) = found(ODD[reason]).refusals
    assert refusal.reason == (
        f"the body of this Scan is no cell; {reason}: export the layer as one operator, such as "
        "torch.nn.GRU or torch.nn.LSTM, or write the loop without this"
    )
