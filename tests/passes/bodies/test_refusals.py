"""A Scan that cells are not made of is left in float, with the reason."""

from dataclasses import replace

import onnx
import onnx_ir as ir
import pytest

from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize
from tests import scans
from tests.scans import B, H, I, whole

BARE = scans.RNN.nodes.replace("out = Identity (next_h)", "")
LEAVING = BARE + "out = Identity (next_h)"
ODD_BODIES = {
    "its body has the operator Sin, which cells are not made of": BARE + "out = Sin (next_h)",
    "its body has the operator If, which cells are not made of": BARE
    + """yes = Constant <value = bool {1}> ()
    two = If (yes) <then_branch = a () => (float p) { p = Constant <value_float = 2.0> () },
    else_branch = b () => (float q) { q = Constant <value_float = 3.0> () }>
    out = Mul (next_h, two)""",
    "its body has a product of matrices that both vary": BARE
    + "turned = Transpose (sum) square = MatMul (next_h, turned) out = MatMul (square, next_h)",
    "something that it carries or gives depends on the sequence alone": BARE + "out = Sigmoid (wx)",
    "its body divides by what varies, or by 0": BARE + "out = Div (next_h, sum)",
    "its body has a product along another axis than that of the features": BARE
    + "turned = Transpose (next_h) out = MatMul (turned, M)",
    "its body has a product with a weight of 3 axes, not 2": BARE + "out = MatMul (next_h, C)",
    "6 features are multiplied by a weight for 4": BARE + "out = Gemm <transB = 1> (next_h, N)",
    "its body has a Gemm without a constant weight and bias": BARE
    + "out = Gemm (next_h, R, next_h)",
    "its body has a Clip between limits that vary": BARE
    + "top = ReduceMax <keepdims = 0> (R) out = Clip (next_h, low, top)".replace(
        "ReduceMax <keepdims = 0> (R)", "Identity (half_h)"
    ).replace("top =", "half_h = Mul (next_h, half) top ="),
    "its body has a Clip between 1 and -1": BARE + "out = Clip (next_h, high, low)",
    "its body casts features to another type": BARE
    + "whole = Cast <to = 7> (next_h) out = Cast <to = 1> (whole)",
    "its body has a Concat of what are not all features": BARE
    + "out = Concat <axis = 1> (next_h, K)",
    "its body has a Concat along another axis than that of the features": BARE
    + "out = Concat <axis = 0> (next_h, sum)",
    "its body has a Concat that no product with a matrix reads": BARE
    + "l, r = Split <axis = 1, num_outputs = 2> (next_h) out = Concat <axis = 1> (r, l)",
    "its body has a Split of another axis than that of the features": BARE
    + "l, r = Split <axis = 0, num_outputs = 2> (next_h) out = Add (l, r)",
    "its body has a Slice of another axis than that of the features": BARE
    + "zero = Constant <value_ints = [0]> () one_on = Constant <value_ints = [1]> () "
    "cut = Slice (next_h, zero, one_on, zero) out = Add (cut, next_h)",
    "its body has a Slice of step 2": BARE
    + "zero = Constant <value_ints = [0]> () one_on = Constant <value_ints = [1]> () "
    "two = Constant <value_ints = [2]> () six = Constant <value_ints = [6]> () "
    "cut = Slice (next_h, zero, six, one_on, two) three = MatMul (cut, O) "
    "out = Add (three, next_h)",
    "its body takes features 2 to 2 of 6": BARE
    + "two = Constant <value_ints = [2]> () one_on = Constant <value_ints = [1]> () "
    "cut = Slice (next_h, two, two, one_on) out = Concat <axis = 1> (next_h, cut)",
    "its body has a Squeeze of the features": BARE
    + "one_on = Constant <value_ints = [1]> () narrow = MatMul (next_h, P) "
    "flat = Squeeze (narrow, one_on) col = Unsqueeze (flat, one_on) "
    "wide = MatMul (col, Q) out = Add (wide, next_h)",
    "its body has a Reshape that takes features apart": BARE
    + "shape = Constant <value_ints = [-1, 3]> () apart = Reshape (next_h, shape) "
    "wide = MatMul (apart, O) out = Identity (next_h) lost = Identity (wide)".replace(
        "out = Identity (next_h) lost = Identity (wide)", "out = Add (wide, next_h)"
    ),
    "its body has a Reshape that joins axes": BARE
    + "shape = Constant <value_ints = [6]> () flat = Reshape (next_h, shape) "
    "out = Add (flat, next_h)",
    "its body has a Reshape whose sizes vary": BARE
    + "turned = Transpose (next_h) shape = Cast <to = 1> (turned) whole = Tanh (shape) "
    "out = Reshape (K, whole)",
    "the batch meets the features in one operator of its body": BARE
    + "turned = Transpose (next_h) out = Add (next_h, turned)",
    "a constant of shape [3, 6] is not one for every feature": BARE + "out = Add (next_h, L)",
    "4 constant numbers meet 6 features in its body": BARE + "out = Add (next_h, F)",
    "its body adds a constant vector to what is no product with a matrix": BARE
    + "out = Add (next_h, G)",
    "6 and 1 features meet in one operator of its body": BARE
    + "narrow = MatMul (next_h, P) out = Add (next_h, narrow)",
    "what it gives at every step, out does not depend on the sequence": BARE + "out = Identity (L)",
}
WEIGHTS = {
    "M": (B, H), "N": (H, I), "C": (2, H, H), "K": (B, H), "L": (B, H), "F": (I,), "G": (H,),
    "O": (3, H), "P": (H, 1), "Q": (1, H)
}  # fmt: skip


