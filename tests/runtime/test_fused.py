"""The fused evaluator equals the plain one, the oracle, and the emitted graph, bit for bit."""

import numpy as np
import pytest

from onnxgru.core.choices import WIDTHS
from onnxgru.custom_ops.arrays import ArrayPrimitives
from onnxgru.custom_ops.kernels import stage
from onnxgru.runtime import dots
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.intrinsics import TABLE, look_up_permuted, look_up_plain, permutes
from onnxgru.runtime.verify import verify
from tests import grus
from tests.pipeline import dataset, first_job, pipeline

pytestmark = pytest.mark.slow

CASES = {
    "reset after": grus.Case(T=5, B=7, I=20, H=70),
    "reset before": grus.Case(T=4, B=3, I=3, H=64, linear_before_reset=0),
    "one of each": grus.Case(T=1, B=1, I=1, H=1),
    "bidirectional, lengths": grus.Case(
        T=6, B=5, H=9, direction="bidirectional", lengths=(6, 3, 0, 1, 5), initial=True
    ),
    "reverse, other functions": grus.Case(
        H=130, direction="reverse", activations=("HardSigmoid", "Softsign"), clip=1.5
    ),
    "relu": grus.Case(H=6, linear_before_reset=0, activations=("Sigmoid", "Relu"), gain=0.2),
}


WAYS = tuple(dict.fromkeys((dots.FASTEST, dots.PAIRS)))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("name", list(CASES))
def test_equals_plain(name: str, way: dots.Way) -> None:
    case = CASES[name]
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    programs = [made.uniform(bits) for bits in WIDTHS] + [made.mixed(seed) for seed in range(6)]
    for program in programs:
        (layer,) = program.layers
        job = first_job(made, layer, inputs)
        plain = LayerEvaluator(layer)(job.x, job.initial, job.lengths)
        fused = FusedEngine(layer, way=way)(job.x, job.initial, job.lengths)
        np.testing.assert_array_equal(plain.y, fused.y)
        np.testing.assert_array_equal(plain.last["state"], fused.last["state"])


def test_wide_layers_and_many_rows() -> None:
    """More rows than a block of the prologue, accumulators beyond 2**24."""
    case = grus.Case(T=3, B=400, I=300, H=600, gain=0.05)
    inputs = grus.feeds(case)
    made = pipeline(grus.model(grus.Case(T=3, B=8, I=300, H=600, gain=0.05)), grus.feeds(case))
    program = made.uniform(8)
    (layer,) = program.layers
    x = layer.input.quantization.quantize(inputs["X"])
    np.testing.assert_array_equal(LayerEvaluator(layer)(x).y, FusedEngine(layer)(x).y)


@pytest.mark.parametrize("name", ["reset after", "reset before", "bidirectional, lengths"])
def test_200_random_schemes_equal_onnxruntime(name: str) -> None:
    """67 schemes of each of three models: codes of the oracle, of the emitted graph, and ours."""
    case = CASES[name]
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    data = dataset(made.host, inputs)
    for seed in range(67):
        program = made.mixed(1000 + seed)
        verify(made.emit(program), made.host, program, data, load=_plain_session)
        (oracle_like,) = Evaluator(made.host, data).states(program)
        (fused,) = Evaluator(made.host, data, FusedEngine).states(program)
        for layer, states in oracle_like[1].items():
            np.testing.assert_array_equal(states.y, fused[1][layer].y)
            np.testing.assert_array_equal(states.last["state"], fused[1][layer].last["state"])


def _plain_session(model):
    from onnxgru.runtime.sessions import onnxruntime_session

    return onnxruntime_session(model, "basic", threads=1)


def test_look_up() -> None:
    generator = np.random.default_rng(0)
    table = generator.integers(0, 256, TABLE, dtype=np.uint8)
    for length in (1, 63, 64, 65, 128, 300):
        codes = generator.integers(0, 256, length, dtype=np.uint8)
        for look_up in (look_up_plain, *([look_up_permuted] if permutes() else [])):
            target = np.zeros(length, np.uint8)
            look_up(table, codes, target)
            np.testing.assert_array_equal(target, table[codes])


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_products_are_exact_at_the_extremes(way: dots.Way) -> None:
    multiply = getattr(dots, f"multiply_{way.name}")
    for inputs, outputs in ((70, 24), (1, 1), (64, 64), (3, 130)):
        codes = np.zeros((dots.ROWS, dots.padded(inputs)), np.uint8)
        codes[:, :inputs] = np.resize([0, 255], (dots.ROWS, inputs))
        codes[0, :inputs], codes[1, :inputs] = 255, 0
        weights = np.resize(np.asarray([127, -127], np.int8), (inputs, outputs)).copy()
        weights[:, 0] = 127
        scratch = np.zeros(codes.shape, np.int16)
        for zero_point in (0, 100, 255):
            steps = codes[:, :inputs].astype(np.int64) - zero_point
            for rows in range(1, dots.ROWS + 1):
                found = np.full((dots.ROWS, dots.padded(outputs) + 1), 7, np.int32)
                begin = dots.begun(weights, zero_point)
                multiply(found, codes, scratch, way.packed(weights), begin, rows)
                expected = steps[:rows] @ weights.astype(np.int64)
                np.testing.assert_array_equal(found[:rows, :outputs], expected)
                assert (found[rows:] == 7).all()
                assert (found[:, -1] == 7).all()


def test_one_kernel_serves_every_scheme_and_width() -> None:
    from onnxgru.runtime import fused

    texts = set()
    for hidden, bits in ((4, 8), (6, 2)):
        case = grus.Case(H=hidden)
        made = pipeline(grus.model(case), grus.feeds(case))
        for program in (made.uniform(bits), made.mixed(0)):
            (recurrence,) = program.layers[0].recurrences
            prepared = [stage.prepare(ArrayPrimitives(general=True), s) for s in recurrence.stages]
            texts.add(fused.written(recurrence, prepared, "uint8").text)
    assert len(texts) == 1


def test_kernels_need_no_cache(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cache folder cannot be made, kernels are compiled for this process alone."""
    from onnxgru.runtime import kernels

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONNXGRU_CACHE", str(tmp_path / "file" / "below"))
    text = "def kernel(target):\n    target[0] = np.uint8(7)\n"
    target = np.zeros(1, np.uint8)
    kernels.compiled(text, dots.FASTEST.name)(target)
    assert target[0] == 7


def test_kernels_are_kept(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxgru.runtime import kernels

    monkeypatch.setenv("ONNXGRU_CACHE", str(tmp_path / "cache"))
    target = np.zeros(1, np.uint8)
    text = "def kernel(target):\n    target[0] = np.uint8(9)\n"
    kernels.compiled(text, dots.FASTEST.name)(target)
    assert target[0] == 9
    (source,) = (tmp_path / "cache").glob("kernel_*.py")
    assert list((tmp_path / "cache" / "__pycache__").glob(f"{source.stem}*.nbi"))
