"""Published models from end to end: inspected, quantised in their forms, searched and evaluated.

Reads the folders ``models`` and ``audio`` of the data folder. Each model is calibrated on
``noisy_1`` and judged on ``gtcrn_mix``, frame by frame from its first state, as SQNR to the float
model. Frames are spectra or samples as the model takes them. Two inputs are approximations: RNNoise
gets cepstra and their differences of 16 kHz without its pitch features, and the packet-loss model
gets five log power spectra side by side.

The figures: 8 bits everywhere, that over the last tenth of the recording, 8 bits with
``--wide-states --input-bits 16``, and the smallest member of a short search within 3 dB. The step
form must have the figure of the scan, ``evaluate`` that of the report, and models that take several
frames are unrolled too. A quick run has the scan alone.

    ONNXGRU_DATA=FOLDER python -m benchmarks.realmodels [--frames N] [--only NAME] [--quick]
                                                       [--json FILE]
"""

import contextlib
import itertools
import math
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import onnxgru
from benchmarks import denoiser, vad
from benchmarks.measure import parser_of, show
from onnxgru.core.errors import ModelError
from onnxgru.data.wav import read
from onnxgru.models.sources import VARIABLE

CALIBRATION, VALIDATION = "noisy_1", "gtcrn_mix"
QUICK = 12
"""Frames of every recording in a quick run."""
PIECE = 12
"""Frames of a recording of the unrolled form."""
SEARCH: dict[str, Any] = {"search": True, "population": 4, "generations": 2, "max_drop": 3.0}
NEAR = 0.005
"""Decibels that figures of two ways may be apart: they are rounded."""
FLOOR = 1e-12
"""Least power whose logarithm is taken."""

Floats = npt.NDArray[np.float32]


def spectra(samples: Floats, window: int, hop: int) -> npt.NDArray[np.complex128]:
    """Short-time Fourier transform (T, window / 2 + 1), square root of a Hann window."""
    shape = np.sqrt(np.hanning(window + 1)[:-1])
    starts = range(0, len(samples) - window + 1, hop)
    return np.fft.rfft(np.stack([samples[s : s + window] * shape for s in starts]), axis=1)


def log_power(samples: Floats) -> Floats:
    """Logarithms (T, 161) of the power of frames of 20 ms."""
    power = np.square(np.abs(spectra(samples, 320, 160)))
    return np.log10(np.maximum(power, FLOOR)).astype(np.float32)


def neighbours(samples: Floats) -> Floats:
    """Five log power spectra side by side, (T, 1, 805)."""
    found = log_power(samples)
    padded = np.concatenate([np.repeat(found[:1], 4, axis=0), found])
    return np.concatenate([padded[i : i + len(found)] for i in range(5)], axis=1)[:, None]


def cepstra(samples: Floats) -> Floats:
    """22 cepstra, their first and second differences, and zeros: (T, 1, 42)."""
    power = np.square(np.abs(spectra(samples, 320, 160)))
    edges = np.round(np.geomspace(2, 160, 23)).astype(int)
    bands = np.stack(
        [power[:, a : max(b, a + 1)].sum(axis=1) for a, b in itertools.pairwise(edges)]
    )
    levels = np.log10(np.maximum(bands.T, 1e-6))
    places = np.arange(22)
    waves = np.cos(np.pi / 22 * np.outer(places + 0.5, places)) * math.sqrt(2 / 22)
    found = levels @ waves
    change = np.diff(found[:, :6], axis=0, prepend=found[:1, :6])
    second = np.diff(change, axis=0, prepend=change[:1])
    zeros = np.zeros((len(found), 8))
    return np.concatenate([found, change, second, zeros], axis=1).astype(np.float32)[:, None]


@dataclass(frozen=True)
class Published:
    """A model and what it takes.

    Parameters
    ----------
    file : str
        Its name without the ending.
    input : str
        The input that is a recording.
    frames : callable
        What it is given of samples.
    time : int
        The axis of frames in that.
    sequences : bool
        Whether a call takes several frames of one recording, so that it can be unrolled.
    """

    file: str
    input: str
    frames: Callable[[Floats], Floats]
    time: int = 0
    sequences: bool = False


def _gtcrn(samples: Floats) -> Floats:
    found = spectra(samples, denoiser.WINDOW, denoiser.HOP)
    return np.stack([found.real, found.imag], axis=-1).astype(np.float32)[:, :, None]


