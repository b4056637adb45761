"""Layers in torch beside the integer programs that they stand for, and their granularity."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from onnxgru.core.integers import WeightType
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.core.weights import Rounded
from onnxgru.custom_ops.kinds.linear import Linear, Part
from onnxgru.passes.graph import source
from onnxgru.passes.lowering.lower import Lowering
from onnxgru.passes.recognize.layers import recognize, require
from onnxgru.passes.recognize.retune import Retune
from onnxgru.rounding.finetuned import Finetuned
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.training import loops
from onnxgru.training.cell import QuantizedLayer
from onnxgru.training.finetune import Finetuning, FinetuningSettings
from tests import grus, scans
from tests.pipeline import Pipeline, dataset, pipeline, random_scheme

torch = pytest.importorskip("torch")

SELDOM = 0.01
"""Share of the codes that may differ."""

LENGTHS = (5, 2, 1)
CASES = [
    grus.Case(),
    grus.Case(linear_before_reset=0, direction="reverse", bias=False),
    grus.Case(direction="bidirectional", initial=True),
    grus.Case(direction="reverse", lengths=LENGTHS, initial=True),
    grus.Case(linear_before_reset=0, direction="bidirectional", lengths=LENGTHS),
    grus.Case(linear_before_reset=0, layout=1, initial=True, clip=0.5),
    grus.Case(activations=("HardSigmoid", "ScaledTanh"), alphas=(0.3, 0.9), betas=(0.4, 0.8)),
    grus.Case(activations=("Softsign", "LeakyRelu"), alphas=(0.05,), gain=0.2),
    grus.Case(activations=("Tanh", "Softplus"), gain=0.2),
    grus.Case(1, 1, 1, 1),
    grus.Case(I=1, H=16, gain=2.0),
    grus.Case(28, 8, 28, 32, gain=0.2),
    grus.Case(outputs=("Y_h",), T=12),
]
STACKS = [
    (([grus.Case(), grus.Case(I=6, H=3, seed=2)]), between) for between in ("codes", "floats")
] + [
    (
        [grus.Case(direction="bidirectional"), grus.Case(I=12, H=3, seed=2)],
        "codes",
    )
]
MODELS = [(grus.model(case), case) for case in CASES]
MODELS += [(grus.stacked(cases, between), cases[0]) for cases, between in STACKS]


def twin(made: Pipeline, scheme: Scheme, output: str, **settings: object) -> Finetuning:
    return Finetuning(
        source.proto(made.model), made.layers, made.lower(scheme), scheme, output,
        made.host.interface.outputs[output], FinetuningSettings(**settings),
    )  # fmt: skip


def schemes(made: Pipeline, seed: int) -> list[Scheme]:
    uniform = [Scheme.uniform(made.layers, bits) for bits in (8, 4, 2)]
    return [*uniform, random_scheme(made.layers, seed)]


def operator_distances(
    layer: QuantizedLayer, program: IntegerProgram, trace: dict[str, np.ndarray], x: np.ndarray
) -> Iterator[np.ndarray]:
    """Codes between every operator in training and of the program, from the program's operands."""
    for plan in layer.plans:
        recurrence, grid = plan.recurrence, layer.grid(plan)
        known = dict(trace)
        for carry, (slot, _) in zip(recurrence.carries, plan.carries, strict=True):
            before = np.roll(trace[carry.written_by], -1 if recurrence.reverse else 1, axis=0)
            before[-1 if recurrence.reverse else 0] = grid.zero_points[slot]
            known[carry.name] = before
        if recurrence.reads_input:
            known[recurrence.input] = x
        exact = np.stack([known[name].reshape(-1, layer.layer.hidden_size) for name in plan.slots])
        exact = np.ascontiguousarray(exact.swapaxes(0, 1))
        values = {
            name: (exact[:, slot] - grid.zero_points[slot]) * grid.scales[slot]
            for name, slot in plan.slots.items()
        }
        (integers,) = program.layers
        values[recurrence.input] = integers.input.quantization.dequantize(x).reshape(len(exact), -1)
        for stage in plan.stages:
            products = np.zeros((len(exact), 0), np.float32)
            if stage.linears:
                weight, bias = (t.detach().numpy() for t in layer.matrix(plan, stage))
                products = values[stage.operand] @ weight.T + bias
            for row in stage.instructions:
                found = exact.copy()
                found[:, row[1]] = 0
                loops.forward(
                    found, products, row[None], layer.factors(plan).detach().numpy(),
                    grid.scales, grid.zero_points, grid.tops,
                    grid.tables, np.ones(len(exact), bool), 0, len(exact), plan.carries[:0],
                )  # fmt: skip
                yield np.abs(found[:, row[1]].astype(int) - exact[:, row[1]])


