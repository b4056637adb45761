"""Models with recurrent cells written out in the body of a Scan, as ONNX text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper, parser

T, B, I, H = 5, 3, 4, 6  # noqa: E741 - the letters of the project


@dataclass(frozen=True)
class Body:
    """A cell in ONNX text.

    `nodes` reads x (B, I), every carry by its name (B, H) and the weights, and makes ``out`` and,
    for every carry, ``next_<carry>``. X has `width` features; `outside` makes ``u`` (T, B, 3 H) of
    it before the Scan.
    """

    nodes: str
    weights: Mapping[str, Sequence[int]]
    carries: tuple[str, ...] = ("h",)
    width: int = I
    outside: str = ""


LIGRU = Body(
    """
    wx = MatMul (x, W)
    rh = MatMul (h, R)
    bare = Add (wx, rh)
    sums = Add (bare, b)
    zs, ns = Split <axis = -1, num_outputs = 2> (sums)
    z = Sigmoid (zs)
    n = Relu (ns)
    keep = Mul (z, h)
    rest = Sub (one, z)
    new = Mul (rest, n)
    next_h = Add (keep, new)
    out = Identity (next_h)
    """,
    {"W": (I, 2 * H), "R": (H, 2 * H), "b": (2 * H,)},
)
"""Ravanelli et al. 2018."""

GRU = Body(
    """
    wx = Gemm <transB = 1> (x, W, b)
    rh = Gemm <transB = 1> (h, R, c)
    rx, zx, nx = Split <axis = 1, num_outputs = 3> (wx)
    rr, zr, nr = Split <axis = 1, num_outputs = 3> (rh)
    rs = Add (rx, rr)
    zs = Add (zx, zr)
    r = Sigmoid (rs)
    z = Sigmoid (zs)
    gated = Mul (r, nr)
    ns = Add (nx, gated)
    n = Tanh (ns)
    far = Sub (h, n)
    part = Mul (far, z)
    next_h = Add (n, part)
    out = Identity (next_h)
    """,
    {"W": (3 * H, I), "R": (3 * H, H), "b": (3 * H,), "c": (3 * H,)},
)
"""As torch writes it: n + z (h - n)."""

GRU_BEFORE = Body(
    """
    xh = Concat <axis = -1> (x, h)
    rz = MatMul (xh, W)
    sums = Add (rz, b)
    both = Sigmoid (sums)
    r, z = Split <axis = -1, num_outputs = 2> (both)
    rh = Mul (r, h)
    xrh = Concat <axis = -1> (x, rh)
    ns = MatMul (xrh, V)
    nb = Add (ns, c)
    n = Tanh (nb)
    rest = Sub (one, z)
    new = Mul (rest, n)
    keep = Mul (z, h)
    next_h = Add (new, keep)
    out = Identity (next_h)
    """,
    {"W": (I + H, 2 * H), "V": (I + H, H), "b": (2 * H,), "c": (H,)},
)
"""As TensorFlow's old cells had it: one product of [x, h]."""

LSTM = Body(
    """
    wx = MatMul (x, W)
    rh = MatMul (h, R)
    bare = Add (wx, rh)
    sums = Add (bare, b)
    zero = Constant <value = int64[1] {0}> ()
    one_h = Constant <value_ints = [6]> ()
    two_h = Constant <value_ints = [12]> ()
    three_h = Constant <value_ints = [18]> ()
    end = Constant <value_ints = [9223372036854775807]> ()
    axis = Constant <value_ints = [1]> ()
    is = Slice (sums, zero, one_h, axis)
    fs = Slice (sums, one_h, two_h, axis)
    gs = Slice (sums, two_h, three_h, axis)
    os = Slice (sums, three_h, end, axis)
    i = Sigmoid (is)
    f = Sigmoid (fs)
    g = Tanh (gs)
    o = Sigmoid (os)
    kept = Mul (f, c)
    new = Mul (i, g)
    next_c = Add (kept, new)
    t = Tanh (next_c)
    next_h = Mul (o, t)
    out = Identity (next_h)
    """,
    {"W": (I, 4 * H), "R": (H, 4 * H), "b": (4 * H,)},
    carries=("h", "c"),
)