def _dtln(samples: Floats) -> Floats:
    starts = range(0, len(samples) - 512 + 1, 128)
    pieces = np.stack([samples[start : start + 512] for start in starts])
    return np.abs(np.fft.rfft(pieces, axis=1)).astype(np.float32)[:, None]


MODELS = {
    "GTCRN": Published("gtcrn_simple", "mix", _gtcrn),
    "NSNet2": Published("nsnet2_20ms_baseline", "input", lambda x: log_power(x)[None], 1, True),
    "packet loss": Published("nsnetv2_converted", "input", neighbours, 0, True),
    "RNNoise": Published("rnnoise_somnolent_hogwash", "features", cepstra, 0, True),
    "DTLN": Published("dtln_model_1", "input_2", _dtln),
    "silero-vad": Published("silero_vad_16k_sequence", "input", vad.windows),
}
"""By their names in the table."""


def pieces(frames: Floats, published: Published) -> Floats:
    """Recordings of `PIECE` frames, the batch where the model has it."""
    count = frames.shape[published.time] // PIECE
    parts = np.split(np.take(frames, range(count * PIECE), published.time), count, published.time)
    return np.concatenate(parts, axis=1 - published.time)


def measure(
    folder: Path, published: Published, count: int | None, *, quick: bool
) -> dict[str, float | str]:
    """Figures of a model, by name."""
    model = folder / "models" / f"{published.file}.onnx"
    data: dict[str, Any] = {}
    for role, name in (("calibration", CALIBRATION), ("validation", VALIDATION)):
        frames = published.frames(read(folder / "audio" / f"{name}.wav").samples[0, :, 0])
        data[role] = np.take(frames, range(frames.shape[published.time])[:count], published.time)
    given = {role: {published.input: frames} for role, frames in data.items()}
    onnxgru.inspect(model)

    def quantized(name: str, **settings: Any) -> onnxgru.Result:
        place = {"output": Path(temporary, name), "verify": 2}
        return onnxgru.quantize(model, **{**given, **place, **settings})

    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", onnxgru.OnnxgruWarning)  # of few recordings
        plain = quantized("scan")
        figure = _figure(plain)
        judged = onnxgru.evaluate(
            [model, Path(temporary, "scan/integer.onnx")], given["validation"]
        )
        found = judged.rows[1].quality
        assert found is not None and abs(found - figure) < NEAR, "evaluate tells another figure"
        wide = search = plain
        if not quick:
            _check_forms(quantized, figure, data if published.sequences else {}, published)
            wide = quantized("wide", wide_states=True, input_bits=16)
            search = quantized("search", **SEARCH)
    drift = [figures[-1] for figures in plain.parsed.drift.values() if figures[-1] is not None]
    return {
        "frames": data["validation"].shape[published.time],
        "8 bits, flash bytes": plain.flash_bytes,
        "8 bits, SQNR, dB": round(figure, 2),
        "8 bits, last tenth, worst output, dB": min(drift, default=math.nan),
        "wide, flash bytes": wide.flash_bytes,
        "wide, SQNR, dB": round(_figure(wide), 2),
        "searched, flash bytes": search.flash_bytes,
        "searched, SQNR, dB": round(_figure(search), 2),
    }


def _check_forms(
    quantized: Callable[..., onnxgru.Result],
    figure: float,
    data: dict[str, Any],
    published: Published,
) -> None:
    with contextlib.suppress(ModelError):  # states that are stacked are handed on as they are
        steps = quantized("step", recurrence="step")
        assert abs(_figure(steps) - figure) < NEAR, "the step form has another figure"
    if data:
        short = {role: {published.input: pieces(f, published)} for role, f in data.items()}
        quantized("unrolled", **short, recurrence="unrolled", steps=PIECE)


def _figure(result: onnxgru.Result) -> float:
    found = result.parsed.quality["validation"].integer
    return math.inf if found is None else found


def main() -> None:
    """Measure, and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--frames", type=int, help="frames of every recording (default all)")
    parser.add_argument("--only", choices=MODELS, help="one of the models")
    options = parser.parse_args()
    if VARIABLE not in os.environ:
        parser.error(f"{VARIABLE} must name the data folder")
    names = [options.only] if options.only else list(MODELS)
    count = QUICK if options.quick else options.frames
    figures: dict[str, float | str] = {}
    for name in names:
        found = measure(Path(os.environ[VARIABLE]), MODELS[name], count, quick=options.quick)
        figures |= {f"{name}, {what}": value for what, value in found.items()}
    show(figures, options)


if __name__ == "__main__":
    main()
