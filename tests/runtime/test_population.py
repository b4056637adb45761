"""Populations on a torch device equal the NumPy evaluator and the oracle, bit for bit."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from onnxgru.core.choices import WIDTHS
from onnxgru.core.errors import UsageError, VerificationError
from onnxgru.core.integers import IntegerType
from onnxgru.core.primitives import Shift
from onnxgru.custom_ops.arrays import ArrayPrimitives
from onnxgru.runtime import population
from onnxgru.runtime.devices import require_exact_products
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.population import PopulationEngine, PopulationEvaluator, footprint
from onnxgru.runtime.tensors import EXACT_INPUTS, TensorPrimitives
from onnxgru.runtime.verify import oracle_engine
from tests import grus
from tests.devices import DEVICES, torch_device
from tests.pipeline import Pipeline, dataset, first_job, pipeline
from tests.runtime.test_fused import CASES

CHAINS = {
    "codes": ((grus.Case(I=4, H=6), grus.Case(I=6, H=3, seed=1)), "codes"),
    "floats": (
        (
            grus.Case(I=3, H=5, direction="bidirectional", lengths=(5, 0, 2)),
            grus.Case(I=10, H=4, direction="reverse", linear_before_reset=0, seed=2),
            grus.Case(I=4, H=4, outputs=("Y_h",), seed=3),
        ),
        "floats",
    ),
}


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Any:
    return torch_device(request.param)


def programs_of(made: Pipeline, seeds: int = 8) -> list[Any]:
    return [made.uniform(bits) for bits in WIDTHS] + [made.mixed(seed) for seed in range(seeds)]


def chain(name: str) -> tuple[Pipeline, dict[str, np.ndarray]]:
    cases, between = CHAINS[name]
    inputs = grus.feeds(cases[0])
    return pipeline(grus.stacked(cases, between), inputs), inputs


def require_equal_outputs(evaluator: PopulationEvaluator, plain: Evaluator, programs) -> None:
    found = list(evaluator.outputs_of(programs))
    assert len(found) == len(programs)
    for program, outputs in zip(programs, found, strict=True):
        expected = plain.outputs(program)
        assert list(outputs) == list(expected)
        for name, array in expected.items():
            assert outputs[name].dtype == array.dtype
            np.testing.assert_array_equal(outputs[name], array)


@pytest.mark.parametrize("inputs", [1, EXACT_INPUTS, EXACT_INPUTS + 1, 2000])
def test_products_are_exact_at_the_border_of_float32(device: Any, inputs: int) -> None:
    import torch

    generator = np.random.default_rng(inputs)
    weights = generator.integers(-127, 128, (3, inputs, 5)).astype(np.int8)
    weights[0], weights[1] = 127, -127
    codes = generator.integers(0, 256, (3, 4, inputs)).astype(np.uint8)
    codes[:, 0], codes[:, 1] = 255, 0
    zero_points = np.asarray([0, 255, 77], np.uint8).reshape(3, 1, 1)
    moved = (torch.from_numpy(a).to(device) for a in (codes, zero_points, weights.astype("f4")))
    found = TensorPrimitives(3, device).matmul(*moved)
    expected = (codes.astype(np.int64) - zero_points) @ weights.astype(np.int64)
    assert found.dtype == torch.int32
    np.testing.assert_array_equal(found.cpu().numpy(), expected)


def test_primitives_equal_arrays(device: Any) -> None:
    """At the ends of their ranges, with numbers that differ by candidate."""
    import torch

    generator = np.random.default_rng(0)
    edges = [sign * (2**e + d) for e in range(31) for d in (-1, 0, 1) for sign in (1, -1)]
    drawn = generator.integers(-(2**30), 2**30, (3, 200, 4)).astype(np.int32)
    drawn[:, : len(edges)] = np.clip(edges, -(2**30), 2**30).reshape(1, -1, 1)
    shifts = generator.integers(0, 31, (3, 1, 4)).astype(np.int32)
    shifts[0, 0] = 0, 7, 15, 30
    high = np.asarray([1, 2**15, 2**24], np.int32).reshape(3, 1, 1)
    small, scale = drawn % 2**15, shifts * 1000 - 2**14
    tables = generator.integers(0, 256, (3, 256)).astype(np.uint8)
    codes = generator.integers(0, 256, (3, 200, 4)).astype(np.uint8)
    wide = generator.integers(0, 65536, (3, 200, 4)).astype(np.uint16)
    curves = generator.integers(0, 65536, (3, 258)).astype(np.int32)
    index = generator.integers(0, 258, (3, 200, 4)).astype(np.int32)
    arrays, tensors = ArrayPrimitives(general=True), TensorPrimitives(3, device)

    def moved(*values: np.ndarray) -> list[Any]:
        return [torch.from_numpy(value).to(device) for value in values]

    power = np.left_shift(np.int32(1), shifts)
    pairs = [
        (
            tensors.floor_shift(moved(drawn)[0], Shift(*moved(power, shifts, power))),
            drawn >> shifts,
        ),
        (tensors.clip(*moved(drawn, -high, high)), arrays.clip(drawn, -high, high)),
        (tensors.mul(*moved(small, scale)), arrays.mul(small, scale)),
        (tensors.add(*moved(drawn, high)), arrays.add(drawn, high)),
        (tensors.sub(*moved(drawn, high)), arrays.sub(drawn, high)),
        (tensors.widen(*moved(codes)), arrays.widen(codes)),
        (tensors.narrow(*moved(codes.astype(np.int32)), IntegerType(8)), codes),
        (tensors.narrow(*moved(wide.astype(np.int32)), IntegerType(16)), wide),
        (tensors.pick(*moved(curves, index)), np.stack([curves[p][index[p]] for p in range(3)])),
        (tensors.gather(*moved(tables, codes)), np.stack([tables[p][codes[p]] for p in range(3)])),
        (tensors.split(*moved(codes), (1, 3))[1], codes[..., 1:]),
    ]
    for found, expected in pairs:
        assert found.cpu().numpy().dtype == expected.dtype
        np.testing.assert_array_equal(found.cpu().numpy(), expected)


@pytest.mark.parametrize("name", list(CASES))
def test_codes_equal_plain_and_oracle(device: Any, name: str) -> None:
    case = CASES[name]
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    layers = [program.layers[0] for program in programs_of(made)]
    jobs = [first_job(made, layer, inputs) for layer in layers]
    x, initial = [job.x for job in jobs], [job.initial for job in jobs]
    lengths = [job.lengths for job in jobs]
    engine = PopulationEngine(layers, device)
    found = engine(x, initial, lengths)
    last = engine(x, initial, lengths, sequence=False)
    for index, layer in enumerate(layers):
        makers = (LayerEvaluator, oracle_engine) if index % 4 == 0 else (LayerEvaluator,)
        for make in makers:
            expected = make(layer)(x[index], initial[index], lengths[index], trace=False)
            np.testing.assert_array_equal(found[index][0], expected.y)
            np.testing.assert_array_equal(found[index][1]["state"], expected.last["state"])
        assert last[index][0] is None
        np.testing.assert_array_equal(last[index][1]["state"], found[index][1]["state"])


def test_accumulators_beyond_float32(device: Any) -> None:
    """Candidates whose products are cut in different blocks run together, at their extremes."""
    case = grus.Case(T=3, B=4, I=1100, H=4)
    message = grus.model(case)
    signs = np.where(np.arange(case.I) % 3, np.float32(0.01), np.float32(-0.01))
    for tensor in message.graph.initializer:
        if tensor.name == "W":
            weights = np.broadcast_to(signs, (1, 3 * case.H, case.I)).copy()
            tensor.CopyFrom(numpy_helper.from_array(weights, "W"))
    x = np.broadcast_to(np.sign(signs), (case.T, case.B, case.I)).copy()
    x[:, 1], x[:, 2:] = -x[:, 1], grus.feeds(case)["X"][:, 2:] / 3
    made = pipeline(message, {"X": x})
    programs = [made.uniform(bits) for bits in (2, 8, 4)]
    blocks = [program.layers[0].recurrences[0].prologue.operators[0].blocks for program in programs]
    assert [len(sizes) for sizes in blocks] == [1, 2, 1]
    data = dataset(made.host, {"X": x})
    for order in (programs, programs[::-1], programs[1:]):
        evaluator = PopulationEvaluator(made.host, data, device)
        require_equal_outputs(evaluator, Evaluator(made.host, data), order)


@pytest.mark.parametrize("name", list(CHAINS))
def test_stacked_layers(device: Any, name: str) -> None:
    made, inputs = chain(name)
    data = dataset(made.host, inputs)
    evaluator = PopulationEvaluator(made.host, data, device)
    require_equal_outputs(evaluator, Evaluator(made.host, data), programs_of(made))
    evaluator.require_same(programs_of(made, 1))


def test_more_rows_than_a_block_and_more_chunks_than_one(
    device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxgru.runtime.evaluator.MOST_ROWS", 7)
    monkeypatch.setattr(population, "BLOCK", 15)
    case = grus.Case(T=5, B=17, I=4, H=6, lengths=tuple(range(6)) * 2 + (5,) * 5)
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    data = dataset(made.host, inputs)
    evaluator = PopulationEvaluator(made.host, data, device)
    require_equal_outputs(evaluator, Evaluator(made.host, data), programs_of(made, 3))


def small() -> tuple[Pipeline, Any, list[Any]]:
    case = grus.Case(B=8)
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    return made, dataset(made.host, inputs), programs_of(made, 2)


@pytest.mark.parametrize("count", [1, 2, 4, 100])
def test_memory_bounds_how_many_run_together(
    device: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, data, programs = small()
    sizes: list[int] = []

    class Counted(PopulationEngine):
        def __init__(self, layers: Any, device: Any) -> None:
            sizes.append(len(layers))
            super().__init__(layers, device)

    monkeypatch.setattr(population, "PopulationEngine", Counted)
    one = footprint(programs[0].layers[0], 5, 8)
    evaluator = PopulationEvaluator(made.host, data, device, memory=count * one)
    require_equal_outputs(evaluator, Evaluator(made.host, data), programs)
    expected = [count] * (9 // count) + ([9 % count] if 9 % count else [])
    assert sizes == expected
    sizes.clear()
    evaluator = PopulationEvaluator(made.host, data, device, memory=1)
    next(evaluator.outputs_of(programs))
    assert sizes == [1]


@pytest.mark.parametrize("most", [0, 1, 3])
def test_a_full_device_gets_fewer_at_a_time(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    made, data, programs = small()

    class Full(PopulationEngine):
        def __init__(self, layers: Any, device: Any) -> None:
            if len(layers) > most:
                raise torch.OutOfMemoryError("no memory")
            super().__init__(layers, device)

    monkeypatch.setattr(population, "PopulationEngine", Full)
    evaluator = PopulationEvaluator(made.host, data, torch.device("cpu"))
    if most:
        require_equal_outputs(evaluator, Evaluator(made.host, data), programs)
    else:
        with pytest.raises(UsageError, match=r"device cpu must have memory for one candidate"):
            list(evaluator.outputs_of(programs))


def test_a_device_that_computes_other_codes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch_device("cpu")
    made, data, programs = small()
    evaluator = PopulationEvaluator(made.host, data, device)
    evaluator.require_same(programs)
    exact = TensorPrimitives.gather

    def off_by_one(self: Any, table: Any, codes: Any) -> Any:
        found = exact(self, table, codes).clone()
        found[-1, 0, 0] += 1
        return found

    monkeypatch.setattr(TensorPrimitives, "gather", off_by_one)
    with pytest.raises(VerificationError, match=r"device cpu must compute .* of /gru differ"):
        evaluator.require_same(programs)


def test_autocast_of_the_caller_changes_nothing(device: Any) -> None:
    import torch

    made, data, programs = small()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        evaluator = PopulationEvaluator(made.host, data, device)
        require_equal_outputs(evaluator, Evaluator(made.host, data), programs)


def test_settings_that_round_products_are_refused() -> None:
    torch = pytest.importorskip("torch")
    made, data, programs = small()
    before = torch.get_float32_matmul_precision()
    evaluator = PopulationEvaluator(made.host, data, torch.device("cpu"))
    try:
        torch.set_float32_matmul_precision("high")
        with pytest.raises(UsageError, match=r"full precision.*set_float32_matmul_precision"):
            next(evaluator.outputs_of(programs))
    finally:
        torch.set_float32_matmul_precision(before)
    next(evaluator.outputs_of(programs))


@pytest.mark.parametrize(
    ("settings", "exact"),
    [
        ({"fp32_precision": "none"}, True),
        ({"fp32_precision": "ieee"}, True),
        ({"fp32_precision": "tf32"}, False),
        ({"allow_tf32": False}, True),
        ({"allow_tf32": True}, False),
    ],
)
def test_both_names_of_the_setting(settings: dict[str, Any], exact: bool) -> None:
    """Torch 2.8 has the older one only."""
    cuda = SimpleNamespace(matmul=SimpleNamespace(**settings))
    torch = SimpleNamespace(backends=SimpleNamespace(cuda=cuda))
    if exact:
        require_exact_products(torch)
    else:
        with pytest.raises(UsageError, match="TF32"):
            require_exact_products(torch)


def test_memory_of_a_gpu_stays_below_the_estimate() -> None:
    device = torch_device("cuda")
    import torch

    case = grus.Case(T=28, B=1000, I=28, H=128, gain=0.1)
    inputs = grus.feeds(case)
    made = pipeline(grus.model(replace(case, B=8)), grus.feeds(replace(case, B=8)))
    programs = [made.mixed(seed) for seed in range(16)]
    evaluator = PopulationEvaluator(made.host, dataset(made.host, inputs), device)
    assert evaluator.together(programs[0]) >= len(programs)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    list(evaluator.outputs_of(programs))
    peak = torch.cuda.max_memory_allocated(device) - before
    assert 0 < peak <= len(programs) * footprint(programs[0].layers[0], 28, 1000)
