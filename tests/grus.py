"""Random models of one recurrent node, seeded, for tests of every stage."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


@dataclass(frozen=True)
class Case:
    """Settings of one recurrent node; letters as everywhere."""

    T: int = 5
    B: int = 3
    I: int = 4  # noqa: E741 - the letter of the ONNX operator specification
    H: int = 6
    direction: str = "forward"
    linear_before_reset: int = 1
    layout: int = 0
    bias: bool = True
    initial: bool = False
    lengths: tuple[int, ...] | None = None
    clip: float | None = None
    activations: tuple[str, ...] | None = None
    alphas: tuple[float, ...] = ()
    betas: tuple[float, ...] = ()
    outputs: tuple[str, ...] = ("Y", "Y_h")
    dynamic: bool = True
    seed: int = 0
    gain: float = 0.5
    extra: dict = field(default_factory=dict)
    operator: str = "GRU"
    peepholes: bool = False

    @property
    def D(self) -> int:  # noqa: N802 - the letter of the ONNX operator specification
        return 2 if self.direction == "bidirectional" else 1


def weights(case: Case) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(case.seed)

    def draw(*shape: int) -> np.ndarray:
        return (case.gain * generator.standard_normal(shape)).astype(np.float32)

    gates = GATES[case.operator]
    result = {
        "W": draw(case.D, gates * case.H, case.I),
        "R": draw(case.D, gates * case.H, case.H),
    }
    if case.bias:
        result["B"] = draw(case.D, 2 * gates * case.H)
    if case.peepholes:
        result["P"] = draw(case.D, 3 * case.H)
    return result


def _first(case: Case) -> tuple[str, ...]:
    """Inputs that are first values of what a node carries."""
    names = ("initial_h", "initial_c") if case.operator == "LSTM" else ("initial_h",)
    return names if case.initial else ()


def _made(case: Case) -> tuple[str, ...]:
    """Outputs that a node has."""
    return ("Y", "Y_h", "Y_c") if case.operator == "LSTM" else ("Y", "Y_h")


def feeds(case: Case, seed: int = 1) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((case.T, case.B, case.I)).astype(np.float32)
    if case.layout:
        x = x.swapaxes(0, 1).copy()
    result = {"X": x}
    if case.lengths is not None:
        result["lengths"] = np.asarray(case.lengths, np.int32)
    for name in _first(case):
        first = generator.uniform(-0.9, 0.9, (case.D, case.B, case.H)).astype(np.float32)
        result[name] = first.swapaxes(0, 1).copy() if case.layout else first
    return result


def node(case: Case, name: str = "gru", x: str = "X", prefix: str = "") -> onnx.NodeProto:
    attributes: dict[str, object] = {
        "hidden_size": case.H,
        "direction": case.direction,
        **case.extra,
    }
    if case.operator == "GRU":
        attributes["linear_before_reset"] = case.linear_before_reset
    if case.layout:
        attributes["layout"] = 1
    if case.clip is not None:
        attributes["clip"] = case.clip
    if case.activations is not None:
        attributes["activations"] = list(case.activations) * case.D
        if case.alphas:
            attributes["activation_alpha"] = list(case.alphas) * case.D
        if case.betas:
            attributes["activation_beta"] = list(case.betas) * case.D
    inputs = [x, f"{prefix}W", f"{prefix}R", f"{prefix}B" if case.bias else ""]
    inputs += ["lengths" if case.lengths is not None else ""]
    first = _first(case)
    inputs += [name if name in first else "" for name in ("initial_h", "initial_c")]
    inputs += [f"{prefix}P" if case.peepholes else ""]
    while not inputs[-1]:
        inputs.pop()
    outputs = [f"{prefix}{o}" if o in case.outputs else "" for o in _made(case)]
    return helper.make_node(case.operator, inputs, outputs, name=name, **attributes)


def model(case: Case) -> onnx.ModelProto:
    """A model that is one recurrent node."""
    T, B = ("T", "B") if case.dynamic else (case.T, case.B)  # noqa: N806 - letters
    one = [B, case.D, case.H] if case.layout else [case.D, B, case.H]
    shapes = {
        "X": [B, T, case.I] if case.layout else [T, B, case.I],
        "Y": [B, T, case.D, case.H] if case.layout else [T, case.D, B, case.H],
        **dict.fromkeys(("initial_h", "initial_c", "Y_h", "Y_c"), one),
    }
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, shapes["X"])]
    if case.lengths is not None:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [B]))
    for name in _first(case):
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]))
    outputs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, shapes[o]) for o in case.outputs]
    initializers = [numpy_helper.from_array(a, n) for n, a in weights(case).items()]
    graph = helper.make_graph([node(case)], "test", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def stacked(cases: Sequence[Case], between: str = "codes") -> onnx.ModelProto:
    """A model of GRUs that feed each other; each case's I is D H of the one before.

    ``between`` is "codes" for a Squeeze, or a Transpose and Reshape where there are two
    directions, or "floats" for elementwise float operators behind these.
    """
    first, last = cases[0], cases[-1]
    nodes, arrays, x = [], {}, "X"
    for index, case in enumerate(cases):
        prefix = f"l{index}_"
        arrays |= {f"{prefix}{name}": array for name, array in weights(case).items()}
        nodes.append(node(case, f"gru{index}", x, prefix))
        if case is last:
            break
        y, x = f"{prefix}Y", f"{prefix}next"
        if case.D == 1:
            arrays["axis"] = np.asarray([1], np.int64)
            nodes.append(helper.make_node("Squeeze", [y, "axis"], [x], name=f"squeeze{index}"))
        else:
            arrays["flat"] = np.asarray([0, 0, -1], np.int64)
            moved = f"{prefix}moved"
            nodes.append(
                helper.make_node(
                    "Transpose", [y], [moved], name=f"transpose{index}", perm=[0, 2, 1, 3]
                )
            )
            nodes.append(helper.make_node("Reshape", [moved, "flat"], [x], name=f"flat{index}"))
        if between == "floats":
            arrays["gain"] = np.asarray(1.5, np.float32)
            scaled, kept = f"{prefix}scaled", x
            x = f"{prefix}relu"
            nodes.append(helper.make_node("Mul", [kept, "gain"], [scaled], name=f"mul{index}"))
            nodes.append(helper.make_node("Relu", [scaled], [x], name=f"relu{index}"))
    prefix = f"l{len(cases) - 1}_"
    one = [last.D, "B", last.H]
    shapes = {"Y": ["T", last.D, "B", last.H], "Y_h": one, "Y_c": one}
    given = {"X": ["T", "B", first.I]}
    given |= {name: [first.D, "B", first.H] for name in _first(first)}
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in given.items()]
    if first.lengths is not None:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]))
    outputs = [
        helper.make_tensor_value_info(f"{prefix}{o}", TensorProto.FLOAT, shapes[o])
        for o in last.outputs
    ]
    initializers = [numpy_helper.from_array(a, n) for n, a in arrays.items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(message: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        message.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)


def reference(case: Case, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of onnxruntime's own operator, transposing around it for layout 1."""
    if not case.layout:
        return run(model(case), inputs)
    from dataclasses import replace

    plain = {n: a.swapaxes(0, 1) if n != "lengths" else a for n, a in inputs.items()}
    results = run(model(replace(case, layout=0)), plain)
    orders = {"Y": (2, 0, 1, 3), "Y_h": (1, 0, 2), "Y_c": (1, 0, 2)}
    return [r.transpose(orders[o]) for r, o in zip(results, case.outputs, strict=True)]
