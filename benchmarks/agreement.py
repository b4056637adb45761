"""The same codes over 100,000 steps from extreme states: oracle, evaluator, graphs, and C.

Every operator of a GRU of 64 units has a width drawn at random. 100 sequences of 1,000 steps begin
with states whose codes are the least or the largest; inputs are random codes, and in three steps of
ten the least or the largest alone. The codes of the states are compared after every step. The graph
is the step form in onnxruntime, its state handed on: flat, as a function, and with the compiled
operator in the place of that. C is compiled by gcc and run on this machine.

    python -m benchmarks.agreement [--quick] [--json FILE]
"""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import latency, measure
from onnxgru.core.cells import STATE
from onnxgru.core.program import IntegerLayer, IntegerProgram
from onnxgru.custom_ops.integer_graph.vocabulary import Vocabulary
from onnxgru.firmware.sources import Library
from onnxgru.firmware.writing import vector
from onnxgru.onnxruntime.operators import matched
from onnxgru.passes.emission.emit import Emit
from onnxgru.passes.emission.functions import Functions
from onnxgru.passes.emission.pack import Pack
from onnxgru.passes.forms.form import Form
from onnxgru.passes.forms.step import Step
from onnxgru.passes.graph import source
from onnxgru.runtime import oracle
from onnxgru.runtime.engines import LayerEvaluator
from tests.firmware.libraries import Called, compile_with, write

HIDDEN, INPUTS = 64, 28
SEQUENCES = 100
GRAPHS = ("graph", "function", "operator")
CHUNK = 50
"""Steps that the oracle, which keeps every operator's codes, runs at once."""

Codes = npt.NDArray[np.generic]


def drawn(layer: IntegerLayer, steps: int) -> tuple[Codes, Codes]:
    """Codes of the input (steps, SEQUENCES, INPUTS), and of the first state."""
    generator = np.random.default_rng(0)
    kind, grid = layer.input.quantization.type, layer.emitted.type
    x = generator.integers(0, kind.levels, (steps, SEQUENCES, INPUTS))
    extreme = generator.random((steps, SEQUENCES, 1)) < 0.3
    x = np.where(extreme, np.where(x > kind.middle, kind.maximum, 0), x)
    first = grid.maximum * generator.integers(0, 2, (1, SEQUENCES, HIDDEN))
    return x.astype(kind.container), first.astype(grid.container)


def by_oracle(layer: IntegerLayer, x: Codes, first: Codes) -> Codes:
    """States after every step, as the oracle computes them."""
    found, state = [], {STATE: first}
    for start in range(0, len(x), CHUNK):
        y, state, _ = oracle.run(layer, x[start : start + CHUNK], state)
        found.append(y[:, 0])
    return np.concatenate(found)


def by_graph(
    made: measure.Bench, program: IntegerProgram, x: Codes, first: Codes, kind: str
) -> Codes:
    """States after every step, as onnxruntime computes the step form of one kind of `GRAPHS`."""
    model = made.model.clone()
    Step(made.layers, 1)(model)
    flat = kind == GRAPHS[0]
    Emit(program, Form("step"), Vocabulary(), whole=not flat)(model)
    if not flat:
        Functions()(model)
    Pack()(model)
    message = source.compact(source.proto(model))
    operators = matched(message, program).operators if kind == "operator" else ()
    session = latency.session(message, operators=operators)
    given, handed = (one.name for one in session.get_inputs())
    (layer,) = program.layers
    quantization = layer.input.quantization
    floats = (x.astype(np.float32) - quantization.zero_point) * np.float32(quantization.scale)
    outputs = [one.name for one in session.get_outputs()]
    place = next(i for i, one in enumerate(session.get_outputs()) if "float" not in one.type)
    found, state = [], first[0]
    for step in floats:
        state = session.run(outputs, {given: step[None], handed: state})[place]
        found.append(state.reshape(SEQUENCES, HIDDEN))
    return np.stack(found)


def by_c(program: IntegerProgram, x: Codes, first: Codes, place: Path) -> Codes:
    """States after every step, as the C code computes them on this machine."""
    (layer,) = program.layers
    library = Library(program, "net", "net")
    sources = write(library, [vector(layer, x[:2, :1])], place)
    compile_with("gcc", sources[:2], place / "net.so", "-O2", "-shared", "-fPIC")
    called = Called(place / "net.so", library.layers[0])
    found = [called.run(x[:, b], {STATE: first[0, b]}) for b in range(SEQUENCES)]
    return np.stack(found, axis=1)


def main() -> None:
    """Print how many codes differ from the evaluator's."""
    parsed = measure.arguments(__doc__)
    steps = 50 if parsed.quick else 1000
    made = measure.bench(HIDDEN, INPUTS, 28)
    program = made.lowering(made.scheme(0))
    (layer,) = program.layers
    x, first = drawn(layer, steps)
    wanted = LayerEvaluator(layer)(x, {STATE: first}).y[:, 0]
    figures: dict[str, float | str] = {
        "steps": str(steps * SEQUENCES),
        "codes compared": str(wanted.size),
        "oracle, codes that differ": str(int((by_oracle(layer, x, first) != wanted).sum())),
    }
    for kind in GRAPHS:
        found = by_graph(made, program, x, first, kind)
        figures[f"{kind}, codes that differ"] = str(int((found != wanted).sum()))
    with tempfile.TemporaryDirectory() as folder:
        found = by_c(program, x, first, Path(folder) / "net")
    figures["C, codes that differ"] = str(int((found != wanted).sum()))
    measure.show(figures, parsed)


if __name__ == "__main__":
    main()
