"""Fine-tuning that is killed goes on where it stood, and ends as if nothing had happened."""

import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import onnxgru
from onnxgru.cli import main
from onnxgru.core.errors import DivergedError
from onnxgru.core.folder import FINETUNED, MEMBER, TEACHER
from onnxgru.events import EpochEnded
from onnxgru.training.descent import Descent
from tests.journeys import PLAIN, SEARCHED, contents, copy_digits, names, read, training, unfolded
from tests.test_bad_input import sentence

pytestmark = pytest.mark.slow

pytest.importorskip("torch")
pytest.importorskip("sklearn")

HOW = ("--training-data", "few.npz", "--epochs", "5", "--teacher-epochs", "2", "--averaging", "0.9")
PLAINLY = ("quantize", "digits_row.onnx", "-q")
ALONE = ("quantize", "digits_row.onnx", "-q", "--bits", "3", "--learned-scales", "all", *HOW)
SEARCH = (*PLAINLY, "--search", "--population", "6", "--generations", "2", *HOW)
EVERY = (*PLAINLY, "--search", "--population", "4", "--generations", "2", *HOW)
EVERY += ("--finetune-candidates", "--epochs", "3")  # one of each candidate
FINETUNE = ("finetune", "plain", "-q", "--training-data", "few.npz", "--epochs", "3")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """The current folder, with the digits model, a few training data, and whole results."""
    place = tmp_path_factory.mktemp("checkpoints")
    copy_digits(place, 60)
    train = training()
    np.savez(place / "few.npz", **{name: array[:128] for name, array in train.items()})
    np.savez(place / "others.npz", **{name: array[128:256] for name, array in train.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main([*ALONE, "-o", "alone"]) == 0
        assert main([*SEARCH, "-o", "search"]) == 0
        assert main([*EVERY, "-o", "every"]) == 0
        assert main([*PLAINLY, "--bits", "3", "-o", "fresh"]) == 0
        yield place


def stopped(output: str, number: int, *arguments: str) -> None:
    """Run a command until so many epochs have been told of, the ones before any step included."""
    from onnxgru.cli import live

    told = iter(range(number))
    heard = live.Progress.__call__

    def stop(self, event):
        heard(self, event)
        if isinstance(event, EpochEnded) and next(told, None) is None:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live.Progress, "__call__", stop)
        assert main([*arguments, *(["-o", output] if arguments[0] == "quantize" else [])]) == 130


@pytest.mark.parametrize(
    ("command", "whole", "number", "force"),
    [
        *((ALONE, "alone", number, ()) for number in (0, 3, 5)),
        *((ALONE, "alone", number, ("--force",)) for number in (1, 5)),
        # The checkpoints are the same after a search.
        *((SEARCH, "search", number, force) for number, force in ((1, ()), (5, ("--force",)))),
    ],
)
def test_interrupted_in_any_epoch(place, capsys, command, whole, number, force):
    """0 is before the first step of the teacher, of 2 epochs; 3 before that of the scheme."""
    shutil.rmtree("stopped", ignore_errors=True)
    if force:  # in place of other results, of which nothing is left
        other = "alone" if command is SEARCH else "every"
        shutil.copytree(other, "stopped")
    stopped("stopped", number, *command, *force)
    assert "continues with --resume" in unfolded(capsys.readouterr().err)
    stands = {"stopped/" + TEACHER} if number > 0 else set()
    stands |= {"stopped/" + MEMBER} if number > 3 else set()
    assert {p.as_posix() for p in Path().glob("stopped/*.pt")} == stands
    resume = command is SEARCH or number > 0
    assert main([*command, "-o", "stopped", *(["--resume"] if resume else [])]) == 0
    assert contents(place / "stopped") == contents(place / whole)
    assert names(place / "stopped") == (SEARCHED if command is SEARCH else PLAIN) | FINETUNED
    found, wanted = (read(place / name / "report.json") for name in ("stopped", whole))
    assert found == wanted | {"config": wanted["config"] | {"output": "stopped"}}


def test_interrupted_before_the_search_begins(place):
    """In the teacher of its candidates, with --force: the journal of an earlier one is gone."""
    shutil.rmtree("stopped", ignore_errors=True)
    shutil.copytree("search", "stopped")
    stopped("stopped", 1, *EVERY, "--force")
    assert names(place / "stopped") == {TEACHER}
    assert main([*EVERY, "-o", "stopped", "--resume"]) == 0
    assert contents(place / "stopped") == contents(place / "every")


@pytest.mark.parametrize("name", [TEACHER, MEMBER])
def test_killed(place, name):
    """With a signal that no process survives, as soon as there is a checkpoint."""
    shutil.rmtree("killed", ignore_errors=True)
    path = place / "killed" / name
    with subprocess.Popen((sys.executable, "-m", "onnxgru", *ALONE, "-o", "killed")) as process:
        limit = time.monotonic() + 60
        while process.poll() is None and not path.is_file() and time.monotonic() < limit:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert path.is_file()
    assert main([*ALONE, "-o", "killed", "--resume"]) == 0
    assert contents(place / "killed") == contents(place / "alone")


def test_what_stood_is_not_computed_again(place):
    """Epochs before the interruption are told of at once, from the checkpoint."""
    shutil.rmtree("stopped", ignore_errors=True)
    stopped("stopped", 5, *ALONE)
    heard = []
    settings = {"epochs": 5, "teacher_epochs": 2, "averaging": 0.9, "learned_scales": "all"}
    config = onnxgru.Config(
        bits=3, training_data="few.npz", output="stopped", resume=True, **settings
    )
    with pytest.MonkeyPatch.context() as patch:
        steps = []
        follow = Descent.follow
        patch.setattr(
            Descent,
            "follow",
            lambda self, loss: steps.append(1) or follow(self, loss),
        )
        onnxgru.quantize("digits_row.onnx", config, listener=heard.append)
    assert len(steps) == 128 // config.batch_size  # of the last epoch alone
    epochs = [event.epoch for event in heard if isinstance(event, EpochEnded)]
    assert epochs == [0, 1, 2, 0, 1, 2, 3]


# --- onnxgru finetune ----------------------------------------------------------------------------


@pytest.fixture
def interrupted(place) -> Path:
    """A folder whose fine-tuning was stopped after its first epoch."""
    shutil.rmtree("plain", ignore_errors=True)
    shutil.copytree("fresh", "plain")
    stopped("", 1, *FINETUNE)
    return place / "plain" / "finetuned"


def test_finetune_goes_on(interrupted, place, capsys):
    assert names(interrupted) == {MEMBER}  # what was there is there
    assert contents(place / "plain").items() >= contents(place / "fresh").items()
    assert main([*FINETUNE, "--resume"]) == 0
    resumed = contents(interrupted)
    shutil.rmtree("plain")
    shutil.copytree("fresh", "plain")
    assert main([*FINETUNE]) == 0
    assert resumed == contents(place / "plain" / "finetuned")
    assert names(interrupted) == PLAIN | FINETUNED


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "the output folder exists and is not empty; continue a search or a fine-tuning with"),
        (("--resume", "--seed", "1"), "must be of the same settings, data and versions"),
        (("--resume", "--learning-rate", "0.01"), "must be of the same settings"),
        (("--resume", "--training-data", "others.npz"), "must be of the same settings"),
        (("--resume", "--start", "alone"), "must be of the same settings"),
    ],
)
def test_it_is_not_lost(interrupted, capsys, flags, words):
    before = (interrupted / MEMBER).read_bytes()
    capsys.readouterr()
    assert main([*FINETUNE, *flags]) == 1
    assert f": {words}" in sentence(capsys.readouterr().err)
    assert (interrupted / MEMBER).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_checkpoint(interrupted, capsys, content):
    path = interrupted / MEMBER
    path.write_bytes(path.read_bytes()[:-2000] if content is None else content)
    capsys.readouterr()
    assert main([*FINETUNE, "--resume"]) == 1
    assert "truncated or corrupt" in sentence(capsys.readouterr().err)


