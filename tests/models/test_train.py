"""`onnxgru zoo`: what it says and writes, how it refuses, and how it goes on after a kill."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from onnxgru.cli import main
from onnxgru.models import fit, task
from onnxgru.models.zoo import TASKS
from onnxgru.training.checkpoint import Checkpoint
from tests.journeys import unfolded

pytestmark = pytest.mark.slow

DIGITS = ("zoo", "digits-row", "--epochs", "6", "--limit", "150")


def train(folder: Path, *arguments: str) -> int:
    return main([*DIGITS, *arguments, "-o", str(folder)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert train(folder, "--quiet") == 0
    return folder


def stop_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next training end like a killed one: at a time when nothing is being written."""
    run = fit._Training.run_epoch

    def interrupted(training, epoch):
        if epoch == epochs:
            raise KeyboardInterrupt
        return run(training, epoch)

    monkeypatch.setattr(fit._Training, "run_epoch", interrupted)


def test_results_and_progress(tmp_path, capsys):
    assert train(tmp_path / "new" / "folder") == 0
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == [
        *("part", "train", "calibration", "validation", "holdout", "digits_row.onnx")
    ]
    epochs = [line for line in captured.err.splitlines() if line.startswith("epoch ")]
    assert len(epochs) == 6
    assert epochs[-1].startswith("epoch 6/6, loss ") and "validation" in epochs[-1]


def test_quiet(whole, tmp_path, capsys):
    assert train(tmp_path, "--quiet") == 0
    assert unfolded(capsys.readouterr().err) == ""


