"""A voice activity detector (silero-vad): its LSTM quantised, with and without a wide cell state.

The model takes windows of 576 samples at 16 kHz, 64 of them from the window before, and gives the
probability of speech. Calibrated on one recording, each scheme runs over every recording from the
first window to the last. The figure is the mean absolute difference of the probability from the
float model's, over all windows of a recording.

With ``--search``, widths are searched as well: calibrated on the first half of that recording and
judged on the second one, 60 schemes. The chosen member and the widest of at most 4 bits a weight
are measured over all recordings.

    python -m benchmarks.vad MODEL --audio FOLDER [--calibration noisy_1] [--search] [--quick]
                             [--json FILE]
"""

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

import onnxgru
from benchmarks.measure import parser_of, show
from onnxgru.core.choices import MAXIMUM_BITS, WIDE_BITS
from onnxgru.core.scheme import LinearScheme, OutputScheme, Scheme
from onnxgru.data.wav import read
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import recognize

HOP, CONTEXT = 512, 64
INPUT, OUTPUT = "input", "speech_probs"
STATE = (1, 1, 128)
SCHEMES = {
    "8-bit weights, 8-bit cell state": (8, MAXIMUM_BITS),
    "8-bit weights, 16-bit cell state": (8, WIDE_BITS),
    "4-bit weights, 16-bit cell state": (4, WIDE_BITS),
    "3-bit weights, 16-bit cell state": (3, WIDE_BITS),
}
"""Bits of the weights, and of what is added up to the cell state."""

SEARCH: dict[str, Any] = {
    "search": True, "population": 12, "generations": 5, "jobs": 1, "max_drop": 3.0,
}  # fmt: skip
MOST = 72_000
"""Bytes of flash of at most 4 bits a weight."""

Floats = npt.NDArray[np.float32]


def windows(samples: Floats) -> Floats:
    """Windows (N, 576) of a recording."""
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    starts = range(0, len(samples) - HOP + 1, HOP)
    return np.stack([padded[start : start + HOP + CONTEXT] for start in starts])


def scheme(message: onnx.ModelProto, weights: int, cell: int) -> Scheme:
    """Everything at 8 bits, but for weights and what the cell state is made of."""
    model = ir.from_proto(message)
    Normalize()(model)
    layers = recognize(model).layers
    uniform = Scheme.uniform(layers, MAXIMUM_BITS)
    rows = {"cell.keep", "cell.new", "cell.sum"}
    changed: dict[str, OutputScheme] = {}
    for layer in layers:
        for operator in layer.operators:
            entry = uniform.operators[operator.name]
            if operator.row in rows:
                entry = replace(entry, bits=cell)
            elif isinstance(entry, LinearScheme):
                entry = replace(entry, weight_bits=weights)
            changed[operator.name] = entry
    return Scheme(uniform.inputs, changed)


def probabilities(model: Path, frames: Floats) -> Floats:
    """Of speech, over a whole recording."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    zero = np.zeros(STATE, np.float32)
    (found,) = session.run([OUTPUT], {INPUT: frames, "h": zero, "c": zero})
    return np.asarray(found, np.float32)


def distances(
    name: str, model: Path, place: Path, recordings: dict[str, Floats]
) -> dict[str, float | str]:
    """Mean absolute differences from the float model, by recording."""
    figures: dict[str, float | str] = {}
    for recording, frames in recordings.items():
        float_, ours = (probabilities(path, frames) for path in (model, place / "integer.onnx"))
        figures[f"{name}, {recording}"] = round(float(np.abs(float_ - ours).mean()), 4)
    return figures


def main() -> None:
    """Measure, and print."""
    parser = parser_of(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--calibration", default="noisy_1", help="recording (default noisy_1)")
    parser.add_argument("--search", action="store_true", help="search for widths too")
    options = parser.parse_args()
    recordings = {
        path.stem: windows(read(path).samples[0, :, 0])
        for path in sorted(options.audio.glob("*.wav"))
    }
    message = onnx.load(options.model)
    figures: dict[str, float | str] = {}
    schemes = list(SCHEMES.items())[1:2] if options.quick else list(SCHEMES.items())
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", onnxgru.OnnxgruWarning)  # of few recordings
        for number, (name, widths) in enumerate(schemes):
            place = Path(folder, str(number))
            written = Path(folder, f"{number}.json")
            written.write_bytes(scheme(message, *widths).dumps())
            result = onnxgru.quantize(
                options.model,
                scheme=written,
                calibration={INPUT: recordings[options.calibration]},
                output=place,
            )
            figures[f"{name}, flash bytes"] = result.flash_bytes
            figures |= distances(name, options.model, place, recordings)
        if options.search:
            half = len(recordings[options.calibration]) // 2
            first, second = np.split(recordings[options.calibration], [half])
            found = onnxgru.quantize(
                options.model, calibration={INPUT: first}, validation={INPUT: second},
                output=Path(folder, "search"), **SEARCH,
            )  # fmt: skip
            figures["searched, flash bytes"] = found.flash_bytes
            figures |= distances("searched", options.model, found.folder, recordings)
            small = onnxgru.pick(
                found.folder,
                max_bytes=MOST,
                validation={INPUT: second},
                output=Path(folder, "small"),
            )
            figures["searched, at most 4 bits, flash bytes"] = small.flash_bytes
            figures |= distances(
                "searched, at most 4 bits", options.model, small.folder, recordings
            )
    show(figures, options)


if __name__ == "__main__":
    main()