def test_nothing_to_resume(place, capsys):
    shutil.rmtree("plain", ignore_errors=True)
    shutil.copytree("fresh", "plain")
    assert main([*FINETUNE, "--resume"]) == 1
    assert f"there is no {MEMBER} or {TEACHER} to resume" in sentence(capsys.readouterr().err)
    assert main([*ALONE, "-o", "none", "--resume"]) == 1
    assert f"there is no {MEMBER} or {TEACHER} to resume" in sentence(capsys.readouterr().err)
    assert not (place / "none").exists()


@pytest.mark.parametrize(
    "flags",
    [("--bits", "4"), ("--accumulator-bits", "24"), ("--validation", "digits_row.holdout.npz")],
)
def test_what_the_result_depends_on(place, capsys, flags):
    shutil.rmtree("stopped", ignore_errors=True)
    stopped("stopped", 4, *ALONE)
    assert main([*ALONE, *flags, "-o", "stopped", "--resume"]) == 1
    assert "must be of the same settings, data and versions" in unfolded(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("command", "wanted"), [(ALONE, PLAIN | FINETUNED), ((*PLAINLY, "--bits", "3"), PLAIN)]
)
def test_force_begins_anew(place, command, wanted):
    """With other settings, so that nothing of what stood can be gone on with."""
    shutil.rmtree("stopped", ignore_errors=True)
    stopped("stopped", 5, *ALONE, "--seed", "1")
    assert main([*command, "-o", "stopped", "--force"]) == 0
    assert names(place / "stopped") == wanted
    assert contents(place / "stopped") == contents(
        place / ("alone" if command is ALONE else "fresh")
    )


