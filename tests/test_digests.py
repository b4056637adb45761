"""What onnxgru writes stays the same, byte for byte, while its code is rearranged.

`tests/digests.json` holds digests of the files that `quantize` writes for the digits model and 20
generated models in all three forms, and of the genomes and objectives of a seeded search. Versions
are left out. A change on purpose writes the file anew, in a commit of its own that says why::

    python -m tests.test_digests

Calibration reads what onnxruntime computes in float32, whose last bits depend on the processor. So
the file holds a digest of such floats too, and where that differs, nothing can be compared.
"""

import hashlib
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxgru
from tests import generator, grus, journeys

STORED = Path(__file__).with_name("digests.json")
SEEDS = range(20)
FORMS = ("scan", "step", "unrolled")
WRITTEN = ("integer.onnx", "annotated.onnx", "scheme.json", "calibration.json")
DIGITS = "digits"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def stripped(document: Any) -> Any:
    """A JSON document without versions and paths."""
    if isinstance(document, dict):
        return {k: stripped(v) for k, v in document.items() if k not in ("version", "source")}
    return [stripped(v) for v in document] if isinstance(document, list) else document


def content(path: Path) -> bytes:
    """A file without versions and paths."""
    if path.suffix == ".json":
        return json.dumps(stripped(json.loads(path.read_text("utf-8")))).encode()
    model = onnx.load(path)
    model.producer_version = ""
    for entry in [e for e in model.metadata_props if e.key == "onnxgru.version"]:
        model.metadata_props.remove(entry)
    return model.SerializeToString(deterministic=True)


def golden(folder: Path) -> bytes:
    """Inputs and outputs of the data set that the evaluator computed."""
    return b"".join(p.read_bytes() for p in sorted((folder / "test_data_set_0").iterdir()))


def written(folder: Path) -> dict[str, str]:
    found = {name: digest(content(folder / name)) for name in WRITTEN}
    return {**found, "golden": digest(golden(folder))}


def quantized(seed: int, place: Path) -> dict[str, Any]:
    """Digests of a generated model in all forms, or the sentence that refuses a form."""
    sample = generator.draw(seed)
    onnx.save(sample.model, place / "m.onnx")
    found: dict[str, Any] = {}
    for form in FORMS:
        steps = generator.T if form == "unrolled" else None
        try:
            onnxgru.quantize(
                place / "m.onnx", bits=2 + seed % 7, calibration=dict(sample.inputs),
                output=place / form, recurrence=form, steps=steps,
            )  # fmt: skip
            found[form] = written(place / form)
        except onnxgru.OnnxgruError as error:
            found[form] = str(error).replace(str(place), "")
    return found


def searched(place: Path) -> dict[str, Any]:
    """Digests of the digits model at 4 bits, and of a search on it."""
    model = journeys.copy_digits(place, 100)
    data = {"calibration": place / "digits_row.calibration.npz"}
    onnxgru.quantize(model, bits=4, output=place / "plain", **data)
    onnxgru.quantize(
        model, search=True, generations=3, population=8, seed=5, output=place / "front",
        validation=place / "digits_row.validation.npz", **data,
    )  # fmt: skip
    front = json.loads((place / "front" / "front.json").read_text("utf-8"))
    journal = (place / "front" / "journal.jsonl").read_text("utf-8").splitlines()[1:]
    return {
        "plain": written(place / "plain"),
        "front": digest(json.dumps(stripped(front)).encode()),
        "journal": digest(json.dumps([stripped(json.loads(line)) for line in journal]).encode()),
    }


def floats() -> str:
    """Digest of what this processor's float32 arithmetic makes of GRUs and products."""
    parts = []
    for hidden in (5, 64):
        case = grus.Case(H=hidden)
        parts += grus.run(grus.model(case), grus.feeds(case))
        product = onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 18]>
            g (float[N, {hidden}] x, float[{hidden}, {hidden}] w) => (float[N, {hidden}] y)
            {{ p = MatMul (x, w)  s = Sigmoid (p)  t = Tanh (p)  y = Mul (s, t) }}"""
        )
        drawn = np.random.default_rng(0).normal(size=(40 + hidden, hidden)).astype(np.float32)
        session = onnxruntime.InferenceSession(product.SerializeToString())
        parts += session.run(None, {"x": drawn[:40], "w": drawn[40:]})
    return digest(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))


def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(STORED.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    found = stored()
    if found["floats"] != floats():
        pytest.skip("the digests were made on a processor whose float32 sums differ")
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning")  # generated models have random data
@pytest.mark.parametrize("seed", SEEDS)
def test_generated_models(seed: int, known: dict[str, Any], tmp_path: Path) -> None:
    assert quantized(seed, tmp_path) == known[str(seed)]


@pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning")  # few data
def test_digits(known: dict[str, Any], tmp_path: Path) -> None:
    assert searched(tmp_path) == known[DIGITS]


def test_digests_know_a_change(tmp_path: Path) -> None:
    model = grus.model(grus.Case())
    onnx.save(model, tmp_path / "a.onnx")
    before = content(tmp_path / "a.onnx")
    model.producer_version = "9"
    onnx.save(model, tmp_path / "a.onnx")
    assert content(tmp_path / "a.onnx") == before
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-1] + b"\x01"
    onnx.save(model, tmp_path / "a.onnx")
    assert content(tmp_path / "a.onnx") != before


def write() -> None:
    """Write the digests of this version."""
    found: dict[str, Any] = {"floats": floats()}
    warnings.simplefilter("ignore", onnxgru.OnnxgruWarning)
    with tempfile.TemporaryDirectory() as place:
        for seed in SEEDS:
            (Path(place) / str(seed)).mkdir()
            found[str(seed)] = quantized(seed, Path(place) / str(seed))
        (Path(place) / DIGITS).mkdir()
        found[DIGITS] = searched(Path(place) / DIGITS)
    STORED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    write()
