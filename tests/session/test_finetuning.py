"""Fine-tuning through the interface and the command line, on the digits model and small ones."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxgru
from onnxgru.cli import main
from onnxgru.core.alignment import is_aligned
from onnxgru.core.errors import DataError, UsageError
from onnxgru.core.folder import FINETUNED
from onnxgru.core.scheme import LinearScheme, Scheme
from onnxgru.data.dataset import Dataset
from onnxgru.events import EpochEnded, Notice, silent
from onnxgru.passes.graph import source
from onnxgru.session.finetuning import load_tuned
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from onnxgru.training.finetune import Finetuning, FinetuningSettings
from tests import grus
from tests.journeys import SHORT, contents, copy_digits, names, read, training, unfolded
from tests.test_bad_input import listing, sentence

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

EPOCHS = 3
QUICK = ("--epochs", "1", "--quiet")


def narrow(session: Session, bits: int) -> Scheme:
    """Weights of so many bits, everything else of 8."""
    scheme = Scheme.uniform(session.model.layers, 8)
    return Scheme(
        scheme.inputs,
        {
            name: replace(entry, weight_bits=bits) if isinstance(entry, LinearScheme) else entry
            for name, entry in scheme.operators.items()
        },
    )


def differentiable(session: Session, scheme: Scheme, settings: FinetuningSettings) -> Finetuning:
    """A scheme of a model as fine-tuning computes it."""
    model, program = session.model, session.quantizer(scheme)
    whole, output = source.proto(model.normal), session.yardstick.output
    return Finetuning(whole, model.layers, program, scheme, output, 0, settings)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """The current folder, with the digits model, its training data, schemes and results."""
    place = tmp_path_factory.mktemp("tuning")
    copy_digits(place)
    arrays = training()
    np.savez(place / "train.npz", **arrays)
    few = {name: array[:128] for name, array in arrays.items()}
    np.savez(place / "few.npz", **few)
    np.savez(place / "bare.npz", rows=few["rows"])
    np.savez(place / "one.npz", rows=few["rows"], labels=np.full(128, 4))
    np.savez(place / "eleven.npz", rows=few["rows"], labels=few["labels"] + 1)
    np.savez(place / "frames.npz", rows=few["rows"], labels=np.zeros((128, 8), int))
    np.savez(place / "shape.npz", rows=few["rows"][:, :, :7], labels=few["labels"])
    broken = few["rows"].copy()
    broken[3, 2, 1] = np.nan
    np.savez(place / "nan.npz", rows=broken, labels=few["labels"])
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(place)
    session = Session.open(place / "digits_row.onnx", Config())
    for bits in (2, 3):
        (place / f"narrow-{bits}.json").write_bytes(narrow(session, bits).dumps())
    quantize("tuned", "--scheme", "narrow-3.json", "--training-data", "train.npz", "--epochs", "2")
    yield place
    monkeypatch.undo()


def quantize(output: str, *arguments: str, model: str = "digits_row.onnx") -> Path:
    shutil.rmtree(output, ignore_errors=True)
    assert main(["quantize", model, "--quiet", "-o", output, *arguments]) == 0
    return Path(output)


# --- what it is for ------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3])
def test_it_beats_plain_rounding_on_the_holdout(place, bits):
    plainly = {"rounding": "nearest", "ranges": "plain"}
    config = Config(scheme=f"narrow-{bits}.json", output=f"plain-{bits}", force=True, **plainly)
    plain = onnxgru.quantize("digits_row.onnx", config)
    heard = []
    settings = {"training_data": "train.npz", "epochs": EPOCHS, "output": f"fine-{bits}"}
    tuned = onnxgru.quantize("digits_row.onnx", replace(config, **settings), listener=heard.append)
    before, after = (result.report["quality"]["holdout"] for result in (plain, tuned))
    assert before["float"] == after["float"]
    assert after["integer"] > before["integer"] + (1.5 if bits == 2 else 0.2), (before, after)
    assert after["integer"] > 97.5, after
    assert plain.report["sizes"] == tuned.report["sizes"]
    found = tuned.report["finetuning"]
    known = plain.report["quality"]["validation"]["integer"]
    assert found["before"] == pytest.approx(known, abs=1e-4)
    by_epoch, chosen = found["validation_by_epoch"], found["chosen_epoch"]
    share = max(by_epoch) / 100
    spread = 100 * (share * (1 - share) / 450) ** 0.5
    assert chosen == max(e for e, v in enumerate(by_epoch) if v >= max(by_epoch) - spread) > 0
    assert tuned.report["quality"]["validation"]["integer"] == pytest.approx(
        by_epoch[chosen], abs=1e-4
    )
    epochs = [event for event in heard if isinstance(event, EpochEnded)]
    assert [event.epoch for event in epochs] == list(range(EPOCHS + 1))
    assert [event.quality for event in epochs] == found["validation_by_epoch"]
    assert epochs[-1].loss < epochs[1].loss


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_torch_and_the_integers_agree(place, bits):
    """Accuracy, and most classes, of the same weights in both."""
    session = Session.open(place / "digits_row.onnx", Config())
    scheme = narrow(session, bits)
    program = session.quantizer(scheme)
    twin = differentiable(session, scheme, FinetuningSettings())
    for role in ("validation", "holdout"):
        judge = session.yardstick.judge(role)
        found = twin.outputs(session.data[role])
        integer = judge.outputs(program)
        assert np.mean(found.argmax(1) == integer[session.yardstick.output].argmax(1)) > 0.995
        assert abs(judge.figure({session.yardstick.output: found}) - judge.figure(integer)) < 0.5


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(place):
    flags = ("--scheme", "narrow-3.json", "--training-data", "few.npz", "--epochs", "1")
    first, again = (contents(quantize(name, *flags)) for name in ("a", "b"))
    assert first == again and set(first) >= FINETUNED
    other = contents(quantize("c", *flags, "--seed", "1"))
    assert {n for n in FINETUNED if other[n] != first[n]} >= {"finetuned.onnx"}


def test_files_reproduce_the_integers(place):
    tuned = place / "tuned"
    again = quantize(
        "again", "--scheme", "tuned/scheme.json", "--calibration-file",
        "tuned/finetuned.calibration.json", "--weights-file", "tuned/finetuned.weights.npz",
        "--validation", "digits_row.validation.npz", model="tuned/finetuned.onnx",
    )  # fmt: skip
    with np.load(place / "digits_row.holdout.npz") as data:
        inputs = {"rows": data["rows"]}
    for name in ("integer.onnx", "annotated.onnx"):
        wanted, found = (grus.run(onnx.load(f / name), inputs) for f in (tuned, again))
        np.testing.assert_array_equal(found[0], wanted[0])
    assert not FINETUNED & names(again)


def test_any_rounding_is_a_start_and_its_files_reproduce_it(place, capsys):
    """With calibrated ranges that were learned, or that plain settings would not find."""
    flags = ("--rounding", "gptq", "--bias-correction", "--ranges", "aligned", "--bits", "3")
    plain = quantize("gptq", *flags)
    tuned = quantize("gptq-tuned", *flags, "--training-data", "few.npz", "--epochs", "1",
                     "--learned-scales", "all")  # fmt: skip
    report = read(tuned / "report.json")
    before = read(plain / "report.json")["quality"]["validation"]["integer"]
    assert report["finetuning"]["before"] == pytest.approx(before, abs=1e-3)
    entries = read(tuned / "finetuned.calibration.json")["operators"]
    scales = {
        name.rpartition("/")[-1]: np.ptp(entry["range"]) / 7
        for name, entry in entries.items()
        if entry["range"] is not None
    }
    for name in ("state.new", "state.keep"):  # learned together
        assert is_aligned(scales[name], scales["state"])
    capsys.readouterr()
    again = quantize(
        "again", "--scheme", "gptq-tuned/scheme.json", "--calibration-file",
        "gptq-tuned/finetuned.calibration.json", "--weights-file",
        "gptq-tuned/finetuned.weights.npz", "--validation", "digits_row.validation.npz",
        model="gptq-tuned/finetuned.onnx",
    )  # fmt: skip
    assert "another version" not in unfolded(capsys.readouterr().err)
    with np.load(place / "digits_row.holdout.npz") as data:
        inputs = {"rows": data["rows"]}
    wanted, found = (grus.run(onnx.load(f / "integer.onnx"), inputs) for f in (tuned, again))
    np.testing.assert_array_equal(found[0], wanted[0])


def test_finetune_of_a_folder_and_its_front(place, capsys):
    folder = quantize("searched", *SHORT, "--training-data", "few.npz", "--epochs", "1")
    assert names(folder) >= FINETUNED | {"front.json", "journal.jsonl"}
    before = contents(folder)
    front = before["front.json"]
    assert main(["finetune", "searched", "--training-data", "few.npz", "--index", "1", *QUICK]) == 0
    assert before.items() <= contents(folder).items()
    member = folder / "member-01-finetuned"
    report = read(member / "report.json")
    assert report["search"]["chosen"]["index"] == 1
    assert report["finetuning"]["data"]["sequences"] == 128
    assert "Fine-tuning" in (member / "report.md").read_text("utf-8")
    assert (member / "front.json").read_bytes() == front
    assert read(member / "scheme.json") == json.loads(front)["members"][1]["scheme"]
    capsys.readouterr()
    leaking = ["finetune", str(member), "--training-data", "digits_row.validation.npz"]
    assert main([*leaking, "--epochs", "1", "-o", "leaking"]) == 0
    said = capsys.readouterr()
    assert "training and validation data are the same" in unfolded(said.err)
    assert re.search("fine-tuned: .+ after epoch [01] of 1, on validation data", said.out)
    again = ["finetune", str(member), "--training-data", "few.npz", *QUICK, "--format", "json"]
    assert main(again) == 0  # into a folder of its own
    assert json.loads(capsys.readouterr().out)["search"]["chosen"]["index"] == 1
    assert main(again) == 1 and "finetuned: the output folder" in capsys.readouterr().err
    assert main(["pick", "searched", "-o", "searched", "--force", "--index", "0", "--quiet"]) == 0
    report = read(folder / "report.json")
    assert not FINETUNED & names(folder) and "finetuning" not in report
    # What a search finds does not depend on what comes after it.
    assert main(["quantize", "digits_row.onnx", "-o", "searched", "--resume", *SHORT,
                 "--training-data", "few.npz", *QUICK, "--learning-rate", "2e-3"]) == 0  # fmt: skip
    assert (folder / "front.json").read_bytes() == front and names(folder) >= FINETUNED


def test_a_teacher_of_8_bits_comes_first(place):
    """It is what fine-tuning 8 bits makes; the member starts from it and is taught by it."""
    how = ("--training-data", "few.npz", "--distillation", "1")
    made = quantize("teacher", "--bits", "8", *how, "--epochs", "1")
    taught, run = [], Finetuning.run

    def noted(self, data, teacher, *others):
        taught.append(teacher)
        return run(self, data, teacher, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Finetuning, "run", noted)
        folder = quantize(
            "taught", "--scheme", "narrow-3.json", *how, "--epochs", "3", "--teacher-epochs", "1"
        )
    found = read(folder / "report.json")["finetuning"]
    assert found["teacher"] == read(made / "report.json")["finetuning"]
    assert (found["epochs"], len(found["validation_by_epoch"])) == (2, 3)
    inputs = {"rows": np.load(place / "few.npz")["rows"]}
    for outputs, path in zip(taught, ("digits_row.onnx", made / "finetuned.onnx"), strict=True):
        np.testing.assert_allclose(outputs, grus.run(onnx.load(path), inputs)[0], atol=1e-6)
    assert np.abs(taught[1] - taught[0]).max() > 1e-3
    session = Session.open(place / "digits_row.onnx", Config())
    begun = session.quantizer.started(load_tuned(session.model, Config(), made), Config())
    before = session.yardstick.on(begun.model.host).quality(begun(narrow(session, 3)), "validation")
    assert found["before"] == pytest.approx(before, abs=1e-9)
    text = (folder / "report.md").read_text("utf-8")
    assert "started from the model at 8 bits, which was fine-tuned before (epochs: 1;" in text


def test_data_must_be_given(place):
    with pytest.raises(UsageError, match="finetune needs training data, got None"):
        onnxgru.finetune("tuned", None)


def test_start_from_the_weights_of_another_width(place):
    quantize("two", "--scheme", "narrow-2.json")
    result = onnxgru.finetune(
        "two", "few.npz", settings={"epochs": 1}, learning_rate=1e-5, start="tuned"
    )
    plain = read(quantize("plain-2", "--scheme", "narrow-2.json") / "report.json")
    found = result.report["finetuning"]
    assert found["before"] != plain["quality"]["validation"]["integer"]
    two, tuned, shipped = (
        numpy_helper.to_array(next(t for t in onnx.load(path).graph.initializer if fits(t.name)))
        for path, fits in (
            ("two/finetuned/finetuned.onnx", lambda name: name.endswith("/W/tuned")),
            ("tuned/finetuned.onnx", lambda name: name.endswith("/W/tuned")),
            ("digits_row.onnx", lambda name: name == "gru.W_l0"),
        )
    )
    # Weights beyond the largest code have come nearer to it.
    assert np.mean(np.abs(two - tuned) < 1e-3) > 0.6 > np.mean(np.abs(two - shipped) < 1e-3)


def test_finetune_needs_no_labels(place):
    heard = []
    onnxgru.quantize(
        "digits_row.onnx",
        Config(bits=3, training_data="bare.npz", epochs=2, output="bare", learning_rate=3e-3),
        listener=heard.append,
    )
    losses = [event.loss for event in heard if isinstance(event, EpochEnded)]
    assert losses[2] < losses[1]


# --- other models --------------------------------------------------------------------------------


def small(kind: str, batch: int | str = "B", axis: int = -1) -> onnx.ModelProto:
    """A GRU of which every step is read by a product, and an operator behind that, if any."""
    case = grus.Case(T=5, B=8, I=4, H=6, outputs=("Y",))
    message = grus.model(case)
    graph = message.graph
    arrays = {"axis": np.asarray([1]), "head": np.linspace(-1, 1, 18, dtype=np.float32)}
    arrays["head"] = np.sin(7 * arrays["head"]).reshape(6, 3)
    graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    graph.node.extend([
        helper.make_node("Squeeze", ["Y", "axis"], ["states"], name="squeeze"),
        helper.make_node("MatMul", ["states", "head"], ["scores"], name="head"),
        helper.make_node("Transpose", ["scores"], ["turned"], name="turn", perm=[1, 0, 2]),
        helper.make_node(kind, ["turned"], ["out"], name="last",
                         **({"axis": axis} if kind.endswith("max") else {})),
    ])  # fmt: skip
    del graph.input[0], graph.output[0]
    graph.input.append(helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", batch, 4]))
    graph.output.append(helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, "T", 3]))
    return message


X = np.random.default_rng(1).standard_normal((5, 64, 4)).astype(np.float32)
TARGETS = X.swapaxes(0, 1)[..., :3]
PADDED = np.random.default_rng(2).random((64, 5)) < 0.2
LABELS = {
    "frames": np.where(PADDED, -1, TARGETS.argmax(-1)),
    "floats": np.tanh(TARGETS).astype(np.float64),
    "none": None,
}
FRAMES = LABELS["frames"][:16]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "Identity"])
def test_losses_fall_whatever_the_labels_and_the_output(tmp_path, kind, labels):
    onnx.save(small(kind), tmp_path / "m.onnx")
    arrays = {"X": X} if LABELS[labels] is None else {"X": X, "labels": LABELS[labels]}
    np.savez(tmp_path / "m.validation.npz", **arrays)
    heard = []
    config = Config(
        bits=3, training_data=tmp_path / "m.validation.npz", epochs=8, batch_size=8,
        learning_rate=1e-2, output=tmp_path / "out",
    )  # fmt: skip
    onnxgru.quantize(tmp_path / "m.onnx", config, listener=heard.append)
    told = [event for event in heard if isinstance(event, EpochEnded)]
    assert 0 <= told[-1].loss < 0.85 * told[1].loss
    assert max(event.quality for event in told) > told[0].quality


def test_distillation_starts_at_nothing_for_a_student_that_is_the_teacher(tmp_path):
    """Logits that are the float model's, of frames that count, have no divergence."""
    for kind in ("Softmax", "LogSoftmax", "Identity"):
        onnx.save(small(kind), tmp_path / "m.onnx")
        x = np.random.default_rng(1).standard_normal((5, 16, 4)).astype(np.float32)
        np.savez(tmp_path / "m.validation.npz", X=x, labels=FRAMES)
        session = Session.open(tmp_path / "m.onnx", Config())
        twin = differentiable(session, session.uniform(8), FinetuningSettings(distillation=1.0))
        data = session.data["validation"]
        logits = twin.outputs(data)
        made = {"Softmax": np.exp, "LogSoftmax": lambda v: v, "Identity": None}[kind]
        shifted = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        teacher = logits if made is None else made(shifted)
        assert abs(twin._loss(data, teacher).item()) < 1e-6
        other = np.where(FRAMES[..., None] < 0, teacher[..., ::-1], teacher)
        assert abs(twin._loss(data, np.ascontiguousarray(other)).item()) < 1e-6
        assert twin._loss(data, np.ascontiguousarray(teacher[..., ::-1])).item() > 0.01


