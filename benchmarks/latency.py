"""How long the integer graph takes on a host beside the float model, in all forms.

A GRU of H=128 and I=28 with 8-bit codes and weights, and the same in float, on one thread of
onnxruntime: sequences of 28 steps as Scan and unrolled, one step a call as step, for one sequence
and for 256 at once, with graphs for any batch and with those of ``--batch 256``. Tables are read by
GatherElements, or by Gather, which more runtimes take and which is slow in onnxruntime. With
``--operator``: GRUs of several sizes and lengths as functions, whose bodies run, and with the
operators of `onnxgru.onnxruntime` in their place, beside the float GRU. Calls of all sides run in
turn. Figures are medians of processor time, in which other work on the machine does not count.

    python -m benchmarks.latency [--operator] [--quick] [--json FILE]
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from benchmarks.measure import Bench, bench, medians, parser_of, show
from onnxgru.core.integers import Quantization
from onnxgru.core.scheme import Scheme
from onnxgru.custom_ops.integer_graph.vocabulary import LOOKUPS, Vocabulary
from onnxgru.onnxruntime import library
from onnxgru.onnxruntime.operators import CompiledOperator, matched
from onnxgru.passes.emission.emit import Emit
from onnxgru.passes.emission.functions import Functions
from onnxgru.passes.emission.pack import Pack
from onnxgru.passes.forms.batch import Batch
from onnxgru.passes.forms.form import FORMS, Form
from onnxgru.passes.forms.step import Step
from onnxgru.passes.graph import source

HIDDEN, INPUTS, STEPS = 128, 28, 28
BITS = 8
BATCHES = (1, 256)
SIZES, LENGTHS = (64, 128, 256), (28, 361)
"""Units and steps of the GRUs that operators compute."""


def integer(made: Bench, form: Form, lookup: str) -> onnx.ModelProto:
    """The packed integer graph in a form."""
    model = made.model.clone()
    if form.batch is not None:
        Batch({"X": 1}, form.batch)(model)
    Step(made.layers, form.length)(model)
    program = made.lowering(Scheme.uniform(made.layers, BITS))
    Emit(program, form, Vocabulary(lookup))(model)
    Pack()(model)
    return source.compact(source.proto(model))


def handing_on(message: onnx.ModelProto) -> onnx.ModelProto:
    """The float model with its first state as an input, as a call with one step needs it."""
    step = onnx.ModelProto()
    step.CopyFrom(message)
    (node,) = step.graph.node
    node.input.extend(["", "h"])
    shape = [1, "B", HIDDEN]
    step.graph.input.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, shape))
    return step


def session(
    message: onnx.ModelProto, saved: Path | None = None, operators: Sequence[CompiledOperator] = ()
) -> onnxruntime.InferenceSession:
    """On one thread; `saved` receives what onnxruntime makes of the graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if operators:
        library.register(options, operators)
    if saved is not None:
        options.optimized_model_filepath = str(saved)
    return onnxruntime.InferenceSession(
        message.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def caller(
    message: onnx.ModelProto,
    batch: int,
    steps: int,
    state: Quantization | None,
    operators: Sequence[CompiledOperator] = (),
) -> Callable[[], object]:
    """One call on random data; states begin at 0.0."""
    opened = session(message, operators=operators)
    x = np.random.default_rng(1).standard_normal((steps, batch, INPUTS)).astype(np.float32)
    feeds = {"X": x}
    for given in opened.get_inputs()[1:]:
        shape = [batch if isinstance(n, str) else n for n in given.shape]
        zero = np.float32(0) if state is None else state.zero
        feeds[given.name] = np.full(shape, zero, zero.dtype)
    return lambda: opened.run(None, feeds)


def nodes(message: onnx.ModelProto) -> tuple[int, int]:
    """Nodes that onnxruntime runs: of the main graph, and of all bodies of Scan."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        session(message, path)
        graph = onnx.load(path).graph
    bodies = [a.g for node in graph.node for a in node.attribute if node.op_type == "Scan"]
    return len(graph.node), sum(len(body.node) for body in bodies)


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--operator", action="store_true", help="functions and operators alone")
    parsed = parser.parse_args()
    show(operators(quick=parsed.quick) if parsed.operator else forms(quick=parsed.quick), parsed)


def forms(*, quick: bool) -> dict[str, float | str]:
    """Figures of all forms, one GRU."""
    made = bench(HIDDEN, INPUTS, STEPS)
    program = made.lowering(Scheme.uniform(made.layers, BITS))
    (layer,) = program.layers
    state = layer.emitted
    figures: dict[str, float | str] = {}
    for name in FORMS:
        form = Form(name, steps=STEPS if name == "unrolled" else None)
        messages = {lookup: integer(made, form, lookup) for lookup in reversed(LOOKUPS)}
        for lookup, message in messages.items():
            outer, inner = nodes(message)
            figures[f"{name}, {lookup}, nodes of the graph"] = str(outer)
            if inner:
                figures[f"{name}, {lookup}, nodes of the body"] = str(inner)
        steps = form.length or STEPS
        floating = handing_on(made.message) if name == "step" else made.message
        for batch in BATCHES:
            sides = {f"batch {batch}, {lookup}": message for lookup, message in messages.items()}
            if batch > 1:
                fixed = replace(form, batch=batch)
                sides |= {
                    f"batch {batch}, --batch {batch}, {lookup}": integer(made, fixed, lookup)
                    for lookup in messages
                }
            rounds = (40 if quick else 400) if batch == 1 else 5 if quick else 25
            other, *own = medians(
                caller(floating, batch, steps, None),
                *(caller(message, batch, steps, state) for message in sides.values()),
                rounds=rounds,
                clock=time.process_time,
            )
            figures[f"{name}, batch {batch}, float, us per call"] = 1e6 * other
            for side, seconds in zip(sides, own, strict=True):
                label = f"{name}, {side}"
                figures[f"{label}, us per call"] = 1e6 * seconds
                figures[f"{label}, ratio"] = seconds / other
    return figures


def operators(*, quick: bool) -> dict[str, float | str]:
    """Figures of functions and of operators in their place, several GRUs."""
    figures: dict[str, float | str] = {}
    for hidden in SIZES[:1] if quick else SIZES:
        made = bench(hidden, INPUTS, STEPS)
        program = made.lowering(Scheme.uniform(made.layers, BITS))
        model = made.model.clone()
        Emit(program, whole=True)(model)
        Functions()(model)
        Pack()(model)
        message = source.compact(source.proto(model))
        found = matched(message, program).operators
        for steps in LENGTHS[:1] if quick else LENGTHS:
            for batch in BATCHES:
                sides = [
                    caller(made.message, batch, steps, None),
                    caller(message, batch, steps, None, found),
                ]
                if steps == STEPS:  # a body of some hundred steps and sequences takes seconds
                    sides.append(caller(message, batch, steps, None))
                rounds = (40 if quick else 200) if batch == 1 else 5
                other, *own = medians(*sides, rounds=rounds, clock=time.process_time)
                label = f"H={hidden}, {steps} steps, batch {batch}"
                figures[f"{label}, float, us per call"] = 1e6 * other
                for name, taken in zip(("operator", "function"), own, strict=False):
                    figures[f"{label}, {name}, us per call"] = 1e6 * taken
                    figures[f"{label}, {name}, ratio"] = taken / other
    return figures


if __name__ == "__main__":
    main()
