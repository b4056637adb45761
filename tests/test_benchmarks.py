"""The benchmarks run in their quick form: what they compute is checked, not how long it takes."""

import contextlib
import importlib
import io
import json
import math
import os
import subprocess
import sys
import warnings
import wave
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.helper import (
    make_graph,
    make_model,
    make_node,
    make_opsetid,
    make_tensor_value_info,
)
from onnx.numpy_helper import from_array

from benchmarks import results
from benchmarks.again import KEYS
from benchmarks.peers import graph, page
from benchmarks.peers.environments import Unavailable, call
from benchmarks.record import Piece, Record
from onnxgru import __version__
from onnxgru.models.sources import VARIABLE
from tests.firmware.libraries import needs_gcc
from tests.models.recordings import needs_data

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent


def figures(name: str, tmp_path: Path, *options: str) -> dict[str, float | str]:
    """What a benchmark measures in a process of its own, with its own threads and memory."""
    target = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options, "--quick", "--json", str(target)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return written(target, done.stdout)


def figures_here(name: str, tmp_path: Path) -> dict[str, float | str]:
    """The same in this process, which has loaded all that a benchmark needs."""
    target = tmp_path / "figures.json"
    module = importlib.import_module(f"benchmarks.{name}")
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()) as said,
    ):
        warnings.simplefilter("ignore")  # few data
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", [name, "--quick", "--json", str(target)])
        module.main()
    return written(target, said.getvalue())


def written(target: Path, said: str) -> dict[str, float | str]:
    """The figures in a file, which were printed as ``name: value`` too."""
    found = json.loads(target.read_text())
    assert [line.split(": ", 1)[0] for line in said.splitlines()] == list(found)
    return found


@needs_data
def test_vad(tmp_path: Path) -> None:
    place = Path(os.environ[VARIABLE])
    options = [str(place / "models/silero_vad_16k_sequence.onnx"), "--audio", str(place / "audio")]
    found = figures("vad", tmp_path, *options)
    assert max(value for value in found.values() if isinstance(value, float)) <= 0.01


def test_evaluator(tmp_path: Path) -> None:
    found = figures("evaluator", tmp_path)
    assert found["equal to onnxruntime"] == "True"
    assert found["ratio to the plain way"] > 0


def test_flash(tmp_path: Path) -> None:
    found = figures_here("flash", tmp_path)
    label = "digits_row, weights 2, outputs 2, flash / weights"
    assert found[label] < 1.31 and found[f"{label} before"] > 1.68


def test_again(tmp_path: Path) -> None:
    found = figures_here("again", tmp_path)
    rules = [{k: float(found[f"digits-row, {k}, {r}"]) for k in KEYS} for r in ("exact", "now")]
    assert rules[0]["flash_bytes"] > rules[1]["flash_bytes"]
    assert abs(rules[0]["holdout"] - rules[1]["holdout"]) < 0.3
    assert abs(rules[0]["sqnr"] - rules[1]["sqnr"]) < 0.3


def test_latency(tmp_path: Path) -> None:
    found = figures_here("latency", tmp_path)
    assert int(found["scan, Gather, nodes of the body"]) <= 48
    assert int(found["scan, GatherElements, nodes of the body"]) <= 52
    assert int(found["step, Gather, nodes of the graph"]) <= 66


@needs_gcc
def test_agreement(tmp_path: Path) -> None:
    found = figures_here("agreement", tmp_path)
    assert found["steps"] == "5000"
    assert [v for k, v in found.items() if "differ" in k] == ["0"] * 5


