r"""Which runtime takes which graph: every form and profile of small models, code for code.

::

    python -m benchmarks.runtimes --install --json benchmarks/results/runtimes.json \
        --page docs/runtimes.md

Every graph goes through ``onnxgru verify``; `MEASURED` says which in what. ``--install`` makes an
environment of its own for each runtime that is not installed, with pinned versions;
``--at RUNTIME=PATH`` names one that is there. What the file of ``--json`` has already of the same
graphs is not measured again, so that one runtime can be measured after the other; ``--only`` names
some.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from benchmarks.peers.environments import Peer, Unavailable, call, folder, prepare
from benchmarks.runtimes_page import page
from onnxgru import api
from onnxgru.core import files
from onnxgru.core.errors import OnnxgruError
from onnxgru.events import silent
from onnxgru.firmware.verifying import verify
from onnxgru.runtimes import process, table
from onnxgru.runtimes.profiles import PROFILES
from onnxgru.session.toolchains import ABSENT, DIFFERS, SAME, RuntimeRow
from tests import scans

STEPS, BATCH, INPUTS, HIDDEN = 6, 2, 4, 8

LONG = {"LiteRT": 1000}
"""Steps of the recordings for runtimes that compute a wrong code once in a hundred calls."""

LENGTHS = (16, 32, 64)
"""Steps of longer unrolled graphs, which compilers take minutes for."""

SECONDS = 5.0
"""Limit of one step of an unrolled graph in one runtime, where it is more than that of a graph."""

FUNCTIONS = {"functions": "step", "functions scan": "scan"}
"""Recurrences of graphs whose layers are model-local functions."""

FORMS = ("step", "unrolled", "scan", *FUNCTIONS)

FLEXIBLE = ("onnxruntime", "onnx.reference", "OpenVINO", "onnxruntime-web")
COMPILERS = ("Apache TVM", "IREE", "tract", "tinygrad", "emx-onnx-cgen")

MEASURED: dict[tuple[str, str], tuple[str, ...]] = {
    ("onnxruntime", "scan"): FLEXIBLE,
    ("onnxruntime", "step"): (*FLEXIBLE, *COMPILERS),
    ("onnxruntime", "unrolled"): FLEXIBLE,
    ("host", "scan"): FLEXIBLE,
    ("compilers", "step"): (*FLEXIBLE, *COMPILERS),
    ("compilers", "unrolled"): (*FLEXIBLE, *COMPILERS),
    ("onnxruntime", "functions"): (*FLEXIBLE, "operator", *COMPILERS),
    ("onnxruntime", "functions scan"): (*FLEXIBLE, "operator"),
    ("plain", "step"): (*FLEXIBLE, *COMPILERS, "onnx2c", "LiteRT", "C"),
}
"""Runtimes by profile and form."""

UNROLLED = ("compilers", "unrolled")
"""Where longer graphs are tried."""

FIRST = ("onnxruntime", "scan")
"""Where the first model is tried in all runtimes."""

LITERT = (
    "onnx2tf==1.29.24", "tensorflow==2.19.0", "tf_keras==2.19.0", "ai-edge-litert==2.1.0",
    "onnx==1.19.1", "onnx_graphsurgeon==0.5.8", "onnxruntime==1.23.0", "onnxsim==0.4.36",
    "simple_onnx_processing_tools==1.1.32", "sng4onnx==2.0.1", "sne4onnx==2.0.1", "psutil",
    "numpy==1.26.4",
)  # fmt: skip

PINS: dict[str, tuple[str, ...]] = {
    "Apache TVM": ("apache-tvm==0.27.0.post1", "onnx==1.23.2", "numpy==2.4.6"),
    "IREE": ("iree-base-compiler==3.13.0", "iree-base-runtime==3.13.0", "onnx==1.23.2"),
    "tract": ("tract==0.23.9", "numpy==2.4.6"),
    "tinygrad": ("tinygrad==0.14.0", "numpy==2.4.6"),
    "emx-onnx-cgen": ("emx-onnx-cgen==1.4.0", "numpy==2.4.6"),
    "LiteRT": LITERT,
}
"""What is installed for a runtime, itself first."""

WEB = "onnxruntime-web@1.30.0"


@dataclass(frozen=True)
class Sample:
    """A model and how it is quantised.

    Parameters
    ----------
    name : str
        What it shows.
    make : str
        Operator of ONNX that it is one node of, or ``LiGRU``.
    settings : dict
        Of `quantize`.
    wide : tuple of str
        Ends of names of operators that get 16 bits.
    steps : int
        Length of its recordings. Longer ones are for unrolled graphs and the compilers alone.
    """

    name: str
    make: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    wide: tuple[str, ...] = ()
    steps: int = STEPS


SAMPLES = (
    Sample("GRU", "GRU"),
    Sample("RNN", "RNN"),
    Sample("LSTM", "LSTM"),
    Sample("LiGRU", "LiGRU"),
    Sample("16 bits", "GRU", wide=("state.sum", "state.new", "state.keep")),
    Sample("delta", "GRU", {"delta": "2"}),
    Sample("dense", "dense", {"head": True}),
    *(Sample(f"GRU, {steps} steps", "GRU", steps=steps) for steps in LENGTHS),
)


def main() -> None:
    """Measure, print, and write the record and the page."""
    options = _options()
    record = _read(options.json)
    places = dict(options.at)
    if options.install:
        places = _installed() | places
    samples = SAMPLES[:1] if options.quick else SAMPLES
    samples = [sample for sample in samples if sample.steps in (options.steps or (sample.steps,))]
    for form in options.form or FORMS:
        for profile in options.profile or PROFILES:
            for sample in samples:
                wanted = _wanted((profile, form), sample, options.only)
                if wanted:
                    _measure(record, (profile, form), sample, wanted, places, options)
    if "LiteRT" in places and (not options.only or "LiteRT" in options.only):
        record["division"] = _division(places["LiteRT"], options.seconds)
    for name, row in _figures(record):
        sys.stdout.write(f"{name}: {row}\n")
    if options.json:
        _write(options.json, json.dumps(record, indent=1, sort_keys=True) + "\n")
    if options.page:
        _write(options.page, page(record))


def _wanted(kind: tuple[str, str], sample: Sample, only: Sequence[str] | None) -> list[str]:
    """Full names of the runtimes that a model is tried in."""
    found = MEASURED.get(kind, ())
    if sample.steps > STEPS:
        found = COMPILERS if kind == UNROLLED else ()
    if kind == FIRST and sample is SAMPLES[0]:
        found = (*FLEXIBLE, *COMPILERS, "onnx2c", "LiteRT")
    names = [runtime.name for name in found for runtime in table.find(name)]
    chosen = {runtime.name for name in only or names for runtime in table.find(name)}
    return [name for name in names if name in chosen]


def _division(place: str, seconds: float) -> dict[str, Any]:
    """What LiteRT makes of one division of integers, which all integer graphs have."""
    given = np.asarray([[266, 265, 6, 7, 8, 9, 10, 16]], np.int32)
    divisors = np.full(8, 2, np.int32)
    sides = [helper.make_tensor_value_info(n, TensorProto.INT32, [1, 8]) for n in "xy"]
    node = helper.make_node("Div", ["x", "divisors"], ["y"], name="div")
    stored = [numpy_helper.from_array(divisors, "divisors")]
    graph = helper.make_graph([node], "division", sides[:1], sides[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (runtime,) = table.find("LiteRT")
    calls = process.Calls([{"x": given}], {"y": "int32"})
    ran = process.run(runtime, model.SerializeToString(), calls, seconds=seconds, where=place)
    found = ran.outputs[0]["y"][0].tolist() if ran.outputs else ran.reason
    return {"given": given[0].tolist(), "divisor": 2, "found": found}


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--only", nargs="+", metavar="RUNTIME", help="runtimes to measure")
    options.add_argument("--profile", nargs="+", metavar="NAME", help="profiles to measure")
    options.add_argument("--form", nargs="+", choices=FORMS, help="forms to measure")
    options.add_argument("--at", nargs="+", default=(), type=_place, metavar="RUNTIME=PATH")
    options.add_argument("--install", action="store_true", help="install what is missing")
    options.add_argument("--steps", nargs="+", type=int, help="lengths of recordings to measure")
    options.add_argument("--seconds", type=float, default=60.0, help="limit of one graph in one")
    options.add_argument("--quick", action="store_true", help="one model")
    options.add_argument("--json", type=Path, metavar="FILE", help="record to go on with")
    options.add_argument("--page", type=Path, metavar="FILE", help="page to write")
    return options.parse_args()


def _place(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    return name, path


def _read(path: Path | None) -> dict[str, Any]:
    if path is not None and path.is_file():
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found
    return {"rows": {}, "versions": {}}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _installed() -> dict[str, str]:
    """Interpreters of environments that hold a runtime, and the folder of onnxruntime-web."""
    found = {}
    for name, pins in PINS.items():
        try:
            found[name] = str(prepare(Peer(name, "", pins), folder()))
        except Unavailable as error:
            sys.stderr.write(f"{name}: {error}\n")
    npm = shutil.which("npm")
    if npm:
        place = folder() / "web"
        place.mkdir(parents=True, exist_ok=True)
        try:
            call([npm, "install", "--prefix", str(place), WEB], 900, "npm cannot install it")
            found["onnxruntime-web"] = str(place)
        except Unavailable as error:
            sys.stderr.write(f"onnxruntime-web: {error}\n")
    return found


def _measure(
    record: dict[str, Any],
    kind: tuple[str, str],
    sample: Sample,
    wanted: Sequence[str],
    places: Mapping[str, str],
    options: argparse.Namespace,
) -> None:
    """Verify one graph in what has not been measured yet."""
    rows = record["rows"].setdefault(" / ".join((*kind, sample.name)), {})
    with tempfile.TemporaryDirectory() as place:
        try:
            written, data = quantized(Path(place), sample, kind)
        except OnnxgruError as error:
            sys.stderr.write(f"{kind} {sample.name}: {error}\n")
            return
        graph = _digest(written / "integer.onnx")
        names = [name for name in wanted if rows.get(name, {}).get("graph") != graph]
        if not names:
            return
        at = {name: path for name, path in places.items() if set(_names(name)) & set(names)}
        found: list[RuntimeRow] = []
        for steps in sorted({LONG.get(name, STEPS) for name in names}):
            group = [name for name in names if LONG.get(name, STEPS) == steps]
            given = data if steps == STEPS or kind[1] == "unrolled" else _recordings(steps)
            limit = max(options.seconds, SECONDS * sample.steps)
            found += verify(written, given, group, where=at, seconds=limit).rows
    for row in found:
        if row.verdict == ABSENT:
            continue
        rows[row.runtime] = {**asdict(row), "graph": graph}
        if row.version:
            record["versions"][row.runtime] = row.version
        sys.stderr.write(f"{' / '.join((*kind, sample.name, row.runtime))}: {row.verdict}\n")
    if options.json:
        _write(options.json, json.dumps(record, indent=1, sort_keys=True) + "\n")


def _digest(path: Path) -> str:
    """Of a graph without its metadata, which no runtime reads."""
    message = onnx.load(path)
    del message.metadata_props[:]
    return files.digest(message.SerializeToString(deterministic=True))[:16]


def _names(name: str) -> list[str]:
    return [runtime.name for runtime in table.find(name)]


def quantized(place: Path, sample: Sample, kind: tuple[str, str]) -> tuple[Path, dict[str, Any]]:
    """An output folder, and recordings to run it on."""
    path = place / "model.onnx"
    onnx.save(build(sample.make), path)
    data = _recordings(sample.steps)
    given: dict[str, Any] = {"bits": 4, "calibration": data, "listener": silent}
    profile, form = kind
    given |= {"profile": profile, **sample.settings}
    if sample.wide:
        api.quantize(path, output=place / "narrow", **given)
        scheme = json.loads((place / "narrow" / "scheme.json").read_text("utf-8"))
        for name, entry in scheme["operators"].items():
            if name.endswith(sample.wide):
                entry["bits"] = 16
        (place / "scheme.json").write_text(json.dumps(scheme), "utf-8")
        given = {**given, "bits": None, "scheme": place / "scheme.json"}
    given |= {"recurrence": FUNCTIONS.get(form, form), "functions": form in FUNCTIONS}
    if form == "unrolled":
        given["steps"] = sample.steps
    return api.quantize(path, output=place / "out", **given).folder, data


def _recordings(steps: int) -> dict[str, Any]:
    drawn = np.random.default_rng(1).standard_normal((steps, BATCH, INPUTS))
    return {"X": drawn.astype(np.float32)}


_LIGRU = scans.LIGRU.nodes.replace("next_h", "next")  # the name in the graphs of the record
LIGRU = f"""<ir_version: 9, opset_import: ["": 18]>
    ligru (float[T, B, {INPUTS}] X) => (float[T, B, {HIDDEN}] Y)
    <float one = {{1}}> {{
      size = Shape <start = 1, end = 2> (X)
      shape = Concat <axis = 0> (size, hidden)
      h0 = Expand (zero, shape)
      last, Y = Scan <num_scan_inputs = 1, body = step (float[B, {HIDDEN}] h, float[B, {INPUTS}] x)
          => (float[B, {HIDDEN}] next, float[B, {HIDDEN}] out) {{ {_LIGRU} }}> (h0, X)
    }}"""


def build(operator: str) -> onnx.ModelProto:
    """A small model: X (T, B, I) to Y."""
    generator = np.random.default_rng(0)

    def draw(name: str, *shape: int) -> onnx.TensorProto:
        array = 0.5 * generator.standard_normal(shape)
        return numpy_helper.from_array(array.astype(np.float32), name)

    if operator == "LiGRU":
        model = parser.parse_model(LIGRU)
        weights = {"W": (INPUTS, 2 * HIDDEN), "R": (HIDDEN, 2 * HIDDEN), "b": (2 * HIDDEN,)}
        model.graph.initializer.extend(draw(name, *shape) for name, shape in weights.items())
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
        model.graph.initializer.append(numpy_helper.from_array(np.asarray([HIDDEN]), "hidden"))
        return model
    name = "GRU" if operator == "dense" else operator
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[name]
    attributes = {"linear_before_reset": 1} if name == "GRU" else {}
    nodes = [helper.make_node(name, ["X", "W", "R", "B"], ["Y", "Y_h"], name=name.lower(),
                              hidden_size=HIDDEN, **attributes)]  # fmt: skip
    stored = [
        draw("W", 1, gates * HIDDEN, INPUTS),
        draw("R", 1, gates * HIDDEN, HIDDEN),
        draw("B", 1, 2 * gates * HIDDEN),
    ]
    result = helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["T", 1, "B", HIDDEN])
    if operator == "dense":
        nodes.append(helper.make_node("Squeeze", ["Y_h", "front"], ["h"], name="squeeze"))
        nodes.append(helper.make_node("Gemm", ["h", "D", "e"], ["logits"], name="dense"))
        stored += [draw("D", HIDDEN, 3), draw("e", 3)]
        stored.append(numpy_helper.from_array(np.asarray([0]), "front"))
        result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 3])
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", "B", INPUTS])
    graph = helper.make_graph(nodes, "small", [x], [result], stored)
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9)


def _figures(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How many graphs each runtime takes."""
    for runtime in (*table.RUNTIMES, table.OPERATOR, *table.DEVICES):
        rows = [found[runtime.name] for found in record["rows"].values() if runtime.name in found]
        if rows:
            same = sum(row["verdict"] == SAME for row in rows)
            differs = sum(row["verdict"] == DIFFERS for row in rows)
            yield runtime.name, f"same codes in {same} of {len(rows)} graphs, {differs} differ"


if __name__ == "__main__":
    try:
        main()
    except (OnnxgruError, subprocess.SubprocessError) as error:
        raise SystemExit(str(error)) from error