RNN = Body(
    """
    wx = MatMul (x, W)
    rh = MatMul (h, R)
    sum = Add (wx, rh)
    next_h = Tanh (sum)
    out = Identity (next_h)
    """,
    {"W": (I, H), "R": (H, H)},
)

ODD = Body(
    """
    wx = MatMul (x, W)
    rh = MatMul (h, R)
    a = Add (wx, rh)
    sa = Softsign (a)
    hard = Clip (a, low, high)
    both = Mul (sa, hard)
    decayed = Mul (h, half)
    next_h = Add (both, decayed)
    minus = Neg (next_h)
    out = LeakyRelu <alpha = 0.2> (minus)
    """,
    {"W": (I, H), "R": (H, H)},
)
"""A cell that nobody has published."""


def sru(*, activation: bool = True, highway: bool = True, outside: bool = False) -> Body:
    """Lei et al. 2018: I = H with a highway; with `outside`, its product is before the Scan."""
    size = H if highway else I
    value = "a" if activation else "next_c"
    highways = """
    passing = Sub (one, r)
    passed = Mul (passing, x)
    out = Add (read, passed)
    """
    return Body(
        f"""
        {"" if outside else "u = MatMul (x, W)"}
        n, fx, rx = Split <axis = -1, num_outputs = 3> (u)
        fc = Mul (c, v)
        rc = Mul (w, c)
        fs = Add (fx, fc)
        rs = Add (rx, rc)
        fb = Add (fs, b)
        rb = Add (rs, d)
        f = Sigmoid (fb)
        r = Sigmoid (rb)
        far = Sub (c, n)
        part = Mul (f, far)
        next_c = Add (part, n)
        a = Tanh (next_c)
        read = Mul (r, {value})
        {highways if highway else "out = Identity (read)"}
        """,
        {"W": (size, 3 * H), "v": (H,), "w": (H,), "b": (H,), "d": (H,)},
        carries=("c",),
        width=size,
        outside="u = MatMul (X, W)" if outside else "",
    )


LOW_RANK = Body(
    """
    narrow = MatMul (x, W)
    wx = MatMul (narrow, V)
    thin = MatMul (h, U)
    bent = Tanh (thin)
    rh = MatMul (bent, R)
    sum = Add (wx, rh)
    next_h = Tanh (sum)
    out = Identity (next_h)
    """,
    {"W": (I, 2), "V": (2, H), "U": (H, 3), "R": (3, H)},
)
"""Its operators have different numbers of features."""

BODIES = {
    "ligru": LIGRU,
    "gru": GRU,
    "gru_before": GRU_BEFORE,
    "lstm": LSTM,
    "rnn": RNN,
    "odd": ODD,
    "low_rank": LOW_RANK,
    "sru": sru(),
    "sru_plain": sru(activation=False),
    "sru_outside": sru(outside=True),
    "sru_bare": sru(activation=False, highway=False, outside=True),
}
_CONSTANTS = "float one = {1.0}, float half = {0.5}, float low = {-1.0}, float high = {1.0}"


def model(
    body: Body, *, reverse: bool = False, initial: bool = True, checked: bool = True
) -> onnx.ModelProto:
    """A Scan of a body over X (T, B, I), with random weights."""
    first = ", ".join(f"first_{c}" for c in body.carries)
    given = ", ".join(f"float[B, {H}] first_{c}" for c in body.carries) if initial else ""
    last = ", ".join(f"last_{c}" for c in body.carries)
    zeros = (
        ""
        if initial
        else "\n".join(
            f"""shape_{c} = Shape <start = 1, end = 2> (X)
        whole_{c} = Concat <axis = 0> (shape_{c}, size)
        first_{c} = Expand (nothing, whole_{c})"""
            for c in body.carries
        )
    )
    passed, taken = ", X", f"float[B, {body.width}] x"
    if body.outside:
        passed, taken = f"{passed}, u", f"{taken}, float[B, {3 * H}] u"
    text = f"""<ir_version: 9, opset_import: ["": 18]>
    test (float[T, B, {body.width}] X{", " if given else ""}{given})
      => (float[T, B, {H}] Y, {", ".join(f"float[B, {H}] last_{c}" for c in body.carries)})
    <float nothing = {{0.0}}, int64[1] size = {{{H}}}> {{
      {zeros}
      {body.outside}
      {last}, Y = Scan <num_scan_inputs = {2 if body.outside else 1},
        scan_input_directions = [{", ".join([str(int(reverse))] * (2 if body.outside else 1))}],
        scan_output_directions = [{int(reverse)}],
        body = step ({", ".join(f"float[B, {H}] {c}" for c in body.carries)}, {taken})
          => ({", ".join(f"float[B, {H}] next_{c}" for c in body.carries)}, float[B, {H}] out)
          <{_CONSTANTS}> {{ {body.nodes} }}> ({first}{passed})
    }}"""
    message = parser.parse_model(text)
    generator = np.random.default_rng(5)
    for name, shape in body.weights.items():
        array = (0.5 * generator.standard_normal(shape)).astype(np.float32)
        message.graph.initializer.append(numpy_helper.from_array(array, name))
    if checked:
        onnx.checker.check_model(message, full_check=True)
    return message


