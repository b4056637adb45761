"""``--device``: the same search on a device as on the processor, and refusals before any work."""

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onnxgru import api
from onnxgru.cli import main
from onnxgru.core.errors import OverflowProofError, UsageError, VerificationError
from onnxgru.core.scheme import Scheme
from onnxgru.runtime import devices
from onnxgru.runtime.tensors import TensorPrimitives
from onnxgru.session.quantizer import Quantizer
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from onnxgru.study.study import Study
from tests.devices import DEVICES, torch_device
from tests.journeys import copy_digits, unfolded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::onnxgru.OnnxgruWarning"),  # few data, narrow weights
]

SHORT: dict[str, Any] = {"search": True, "population": 12, "generations": 4, "verify": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_digits(tmp_path_factory.mktemp("device"), 60)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What ``--device cuda`` stands for: a GPU where there is one, and torch's processor."""
    found = torch_device(request.param)
    monkeypatch.setattr(devices, "resolve", lambda _name: found)
    return found


def test_the_front_is_that_of_the_processor(model: Path, tmp_path: Path, device: Any) -> None:
    """Byte for byte, the journal too."""
    for name, settings in {
        "plain": {},
        "inputs": {"search_inputs": True, "genes": "bits,observer,granularity"},
    }.items():
        written = {}
        for place in ("cpu", "cuda"):
            folder = tmp_path / f"{name}-{place}"
            api.quantize(model, Config(output=folder, device=place, **SHORT, **settings))
            written[place] = [(folder / f).read_bytes() for f in ("front.json", "journal.jsonl")]
        assert written["cpu"] == written["cuda"]


def test_schemes_that_could_overflow_keep_their_places(
    model: Path, device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Study(*Session.open(model, Config(search=True)).parts)
    session = Session.open(model, Config(search=True, device="cuda"))
    study = Study(*session.parts)
    genomes = study.starts[:5]
    lowering = session.quantizer._lowering
    refused = [study.encoding.scheme(genome).dumps() for genome in genomes[1::2]]

    def lower(scheme: Scheme) -> Any:
        if scheme.dumps() in refused:
            raise OverflowProofError("too wide")
        return lowering(scheme)

    with monkeypatch.context() as patched:
        patched.setattr(Quantizer, "__call__", lambda _, scheme: lower(scheme))
        found = list(study.evaluate.many(genomes))
    assert found[::2] == [plain.evaluate(genome) for genome in genomes[::2]]
    assert [(m.genome, m.feasible) for m in found[1::2]] == [(g, False) for g in genomes[1::2]]


def test_a_search_continues_on_another_device(model: Path, tmp_path: Path, device: Any) -> None:
    folder = tmp_path / "out"
    api.quantize(model, Config(output=folder, **SHORT))
    whole = (folder / "front.json").read_bytes()
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "journal.jsonl").write_bytes(b"".join(lines[:20]))
    api.quantize(model, Config(output=tmp_path / "again", device="cuda", resume=True, **SHORT))
    assert (tmp_path / "again" / "front.json").read_bytes() == whole


def test_a_device_is_compared_with_the_processor_first(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = torch_device("cpu")
    monkeypatch.setattr(devices, "resolve", lambda _name: found)
    monkeypatch.setattr(TensorPrimitives, "narrow", lambda _self, value, _kind: (value ^ 1).byte())
    with pytest.raises(VerificationError, match="leave out device"):
        api.quantize(model, Config(output=tmp_path / "out", device="cuda", **SHORT))
    assert not (tmp_path / "out").exists()


def refused(monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: Any, *arguments: str) -> str:
    """The one sentence of a command that ends before it reads its model."""
    (folder / "broken.onnx").write_bytes(b"not read")
    monkeypatch.chdir(folder)
    assert main(["quantize", "broken.onnx", *arguments]) == 2
    message = unfolded(capsys.readouterr().err)
    assert message.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["broken.onnx"]
    return message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--search", "--device", "tpu"], "device must be cpu, cuda or cuda:N, got 'tpu'"),
        (["--search", "--device", "cuda:x"], "device must be cpu, cuda or cuda:N, got 'cuda:x'"),
        (["--search", "--device", ""], "device must be cpu, cuda or cuda:N, got ''"),
        (["--device", "cuda"], "device cuda evaluates candidates of a search; give search too"),
    ],
)
def test_wrong_names_are_refused(monkeypatch, tmp_path, capsys, arguments, words) -> None:
    assert words in refused(monkeypatch, tmp_path, capsys, *arguments)


def test_without_torch(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    message = refused(monkeypatch, tmp_path, capsys, "--search", "--device", "cuda")
    assert "device cuda needs torch, which cannot be imported" in message
    assert 'pip install -c constraints.txt -e ".[torch]" in ' in message


@pytest.mark.parametrize(
    ("built", "warning", "words"),
    [
        (False, None, "is built without CUDA; install what is missing, or leave out device"),
        (True, None, "finds none (no driver, or no GPU);"),
        (True, "the driver is\ntoo old", "finds none (the driver is too old);"),
    ],
)
def test_without_a_gpu(monkeypatch, tmp_path, capsys, built, warning, words) -> None:
    torch = pytest.importorskip("torch")

    def is_available() -> bool:
        if warning is not None:
            warnings.warn(warning, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    message = refused(monkeypatch, tmp_path, capsys, "--search", "--device", "cuda:0")
    assert f"device cuda:0 needs a GPU that torch can use, but torch {torch.__version__}" in message
    assert words in message


def test_a_gpu_that_is_not_there(monkeypatch, tmp_path, capsys) -> None:
    torch = pytest.importorskip("torch")
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2)
    monkeypatch.setattr(torch, "cuda", cuda)
    message = refused(monkeypatch, tmp_path, capsys, "--search", "--device", "cuda:2")
    assert "device cuda:2 must be one of the GPUs that torch finds, cuda:0 to cuda:1" in message


def test_a_gpu_that_does_not_compute(monkeypatch, tmp_path, capsys) -> None:
    torch = pytest.importorskip("torch")

    def ones(*_shape: int, device: Any) -> Any:
        raise RuntimeError(f"no kernel image\nfor {device}")

    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 1)
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(torch, "ones", ones)
    message = refused(monkeypatch, tmp_path, capsys, "--search", "--device", "cuda")
    assert "device cuda must be able to compute" in message
    assert "fails on it (no kernel image for cuda);" in message


def test_a_gpu_that_is_there() -> None:
    found = torch_device("cuda:0")
    assert devices.resolve("cuda:0") == found


def test_the_device_is_a_setting_of_a_search(tmp_path, monkeypatch, capsys) -> None:
    """In a file that is for sensitivity as well, which does not read it."""
    (tmp_path / "search.toml").write_text('device = "gpu"\n')
    monkeypatch.chdir(tmp_path)
    assert main(["quantize", "none.onnx", "--search", "--config", "search.toml"]) == 2
    assert "search.toml: device must be cpu, cuda or cuda:N, got 'gpu'" in unfolded(
        capsys.readouterr().err
    )
    (tmp_path / "search.toml").write_text('device = "cuda"\nsearch = true\n')
    assert main(["sensitivity", "none.onnx", "--config", "search.toml"]) == 1
    assert "none.onnx" in unfolded(capsys.readouterr().err)
    with pytest.raises(UsageError, match="give search too"):
        api.quantize("none.onnx", Config(device="cuda:1"))