def test_population(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = figures("population", tmp_path)
    assert [v for k, v in found.items() if k.startswith("equal to the fused")] == ["True"] * 2


def test_scaling(tmp_path: Path) -> None:
    found = figures("scaling", tmp_path)
    assert found["memory for 10 times the candidates"] < 1.1
    assert found["memory of a search for 10 times the sequences"] < 1.2


def test_hypervolume(tmp_path: Path) -> None:
    found = figures_here("hypervolume", tmp_path)
    assert float(found["hypervolume after 40 (ours, median)"]) > float(
        found["hypervolume after 40 (random, median)"]
    )


def test_choice(tmp_path: Path) -> None:
    found = figures_here("choice", tmp_path)
    assert found["more than 1 point, seeds (near best found)"] == 0


def test_delta(tmp_path: Path) -> None:
    found = figures_here("delta", tmp_path)
    case = "weights 8, outputs 8, threshold"
    assert float(found[f"eliminated, % ({case} auto)"]) > float(found[f"eliminated, % ({case} 2)"])
    assert float(found[f"accuracy ({case} auto)"]) > float(found[f"accuracy ({case} none)"]) - 1


def test_rounding(tmp_path: Path) -> None:
    found = figures_here("rounding", tmp_path)
    for bits in (2, 3):
        plain, gptq = (
            float(found[f"output, dB (weights {bits}, {n})"]) for n in ("nearest", "gptq")
        )
        assert gptq > plain + 5
    assert float(found["output, dB (outputs 3, saturating)"]) > float(
        found["output, dB (outputs 3, plain)"]
    )


def test_published(tmp_path: Path) -> None:
    found = figures("published", tmp_path, "--sequences", "400")
    assert float(found["uniform 8 tuned, hold-out, mean"]) > 95
    assert float(found["published, bits a weight, mean"]) < 8
    assert float(found["ours, smaller than uniform 8 in weight bits, %"]) > 70


def test_draws(tmp_path: Path) -> None:
    found = figures_here("draws", tmp_path)
    for bits in (2, 3):
        for alone in ("", ", alone"):
            for figure, better in (("sqnr, dB", 1), ("entropy, nats", -1)):
                plain, gptq = (
                    float(found[f"{figure} (weights {bits}, {name}{alone})"])
                    for name in ("nearest", "gptq")
                )
                assert better * (gptq - plain) > 0
        rounded = float(found[f"sqnr, dB (weights {bits}, gptq)"])
        assert float(found[f"sqnr, dB (weights {bits}, gptq, alone)"]) > rounded - 0.5


def measured(value: float) -> dict[str, float]:
    """What a piece measures; a negative one fails."""
    return {"holdout": math.sqrt(value)}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_study_goes_on_after_a_failure(tmp_path: Path, jobs: int) -> None:
    def pieces(*values: float) -> list[Piece]:
        return [Piece(("a", str(i)), measured, (v,)) for i, v in enumerate(values)]

    said: list[str] = []
    record = Record(tmp_path / "study.json", {"task": "x"})
    record.measure(pieces(4), jobs, said.append)
    with pytest.raises(ValueError, match="math domain"):
        record.measure(pieces(4, -1), jobs, said.append)
    again = Record(tmp_path / "study.json", {"task": "x"})
    again.measure(pieces(4, 9, 16), jobs, said.append)
    assert again.document["a"] == {
        str(i): {"holdout": i + 2.0, "onnxgru": __version__} for i in range(3)
    }
    assert sorted(line.partition(" %")[0] for line in said) == [
        f"a {i}: {i + 2:.2f}" for i in range(3)
    ]
    with pytest.raises(SystemExit, match="holds another study"):
        Record(tmp_path / "study.json", {"task": "y"})


def test_training(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    assert float(figures("training", tmp_path)["ratio at 28 steps"]) < 10


def test_beacons(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = figures_here("beacons", tmp_path)
    assert float(found["members"]) == 2
    assert found["output, dB (float, 4 epochs)"] > found["output, dB (float, 1 epoch)"]


def test_teacher(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = figures_here("teacher", tmp_path)
    alone, taught = (
        float(found[f"cross-entropy (2 bits, 2 epochs{how}, mean)"])
        for how in ("", ", 1 for a teacher")
    )
    assert 0 < taught < alone
    assert float(found["accuracy, % (2 bits, 2 epochs, 1 for a teacher, mean)"]) > 95


def test_the_page_of_results_holds_what_was_measured() -> None:
    assert results.PAGE.read_text("utf-8") == results.page(results.stored())
    for task in results.stored():
        assert (results.PAGE.parent / f"results-{task}.png").is_file()


def test_peers(tmp_path: Path) -> None:
    target = tmp_path / "peers.json"
    command = [sys.executable, "-m", "benchmarks.peers", "--quick", "--json", str(target)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(target.read_text())
    for line in done.stdout.splitlines()[1:]:
        assert any(line.startswith(f"{name}: ") for name in document["figures"])
    rows = {row["name"]: row for row in document["rows"]}
    whole = rows["float"]
    for name in ("quantize_dynamic", "quantize_static"):
        found = rows[f"onnxruntime, {name}"]["found"]
        assert (found["recurrence"], found["weights"]) == ("float GRU", "float32")
        assert found["bytes"] > 0.95 * whole["found"]["bytes"]
    eight, four = rows["onnxgru, uniform 8 bits"], rows["onnxgru, uniform 4 bits"]
    assert eight["found"]["recurrence"] == four["found"]["recurrence"] == "integer Scan"
    assert eight["found"]["weights"] == "uint8"
    assert eight["accuracy"] > whole["accuracy"] - 1
    assert four["flash_bytes"] < four["found"]["bytes"] < eight["found"]["bytes"]


def test_peer_that_fails_has_a_sentence() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such model')"]
    with pytest.raises(Unavailable, match="it stopped: no such model"):
        call(command, 60, "it stopped")


def test_page_of_peers_is_what_was_measured() -> None:
    documents = page.stored()
    assert documents
    assert page.tables(documents) in page.README.read_text("utf-8")


def _model(tmp_path: Path, *, stored: str) -> Path:
    """A GRU whose weights are stored in one of three ways, one of them outside the file."""
    generator = np.random.default_rng(0)
    floats = {"W": (1, 12, 3), "R": (1, 12, 4)}
    tensors, nodes = [], []
    for name, shape in floats.items():
        if stored == "int8":
            codes = generator.integers(-127, 128, shape).astype(np.int8)
            scale = np.array(0.01, np.float32)
            tensors += [from_array(codes, f"{name}_q"), from_array(scale, f"{name}_s")]
            nodes.append(make_node("DequantizeLinear", [f"{name}_q", f"{name}_s"], [name]))
        else:
            tensors.append(from_array(generator.standard_normal(shape).astype(np.float32), name))
    nodes.append(make_node("GRU", ["X", "W", "R"], ["", "Y"], hidden_size=4))
    inputs = [make_tensor_value_info("X", 1, ["T", "B", 3])]
    outputs = [make_tensor_value_info("Y", 1, [1, "B", 4])]
    model = make_model(
        make_graph(nodes, "gru", inputs, outputs, tensors),
        opset_imports=[make_opsetid("", 18)],
        ir_version=8,
    )
    path = tmp_path / f"{stored}.onnx"
    outside = stored == "outside"
    onnx.save(model, path, save_as_external_data=outside, location="weights.bin", size_threshold=0)
    return path


def test_peers_graphs_are_looked_into(tmp_path: Path) -> None:
    inside, outside, codes = (
        graph.look(_model(tmp_path, stored=name)) for name in ("float32", "outside", "int8")
    )
    assert (inside.recurrence, inside.weights, inside.float_bytes) == ("float GRU", "float32", 336)
    assert (outside.weights, outside.float_bytes) == ("float32", 336)
    bytes_outside = (tmp_path / "outside.onnx").stat().st_size
    assert outside.bytes == bytes_outside + (tmp_path / "weights.bin").stat().st_size
    assert codes.weights == "int8 through DequantizeLinear"
    assert (codes.recurrence, codes.float_bytes, codes.dequantize) == ("float GRU", 8, 2)


COMMANDS = [
    path.stem
    for path in sorted((ROOT / "benchmarks").glob("[a-z]*.py"))
    if "__main__" in path.read_text("utf-8")
]


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "results"])
def test_results_name_every_benchmark(command: str) -> None:
    assert f"python -m benchmarks.{command}" in (ROOT / "benchmarks" / "README.md").read_text(
        "utf-8"
    )


def test_frames_of_a_denoiser_overlap_to_the_recording(tmp_path: Path) -> None:
    from benchmarks.denoiser import HOP, WINDOW, frames

    samples = np.random.default_rng(0).integers(-9000, 9000, 5 * HOP).astype("<i2")
    with wave.open(str(tmp_path / "noise.wav"), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(16_000)
        stream.writeframes(samples.tobytes())
    found = frames(tmp_path / "noise.wav", None)
    assert found.shape == (4, WINDOW // 2 + 1, 1, 2) and found.dtype == np.float32
    window = np.sqrt(np.hanning(WINDOW + 1)[:-1])
    pieces = np.fft.irfft(found[:, :, 0, 0] + 1j * found[:, :, 0, 1]) * window
    whole = pieces[:-1, HOP:] + pieces[1:, :HOP]
    np.testing.assert_allclose(whole.ravel(), samples[HOP : 4 * HOP] / 2**15, atol=1e-6)
    np.testing.assert_array_equal(frames(tmp_path / "noise.wav", 2), found[:2])


def test_published_models_take_the_frames_made_for_them() -> None:
    """Shapes beside time are those of the inputs, whose batch is 1."""
    from benchmarks.realmodels import MODELS, PIECE, pieces

    shapes = {
        "GTCRN": (257, 1, 2), "NSNet2": (1, 161), "packet loss": (1, 805), "RNNoise": (1, 42),
        "DTLN": (1, 257), "silero-vad": (576,),
    }  # fmt: skip
    samples = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    for name, published in MODELS.items():
        frames = published.frames(samples)
        assert frames.dtype == np.float32 and np.isfinite(frames).all()
        assert np.delete(frames.shape, published.time).tolist() == list(shapes[name])
        if published.sequences and frames.ndim > 2:
            cut = pieces(frames, published)
            assert cut.shape[published.time] == PIECE
            first = np.take(cut, [0], 1 - published.time)
            np.testing.assert_array_equal(first, np.take(frames, range(PIECE), published.time))


@needs_data
def test_real_models(tmp_path: Path) -> None:
    """The command itself checks that `evaluate` has the figure of the report."""
    found = figures("realmodels", tmp_path, "--only", "RNNoise")
    assert float(found["RNNoise, 8 bits, SQNR, dB"]) > 25