def test_help_lists_every_task(capsys):
    with pytest.raises(SystemExit):
        main(["zoo", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"{', '.join(TASKS)}, or a folder of .wav files" in text


@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_an_interrupted_training_ends_with_the_same_weights(
    whole, tmp_path, monkeypatch, capsys, epochs
):
    with monkeypatch.context() as patch:
        stop_after(epochs, patch)
        assert train(tmp_path) == 130
    assert "continues with --resume" in unfolded(capsys.readouterr().err)
    kept = [path.name for path in tmp_path.iterdir()]
    assert kept == (["digits_row.checkpoint.pt"] if epochs else [])
    again = train(tmp_path, *(["--resume"] if epochs else []))
    assert again == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 6 - epochs
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in whole.iterdir()}
    for path in whole.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_killed_process_is_resumed(whole, tmp_path):
    """With a signal that no process survives, as soon as there is a checkpoint."""
    command = (sys.executable, "-m", "onnxgru", *DIGITS, "--quiet", "-o", str(tmp_path))
    checkpoint = tmp_path / "digits_row.checkpoint.pt"
    with subprocess.Popen(command) as process:
        while process.poll() is None and not checkpoint.is_file():
            time.sleep(0.005)
        process.kill()
    if checkpoint.is_file():
        assert train(tmp_path, "--quiet", "--resume") == 0
    for name in ("digits_row.onnx", "digits_row.json"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_dropout_goes_on_where_it_was(tmp_path, monkeypatch):
    """Torch's own random numbers are part of a checkpoint."""
    digits = TASKS["digits-row"]
    recipe = task.Recipe(hidden_size=8, epochs=3, dropout=0.5, memory=4)
    inputs = np.random.default_rng(0).random((40, 8, 8), np.float32)
    examples = task.Examples(inputs, np.arange(40) % 10)
    material = task.Material(
        task.Splits(examples, examples, examples, examples), lambda indices, *_: inputs[indices]
    )

    def trained(checkpoint=None):
        module = fit.fit(digits, recipe, material, lambda event: None, checkpoint)
        return {name: value.numpy() for name, value in module.state_dict().items()}

    path = tmp_path / "checkpoint.pt"
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            trained(Checkpoint(path))
    resumed, uninterrupted = trained(Checkpoint(path)), trained()
    for name, value in uninterrupted.items():
        np.testing.assert_array_equal(resumed[name], value)


def test_memory_keeps_the_state():
    """With zero inputs, an update gate of bias log m keeps m / (m + 1) of the state a step."""
    recipe = task.Recipe(memory=50)
    gru = fit.make_network(TASKS["digits-row"], recipe).gru
    reset, update, new = gru.bias_ih_l0.detach().numpy().reshape(3, 128)
    assert not reset.any() and not new.any() and not gru.bias_hh_l0.any()
    assert 0 <= update.min() and update.max() <= np.log(50)
    assert np.exp(update).mean() == pytest.approx(25.5, rel=0.2)
    for gate in gru.weight_hh_l0.detach().numpy().reshape(3, 128, 128):
        np.testing.assert_allclose(gate @ gate.T, np.eye(128), atol=1e-5)


def test_data_of_a_model_that_is_there(whole, tmp_path, capsys):
    """Written again as they were, and the model measured on them."""
    shutil.copy(whole / "digits_row.onnx", tmp_path)
    options = ("--limit", "150", "--format", "json", "--data-only", "-o", str(tmp_path))
    assert main(["zoo", "digits-row", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    record = json.loads((whole / "digits_row.json").read_text())
    assert found == {key: record[key] for key in ("model", "examples", "accuracy")}
    assert not (tmp_path / "digits_row.json").exists()
    for path in whole.glob("*.npz"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


# --- refusals ------------------------------------------------------------------------------------


def refused(capsys, *arguments: str) -> str:
    """The one sentence of a command that fails."""
    capsys.readouterr()
    code = main([*arguments])
    captured = capsys.readouterr()
    assert code in (1, 2) and captured.out == ""
    (line,) = unfolded(captured.err).splitlines()
    return f"{code} {line}"


def test_unknown_task(capsys):
    assert refused(capsys, "zoo", "imagenet") == (
        "2 onnxgru: task 'imagenet': must be one of digits-row, mnist-row, mnist-pixel, speech-4, "
        "speech-10, speech-10-lstm, speech-10-ligru, speech-10-sru, or a "
        "folder of .wav files"
    )


@pytest.mark.parametrize(
    ("option", "value", "must"),
    [
        ("epochs", "0", "at least 1"),
        ("limit", "0", "at least 1"),
        ("seed", "-1", "0 to 4294967295"),
        ("seed", "4294967296", "0 to 4294967295"),
    ],
)
def test_wrong_numbers(tmp_path, capsys, option, value, must):
    message = refused(capsys, "zoo", "digits-row", f"--{option}", value, "-o", str(tmp_path))
    assert message == f"2 onnxgru: {option}: must be {must}, got {value}"


def test_an_output_that_is_a_file(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    message = refused(capsys, *DIGITS, "-o", str(tmp_path / "taken"))
    assert "taken: must be a folder that can be written to" in message


def test_a_model_that_is_there_is_not_trained_again(tmp_path, capsys):
    (tmp_path / "digits_row.onnx").write_bytes(b"trained for an hour")
    message = refused(capsys, *DIGITS, "-o", str(tmp_path))
    assert "digits_row.onnx: exists already; train again with --force" in message
    assert [path.name for path in tmp_path.iterdir()] == ["digits_row.onnx"]


def test_data_for_no_model(tmp_path, capsys):
    message = refused(capsys, "zoo", "digits-row", "--data-only", "-o", str(tmp_path))
    assert "digits_row.onnx: no such file to write data for" in message


def test_nothing_to_resume(whole, capsys):
    message = refused(capsys, *DIGITS, "--resume", "-o", str(whole))
    assert "there is no checkpoint to resume; leave out --resume" in message


@pytest.fixture
def interrupted(tmp_path, monkeypatch) -> Path:
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        assert train(tmp_path, "--quiet") == 130
    return tmp_path


def test_a_checkpoint_is_not_thrown_away(interrupted, capsys):
    message = refused(capsys, *DIGITS, "-o", str(interrupted))
    assert "holds an interrupted training; go on with --resume" in message


@pytest.mark.parametrize("other", [("--seed", "1"), ("--limit", "149"), ("--epochs", "7")])
def test_a_checkpoint_of_another_training(interrupted, capsys, other):
    message = refused(capsys, *DIGITS, *other, "--resume", "-o", str(interrupted))
    assert "must be of the same settings, data and versions" in message


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_checkpoint(interrupted, capsys, content):
    path = interrupted / "digits_row.checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-2000] if content is None else content)
    message = refused(capsys, *DIGITS, "--resume", "-o", str(interrupted))
    assert "truncated or corrupt" in message and "remove it to begin anew" in message


def test_record_is_stable_json(whole):
    text = (whole / "digits_row.json").read_text()
    assert json.dumps(json.loads(text), indent=2) + "\n" == text
