"""A cell state has wide codes by default, and genes that may take them."""

from dataclasses import replace

import numpy as np
import pytest

from onnxgru.core.choices import WIDTHS
from onnxgru.core.scheme import LinearScheme, Scheme
from onnxgru.cost.account import account
from onnxgru.study.allocation import Allocation
from onnxgru.study.encoding import CELL, WEIGHT, Encoding
from tests import grus
from tests.pipeline import Pipeline, pipeline

NAMES = ("cell.keep", "cell.new", "cell.sum")


@pytest.fixture(scope="module")
def model() -> Pipeline:
    case = grus.Case(operator="LSTM", direction="bidirectional", outputs=("Y_h",))
    return pipeline(grus.model(case), grus.feeds(case))


def wide(scheme: Scheme) -> set[str]:
    return {name.rsplit("/", 1)[-1] for name, e in scheme.operators.items() if e.bits == 16}


@pytest.mark.parametrize("operator", ["GRU", "RNN"])
def test_states_that_products_read_are_none(operator: str) -> None:
    case = grus.Case(operator=operator) if operator != "RNN" else None
    case = case or replace(grus.Case(), operator="RNN", linear_before_reset=None)
    made = pipeline(grus.model(case), grus.feeds(case))
    assert [layer.cell_state for layer in made.layers] == [frozenset()]


def test_uniform_schemes(model: Pipeline) -> None:
    (layer,) = model.layers
    assert {name.rsplit("/", 1)[-1] for name in layer.cell_state} == set(NAMES)
    scheme = Scheme.uniform(model.layers, 4)
    assert wide(scheme) == set(NAMES)
    assert {e.weight_bits for e in scheme.operators.values() if isinstance(e, LinearScheme)} == {4}
    assert not wide(Scheme.uniform(model.layers, 4, cell_state="plain"))


@pytest.mark.parametrize("share", ["none", "layer", "kind", "gate"])
@pytest.mark.parametrize("coupled", [False, True])
def test_genes(model: Pipeline, share: str, coupled: bool) -> None:
    encoding = Encoding(model.layers, share=share, coupled=coupled)
    mixed = {name for name, choices in encoding.choices.items() if choices == (*WIDTHS, 16)}
    assert mixed and {*encoding.choices.values()} == {WIDTHS, (*WIDTHS, 16)}
    assert all(name.endswith(NAMES if share == "none" else CELL) for name in mixed)
    for bits in (2, 8):
        scheme = encoding.scheme(encoding.uniform(bits))
        assert scheme == Scheme.uniform(model.layers, bits)
    assert wide(encoding.scheme(encoding.narrow_weights(2)) if not coupled else scheme) == {*NAMES}
    for seed in range(2):
        drawn = encoding.scheme(encoding.space.random(np.random.default_rng(seed)))
        model.lower(drawn)
        assert wide(drawn) <= set(NAMES)
    plain = Encoding(model.layers, share=share, coupled=coupled, cell_state="plain")
    assert {*plain.choices.values()} == {WIDTHS}


def test_allocation_keeps_and_widens_them(model: Pipeline) -> None:
    encoding = Encoding(model.layers)
    allocation = Allocation(model.layers, model.calibration, encoding)
    starts = allocation.starts()
    assert all(wide(encoding.scheme(genome)) == set(NAMES) for genome in starts)
    names = [gene.name for gene in encoding.space.genes]
    narrow = encoding.genome(
        {
            name: 2 if name.endswith(WEIGHT) else choices[0]
            for name, choices in encoding.choices.items()
        }
    )
    weights = tuple(2 if name.endswith(WEIGHT) else 8 for name in names)
    limit = account(model.lower(encoding.scheme(weights))).flash_bytes + 1000

    def fits(genome: tuple[int, ...]) -> bool:
        return account(model.lower(encoding.scheme(genome))).flash_bytes <= limit

    widened = encoding.scheme(allocation.widened(narrow, fits))
    assert wide(widened) == set(NAMES)


def test_inputs_have_16_bits_where_they_are_asked_for(model: Pipeline) -> None:
    encoding = Encoding(model.layers, inputs=True, input_bits=16)
    (layer,) = model.layers
    assert encoding.choices[layer.input] == (*WIDTHS, 16)
    for genome in encoding.starts():
        scheme = encoding.scheme(genome)
        assert scheme.inputs[layer.name].bits == 16
        model.lower(scheme)
    fixed = Encoding(model.layers, input_bits=16)
    assert fixed.scheme(fixed.uniform(4)).inputs[layer.name].bits == 16