def test_averages_are_those_of_the_weights_after_each_step(tmp_path):
    """What is kept lies between the steps; the steps are the same as without."""
    onnx.save(small("Softmax"), tmp_path / "m.onnx")
    x = np.random.default_rng(1).standard_normal((5, 16, 4)).astype(np.float32)
    np.savez(tmp_path / "m.validation.npz", X=x, labels=FRAMES)
    session = Session.open(tmp_path / "m.onnx", Config())
    data = session.data["validation"]
    teacher = session.yardstick.reference("validation")["out"]

    def trained(decay: float) -> list[np.ndarray]:
        settings = FinetuningSettings(epochs=3, batch_size=8, learning_rate=1e-2, averaging=decay)
        twin = differentiable(session, session.uniform(8), settings)
        seen: list[np.ndarray] = []

        def judge(tuned) -> float:
            seen.append(np.concatenate([w.ravel() for w, _ in tuned.weights.values()]))
            return 0.0

        twin.run(data, teacher, judge, lambda _epoch: None)
        return seen

    plain, kept = trained(0.0), trained(0.9)
    np.testing.assert_array_equal(plain[0], kept[0])
    for last, average, before in zip(plain[1:], kept[1:], kept[:-1], strict=True):
        assert np.linalg.norm(average - before) < np.linalg.norm(last - before)
    again = trained(1e-9)
    for last, average in zip(plain, again, strict=True):
        np.testing.assert_allclose(last, average, atol=1e-6)


