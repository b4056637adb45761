"""Searches that judge their candidates fine-tuned, and how sure the choice of an epoch is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import onnxgru
from onnxgru.core.errors import DataError, DivergedError
from onnxgru.core.scheme import Scheme
from onnxgru.events import Event, Stage
from onnxgru.session.finetuning import Candidates, training_data, tune
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from onnxgru.study.study import Study
from onnxgru.training.finetune import Finetuning
from tests.journeys import copy_digits, training

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning"),  # few data, narrow weights
]

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """The current folder, with the digits model and training data."""
    place = tmp_path_factory.mktemp("candidates")
    copy_digits(place)
    train = training()
    np.savez(place / "few.npz", **{name: array[:128] for name, array in train.items()})
    np.savez(place / "more.npz", **{name: array[:256] for name, array in train.items()})
    np.savez(place / "bare.npz", rows=train["rows"][:128])
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(place)
    yield place
    monkeypatch.undo()


def test_candidates_are_judged_fine_tuned(place):
    """By the same bits whoever asks: one worker or two, a search gone on with, a member picked."""
    settings = {"search": True, "population": 6, "generations": 2, "verify": 4, "epochs": 1}
    config = Config(
        training_data="few.npz", finetune_candidates=True, widths="2,4", jobs=1, output="each",
        **settings,
    )  # fmt: skip
    first = onnxgru.quantize("digits_row.onnx", config)
    rounded = onnxgru.quantize(
        "digits_row.onnx", Config(widths="3", output="rounded", **settings | {"epochs": 10})
    )
    three, plain = (
        next(entry for entry in result.front["uniform"] if entry["bits"] == 3)
        for result in (first, rounded)
    )
    assert (
        three["validation"] > plain["validation"] and three["weight_bits"] == plain["weight_bits"]
    )
    chosen = first.front["members"][first.front["chosen"]]
    for role in ("validation", "holdout"):
        found = first.report["quality"][role]["integer"]
        assert found == pytest.approx(chosen[role], abs=1e-4)
    journal = place / "each" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    again = onnxgru.quantize("digits_row.onnx", replace(config, resume=True, jobs=2))
    assert again.front == first.front
    other = next(m for m in first.front["members"] if m["index"] != chosen["index"])
    onnxgru.finetune("each", "more.npz", epochs=2)  # leaves the search as it is
    picked = onnxgru.pick("each", index=other["index"])
    assert picked.folder == Path("each") / f"member-{other['index']:02d}"
    found = picked.report["quality"]["holdout"]["integer"]
    assert found == pytest.approx(other["holdout"], abs=1e-4)
    assert (place / "each" / "finetuned.onnx").is_file()
    smallest = first.front["members"][0]
    limit = smallest["flash_bytes"] + 300
    widened = onnxgru.pick("each", max_bytes=limit, widen=True)
    entry = widened.report["search"]["chosen"]
    assert smallest["flash_bytes"] < widened.report["sizes"]["flash_bytes"] <= limit
    for role in ("validation", "holdout"):  # as it is fine-tuned
        assert widened.report["quality"][role]["integer"] == pytest.approx(entry[role], abs=1e-4)
    few = (place / "few.npz").read_bytes()
    (place / "few.npz").write_bytes((place / "more.npz").read_bytes())
    with pytest.raises(DataError, match="must be the data that the search fine-tuned with"):
        onnxgru.pick("each", index=other["index"], force=True)
    (place / "few.npz").write_bytes(few)


def test_one_teacher_is_enough_for_all(place):
    """The member is written as it was judged, and picked so again."""
    config = Config(
        search=True, population=4, generations=1, widths="2,3", training_data="few.npz", epochs=2,
        teacher_epochs=1, finetune_candidates=True, verify=4, output="taught",
    )  # fmt: skip
    heard: list[Event] = []
    result = onnxgru.quantize("digits_row.onnx", config, listener=heard.append)
    told = [event.text for event in heard if isinstance(event, Stage)]
    assert told.count("fine-tuning a teacher of 8 bits on 128 sequences") == 1
    chosen = result.front["members"][result.front["chosen"]]
    for made in (result, onnxgru.pick("taught", index=chosen["index"])):
        found = made.report["quality"]["holdout"]["integer"]
        assert found == pytest.approx(chosen["holdout"], abs=1e-4)
        assert made.report["finetuning"]["teacher"]["epochs"] == 1
    with pytest.raises(DivergedError, match="diverged"):  # and not one candidate after the other
        onnxgru.quantize("digits_row.onnx", replace(config, learning_rate=1e6, output="no"))
    assert not Path("no").exists()


def test_a_teacher_need_not_fit_the_accumulators(place):
    """It is never written."""
    config = Config(
        bits=3,
        training_data="few.npz",
        epochs=2,
        teacher_epochs=1,
        accumulator_bits=20,
        output="bound",
    )
    report = onnxgru.quantize("digits_row.onnx", config).report
    assert report["finetuning"]["teacher"]["epochs"] == 1
    assert report["sizes"]["accumulator_bits"] <= 20


def test_a_candidate_that_diverges_is_infeasible(place):
    config = Config(
        search=True, population=4, generations=1, widths="3,4", training_data="few.npz", epochs=1,
        finetune_candidates=True, output="diverges",
    )  # fmt: skip
    session = Session.open(Path("digits_row.onnx"), config)
    data = training_data(session.model, session.yardstick, config)
    study = Study(*session.parts, tune=Candidates(*session.parts, data))
    narrow, wide = (study.encoding.uniform(bits) for bits in (3, 4))
    assert study.evaluate(wide).feasible
    wild = (session.quantizer, session.yardstick, replace(config, learning_rate=1e6))
    study = Study(*wild, tune=Candidates(*wild, data))
    assert not study.evaluate(narrow).feasible


def test_agreement_is_as_uncertain_as_its_sequences(place):
    """Without labels: the last epoch is not kept where it is many points worse than another."""
    config = Config(bits=3, training_data="bare.npz", epochs=1, output="agree", metric="agreement")
    session = Session.open(Path("digits_row.onnx"), config)
    session.quantizer(Scheme.uniform(session.model.layers, 3))
    kept, told = [], []
    run = Finetuning.run

    def noted(self, data, teacher, judge, report, uncertainty, *others):
        told.append(uncertainty(2.0))
        return run(self, data, teacher, judge, report, uncertainty, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Finetuning, "run", noted)
        data = training_data(session.model, session.yardstick, config)
        kept.append(tune(*session.parts, Scheme.uniform(session.model.layers, 3), data))
    assert told == [pytest.approx(100 * (0.02 * 0.98 / 450) ** 0.5)]


def test_a_folder_made_of_given_weights_can_be_fine_tuned(place):
    """It has no moments, because nothing was rounded by them."""
    settings = {"bits": 4, "training_data": "few.npz", "epochs": 1, "output": "first"}
    onnxgru.quantize("digits_row.onnx", Config(**settings))
    first = place / "first"
    roles = ("calibration", "validation", "holdout")
    data = {role: place / f"digits_row.{role}.npz" for role in roles}
    config = Config(
        scheme=first / "scheme.json", calibration_file=first / "finetuned.calibration.json",
        weights_file=first / "finetuned.weights.npz", output="given",
    )  # fmt: skip
    result = onnxgru.quantize(first / "finetuned.onnx", replace(config, **data))
    assert not (place / "given" / "moments.npz").exists()
    assert "weights as " in (place / "given" / "report.md").read_text("utf-8")
    again = onnxgru.finetune("given", "few.npz", settings={"epochs": 1})
    sizes, given = (dict(one.report["sizes"]) for one in (again, result))
    for one in (sizes, given):  # training moves scales and biases, and what they need
        del one["flash"]["multiplier"], one["flash"]["bias"], one["flash_bytes"]
    assert sizes == given
