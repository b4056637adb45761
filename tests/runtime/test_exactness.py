"""The integer graph equals the oracle, code for code and value for value, in every runtime.

Over uniform and random mixed schemes, attributes and shapes of the GRU, stacked GRUs, and all
three forms of the recurrence; and inside the recurrence there are nothing but 8-bit and 32-bit
integer tensors. Nothing here has a tolerance.
"""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import onnx
import pytest

from onnxgru.core.choices import WIDTHS
from onnxgru.core.errors import VerificationError
from onnxgru.core.scheme import LinearScheme, Scheme
from onnxgru.custom_ops.integer_graph.vocabulary import Vocabulary
from onnxgru.passes.forms.form import Form
from onnxgru.passes.forms.states import first_values, recorded
from onnxgru.passes.graph import source
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.sessions import require_equal, runtimes
from tests import grus
from tests.pipeline import Pipeline, dataset, pipeline
from tests.runtime.exact import (
    ONE,
    RUNTIMES,
    every_node,
    expect,
    made,
    require_exact,
    to_step,
)

pytestmark = pytest.mark.slow

PLAIN = {reset: grus.Case(linear_before_reset=reset) for reset in (0, 1)}
QUICK = ("onnxruntime (disabled)", "onnxruntime (all)", "onnx.reference")


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("reset", [0, 1])
def test_uniform(reset: int, bits: int) -> None:
    model, inputs = made(PLAIN[reset])
    require_exact(model, model.uniform(bits), inputs)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("reset", [0, 1])
def test_mixed(reset: int, seed: int) -> None:
    model, inputs = made(PLAIN[reset])
    require_exact(model, model.mixed(seed), inputs)


def test_weights_of_several_widths_in_one_product() -> None:
    """OpenVINO 2026.4 mixes up unpacked weights that no Reshape gives their two axes."""
    model, inputs = made(grus.Case(I=28, H=16))
    scheme = Scheme.uniform(model.layers, 8)
    narrow = {
        n: replace(scheme.linear(n), weight_bits=3)
        for n in scheme.operators
        if "new." in n and isinstance(scheme.operators[n], LinearScheme)
    }
    require_exact(model, model.lower(Scheme(scheme.inputs, {**scheme.operators, **narrow})), inputs)


@pytest.mark.parametrize("form", [None, Form("unrolled", steps=5)])
@pytest.mark.parametrize("seed", range(2))
def test_tables_read_by_gather_elements(seed: int, form: Form | None) -> None:
    """In all runtimes but onnx.reference, which refuses tables of more than 64 entries."""
    model, inputs = made(PLAIN[seed])
    program = model.mixed(seed) if seed else model.uniform(8)
    names = [name for name in RUNTIMES if name != "onnx.reference"]
    require_exact(model, program, inputs, form, names, Vocabulary("GatherElements"))


@pytest.mark.parametrize("reset", [0, 1])
def test_divisions_of_integers_need_no_bitwise_and(reset: int) -> None:
    """Where no runtime divides in float32, as OpenVINO does."""
    model, inputs = made(PLAIN[reset])
    program = model.uniform(8)
    vocabulary = Vocabulary(float_division=False)
    message = model.emit(program, vocabulary=vocabulary)
    nodes = [n for node in message.graph.node for a in node.attribute for n in a.g.node]
    assert "BitwiseAnd" not in {node.op_type for node in (*nodes, *message.graph.node)}
    names = [name for name in RUNTIMES if name != "OpenVINO"]
    require_exact(model, program, inputs, None, names, vocabulary)


@pytest.mark.parametrize("reset", [0, 1])
def test_numbers_for_every_column(reset: int) -> None:
    """As tract wants it of an unrolled recurrence."""
    model, inputs = made(PLAIN[reset])
    form, vocabulary = Form("unrolled", steps=len(inputs["X"])), Vocabulary(numbers=False)
    require_exact(model, model.uniform(4), inputs, form, QUICK, vocabulary)
    message = model.emit(model.uniform(4), form, vocabulary)
    expanded = {n.output[0] for n in message.graph.node if n.op_type == "Expand"}
    sizes = {one.name: int(np.prod(one.dims)) for one in message.graph.initializer}
    read = {n.input[1] for n in message.graph.node if n.name.rpartition("/shift/")[1]}
    assert read & expanded
    assert all(sizes.get(name, 2) > 1 for name in read)