def test_sequences_of_padding_alone_leave_the_weights_whole(tmp_path):
    onnx.save(small("Softmax"), tmp_path / "m.onnx")
    x = np.random.default_rng(1).standard_normal((5, 16, 4)).astype(np.float32)
    np.savez(tmp_path / "m.validation.npz", X=x, labels=FRAMES)
    labels = np.where(np.arange(16)[:, None] < 14, -1, FRAMES)
    np.savez(train := tmp_path / "train.npz", X=x, labels=labels)
    config = Config(training_data=train, epochs=1, batch_size=2, output=tmp_path / "o")
    result = onnxgru.quantize(tmp_path / "m.onnx", config, listener=silent)
    assert result.report["finetuning"]["validation_by_epoch"][1] is not None


def test_fixed_batches_are_respected(tmp_path):
    onnx.save(small("Softmax", 8), tmp_path / "m.onnx")
    x = np.random.default_rng(1).standard_normal((5, 16, 4)).astype(np.float32)
    np.savez(tmp_path / "m.validation.npz", X=x, labels=FRAMES)
    np.savez(tmp_path / "odd.npz", X=x[:, :15], labels=FRAMES[:15])
    config = Config(training_data=tmp_path / "odd.npz", batch_size=8, output=tmp_path / "o")
    with pytest.raises(DataError, match=r"odd.npz: the model takes 8 sequences at a time"):
        onnxgru.quantize(tmp_path / "m.onnx", config, listener=silent)
    with pytest.raises(UsageError, match="batch_size must be a multiple of 8"):
        onnxgru.quantize(tmp_path / "m.onnx", replace(config, batch_size=12), listener=silent)
    assert not (tmp_path / "o").exists()
    np.savez(tmp_path / "m.calibration.npz", X=x[:, :8])
    whole = replace(config, batch_size=16, training_data=tmp_path / "m.validation.npz")
    fixed = onnxgru.quantize(tmp_path / "m.onnx", whole, listener=silent).report["finetuning"]
    onnx.save(small("Softmax"), tmp_path / "m.onnx")
    free = onnxgru.quantize(tmp_path / "m.onnx", replace(whole, force=True), listener=silent)
    assert fixed["validation_by_epoch"] == free.report["finetuning"]["validation_by_epoch"]


