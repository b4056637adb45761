"""The Python interface: models and data as programs hold them, results, and what is refused."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import onnxgru
from onnxgru.core import size
from onnxgru.core.errors import DataError, ModelError, OutputError, UsageError
from onnxgru.events import silent
from tests import grus

pytestmark = pytest.mark.slow

CASE = grus.Case(T=5, B=8, I=3, H=4)
DATA = {"X": np.random.default_rng(0).standard_normal((5, 64, 3)).astype(np.float32)}
SHORT = {"search": True, "population": 4, "generations": 1, "jobs": 1}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(grus.model(CASE), tmp_path / "m.onnx")
    return tmp_path


def test_models_in_memory(place: Path) -> None:
    message = grus.model(CASE)
    wanted = onnxgru.quantize("m.onnx", bits=4, calibration=DATA, output="file", listener=silent)
    for name, model in {
        "proto": message,
        "ir": ir.from_proto(message),
        "bytes": message.SerializeToString(),
    }.items():
        result = onnxgru.quantize(model, bits=4, calibration=DATA, output=name, listener=silent)
        assert result.folder == Path(name)
        found = [
            onnx.load(path).graph.SerializeToString() for path in (result.integer, wanted.integer)
        ]
        assert found[0] == found[1]
        kept = place / name / "source.onnx"
        assert result.report["model"]["path"] == str(kept)
        again = onnxgru.quantize(
            kept, bits=4, calibration=DATA, output=f"{name}-2", listener=silent
        )
        assert again.report["model"]["sha256"] == result.report["model"]["sha256"]
    with pytest.warns(onnxgru.OnnxgruWarning, match="accuracy is measured on the calibration"):
        assert onnxgru.quantize(message, calibration=DATA).folder == Path("model-onnxgru")
    assert onnxgru.inspect(message).layers[0].hidden_size == 4
    figures = onnxgru.evaluate([message, wanted.integer], DATA)
    assert figures.rows[1].quality > 10
    assert onnxgru.evaluate("m.onnx", DATA).sequences == 64


def test_settings_as_keywords_go_before_a_configuration(place: Path) -> None:
    config = onnxgru.Config(bits=3, calibration=DATA, output="out")
    result = onnxgru.quantize("m.onnx", config, bits=5, listener=silent)
    assert {entry.bits for entry in result.scheme.operators.values()} == {5}


def test_warnings_reach_the_caller_and_a_listener_takes_them(place: Path) -> None:
    with pytest.warns(onnxgru.OnnxgruWarning) as caught:
        onnxgru.quantize("m.onnx")
    told = [str(warning.message) for warning in caught]
    assert "no data given or found" in told[0]
    assert told[0].endswith("; give calibration and validation")  # settings, and no flags
    assert sum("random input" in text for text in told) == 1
    assert {warning.filename for warning in caught} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        onnxgru.quantize("m.onnx", output="out", listener=silent)


def test_results_say_what_they_are(place: Path) -> None:
    result = onnxgru.quantize("m.onnx", calibration=DATA, validation=DATA, holdout=DATA, **SHORT)
    assert result.flash_bytes == result.report["sizes"]["flash_bytes"] > 0
    assert result.ram_bytes > 0 and 2 <= result.mean_bits <= 8
    quality = result.quality["holdout"]
    assert (quality.role, quality.unit, quality.sequences) == ("holdout", "dB", 64)
    assert quality.integer == result.report["quality"]["holdout"]["integer"]
    chosen = result.report["search"]["chosen"]["index"]
    assert result.members[chosen].flash_bytes == result.flash_bytes
    for path in (result.integer, result.annotated, result.page):
        assert path.is_file()
    text = repr(result)
    assert len(text.splitlines()) == 6 and len(text) < 700
    assert f"{result.flash_bytes:,} bytes" in text and "64 sequences" in text
    assert result._repr_html_().count("<tr>") == 5


def test_members_are_picked_beside_the_search(place: Path) -> None:
    data = {"validation": [DATA], "calibration": DATA}
    with pytest.warns(onnxgru.OnnxgruWarning, match="64 of 64 validation recordings are in"):
        result = onnxgru.quantize(grus.model(CASE), output="out", **data, **SHORT)
    before = {p.name: p.read_bytes() for p in result.folder.iterdir() if p.is_file()}
    with pytest.raises(DataError, match=r"out: its validation data, .*, or validation= in Python"):
        onnxgru.pick("out", index=0)
    first = onnxgru.pick("out", max_bytes="1Mi", validation=DATA)
    assert first.folder.parent == result.folder and first.home == result.folder
    assert first.folder.name == f"member-{first.report['search']['chosen']['index']:02d}"
    assert {p.name: p.read_bytes() for p in result.folder.iterdir() if p.is_file()} == before
    with pytest.raises(OutputError, match="exists and is not empty; replace its results with"):
        onnxgru.pick("out", max_bytes="1Mi", validation=DATA)
    again = onnxgru.pick("out", max_bytes="1Mi", validation=DATA, force=True)
    assert again.flash_bytes == first.flash_bytes
    other = {"X": DATA["X"] + 1}
    with pytest.warns(onnxgru.OnnxgruWarning, match="are not the validation data that out"):
        onnxgru.pick("out", index=0, validation=other, output="other")
    from_member = onnxgru.pick(first, index=0, validation=DATA, output="third")
    assert from_member.report["search"]["chosen"]["index"] == 0
    (place / "out" / "source.onnx").unlink()
    with pytest.raises(ModelError, match=r"source\.onnx: the model .* --model FILE"):
        onnxgru.pick("out", index=0, validation=DATA, output="gone")
    onnxgru.pick("out", index=0, validation=DATA, output="gone", model=grus.model(CASE))


def mean_error(outputs: np.ndarray, reference: np.ndarray) -> float:
    return -float(np.abs(outputs - reference).mean())


def test_a_metric_is_a_function(place: Path) -> None:
    result = onnxgru.quantize(
        "m.onnx", calibration=DATA, validation=DATA, metric=mean_error, output="out", **SHORT
    )
    assert result.metric == f"{__name__}:mean_error"
    assert -0.1 < result.quality["validation"].integer < 0
    onnxgru.pick("out", index=0, validation=DATA, metric=mean_error)
    inner = onnxgru.quantize(
        "m.onnx", calibration=DATA, metric=lambda a, b: -mean_error(b, -a), output="inner",
        listener=silent, **SHORT,
    )  # fmt: skip
    assert "<lambda>" in inner.metric
    with pytest.raises(UsageError, match=r"inner: its metric, .*lambda.* call it from Python"):
        onnxgru.pick("inner", index=0, validation=DATA)


@pytest.mark.parametrize(
    ("value", "bytes_"),
    [
        ("20k", 20_000),
        ("20 kB", 20_000),
        ("20KiB", 20_480),
        ("20Ki", 20_480),
        ("6,013", 6013),
        ("6_013 bytes", 6013),
        ("1.5M", 1_500_000),
        ("1MiB", 2**20),
        (512, 512),
        (512.0, 512),
        (np.int64(7), 7),
    ],
)
def test_sizes(value: object, bytes_: int) -> None:
    assert size.parse(value) == bytes_


@pytest.mark.parametrize(
    "value",
    ["", "k", "big", "6,13", "-5", "0", 0, 1.5, float("inf"), float("nan"), True, None, [1], "9x"],
)
def test_sizes_that_are_none(value: object) -> None:
    with pytest.raises(UsageError, match=r"such as 20480, 6,013, 20k, 20 kB or 20KiB"):
        size.parse(value)


REFUSED = {
    "config must be a Config, it is of type dict": lambda: onnxgru.quantize("m.onnx", {"bits": 8}),
    "there is no setting 'bitz'; did you mean 'bits'": lambda: onnxgru.quantize("m.onnx", bitz=8),
    "there is no setting 'bit'; did you mean 'bits'": lambda: onnxgru.Config(bit=8),
    "there is no setting 'epoch'; did you mean 'epochs'": lambda: onnxgru.finetune(
        "done", DATA, settings={"epoch": 2}
    ),
    "settings must be a dict, it is of type list": lambda: onnxgru.finetune(
        "done", DATA, settings=[2]
    ),
    "finetune needs training data, got None": lambda: onnxgru.finetune("done", None),
    "model must be the path of an ONNX file, its bytes": lambda: onnxgru.quantize(3),
    "it is of type NoneType": lambda: onnxgru.inspect(None),
    "it is of type dict": lambda: onnxgru.evaluate([{}], DATA),
    "calibration must be a path, package.module:name": lambda: onnxgru.quantize(
        "m.onnx", calibration=3
    ),
    "validation must be a path, package.module:name": lambda: onnxgru.quantize(
        "m.onnx", validation=b"data"
    ),
    "metric must be a name or a function, got 3": lambda: onnxgru.quantize("m.onnx", metric=3),
    "metric must be a name or a function": lambda: onnxgru.evaluate("m.onnx", DATA, None),
    "output must be a path, got 3": lambda: onnxgru.quantize("m.onnx", output=3),
    "bits must be a whole number from 2 to 8, got '8'": lambda: onnxgru.quantize(
        "m.onnx", bits="8"
    ),
    "folder must be a path, it is of type NoneType": lambda: onnxgru.pick(None, index=0),
    "folder must be a path, it is of type int": lambda: onnxgru.finetune(3, DATA),
    "folder must be a path, it is of type float": lambda: onnxgru.load(3.5),
    "a size must be a number of bytes": lambda: onnxgru.pick("done", max_bytes=[20]),
    "--index must be a whole number, got '1'": lambda: onnxgru.pick("done", index="1"),
    "--max-drop must be a number, got 'a'": lambda: onnxgru.pick("done", max_drop="a"),
    "output must be a path, it is of type int": lambda: onnxgru.pick("done", index=0, output=3),
    "there is no setting 'width'": lambda: onnxgru.measure_sensitivity("m.onnx", width="2"),
    "must have 3 axes": lambda: onnxgru.quantize(
        "m.onnx", calibration=np.ones((2, 2, 2, 2)), listener=silent
    ),
    "evaluate takes at least one model": lambda: onnxgru.evaluate([], DATA),
    "listener must be a function": lambda: onnxgru.quantize("m.onnx", listener=3),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("refused")
    onnx.save(grus.model(CASE), place / "m.onnx")
    onnxgru.quantize(
        place / "m.onnx", calibration=DATA, validation=DATA, output=place / "done", **SHORT
    )
    return place


@pytest.mark.parametrize("words", REFUSED)
def test_mistakes_are_one_sentence(finished: Path, monkeypatch, words: str) -> None:
    monkeypatch.chdir(finished)
    with pytest.raises(onnxgru.OnnxgruError) as caught:
        REFUSED[words]()
    assert words in str(caught.value) and len(str(caught.value)) < 1500


def test_a_reader_for_two_roles_says_what_to_give(place: Path) -> None:
    reader = iter([DATA])
    with pytest.raises(DataError, match=r"it holds none; it can be read only once, so if it was"):
        onnxgru.quantize("m.onnx", calibration=reader, validation=reader, listener=silent)


def test_tensors_of_types_that_numpy_lacks(place: Path) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(DATA["X"]).bfloat16()
    result = onnxgru.quantize("m.onnx", calibration=[tensor], output="b", listener=silent)
    assert result.quality["validation"].sequences == 64


def test_torch_modules_are_to_be_exported(finished: Path, monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(finished)
    with pytest.raises(UsageError, match=r"of type GRU; write a torch module as ONNX with onnxgru"):
        onnxgru.quantize(torch.nn.GRU(3, 4))