@pytest.mark.parametrize("index", range(len(CASES)))
def test_every_operator_is_within_a_code_of_the_program(index):
    """One code because multipliers have 15 bits; seldom, at that."""
    case = replace(CASES[index], initial=False, lengths=None)
    inputs = grus.feeds(case)
    made = pipeline(grus.model(case), inputs)
    off, count = 0, 0
    for scheme in schemes(made, index):
        program = made.lower(scheme)
        (integers,) = program.layers
        (layer,) = twin(made, scheme, case.outputs[0])._layers
        x = integers.input.quantization.quantize(inputs["X"])
        x = x.swapaxes(0, 1) if case.layout else x
        trace = LayerEvaluator(integers)(x, trace=True).trace
        for distance in operator_distances(layer, program, trace, x):
            assert distance.max() <= 1
            off += int(distance.sum())
            count += distance.size
    assert count >= 17 * 4 and off <= SELDOM * count, (off, count)


WITH_VECTORS = {
    "peepholes": grus.model(grus.Case(operator="LSTM", peepholes=True, T=7, B=4)),
    "sru": scans.model(scans.sru(), initial=False),
}


@pytest.mark.parametrize("name", WITH_VECTORS)
def test_vectors_learn_and_the_program_has_them(name: str) -> None:
    """Trained alone, they meet the states of other vectors; the program then has their codes."""
    message = WITH_VECTORS[name]
    inputs = scans.feeds(message)
    made = pipeline(message, inputs)
    scheme = Scheme.uniform(made.layers, 8)
    finetuning = twin(made, scheme, "Y")
    (layer,) = finetuning._layers
    began = {name: vector.detach().clone() for name, vector in layer.vectors.items()}
    assert len(began) == {"peepholes": 3, "sru": 2}[name]
    x = torch.from_numpy(inputs["X"])
    with torch.no_grad():
        for vector in layer.vectors.values():
            vector.add_(0.8)
        wanted, _ = layer(x)
        for other, vector in layer.vectors.items():
            vector.copy_(began[other])
    optimizer = torch.optim.Adam(layer.vectors.values(), lr=0.05)
    losses = []
    for _ in range(30):
        states, _ = layer(x)
        loss = (states - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert 0 < losses[-1] < 0.25 * losses[0]

    tuned, model = finetuning.result(), made.model.clone()
    Retune(made.layers, tuned.weights, tuned.initializers)(model)
    layers = require(recognize(model), "test")
    for operator in layers[0].operators:
        if operator.kind == "scale":
            np.testing.assert_array_equal(
                operator.numbers[0], layer.vectors[operator.name].detach()
            )
            assert (operator.numbers[0] != began[operator.name].numpy()).all()
    given = Finetuned(tuned.rounded, "test")
    program = Lowering(model.graph, layers, made.calibration, 32, given)(scheme)
    (integers,) = program.layers
    codes = integers.input.quantization.quantize(inputs["X"])
    trace = LayerEvaluator(integers)(codes, trace=True).trace
    distances = list(operator_distances(layer, program, trace, codes))
    assert max(distance.max() for distance in distances) <= 1
    assert np.mean(np.concatenate([distance.ravel() for distance in distances])) < SELDOM


@pytest.mark.parametrize("index", range(len(MODELS)))
def test_layers_follow_the_program(index):
    """What differs by a code at one step is passed on; lengths, directions and states are alike."""
    message, case = MODELS[index]
    inputs = grus.feeds(case)
    made = pipeline(message, inputs)
    scheme = Scheme.uniform(made.layers, 8)
    program = made.lower(scheme)
    data = dataset(made.host, inputs)
    output = str(made.model.graph.outputs[0].name)
    wanted = Evaluator(made.host, data).outputs(program)[output]
    distance = np.abs(twin(made, scheme, output).outputs(data) - wanted)
    codes = distance / program.layers[-1].emitted.scale
    assert codes.max() < 6.5 and codes.mean() < 0.25
    if case.lengths is not None:
        for sequence, length in enumerate(case.lengths):
            assert not wanted[sequence, length:].any()
            assert not distance[sequence, length:].any()


@pytest.mark.parametrize("granularity", ["channel", "gate", "tensor"])
def test_learned_scales_keep_the_granularity(granularity):
    made = pipeline(grus.model(grus.Case()), grus.feeds(grus.Case()))
    scheme = Scheme.uniform(made.layers, 4, granularity=granularity)
    (layer,) = twin(made, scheme, "Y")._layers
    before = {name: cell.rounded().scales for name, cell in layer.linears.items()}
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.scales:
        parameter.data += torch.rand(parameter.shape, generator=generator)
    grown = {n: cell.rounded().scales / before[n] for n, cell in layer.linears.items()}
    distinct = {n: len(np.unique(np.round(g, 4))) for n, g in grown.items()}
    assert set(distinct.values()) == ({6} if granularity == "channel" else {1})
    of_w = [g[0] for n, g in grown.items() if n.endswith(".input")]
    assert (np.ptp(of_w) < 1e-6) == (granularity == "tensor")
    assert len(layer.scales) == (2 if granularity == "tensor" else 6)


def test_scales_that_are_not_learned_are_the_programs():
    made = pipeline(grus.model(grus.Case()), grus.feeds(grus.Case()))
    scheme = random_scheme(made.layers, 3)
    program = made.lower(scheme)
    (layer,) = twin(made, scheme, "Y", scales="none")._layers
    assert layer.scales == []
    for part in parts(program):
        rounded = layer.linears[part.output.name].rounded()
        np.testing.assert_array_equal(rounded.scales, part.weight_scale)
        np.testing.assert_array_equal(rounded.codes, part.weight)


def linears(program: IntegerProgram) -> list[Linear]:
    return [
        operator
        for layer in program.layers
        for recurrence in layer.recurrences
        for operator in recurrence.operators
        if isinstance(operator, Linear)
    ]


def parts(program: IntegerProgram) -> list[Part]:
    return [part for linear in linears(program) for part in linear.parts]


@pytest.mark.parametrize(("bits", "inputs"), [(2, 4), (3, 4), (3, 1)])
def test_start_is_the_programs_rounding_whatever_made_it(bits, inputs):
    """Codes a whole code away from the nearest, and other biases, are what training begins with."""
    case = grus.Case(I=inputs, H=16)
    kind = WeightType(bits)
    made = pipeline(grus.model(case), grus.feeds(case))
    scheme = Scheme.uniform(made.layers, bits)
    before = parts(made.lower(scheme))
    generator = np.random.default_rng(0)
    moved = {}
    for part in before:
        codes = part.weight + kind.spacing * generator.integers(-1, 2, part.weight.shape)
        bias = generator.standard_normal(len(codes)).astype(np.float32)
        moved[part.output.name] = Rounded(
            kind.nearest(codes.astype(np.float64)).astype(np.int8), part.weight_scale, bias
        )
    made = replace(
        made,
        lower=Lowering(
            made.model.graph, made.layers, made.lower._calibration, 32, Finetuned(moved, "test")
        ),
    )
    (layer,) = twin(made, scheme, "Y")._layers
    operators = {operator.name: operator for operator in made.layers[0].operators}
    program = made.lower(scheme)
    read = {
        part.output.name: (linear.operands[0].quantization, part.output.boundary)
        for linear in linears(program)
        for part in linear.parts
    }
    for part in parts(program):
        cell, wanted = layer.linears[part.output.name], moved[part.output.name]
        np.testing.assert_array_equal(cell.rounded().codes, wanted.codes)
        np.testing.assert_array_equal(
            Part.derive(
                operators[part.output.name], cell.rounded(), bits, *read[part.output.name]
            ).bias,
            part.bias,
        )
        weight = operators[part.output.name].weight
        far = np.abs(cell.weight.detach().numpy() - weight) / wanted.scales[:, None]
        kept = wanted.codes == kind.nearest(weight / wanted.scales[:, None].astype(np.float64))
        reach = kind.maximum + 0.4 * kind.spacing
        inside = kept & (np.abs(weight) < reach * wanted.scales[:, None])
        assert far[inside].max() < 0.011 * kind.spacing and far[~kept].all()


def test_layers_that_read_codes_have_no_quantiser_of_their_own():
    message = grus.stacked([grus.Case(), grus.Case(I=6, H=3, seed=2)], "codes")
    made = pipeline(message, grus.feeds(grus.Case()))
    first, second = twin(made, Scheme.uniform(made.layers, 8), "l1_Y", scales="all")._layers
    assert first.layer.input in first.quantizers and first.layer.output in first.quantizers
    assert second.layer.input not in second.quantizers