GRID = [
    grus.Case(
        linear_before_reset=reset,
        direction=direction,
        initial=initial,
        lengths=lengths,
        clip=clip,
        bias=bias,
        layout=layout,
        outputs=outputs,
    )
    for reset, direction, initial, lengths, clip, bias, layout, outputs in product(
        (0, 1),
        ("forward", "reverse", "bidirectional"),
        (False, True),
        (None, (5, 2, 0)),
        (None, 0.7),
        (False, True),
        (0, 1),
        (("Y", "Y_h"), ("Y",), ("Y_h",)),
    )
]
DRAWN = sorted(np.random.default_rng(7).choice(len(GRID), 48, replace=False))


@pytest.mark.parametrize("index", DRAWN, ids=lambda index: str(GRID[index]))
def test_attributes(index: int) -> None:
    """A seeded part of the whole grid, a uniform and a mixed scheme each."""
    model, inputs = made(GRID[index])
    openvino = index % 3 == 0
    names = [n for n in RUNTIMES if n in QUICK or (openvino and n == "OpenVINO")]
    require_exact(model, model.uniform(WIDTHS[index % 7]), inputs, names=names)
    require_exact(model, model.mixed(int(index)), inputs, names=names)


def test_drawn_cases_meet_every_pair_of_settings() -> None:
    fields = ("linear_before_reset", "direction", "initial", "lengths", "clip", "bias", "layout")
    settings = [[(f, getattr(GRID[i], f)) for f in fields] for i in range(len(GRID))]
    wanted = {(a, b) for one in settings for a in one for b in one}
    assert wanted == {(a, b) for i in DRAWN for a in settings[i] for b in settings[i]}


ACTIVATIONS = [
    (("Sigmoid", "Relu"), (), ()),
    (("HardSigmoid", "ScaledTanh"), (0.3, 0.9), (0.4, 0.8)),
    (("Softsign", "LeakyRelu"), (0.05,), ()),
    (("Tanh", "Softplus"), (), ()),
    (("Affine", "Elu"), (0.6, 0.7), (0.1,)),
    (("ThresholdedRelu", "Tanh"), (0.2,), ()),
]


@pytest.mark.parametrize(("names", "alphas", "betas"), ACTIVATIONS, ids=str)
@pytest.mark.parametrize("reset", [0, 1])
def test_activations(
    reset: int, names: tuple[str, ...], alphas: tuple[float, ...], betas: tuple[float, ...]
) -> None:
    case = grus.Case(
        linear_before_reset=reset, activations=names, alphas=alphas, betas=betas, gain=0.2
    )
    model, inputs = made(case)
    require_exact(model, model.uniform(8), inputs, names=QUICK)
    require_exact(model, model.mixed(reset), inputs)