def reason(message: onnx.ModelProto) -> str:
    model = ir.from_proto(message)
    Normalize()(model)
    found = recognize(model)
    assert not found.layers
    (refusal,) = found.refusals
    before = "the body of this Scan is no cell; "
    after = (
        ": export the layer as one operator, such as torch.nn.GRU or torch.nn.LSTM, or write the "
        "loop without this"
    )
    assert refusal.reason.startswith(before)
    assert refusal.reason.endswith(after)
    return refusal.reason.removeprefix(before).removesuffix(after)


def test_a_body_without_any_known_function_is_named() -> None:
    body = replace(scans.RNN, nodes=scans.RNN.nodes.replace("Tanh", "Sin"))
    assert reason(scans.model(body, checked=False)) == (
        "its body has the operator Sin, which cells are not made of"
    )


@pytest.mark.parametrize("wanted", ODD_BODIES)
def test_odd_bodies(wanted: str) -> None:
    nodes = ODD_BODIES[wanted]
    weights = {n: s for n, s in WEIGHTS.items() if f"{n})" in nodes or f"{n}," in nodes}
    body = replace(scans.RNN, nodes=nodes, weights={**scans.RNN.weights, **weights})
    assert reason(scans.model(body, checked=False)) == wanted


PAIR = f"float[B, {H}] h, float[B, {H}] g"
ODD_LOOPS = {
    "its sequences run in different directions": whole(
        LEAVING, attributes="num_scan_inputs = 1, scan_input_directions = [1]"
    ),
    "it gives 2 sequences, Y, Z, where cells give one": whole(
        LEAVING + "more = Sigmoid (next_h)",
        following=f"float[B, {H}] next_h, float[B, {H}] out, float[B, {H}] more",
        made="hT, Y, Z",
        outputs=f"float[T, B, {H}] Y, float[T, B, {H}] Z",
    ),
    "the sequence X has 4 axes, of which one must be the batch's": whole(
        LEAVING,
        inputs=f"float[T, A, B, {I}] X, float[B, {H}] h0",
        steps=f"float[A, B, {I}] x",
    ),
    "the number of features of X is not known": whole(
        LEAVING, inputs=f"float[T, B, I] X, float[B, {H}] h0", steps="float[B, I] x"
    ),
    "its body reads Z, which is neither constant nor a slice of a sequence": whole(
        BARE + "out = Mul (next_h, Z)",
        inputs=f"float[T, B, {I}] X, float[B, {H}] h0, float[B, {H}] Z",
    ),
    "what it carries, h, changes its axes": whole(
        BARE.replace("Tanh (sum)", "Transpose (turned) turned = Tanh (sum)").replace(
            "next_h = Transpose (turned) turned = Tanh (sum)",
            "turned = Tanh (sum) next_h = Transpose (turned)",
        )
        + "out = Sigmoid (turned)",
        following=f"float[{H}, B] next_h, float[B, {H}] out",
    ),
    "its body moves the axes of out in an unknown way": whole(
        BARE + "out = Squeeze (next_h)",
        inputs=f"float[T, 1, {I}] X, float[1, {H}] h0",
        states=f"float[1, {H}] h",
        steps=f"float[1, {I}] x",
        following=f"float[1, {H}] next_h, float[{H}] out",
        outputs=f"float[T, {H}] Y",
    ),
    "what it carries and gives has 3 and 6 features, which must be as many": whole(
        BARE + "out = MatMul (next_h, S)",
        following=f"float[B, {H}] next_h, float[B, 3] out",
        outputs="float[T, B, 3] Y",
    ),
    "two of its carries have one value": whole(
        LEAVING + "next_g = Identity (next_h)",
        states=PAIR,
        following=f"float[B, {H}] next_h, float[B, {H}] next_g, float[B, {H}] out",
        given="h0, h0, X",
        made="hT, gT, Y",
        outputs=f"float[T, B, {H}] Y, float[B, {H}] gT",
    ),
    "what it carries, h, must be float32": whole(
        "wide = Cast <to = 1> (h)"
        + BARE.replace("h, R", "wide, R").replace("next_h =", "narrow =")
        + "next_h = Cast <to = 10> (narrow) out = Identity (narrow)",
        inputs=f"float[T, B, {I}] X, float16[B, {H}] h0",
        states=f"float16[B, {H}] h",
        following=f"float16[B, {H}] next_h, float[B, {H}] out",
    ),
    "it carries nothing from step to step": whole(
        "wx = MatMul (x, W) rh = MatMul (h, R) sum = Add (wx, rh) out = Tanh (sum) "
        "next_h = Identity (h)".replace("rh = MatMul (h, R) sum = Add (wx, rh)", "sum = Neg (wx)"),
    ),
    "its body reads steps of M, which must be float32, or a mask of lengths": whole(
        BARE + "float_m = Cast <to = 1> (m) out = Mul (next_h, float_m)",
        inputs=f"float[T, B, {I}] X, float[B, {H}] h0, bool[T, B, 1] M",
        steps=f"float[B, {I}] x, bool[B, 1] m",
        given="h0, X, M",
        attributes="num_scan_inputs = 2",
    ),
    "its body is longer than cells are": whole(
        BARE
        + "t0 = Tanh (next_h) "
        + " ".join(f"t{n} = Tanh (t{n - 1})" for n in range(1, 2000))
        + " out = Identity (t1999)"
    ),
}


@pytest.mark.parametrize("wanted", ODD_LOOPS)
def test_odd_loops(wanted: str) -> None:
    assert reason(ODD_LOOPS[wanted]) == wanted


def test_a_carry_that_nobody_reads_is_left_out() -> None:
    message = whole(
        LEAVING + "next_g = Identity (next_h)",
        states=PAIR,
        following=f"float[B, {H}] next_h, float[B, {H}] next_g, float[B, {H}] out",
        given="h0, h0, X",
        made="hT, gT, Y",
    )
    model = ir.from_proto(message)
    Normalize()(model)
    (layer,) = recognize(model).layers
    assert layer.cell.name == "rnn"
