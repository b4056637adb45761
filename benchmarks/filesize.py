"""Bytes of the integer graph, and what is left of them beside weights and other parameters.

A GRU of H=128 and I=28, at every width and in every form; and 14 GRUs of 16 units one after the
other, each called with one step, as speech enhancers have them, beside the float model, flat and
with functions. What is left is nodes, names, shapes and metadata: the file without the flash bytes
of the parameters. Times of calls are medians of processor time of one thread.

    python -m benchmarks.filesize [--quick] [--json FILE]
"""

import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import onnxgru
from benchmarks.latency import session
from benchmarks.measure import arguments, bench, medians, show
from onnxgru.core.choices import WIDTHS
from onnxgru.passes.forms.form import FORMS

HIDDEN, INPUTS, STEPS = 128, 28, 28
LAYERS, SMALL = 14, 16


def chain() -> onnx.ModelProto:
    """Many small GRUs, each reading the one before, with states as inputs and outputs."""
    rng = np.random.default_rng(0)
    nodes, tensors, last = [], [numpy_helper.from_array(np.asarray([1]), "axis")], "x"
    for k in range(LAYERS):
        shapes = {f"{k}W": (1, 3 * SMALL, SMALL), f"{k}R": (1, 3 * SMALL, SMALL)}
        shapes[f"{k}B"] = (1, 6 * SMALL)
        arrays = {n: (0.3 * rng.standard_normal(s)).astype("f4") for n, s in shapes.items()}
        tensors += [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        reads = [last, *arrays, "", f"h{k}"]
        nodes += [
            helper.make_node(
                "GRU", reads, [f"y{k}", f"n{k}"], f"g{k}", hidden_size=SMALL, linear_before_reset=1
            ),
            helper.make_node("Squeeze", [f"y{k}", "axis"], [f"s{k}"]),
        ]
        last = f"s{k}"

    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, SMALL])

    graph = helper.make_graph(
        nodes,
        "chain",
        [value("x"), *(value(f"h{k}") for k in range(LAYERS))],
        [value(last), *(value(f"n{k}") for k in range(LAYERS))],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def written(
    model: Path,
    form: str,
    bits: int,
    place: Path,
    data: dict[str, np.ndarray],
    *,
    functions: bool = False,
) -> Path:
    """The integer graph that `quantize` writes."""
    steps = STEPS if form == "unrolled" else None
    onnxgru.quantize(
        model, bits=bits, calibration=data, output=place, recurrence=form, steps=steps, force=True,
        functions=functions,
    )  # fmt: skip
    return place / "integer.onnx"


def overhead(path: Path) -> int:
    """Bytes that are no parameters, by the sizes that the file itself names."""
    message = onnx.load(path)
    (sizes,) = (p.value for p in message.metadata_props if p.key == "onnxgru.sizes")
    return path.stat().st_size - int(json.loads(sizes)["flash_bytes"])


def main() -> None:
    """Measure and print."""
    parsed = arguments(__doc__)
    figures: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        made = bench(HIDDEN, INPUTS, STEPS)
        onnx.save(made.message, place / "one.onnx")
        data = dict(made.data(64, STEPS).inputs)
        for form in FORMS:
            for bits in (3, 8) if parsed.quick else WIDTHS:
                found = written(place / "one.onnx", form, bits, place / "out", data)
                label = f"{form}, {bits} bits"
                figures[f"{label}, bytes"] = str(found.stat().st_size)
                figures[f"{label}, bytes beside the parameters"] = str(overhead(found))
        onnx.save(chain(), place / "chain.onnx")
        names = [value.name for value in chain().graph.input]
        rng = np.random.default_rng(1)
        zeros = {name: rng.standard_normal((1, 1, SMALL)).astype("f4") for name in names}
        sessions = [session(onnx.load(place / "chain.onnx"))]
        size = (place / "chain.onnx").stat().st_size
        label = f"{LAYERS} layers of {SMALL} units"
        figures[f"{label}, float, bytes"] = str(size)
        kinds = [(form, functions) for form in ("scan", "step") for functions in (False, True)]
        labels = []
        for form, functions in kinds:
            found = written(
                place / "chain.onnx", form, 8, place / "out", zeros, functions=functions
            )
            labels.append(f"{label}, {form}, {'functions' if functions else 'flat'}")
            figures[f"{labels[-1]}, bytes"] = str(found.stat().st_size)
            figures[f"{labels[-1]}, bytes, ratio"] = found.stat().st_size / size
            sessions.append(session(onnx.load(found)))
        other, *own = medians(
            *(partial(one.run, None, zeros) for one in sessions),
            rounds=50 if parsed.quick else 500,
            clock=time.process_time,
        )
        for name, mine in zip(labels, own, strict=True):
            figures[f"{name}, call, ratio"] = mine / other
    show(figures, parsed)


if __name__ == "__main__":
    main()
