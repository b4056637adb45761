"""Bits by calibration: budgets met, from above and from below, bits where the noise is."""

import numpy as np
import pytest

from onnxgru.cost.account import account
from onnxgru.study.allocation import Allocation
from onnxgru.study.encoding import Encoding
from tests import grus
from tests.pipeline import pipeline

NAME = "/gru/forward/{}.weight"


@pytest.fixture(scope="module")
def made():
    case = grus.Case(I=8, H=24, T=12, B=16)
    return pipeline(grus.model(case), grus.feeds(case))


def quiet_reset():
    case = grus.Case(I=24, H=24, T=12, B=16, bias=False)
    message = grus.model(case)
    tensor = next(i for i in message.graph.initializer if i.name == "W")
    array = np.frombuffer(tensor.raw_data, np.float32).copy().reshape(72, 24)
    array[24:48] *= 1e-3
    tensor.raw_data = array.tobytes()
    return pipeline(message, grus.feeds(case))


def starts(made, encoding, **settings):
    return Allocation(made.layers, made.lower._calibration, encoding).starts(**settings)


@pytest.mark.parametrize("settings", [{}, {"coupled": True}, {"widths": (2, 4, 8)}])
def test_schemes_get_smaller_and_end_at_the_narrowest_weights(made, settings):
    encoding = Encoding(made.layers, **settings)
    found = starts(made, encoding, budgets=10)
    sizes = [account(made.lower(encoding.scheme(genome))).flash_bytes for genome in found]
    assert len(found) >= 6
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    scheme = encoding.scheme(found[-1])
    weights = {scheme.linear(o.name).weight_bits for o in made.layers[0].linears}
    assert weights == {2}


def test_what_costs_nothing_stays_wide(made):
    encoding = Encoding(made.layers)
    for genome in starts(made, encoding):
        values = encoding.space.decode(genome)
        assert values["/gru/forward/state.keep"] == 8
        assert values["/gru/forward/new.hidden"] == 8


def test_terms_that_are_not_heard_lose_their_bits_first():
    """The reset gate hears a thousandth of its input."""
    made = quiet_reset()
    encoding = Encoding(made.layers)
    first = encoding.space.decode(starts(made, encoding, budgets=9)[0])
    widths = {name: bits for name, bits in first.items() if name.endswith(".weight")}
    quiet = widths.pop(NAME.format("reset.input"))
    assert quiet <= 3 < min(widths.values())


def test_shared_genes(made):
    encoding = Encoding(made.layers, share="kind", observers=True, granularities=True)
    for genome in starts(made, encoding):
        encoding.scheme(genome).validate(made.layers)


def grown(made, encoding, genome, limit: float):
    """What a genome grows to within some flash bytes, and what it has."""

    def size(other) -> int:
        return account(made.lower(encoding.scheme(other))).flash_bytes

    allocation = Allocation(made.layers, made.lower._calibration, encoding)
    found = allocation.widened(genome, lambda other: size(other) <= limit)
    return found, size(found), size


@pytest.mark.parametrize(
    "settings", [{}, {"coupled": True}, {"widths": (2, 4, 8)}, {"share": "gate", "inputs": True}]
)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_nothing_wider_fits_in_the_end(made, settings, share):
    encoding = Encoding(made.layers, **settings)
    start = encoding.uniform(2)
    least, most = (grown(made, encoding, g, 0)[1] for g in (start, encoding.uniform(8)))
    limit = least + share * (most - least)
    found, reached, size = grown(made, encoding, start, limit)
    assert reached <= limit
    assert all(wider >= narrow for narrow, wider in zip(start, found, strict=True))
    for place, width in enumerate(found):
        for wider in [bits for bits in encoding.widths if bits > width][:1]:
            assert size((*found[:place], wider, *found[place + 1 :])) > limit


def test_everything_grows_where_there_is_room(made):
    encoding = Encoding(made.layers)
    found, _, _ = grown(made, encoding, encoding.uniform(2), 1e9)
    assert found == encoding.uniform(8)


def test_what_costs_nothing_grows_first(made):
    encoding = Encoding(made.layers)
    start = encoding.uniform(2)
    least = grown(made, encoding, start, 0)[1]
    found, _, _ = grown(made, encoding, start, least + 16)
    values = encoding.space.decode(found)
    assert values["/gru/forward/state.keep"] == values["/gru/forward/state.new"] == 8
    assert {bits for name, bits in values.items() if name.endswith(".weight")} == {2}


def test_only_widths_grow(made):
    encoding = Encoding(made.layers, observers=True, granularities=True)
    start = tuple(gene.choices[0] for gene in encoding.space.genes)
    found, _, _ = grown(made, encoding, start, 1e9)
    growing = set(encoding.growing)
    assert growing == {g.name for g in encoding.space.genes if g.choices == tuple(range(2, 9))}
    for gene, before, after in zip(encoding.space.genes, start, found, strict=True):
        assert after == (8 if gene.name in growing else before)


def test_terms_that_are_not_heard_get_bits_last():
    """The reset gate hears a thousandth of its input."""
    made = quiet_reset()
    encoding = Encoding(made.layers)
    start = encoding.narrow_weights(2)
    least, most = (grown(made, encoding, g, 0)[1] for g in (start, encoding.uniform(8)))
    found, _, _ = grown(made, encoding, start, (least + most) / 2)
    values = encoding.space.decode(found)
    widths = {name: bits for name, bits in values.items() if name.endswith(".weight")}
    quiet = widths.pop(NAME.format("reset.input"))
    assert quiet <= 3 < min(widths.values())
