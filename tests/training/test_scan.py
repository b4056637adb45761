"""The compiled steps of training beside the same operators in torch, with its gradients."""

from collections.abc import Mapping

import numpy as np
import pytest

from onnxgru.core.errors import UsageError
from onnxgru.core.scheme import Scheme
from onnxgru.passes.graph import source
from onnxgru.training.cell import QuantizedLayer
from onnxgru.training.finetune import Finetuning, FinetuningSettings
from onnxgru.training.functions import apply
from onnxgru.training.scan import ScanPlan, ScanStage, Tensor, groups, scan
from tests import grus, scans
from tests.pipeline import pipeline, random_scheme

torch = pytest.importorskip("torch")

LENGTHS = (7, 3, 1, 0)
CASES = [
    grus.Case(T=7, B=4),
    grus.Case(T=7, B=4, linear_before_reset=0, bias=False),
    grus.Case(T=7, B=4, direction="reverse", initial=True),
    grus.Case(T=7, B=4, direction="reverse", linear_before_reset=0, initial=True),
    grus.Case(T=7, B=4, activations=("HardSigmoid", "ScaledTanh"), alphas=(0.3, 0.9)),
    grus.Case(T=9, B=2, I=3, H=33, gain=0.3),
    grus.Case(T=7, B=4, operator="LSTM", direction="reverse", initial=True),
    grus.Case(T=7, B=4, operator="LSTM", peepholes=True, outputs=("Y", "Y_h", "Y_c")),
    scans.ODD,
    scans.sru(),
]

VARIANTS = [
    (index, lengths)
    for index, case in enumerate(CASES)
    for lengths in (None, *((LENGTHS,) if isinstance(case, grus.Case) else ()))
]
"""A Scan has no lengths."""


def layer_of(case: grus.Case | scans.Body, seed: int | None, scales: str) -> QuantizedLayer:
    if isinstance(case, scans.Body):
        message = scans.model(case)
        made = pipeline(message, scans.feeds(message))
    else:
        made = pipeline(grus.model(case), grus.feeds(case))
    scheme = Scheme.uniform(made.layers, 8) if seed is None else random_scheme(made.layers, seed)
    output = str(made.model.graph.outputs[0].name)
    twin = Finetuning(
        source.proto(made.model), made.layers, made.lower(scheme), scheme, output,
        made.host.interface.outputs[output], FinetuningSettings(scales=scales),
    )  # fmt: skip
    (layer,) = twin._layers
    return layer


def stepwise(
    layer: QuantizedLayer,
    plan: ScanPlan,
    x: Tensor,
    initial: Tensor,
    lengths: Tensor | None,
    factors: Tensor,
    matrices: Mapping[ScanStage, tuple[Tensor, Tensor]],
) -> Tensor:
    """What leaves the recurrence, one operator of torch after the other."""
    recurrence = plan.recurrence
    places = {slot: name for name, slot in plan.slots.items()}
    leaving = [places[slot] for slot in plan.leaving]
    quantizers = dict(zip(plan.slots, layer.values(plan), strict=True))
    products = {o.name: (stage, o) for stage in plan.stages for o in stage.linears}
    vectors = {o.name: vector for o, vector in zip(plan.scalings, factors, strict=True)}
    states: dict[int, Tensor] = {}
    carried = {c.name: first for c, first in zip(recurrence.carries, initial, strict=True)}
    early: dict[str, Tensor] = {recurrence.input: x}
    for operators, steps in (
        (recurrence.prologue, [None]),
        (recurrence.body, range(len(x))[:: -1 if recurrence.reverse else 1]),
    ):
        for t in steps:
            values = early if t is None else {n: v[t] for n, v in early.items()}
            if t is not None:
                values |= carried
            for operator in (o for group in groups(operators) for o in group):
                operands = [values[name] for name in operator.inputs]
                if operator.kind == "linear":
                    stage, _ = products[operator.name]
                    first = stage.linears.index(operator) * operator.width
                    weight, bias = (m[first : first + operator.width] for m in matrices[stage])
                    result = torch.nn.functional.linear(operands[0], weight, bias)
                elif operator.kind == "add":
                    result = operands[0] + operands[1]
                elif operator.kind == "mul":
                    result = operands[0] * operands[1]
                elif operator.kind == "scale":
                    result = operands[0] * vectors[operator.name]
                else:
                    result = apply(operator.function, operands[0].double())
                values[operator.name] = quantizers[operator.name](result)
            if t is not None:
                for carry in recurrence.carries:
                    if lengths is not None:
                        going = (t < lengths)[:, None]
                        values[carry.written_by] = torch.where(
                            going, values[carry.written_by], carried[carry.name]
                        )
                carried = {c.name: values[c.written_by] for c in recurrence.carries}
                states[t] = torch.stack([values[name] for name in leaving])
    return torch.stack([states[t] for t in range(len(x))], dim=1)