def feeds(message: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Random inputs of a model."""
    generator = np.random.default_rng(6)
    sizes = {"T": T, "B": B}
    return {
        value.name: generator.standard_normal(
            [d.dim_value or sizes[d.dim_param] for d in value.type.tensor_type.shape.dim],
            np.float32,
        )
        for value in message.graph.input
    }


def loop(
    step: str = "x = Gather (X, i)",
    *,
    going: str = "more = Identity (c)",
    trips: str = "n",
    before: str = "n = Shape <start = 0, end = 1> (X) first = Identity (true)",
    carried: str = "",
    begin: str = "zero",
    counter: bool = False,
    steps: int | str = "T",
) -> onnx.ModelProto:
    """A Loop of a simple cell over X (T, B, I).

    `step` takes x of X, `going` makes the condition ``more``, `trips` is the trip count, `before`
    stands before the Loop; a counter k is carried if `carried` says how ``next_k`` is made. It
    starts at `begin`, and is an output of the model with `counter`.
    """
    counted, given = ("int64 k, ", f"{begin}, ") if carried else ("", "")
    more = ", int64 last_k" if counter else ""
    following, last = ("int64 next_k, ", "last_k, ") if carried else ("", "")
    text = f"""<ir_version: 9, opset_import: ["": 18]>
    test (float[{steps}, B, {I}] X, float[B, {H}] h0) => (float[{steps}, B, {H}] Y{more})
    <int64 zero = {{0}}, bool true = {{1}}, int64 two = {{2}}, float[1] scales = {{2.0}}> {{
      {before}
      {last}hT, Y = Loop <body = step (int64 i, bool c, {counted}float[B, {H}] h)
          => (bool more, {following}float[B, {H}] next_h, float[B, {H}] out)
          <int64 one = {{1}}, float half = {{0.5}}> {{
            {step}
            {carried}
            wx = MatMul (x, W)
            rh = MatMul (h, R)
            sum = Add (wx, rh)
            next_h = Tanh (sum)
            out = Identity (next_h)
            {going}
          }}> ({trips}, first, {given}h0)
    }}"""
    message = parser.parse_model(text)
    generator = np.random.default_rng(5)
    for name, shape in {"W": (I, H), "R": (H, H)}.items():
        array = (0.5 * generator.standard_normal(shape)).astype(np.float32)
        message.graph.initializer.append(numpy_helper.from_array(array, name))
    return message


def whole(
    body: str,
    *,
    inputs: str = f"float[T, B, {I}] X, float[B, {H}] h0",
    states: str = f"float[B, {H}] h",
    steps: str = f"float[B, {I}] x",
    following: str = f"float[B, {H}] next_h, float[B, {H}] out",
    given: str = "h0, X",
    made: str = "hT, Y",
    outputs: str = f"float[T, B, {H}] Y",
    attributes: str = "num_scan_inputs = 1",
    before: str = "",
) -> onnx.ModelProto:
    """A model of one Scan, every part of which may be odd."""
    message = parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 18]> test ({inputs}) => ({outputs}) {{
        {before}
        {made} = Scan <{attributes}, body = step ({states}, {steps}) => ({following}) {{ {body} }}>
        ({given}) }}"""
    )
    for name, shape in (RNN.weights | {"S": (H, 3)}).items():
        array = np.full(shape, 0.5, np.float32)
        message.graph.initializer.append(numpy_helper.from_array(array, name))
    return message
