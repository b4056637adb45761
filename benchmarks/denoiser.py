"""A streaming denoiser (GTCRN): fourteen GRUs, one frame per call, its caches handed on.

The model takes one frame of a short-time Fourier transform and its caches, and gives the frame
without noise. It is calibrated on one recording. Every figure is the SQNR to the float model over
the whole of another one, chained through the caches: uniform 8 and 6 bits, and the best member of
at most 18,000 bytes of flash of a search that is judged by it. The same schemes on a third
recording say how far that holds.

    python -m benchmarks.denoiser MODEL --audio FOLDER [--wide-states] [--validation NAME]
                                  [--judged FRAMES] [--holdout NAME] [--quick] [--json FILE]
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import onnxgru
from benchmarks.measure import parser_of, show
from onnxgru.data.wav import read

WINDOW, HOP = 512, 256
INPUT = "mix"
SEARCH = {"population": 24, "generations": 4}
QUICK = {"population": 4, "generations": 1}
SHORT = 20
"""Frames of every recording in a quick run."""

MOST = 18_000
"""Bytes of flash of the member."""

Floats = npt.NDArray[np.float32]


def frames(path: Path, count: int | None) -> Floats:
    """Spectra (T, 257, 1, 2) of a recording, real and imaginary parts."""
    samples = read(path).samples[0, :, 0]
    window = np.sqrt(np.hanning(WINDOW + 1)[:-1]).astype(np.float32)
    starts = range(0, len(samples) - WINDOW + 1, HOP)[:count]
    pieces = np.stack([samples[start : start + WINDOW] * window for start in starts])
    spectra = np.fft.rfft(pieces, axis=1)
    return np.stack([spectra.real, spectra.imag], axis=-1).astype(np.float32)[:, :, None]


def main() -> None:
    """Measure, and print."""
    parser = parser_of(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--calibration", default="noisy_1", help="recording (default noisy_1)")
    parser.add_argument("--validation", default="gtcrn_mix", help="recording (default gtcrn_mix)")
    parser.add_argument("--holdout", default="gtcrn_enhanced_stream", help="recording")
    parser.add_argument("--judged", type=int, help="frames that the search sees (default all)")
    parser.add_argument("--wide-states", action="store_true", help="16 bits for states")
    options = parser.parse_args()
    names = ("calibration", "validation", "holdout")
    data: dict[str, Any] = {
        role: {INPUT: frames(options.audio / f"{getattr(options, role)}.wav", count)}
        for count in [SHORT if options.quick else None]
        for role in names
    }
    data["validation"] = {INPUT: data["validation"][INPUT][: options.judged]}
    figures: dict[str, float | str] = {"frames": len(data["validation"][INPUT])}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", onnxgru.OnnxgruWarning)  # of few recordings
        search = onnxgru.quantize(
            options.model, **data, output=Path(folder, "search"), search=True,
            wide_states=options.wide_states, **(QUICK if options.quick else SEARCH),
        )  # fmt: skip
        assert search.front is not None
        for uniform in search.front["uniform"]:
            if uniform["bits"] in (8, 6):
                figures |= _figures(f"{uniform['bits']} bits", uniform)
        fitting = [m for m in search.front["members"] if m["flash_bytes"] <= MOST]
        figures |= _figures("searched", max(fitting, key=lambda member: member["validation"]))
    show(figures, options)


def _figures(name: str, entry: dict[str, Any]) -> dict[str, float | str]:
    return {
        f"{name}, flash bytes": entry["flash_bytes"],
        f"{name}, SQNR, dB": round(entry["validation"], 2),
        f"{name}, SQNR on the third recording, dB": round(entry["holdout"], 2),
    }


if __name__ == "__main__":
    main()