@pytest.mark.parametrize("scales", ["weights", "all"])
@pytest.mark.parametrize(("index", "lengths"), VARIANTS)
def test_states_and_gradients_are_those_of_torch(index, scales, lengths):
    case = CASES[index]
    steps, batch, size, hidden = (
        (scans.T, scans.B, case.width, scans.H)
        if isinstance(case, scans.Body)
        else (case.T, case.B, case.I, case.H)
    )
    layer = layer_of(case, None if lengths is None else index, scales)
    (plan,) = layer.plans
    generator = np.random.default_rng(index)

    def drawn(*shape: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal(shape).astype(np.float32))

    x = layer.quantizers[layer.layer.input](drawn(steps, batch, size)).detach()
    initial = torch.stack(
        [
            layer.quantizers[grid](drawn(batch, hidden)).detach()
            for grid in layer.layer.carries.values()
        ]
    )
    weights = drawn(len(plan.leaving), steps, batch, hidden)
    counts = None if lengths is None else torch.tensor(lengths[:batch])
    found = []
    for compiled in (True, False):
        entries = [tensor.clone().requires_grad_() for tensor in (x, initial)]
        matrices = {
            stage: tuple(t.detach().requires_grad_() for t in layer.matrix(plan, stage))
            for stage in plan.stages
            if stage.linears
        }
        factors = layer.factors(plan).detach().requires_grad_()
        for parameter in layer.scales:
            parameter.grad = None
        if compiled:
            stacked = torch.stack([quantizer.scale for quantizer in layer.values(plan)])
            states = scan(plan, layer.grid(plan), *entries, counts, stacked, factors, matrices)
        else:
            states = stepwise(layer, plan, *entries, counts, factors, matrices)
        (states * weights).sum().backward()
        flat = [t for pair in matrices.values() for t in pair]
        flat += [factors] if plan.scalings else []
        learned = [p for q in layer.quantizers.values() for p in q.parameters]
        gradients = [t.grad for t in (*entries, *flat)]
        gradients += [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
        assert (scales == "all") == bool(learned)
        found.append((states.detach(), gradients))
    (states, gradients), (wanted, of_torch) = found
    np.testing.assert_array_equal(states.numpy(), wanted.numpy())
    assert len(gradients) == len(of_torch) >= 2 + 2 * len(matrices) >= 4
    count = 2 + len(flat)
    assert all(gradient.any() for gradient in gradients[2:count]) or lengths is not None
    for gradient, other in zip(gradients[:count], of_torch[:count], strict=True):
        assert float((gradient - other).abs().max()) < 1e-4 * float(other.abs().max())
    of_scales, wanted = (torch.tensor([float(g) for g in f[count:]]) for f in (gradients, of_torch))
    if len(wanted):  # float32 sums of thousands of terms that cancel, in torch
        np.testing.assert_allclose(of_scales, wanted, rtol=1e-2, atol=1e-4 * wanted.abs().max())


def test_directions_add_their_gradients(monkeypatch):
    """A layer of both directions, sequences of all lengths: Y, Y_h, and what reaches the input."""
    case = grus.Case(T=7, B=4, direction="bidirectional", lengths=LENGTHS, initial=True)
    layer = layer_of(case, None, "weights")
    generator = np.random.default_rng(0)
    shapes = ((7, 4, case.I), (2, 4, case.H), (7, 2, 4, case.H), (2, 4, case.H))
    x, initial, of_states, of_last = (
        torch.from_numpy(generator.standard_normal(shape).astype(np.float32)) for shape in shapes
    )
    counts = torch.tensor(LENGTHS)

    def one_by_one(plan, _grid, x, before, lengths, _scales, factors, matrices) -> Tensor:
        return stepwise(layer, plan, x, before, lengths, factors, matrices)

    found = []
    for compiled in (True, False):
        entries = [tensor.clone().requires_grad_() for tensor in (x, initial)]
        if not compiled:
            monkeypatch.setattr("onnxgru.training.cell.scan", one_by_one)
        states, carried = layer(entries[0], counts, {"state": entries[1]})
        last = carried["state"]
        assert not states[3:, :, 1].any() and not last[:, 3].any()
        ((states * of_states).sum() + (last * of_last).sum()).backward()
        found.append((states.detach(), last.detach(), *(entry.grad for entry in entries)))
    for ours, wanted in zip(*found, strict=True):
        assert wanted.any()
        np.testing.assert_allclose(ours, wanted, atol=1e-4 * float(wanted.abs().max()))


def test_cells_of_several_widths_are_refused() -> None:
    message = scans.model(scans.LOW_RANK)
    (layer,) = pipeline(message, scans.feeds(message)).layers
    with pytest.raises(
        UsageError,
        match="/scan_0/forward: fine-tuning takes cells whose operators all have one number of "
        "features, this one has 2, 3, 6; leave out the training data, or keep the layer in float "
        "with --exclude",
    ):
        ScanPlan(layer.recurrences[0])