SHAPES = [(1, 1, 1, 1), (1, 3, 2, 4), (4, 1, 3, 5), (6, 2, 1, 3), (3, 2, 4, 1), (28, 4, 28, 32)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_shapes(direction: str, shape: tuple[int, ...]) -> None:
    T, B, I, H = shape  # noqa: E741, N806 - the letters of the specification
    model, inputs = made(grus.Case(T, B, I, H, direction=direction, gain=0.3))
    require_exact(model, model.uniform(4), inputs, names=QUICK)
    require_exact(model, model.mixed(sum(shape)), inputs)


def test_fresh_inputs() -> None:
    """Inputs that calibration has not seen, and far beyond its range: codes saturate alike."""
    model, _ = made(PLAIN[1])
    for seed, gain in ((5, 1.0), (6, 1e3), (7, 1e-6)):
        inputs = {n: a * np.float32(gain) for n, a in grus.feeds(PLAIN[1], seed).items()}
        require_exact(model, model.mixed(seed), inputs)


@pytest.mark.parametrize("bits", [3, 8])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_float_boundary(runtime: str, bits: int) -> None:
    """Values at, just below and just above every tie, and far away, get the same codes."""
    model, _ = made(PLAIN[1])
    program = model.lower(Scheme.uniform(model.layers, 8, input_bits=bits))
    quantization = program.layers[0].input.quantization
    low, high = quantization.range
    ties = (np.arange(-3, 2**bits + 3) - 0.5 - quantization.zero_point) * quantization.scale
    ties = ties.astype(np.float32)
    steps = [np.nextafter(ties, np.float32(end)) for end in (-np.inf, np.inf)]
    drawn = np.random.default_rng(0).uniform(low, high, 20_000)
    values = np.concatenate([ties, *steps, drawn, [-1e30, 1e30, -0.0]]).astype(np.float32)
    x = np.resize(values, (1, len(values) // 4 + 1, 4))
    message = model.emit(program)
    message.graph.output.append(
        onnx.helper.make_tensor_value_info("/gru/input/codes", onnx.TensorProto.UINT8, None)
    )
    found = runtimes()[runtime](message)({"X": x})
    np.testing.assert_array_equal(found["/gru/input/codes"], quantization.quantize(x))


@pytest.mark.parametrize("granularity", ["tensor", "gate", "channel"])
def test_granularities(granularity: str) -> None:
    model, inputs = made(PLAIN[0])
    require_exact(model, model.uniform(3, granularity=granularity), inputs)


STACKS = {
    "squeezed": [grus.Case(), grus.Case(I=6, H=5, seed=2)],
    "both ways": [
        grus.Case(direction="bidirectional", linear_before_reset=0),
        grus.Case(I=12, H=4, direction="bidirectional", seed=2),
        grus.Case(I=8, H=3, seed=3, outputs=("Y_h",)),
    ],
    "with lengths": [
        grus.Case(direction="bidirectional", lengths=(5, 2, 0), initial=True),
        grus.Case(I=12, H=4, lengths=(5, 2, 0), seed=2),
    ],
}


@pytest.mark.parametrize("between", ["codes", "floats"])
@pytest.mark.parametrize("name", list(STACKS))
def test_stacks(name: str, between: str) -> None:
    cases = STACKS[name]
    inputs = grus.feeds(cases[0])
    model = pipeline(grus.stacked(cases, between), inputs)
    program = model.uniform(8)
    assert [layer.reads_codes for layer in program.layers[1:]] == [between == "codes"] * (
        len(cases) - 1
    )
    for made_ in (program, model.mixed(1)):
        require_exact(model, made_, inputs)


def test_codes_pass_without_a_float() -> None:
    """Between GRUs that feed each other there is no float tensor."""
    cases = STACKS["both ways"]
    model = pipeline(grus.stacked(cases), grus.feeds(cases[0]))
    message = model.emit(model.uniform(8))
    types = element_types(message)
    codes = next(n for n in message.graph.node if n.output[0].endswith("/input/codes"))
    after = descendants(message.graph, set(codes.output))
    before = ancestors(message.graph, {"/gru2/y_h"})
    assert {types[v] for v in after & before} <= INTEGERS | {onnx.TensorProto.INT64}  # shapes


LARGE = grus.Case(T=3, B=2, I=700, H=700)


def test_large() -> None:
    """Accumulators that leave 2^24: weights at their ends, inputs at the code far from zero."""
    message = grus.model(LARGE)
    for tensor in message.graph.initializer:
        array = np.sign(onnx.numpy_helper.to_array(tensor))
        array[:, ::3] = 1  # some rows add up, the others cancel
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    inputs = {"X": np.abs(grus.feeds(LARGE)["X"])}
    inputs["X"][1:] = 5.0
    model = pipeline(message, inputs)
    program = model.uniform(8)
    linear = next(o for o in program.operators if o.kind == "linear")
    codes = program.layers[0].input.quantization.quantize(inputs["X"]).astype(np.int64)
    steps = codes - linear.operands[0].quantization.zero_point
    product = steps @ np.concatenate([p.weight for p in linear.parts]).astype(np.int64).T
    assert np.abs(product).max() > 2**24 and len(linear.blocks) == 2
    names = [n for n in RUNTIMES if n not in ("onnxruntime (basic)", "onnxruntime (extended)")]
    require_exact(model, program, inputs, names=names)


# Forms -------------------------------------------------------------------------------------------


FORMS = [
    grus.Case(linear_before_reset=0, dynamic=False),
    grus.Case(direction="bidirectional", initial=True, lengths=(5, 2, 0), dynamic=False),
    grus.Case(direction="reverse", outputs=("Y",), layout=1, dynamic=False),
    grus.Case(T=1, dynamic=False),
]


@pytest.mark.parametrize("case", FORMS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_unrolled_equals_scan(case: grus.Case, seed: int) -> None:
    model, inputs = made(case)
    program = model.mixed(seed) if seed else model.uniform(5)
    require_exact(model, program, inputs)
    require_exact(model, program, inputs, Form("unrolled"))


def test_unrolled_with_given_steps() -> None:
    model, inputs = made(PLAIN[1])
    require_exact(model, model.mixed(3), inputs, Form("unrolled", steps=5))


@pytest.mark.parametrize("float_state", [False, True])
@pytest.mark.parametrize("name", ["reset before", "reset after", "one input", "stack"])
def test_step_equals_scan(name: str, float_state: bool) -> None:
    """One call a step with the states fed back gives the codes of the whole sequence."""
    cases = {
        "reset before": [PLAIN[0]],
        "reset after": [PLAIN[1]],
        "one input": [grus.Case(I=1, gain=2.0)],
        "stack": [grus.Case(), grus.Case(I=6, H=5, seed=2)],
    }[name]
    inputs = grus.feeds(cases[0])
    message = grus.stacked(cases) if len(cases) > 1 else grus.model(cases[0])
    model = pipeline(message, inputs)
    program = model.mixed(4)
    expected = require_exact(model, program, inputs, names=ONE)
    emitted = to_step(model).emit(program, Form("step", float_state=float_state))
    onnx.checker.check_model(emitted, full_check=True)
    start = first_values(recorded(emitted), cases[0].B)
    assert {a.dtype for a in start.values()} == {np.dtype("f4" if float_state else "u1")}
    for runtime in RUNTIMES:
        run, states = runtimes()[runtime](emitted), start
        for t in range(cases[0].T):
            found = run({**states, "X": inputs["X"][t : t + 1]})
            last = next(n for n in found if n.endswith("Y"))
            require_equal({last: expected.outputs[last][t : t + 1]}, found, [last], runtime)
            for layer in program.layers:
                codes = expected.states[layer.name].y[t, 0]
                wanted = layer.emitted.dequantize(codes) if float_state else codes
                following = found[f"{layer.name}/forward/next_state"]
                assert following.dtype == wanted.dtype
                np.testing.assert_array_equal(following, wanted)
            states = {n: found[n.removesuffix("state") + "next_state"] for n in start}


def test_every_operator_of_an_unrolled_graph() -> None:
    """Not only the states: every operator's codes at every step are the oracle's."""
    case = grus.Case(T=3, dynamic=False)
    model, inputs = made(case)
    program = model.mixed(6)
    expected = expect(model, program, inputs)
    message = model.emit(program, Form("unrolled"), traced=True)
    names = {}
    for operator, codes in expected.states["/gru"].trace.items():
        if any(operator in o.outputs for o in program.layers[0].recurrences[0].prologue.operators):
            names[operator] = codes
        else:
            names |= {f"{operator}/{t}": codes[t] for t in range(case.T)}
    made_ = {v for node in message.graph.node for v in node.output}
    assert len(names) == 3 + 14 * case.T and set(names) <= made_
    for name in names:
        message.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None)
        )
    for runtime in RUNTIMES:
        found = runtimes()[runtime](message)(inputs)
        require_equal(names, found, names, runtime)


# Types -------------------------------------------------------------------------------------------

INTEGERS = {onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.INT32}
BIAS = re.compile("/bias$")
"""Stored in 8, 16 or 32 bits, and widened before anything but standing side by side."""
SHAPES_ONLY = re.compile("onnxgru/(axes|length)/")
LENGTHS = re.compile(r"/(initial/(batch|shape)|(mask|nonempty)/\w+)(_\d+)?$")


def element_types(message: onnx.ModelProto) -> dict[str, int]:
    """Element type of every value, those of subgraphs included."""
    inferred = onnx.shape_inference.infer_shapes(message, strict_mode=True, data_prop=True)
    types: dict[str, int] = {}

    def add(graph: onnx.GraphProto) -> None:
        for value in [*graph.input, *graph.output, *graph.value_info]:
            types[value.name] = value.type.tensor_type.elem_type
        types.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    add(attribute.g)

    add(inferred.graph)
    missing = [v for n in every_node(inferred.graph) for v in n.output if v not in types]
    assert not missing
    return types


def ancestors(graph: onnx.GraphProto, names: set[str], stop: str = "$^") -> set[str]:
    found = set(names)
    for node in reversed(graph.node):
        if any(v in found and not re.search(stop, v) for v in node.output):
            found.update(node.input)
    return found


def descendants(graph: onnx.GraphProto, names: set[str]) -> set[str]:
    found = set(names)
    for node in graph.node:
        if found.intersection(node.input):
            found.update(node.output)
    return found


def biases(message: onnx.ModelProto) -> set[str]:
    """Biases as they are stored, and several of them side by side."""
    found = {tensor.name for tensor in message.graph.initializer if BIAS.search(tensor.name)}
    for node in every_node(message.graph):
        if node.op_type == "Concat" and found.issuperset(node.input):
            found.update(node.output)
    return found


def require_integers(names: set[str], types: dict[str, int], narrow: set[str]) -> None:
    wrong = {
        name: onnx.TensorProto.DataType.Name(types[name])
        for name in names
        if types[name] not in INTEGERS
        and not (types[name] == onnx.TensorProto.INT64 and SHAPES_ONLY.match(name))
        and not (types[name] == onnx.TensorProto.INT16 and name in narrow)
    }
    assert not wrong


TYPED = [
    grus.Case(),
    grus.Case(linear_before_reset=0, direction="bidirectional", initial=True, lengths=(5, 2, 0)),
]


@pytest.mark.parametrize("packed_bits", [3, 8])
@pytest.mark.parametrize("case", TYPED, ids=str)
def test_scan_bodies_hold_8_and_32_bit_integers_only(case: grus.Case, packed_bits: int) -> None:
    model, _ = made(case)
    message = model.emit(model.uniform(packed_bits))
    types = element_types(message)
    scans = [node for node in message.graph.node if node.op_type == "Scan"]
    assert len(scans) == case.D
    for scan in scans:
        body = next(a.g for a in scan.attribute if a.name == "body")
        values = {v.name for v in body.input} | {v.name for v in body.output}
        values.update(v for n in body.node for v in [*n.input, *n.output] if v)
        require_integers(values, types, biases(message))
        assert not any(n.op_type in FORBIDDEN for n in body.node)


FORBIDDEN = {"Mod", "BitShift", "QuantizeLinear", "DequantizeLinear", "MatMul", "QLinearMatMul"}
"""Operators that some runtime computes wrongly, or in float."""


def recurrent_values(model: Pipeline, message: onnx.ModelProto) -> set[str]:
    """Whatever the codes of the states are computed from, up to the codes of the boundary.

    Values in the body of a Scan that computes some of them belong to it.
    """
    codes = {f"{layer.name}/{o}" for layer in model.layers for o in ("y", "y_h")}
    made_ = {v for node in message.graph.node for v in node.output}
    found = ancestors(message.graph, codes & made_, r"/(input|state)/codes(/\d+)?(_\d+)?$")
    quantised = {v for v in found if re.search(r"/(input|state)/codes", v)}
    around = ancestors(message.graph, quantised)
    own = (found - around) | quantised
    scans = [n for n in message.graph.node if n.op_type == "Scan" and own.intersection(n.output)]
    inner = (node for scan in scans for a in scan.attribute for node in a.g.node)
    return own.union(v for node in inner for v in [*node.input, *node.output] if v)


@pytest.mark.parametrize("form", ["scan", "step", "unrolled"])
@pytest.mark.parametrize("case", TYPED, ids=str)
def test_whole_recurrences_hold_8_and_32_bit_integers_only(case: grus.Case, form: str) -> None:
    if form == "step" and case.D > 1:
        pytest.skip("bidirectional recurrences have no step form")
    model, _ = made(replace(case, dynamic=form != "unrolled"))
    model = to_step(model) if form == "step" else model
    message = model.emit(model.mixed(2), Form(form))
    types = element_types(message)
    values = recurrent_values(model, message)
    assert len(values) > 100
    counting = {v for n in message.graph.node if LENGTHS.search(n.name) for v in n.output}
    lengths = (values & counting) | {"lengths"}
    require_integers(values - lengths, types, biases(message))
    assert {types[v] for v in lengths & set(types)} <= {
        onnx.TensorProto.INT64,
        onnx.TensorProto.INT32,
        onnx.TensorProto.BOOL,
        onnx.TensorProto.UINT8,
    }
    kinds = {n.op_type for n in every_node(message.graph) if values.intersection(n.output)}
    assert not kinds & FORBIDDEN


# Oracle and evaluator ----------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(0, len(GRID), 23))
def test_oracle_equals_evaluator_with_traces(index: int) -> None:
    model, inputs = made(GRID[index])
    data = dataset(model.host, inputs)
    for program in (model.uniform(WIDTHS[index % 7]), model.mixed(index)):
        expected = expect(model, program, inputs)
        evaluator = Evaluator(model.host, data)
        ((_, states),) = evaluator.states(program, trace=True)
        (outputs,) = evaluator.calls_outputs(program)
        require_equal(expected.outputs, outputs, expected.outputs, "evaluator")
        for layer, wanted in expected.states.items():
            found = states[layer]
            assert found.y.dtype == np.uint8
            np.testing.assert_array_equal(found.y, wanted.y)
            np.testing.assert_array_equal(found.last["state"], wanted.last["state"])
            assert set(found.trace) == set(wanted.trace)
            assert len(wanted.trace) == 17 * GRID[index].D
            for name, codes in wanted.trace.items():
                np.testing.assert_array_equal(found.trace[name], codes)


def test_codes_follow_the_float_model() -> None:
    """Exactness of a wrong program is worth nothing: 8 bits stay close to the float GRU."""
    for case in PLAIN.values():
        model, inputs = made(case)
        expected = expect(model, model.uniform(8), inputs)
        (real, _) = grus.reference(case, inputs)
        assert np.abs(expected.outputs["Y"] - real).max() < 0.06


def test_one_wrong_code_is_seen() -> None:
    model, inputs = made(PLAIN[1])
    program = model.uniform(8)
    expected = expect(model, program, inputs)
    message = source.proto(source.ir.from_proto(model.emit(program)))
    for tensor in message.graph.initializer:
        if tensor.name.endswith("new.gate/table"):
            table = onnx.numpy_helper.to_array(tensor).copy()
            used = expected.states["/gru"].trace["/gru/forward/new.sum"].ravel()
            table[used[0]] ^= 1
            tensor.CopyFrom(onnx.numpy_helper.from_array(table, tensor.name))
    found = runtimes()["onnxruntime (all)"](message)(inputs)
    with pytest.raises(VerificationError, match="must equal the oracle"):
        require_equal(expected.outputs, found, ["Y"], "onnxruntime")