# --- what it tells -------------------------------------------------------------------------------


def test_states_that_stand_still_are_told(place, capsys):
    heard = []
    result = onnxgru.quantize(
        "digits_row.onnx", Config(bits=2, output="bits-2", force=True), listener=heard.append
    )
    (entry,) = result.report["stuck_states"]
    assert entry["layer"] == "/gru" and 0 < entry["units"] <= entry["of"] == 64
    assert entry["bits"] == 2
    text = f"{entry['units']} of 64 units of /gru are frozen: their quantised state never changes"
    assert [event for event in heard if isinstance(event, Notice) and text in event.text]
    assert text in Path("bits-2/report.md").read_text("utf-8")
    capsys.readouterr()
    assert read(quantize("bits-8") / "report.json")["stuck_states"] == []
    assert "warning" not in unfolded(capsys.readouterr().err)


# --- what is refused -----------------------------------------------------------------------------

TUNE = "finetune tuned --training-data"
NEW = "quantize digits_row.onnx -o out --bits 3"
CASES = [
    (f"{TUNE} few.npz --batch-size 129", 1, "few.npz: fine-tuning needs at least one batch of 129"),
    (f"{TUNE} one.npz", 1, "one.npz: fine-tuning needs labels of two classes or more, all are 4"),
    (f"{TUNE} eleven.npz", 1, "eleven.npz: labels must be below 10|one is 10"),
    (f"{TUNE} frames.npz", 1, "frames.npz: labels must be a class for every output|(128, 8)"),
    (f"{TUNE} nan.npz", 1, "nan.npz: array 'rows' must be finite|(3, 2, 1)"),
    (f"{TUNE} shape.npz", 1, "shape.npz: array 'rows' must have size 8 on axis 2"),
    (f"{TUNE} nowhere.npz", 1, "nowhere.npz: no such file"),
    (f"{TUNE} few.npz --learning-rate 0", 2, "learning_rate must be a number above 0, got 0.0"),
    (f"{TUNE} few.npz --learning-rate nan", 2, "learning_rate must be a number above 0"),
    (f"{TUNE} few.npz --distillation 2", 2, "distillation must be a number from 0 to 1, got 2.0"),
    (f"{TUNE} few.npz --averaging 1", 2, "averaging must be a number from 0 to below 1, got 1.0"),
    (f"{TUNE} few.npz --epochs 0", 2, "epochs must be a whole number of at least 1, got 0"),
    (f"{TUNE} few.npz --epochs 2 --teacher-epochs 2", 2, "a part of epochs, 2, and must be fewer"),
    (f"{TUNE} few.npz --learned-scales some", 2, "learned_scales must be one of weights, all, no"),
    (f"{TUNE} few.npz --learning-rate 1e6 --epochs 1", 2, "fine-tuning diverged in epoch 1|1e+06"),
    (f"{TUNE} few.npz --start plain", 1, "plain: must be the folder of a fine-tuning|finetuned.on"),
    (f"{TUNE} few.npz --start empty", 1, "empty: must be an output folder, it has no report.json"),
    (f"{TUNE} few.npz --start other", 1, "other: must be the folder of a fine-tuned digits_row"),
    (f"{TUNE} few.npz --index 1", 1, "tuned: must be the folder of a finished search"),
    ("finetune empty --training-data few.npz", 1, "empty: must be an output folder, it has no r"),
    ("finetune tuned", 2, "--training-data"),
    (f"{NEW} --training-data one.npz", 1, "one.npz: fine-tuning needs labels of two classes"),
    (f"{NEW} --training-data few.npz --finetune-candidates", 2, "of a search; give search and"),
    (
        f"{NEW.replace('--bits 3', '--search')} --training-data few.npz --finetune-candidates "
        "--device cuda",
        2,
        "finetune_candidates trains on this machine's processor; leave out device",
    ),
    (f"{NEW} --epochs 3", 2, "--epochs belongs to the fine-tuning; give --training-data too"),
    (
        "quantize hard.onnx -o out --training-data x.npz --batch-size 8",
        2,
        "not of Hardmax (node 'last')",
    ),
    (
        f"{NEW.replace('--bits 3', '--search')} --training-data one.npz",
        1,
        "one.npz: fine-tuning needs labels of two classes",
    ),
]


