"""Methods of rounding and of ranges through the interface: exactness, files, keys, pick."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxgru
from onnxgru import api
from onnxgru.cli import main
from onnxgru.core.errors import OutputError, SchemeError
from onnxgru.core.scheme import LinearScheme, Scheme
from onnxgru.events import silent
from onnxgru.rounding.gptq import Gptq
from onnxgru.runtime.verify import verify
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from onnxgru.study.study import Study
from tests import grus
from tests.journeys import PLAIN, SEARCHED, copy_digits, names, read

pytestmark = pytest.mark.slow

EVERYTHING = {"rounding": "gptq", "bias_correction": True, "ranges": "aligned"}
NEAREST = {"rounding": "nearest", "bias_correction": False, "ranges": "plain"}
SHORT = {"search": True, "population": 8, "generations": 3, "verify": 4}


@pytest.fixture
def model(tmp_path) -> Path:
    return copy_digits(tmp_path, 60)


def test_settings_change_the_codes_and_the_oracle_agrees(model, tmp_path):
    graphs = set()
    for index, settings in enumerate(
        (NEAREST, *({**NEAREST, name: value} for name, value in EVERYTHING.items()), EVERYTHING)
    ):
        folder = tmp_path / str(index)
        config = Config(bits=3, output=folder, verify=60, **settings)
        result = api.quantize(model, config, listener=silent)
        graphs.add(result.integer.read_bytes())
        assert result.report["verification"]["codes"] == 60 * 64
        assert result.report["verification"]["differences"] == 0
        for name, value in settings.items():
            assert result.report["config"][name] == value
        config = Config(**settings)
        assert config.needs_moments == (config.rounding == "gptq" or config.bias_correction)
        assert names(folder) == PLAIN - (set() if config.needs_moments else {"moments.npz"})
    assert len(graphs) == 5


@pytest.mark.parametrize("reset", [0, 1])
def test_every_kind_of_sequence(tmp_path, reset):
    """Two directions, lengths and given states: verified again on inputs never seen."""
    case = grus.Case(
        B=12, direction="bidirectional", linear_before_reset=reset, initial=True, lengths=(5, 3) * 6
    )
    (tmp_path / "m.onnx").write_bytes(grus.model(case).SerializeToString())
    np.savez(tmp_path / "x.npz", **grus.feeds(case))
    config = Config(calibration=tmp_path / "x.npz", **EVERYTHING)
    session = Session.open(tmp_path / "m.onnx", config)
    for bits in (2, 4, 8):
        scheme = Scheme.uniform(session.model.layers, bits)
        program = session.quantizer(scheme)
        checked = verify(
            session.emission.integer(program, scheme),
            session.model.host,
            program,
            session.data["validation"],
        )
        assert checked.codes > 0


def test_uniform_narrow_weights_are_better_on_other_data(model):
    """SQNR of the output on hold-out data, weights at 2 bits."""
    figures = {}
    for rounding in ("nearest", "gptq"):
        # Plain ranges: any range that is 3 % wider moves these figures by 0.5 dB.
        session = Session.open(model, Config(metric="sqnr", rounding=rounding, ranges="plain"))
        uniform = Scheme.uniform(session.model.layers, 8)
        operators = {
            name: replace(entry, weight_bits=2) if isinstance(entry, LinearScheme) else entry
            for name, entry in uniform.operators.items()
        }
        scheme = Scheme(uniform.inputs, operators)
        figures[rounding] = session.yardstick.quality(session.quantizer(scheme), "holdout")
    assert figures["nearest"] > 14  # 9 with three levels
    assert figures["gptq"] > max(19, figures["nearest"] + 4)


def test_pick_needs_no_calibration_data(model, tmp_path):
    config = Config(output=tmp_path / "a", **SHORT, **EVERYTHING)
    searched = api.quantize(model, config, listener=silent)
    assert names(tmp_path / "a") == SEARCHED | {"moments.npz"}
    for role in ("calibration", "holdout"):
        (tmp_path / f"digits_row.{role}.npz").unlink()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    members = searched.front["members"]
    other = next(m["index"] for m in members if m["index"] != searched.front["chosen"])
    with pytest.warns(onnxgru.OnnxgruWarning) as caught:
        onnxgru.pick(tmp_path / "b", index=other, output=tmp_path / "b", force=True)
    (gone,) = [w for w in caught if "holdout data" in str(w.message)]
    assert "are not there any" in str(gone.message)
    assert (tmp_path / "b" / "integer.onnx").read_bytes() != searched.integer.read_bytes()
    chosen = {
        "index": searched.front["chosen"], "output": tmp_path / "b", "force": True,
        "listener": silent,
    }  # fmt: skip
    onnxgru.pick(tmp_path / "b", **chosen)
    for name in ("integer.onnx", "annotated.onnx", "moments.npz", "calibration.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    (tmp_path / "b" / "moments.npz").unlink()
    with pytest.raises(OutputError, match=r"b: must have moments\.npz, .* quantise again"):
        onnxgru.pick(tmp_path / "b", **chosen)
    (tmp_path / "b" / "moments.npz").write_bytes(b"no")
    with pytest.raises(SchemeError, match=r"moments\.npz: must be moments"):
        onnxgru.pick(tmp_path / "b", **chosen)


def test_search_goes_on_with_the_same_weights(model, tmp_path):
    settings = {**SHORT, **EVERYTHING}
    whole = api.quantize(model, Config(output=tmp_path / "whole", **settings))
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "journal.jsonl").write_bytes(b"".join(lines[:9]))
    again = api.quantize(model, Config(output=tmp_path / "again", resume=True, **settings))
    assert again.front == whole.front
    command = ["quantize", str(model), "-q", "--search", "--resume", "-o", str(tmp_path / "again")]
    assert main([*command, "--population", "8", "--generations", "3"]) == 1  # another rounding


def test_journal_belongs_to_the_methods(model):
    def key(**settings):
        return Study(*Session.open(model, Config(search=True, **settings)).parts).key

    keys = [key(**{**NEAREST, name: value}) for name, value in EVERYTHING.items()]
    keys += [key(**NEAREST), key(**EVERYTHING)]
    assert len(set(keys)) == len(keys)
    assert key(**EVERYTHING) == keys[-1]


def test_every_rounding_is_computed_once(model, monkeypatch, tmp_path):
    computed: Counter = Counter()
    best = Gptq._best

    def counted(self, operators, bits, *, each):
        computed[tuple(o.name for o in operators), bits, each] += 1
        return best(self, operators, bits, each=each)

    monkeypatch.setattr(Gptq, "_best", counted)
    api.quantize(model, Config(output=tmp_path / "out", jobs=4, rounding="gptq", **SHORT))
    assert set(computed.values()) == {1}
    assert len(computed) == 6 * 7  # linear operators, widths


def test_moments_beside_a_calibration_file_are_used(model, tmp_path):
    config = Config(bits=3, output=tmp_path / "a", rounding="gptq")
    with pytest.warns(onnxgru.OnnxgruWarning, match=r"accuracy falls from .* on hold-out data"):
        first = api.quantize(model, config)
    (tmp_path / "digits_row.calibration.npz").unlink()
    file = tmp_path / "a" / "calibration.json"
    again = Config(bits=3, output=tmp_path / "b", rounding="gptq", calibration_file=file)
    same = api.quantize(model, again, listener=silent)
    assert same.integer.read_bytes() == first.integer.read_bytes()
    (tmp_path / "a" / "moments.npz").unlink()  # then they are those of the data there are
    measured = replace(again, output=tmp_path / "c")
    other = api.quantize(model, measured, listener=silent)
    assert other.integer.read_bytes() != first.integer.read_bytes()
    # Another model's are refused.
    changed = onnx.load(model)
    changed.doc_string = "changed"
    onnx.save(changed, model)
    with pytest.raises(SchemeError, match=r"moments\.npz: must be the moments of this model"):
        file = tmp_path / "b" / "calibration.json"
        wrong = replace(again, calibration_file=file, output=tmp_path / "d")
        api.quantize(model, wrong, listener=silent)


def test_report_names_the_methods(model, tmp_path):
    assert (
        main(
            [
                "quantize",
                str(model),
                "-q",
                "-o",
                str(tmp_path / "out"),
                "--bias-correction",
                "--rounding",
                "gptq",
                "--ranges",
                "aligned",
            ]
        )
        == 0
    )
    report = (tmp_path / "out" / "report.md").read_text()
    assert (
        "- weights rounded by gptq, biases corrected; saturating ranges where the observer"
        in report
    )
    assert read(tmp_path / "out" / "report.json")["config"]["bias_correction"] is True