def test_a_scheme_goes_on_with_its_own_teacher(place, capsys):
    """Before another one is trained it says what to remove."""
    shutil.rmtree("stopped", ignore_errors=True)
    stopped("stopped", 5, *ALONE, "--seed", "1")
    assert main([*ALONE, "-o", "stopped", "--resume"]) == 1
    assert f"stopped/{TEACHER}: must be of the same settings" in unfolded(capsys.readouterr().err)
    (place / "stopped" / TEACHER).unlink()
    assert main([*ALONE, "-o", "stopped", "--resume"]) == 1
    assert f"stopped/{MEMBER}: must have {TEACHER} beside it" in sentence(capsys.readouterr().err)
    assert names(place / "stopped") == {MEMBER}
    (place / "stopped" / MEMBER).unlink()
    assert main([*ALONE, "-o", "stopped"]) == 0
    assert contents(place / "stopped") == contents(place / "alone")


def test_what_was_cut_off_in_writing_is_in_nobodys_way(place):
    folder = place / "cut"
    folder.mkdir()
    (folder / f".{TEACHER}.123.partial").write_bytes(b"half")
    assert main([*ALONE, "-o", "cut"]) == 0
    assert names(folder) == PLAIN | FINETUNED


@pytest.mark.parametrize("whole", [1, 2])
def test_what_diverges_leaves_nothing(place, monkeypatch, whole):
    """Neither in the second epoch, of the teacher, nor in the third."""
    follow = Descent.follow
    seen = []

    def diverging(self, loss):
        seen.append(follow(self, loss))
        return math.nan if len(seen) > whole * (128 // 32) else seen[-1]

    monkeypatch.setattr(Descent, "follow", diverging)
    config = onnxgru.Config(
        bits=3, training_data="few.npz", output="gone", epochs=3, teacher_epochs=2, batch_size=32
    )
    with pytest.raises(DivergedError):
        onnxgru.quantize("digits_row.onnx", config)
    assert not (place / "gone").exists()
