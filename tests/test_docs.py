"""The documentation is run: README's Python snippet and its commands on the shipped model."""

import re
import shlex
from pathlib import Path

import pytest

from onnxgru.cli import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PAGES = list((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_python_snippet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    (snippet,) = blocks("python")
    exec(compile(snippet, "README.md", "exec"), {})
    assert "95 % interval" in capsys.readouterr().out
    assert (tmp_path / "digits-4" / "integer.onnx").is_file()


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands for one's own model, in their order; the search is made short."""
    for role in ("", ".calibration", ".validation", ".holdout"):
        suffix = ".onnx" if not role else ".npz"
        source = ROOT / "models" / f"digits_row{role}{suffix}"
        (tmp_path / f"model{role}{suffix}").write_bytes(source.read_bytes())
    (tmp_path / "holdout.npz").write_bytes((tmp_path / "model.holdout.npz").read_bytes())
    (tmp_path / "train.npz").write_bytes((tmp_path / "model.calibration.npz").read_bytes())
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line, comments=True) for line in blocks("sh")[2].splitlines()]
    assert [line[1] for line in lines] == [
        *("inspect", "sensitivity", "quantize", "pick", "pick", "finetune", "evaluate"),
        *("verify", "c", "export"),
    ]
    for line in lines[:-1]:  # export names a user's own module; tests/training runs it
        if line[1] == "pick" and not Path("model-onnxgru/front.json").exists():
            short = ["--force", "--search", "--population", "8", "--generations", "2"]
            assert main(["quantize", "model.onnx", *short]) == 0
        assert main(line[1:]) == 0


def test_first_command_names_the_shipped_model() -> None:
    command = blocks("sh")[0].strip()
    assert command.endswith("onnxgru quantize models/digits_row.onnx --search")
    assert (ROOT / "models" / "digits_row.onnx").is_file()


@pytest.mark.parametrize(
    "name",
    ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in PAGES)],
)
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    for target in targets:
        assert ((ROOT / name).parent / target).exists(), target


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    for path in PAGES:
        assert path.name == "README.md" or f"]({path.name})" in index, path.name


def test_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands and its code in their order, on the shipped model; the search is made short."""
    import numpy as np

    (tmp_path / "model.onnx").write_bytes((ROOT / "models/digits_row.onnx").read_bytes())
    roles = [np.load(ROOT / f"models/digits_row.{role}.npz") for role in ("validation", "holdout")]
    joined = {name: np.concatenate([d[name] for d in roles]) for name in ("rows", "labels")}
    np.savez(tmp_path / "recordings.npz", **joined)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    split, check = blocks("python", page)
    commands = [shlex.split(line)[1:] for line in blocks("sh", page)]
    assert [command[0] for command in commands] == ["inspect", "quantize", "quantize", "pick"]
    exec(compile(split, "split", "exec"), {})
    for command in commands:
        short = ["--population", "8", "--generations", "2"] if "--search" in command else []
        assert main([*command, *short]) == 0
    exec(compile(check, "check", "exec"), {})


@pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning")  # its data are few and random
def test_data_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Its code in its order, with small models and recordings that it names."""
    import numpy as np
    import onnx
    from scipy.io import wavfile

    from tests import grus
    from tests.runtime import streaming

    pytest.importorskip("kaldi_native_fbank")
    generator = np.random.default_rng(0)
    (tmp_path / "digits_row.onnx").write_bytes((ROOT / "models/digits_row.onnx").read_bytes())
    onnx.save(grus.model(grus.Case(I=1, H=4)), tmp_path / "denoiser.onnx")
    onnx.save(streaming.stacked(), tmp_path / "enhancer.onnx")
    for folder, names in (("noisy", "ab"), ("words", ("no_1", "no_2", "yes_1", "yes_2"))):
        (tmp_path / folder).mkdir()
        for name in names:
            samples = generator.normal(0, 3000, 4000).astype(np.int16)
            wavfile.write(tmp_path / folder / f"{name}.wav", 8000, samples)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    first, second, module, frames, third = blocks("python", page)
    names: dict = {}
    exec(compile(first, "first", "exec"), names)
    exec(compile(second, "second", "exec"), names)
    assert "200 sequences" in capsys.readouterr().out
    Path("my_recordings.py").write_text(module)
    exec(compile(frames, "frames", "exec"), {})
    for command in blocks("sh", page):
        assert main([*shlex.split(command)[1:], "-q"]) == 0
    exec(compile(third, "third", "exec"), {})
    with np.load("words.npz") as data:
        assert data["features"].shape == (4, 31, 40) and data["labels"].tolist() == [0, 0, 1, 1]