@pytest.fixture
def refuse(place, capsys):
    """Run a command that must fail, and get its message; the folder must be as it was."""
    if not (place / "plain").exists():
        quantize("plain", "--scheme", "narrow-3.json")
        (place / "empty").mkdir()
        onnx.save(small("Hardmax"), "hard.onnx")
        onnx.save(small("Softmax"), "small.onnx")
        x = np.random.default_rng(1).standard_normal((5, 16, 4)).astype(np.float32)
        np.savez("x.npz", X=x, labels=FRAMES)
        quantize("other", "--validation", "x.npz", "--training-data", "x.npz", "--batch-size", "8",
                 "--epochs", "1", model="small.onnx")  # fmt: skip
    before = listing(place)

    def run(command: str, code: int) -> str:
        capsys.readouterr()
        found = main([*command.split(), *(["--quiet"] if "diverged" not in command else [])])
        out, err = capsys.readouterr()
        assert (found, out) == (code, "")
        assert listing(place) == before
        return sentence(err)

    return run


@pytest.mark.parametrize(("command", "code", "words"), CASES, ids=[case[0] for case in CASES])
def test_refusal(refuse, command, code, words):
    message = refuse(command, code)
    for word in words.split("|"):
        assert word in message, message


@pytest.mark.parametrize("command", [f"{TUNE} few.npz", f"{NEW} --training-data few.npz"])
def test_without_torch_it_says_what_to_install(refuse, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "fine-tuning needs PyTorch" in refuse(command, 2)


def test_labels_of_numbers_must_have_the_shape_of_the_output(tmp_path):
    onnx.save(small("Identity"), tmp_path / "m.onnx")
    x = np.random.default_rng(1).standard_normal((5, 16, 4)).astype(np.float32)
    np.savez(tmp_path / "m.validation.npz", X=x)
    np.savez(tmp_path / "train.npz", X=x, labels=np.full((16, 5), 0.5))
    config = Config(training_data=tmp_path / "train.npz", batch_size=8, output=tmp_path / "out")
    with pytest.raises(DataError, match=r"a number for every output, of shape \(16, 5, 3\)"):
        onnxgru.quantize(tmp_path / "m.onnx", config, listener=silent)


def test_failing_in_the_middle_leaves_the_folder_as_it_was(place, monkeypatch):
    before = listing(place / "tuned")

    def fail(_self: object, _data: Dataset, _teacher: np.ndarray) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Finetuning, "_loss", fail)
    assert main(["finetune", "tuned", "--training-data", "few.npz", *QUICK]) == 130
    assert listing(place / "tuned") == before
