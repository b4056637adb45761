"""Starting schemes from calibration: budgets met, bits where the noise is."""

import numpy as np
import pytest

from onnxgru.core.account import account
from onnxgru.encoding import Encoding
from onnxgru.starts import allocated
from tests import grus
from tests.pipeline import pipeline

NAME = "/gru/forward/{}.weight"


@pytest.fixture(scope="module")
def made():
    case = grus.Case(I=8, H=24, T=12, B=16)
    return pipeline(grus.model(case), grus.feeds(case))


def starts(made, encoding, **settings):
    return allocated(made.layers, made.lower._calibration, encoding, **settings)


@pytest.mark.parametrize("settings", [{}, {"coupled": True}, {"widths": (2, 4, 8)}])
def test_schemes_get_smaller_and_end_at_the_narrowest_weights(made, settings):
    encoding = Encoding(made.layers, **settings)
    found = starts(made, encoding, budgets=10)
    sizes = [account(made.lower(encoding.scheme(genome))).flash_bytes for genome in found]
    assert len(found) >= 6
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    scheme = encoding.scheme(found[-1])
    weights = {scheme.linear(o.name).weight_bits for o in made.layers[0].operators if o.matrix}
    assert weights == {2}


def test_what_costs_nothing_stays_wide(made):
    encoding = Encoding(made.layers)
    for genome in starts(made, encoding):
        values = encoding.space.decode(genome)
        assert values["/gru/forward/state.keep"] == 8
        assert values["/gru/forward/new.hidden"] == 8


def test_terms_that_are_not_heard_lose_their_bits_first():
    """The reset gate hears a thousandth of its input."""
    case = grus.Case(I=24, H=24, T=12, B=16, bias=False)
    message = grus.model(case)
    tensor = next(i for i in message.graph.initializer if i.name == "W")
    array = np.frombuffer(tensor.raw_data, np.float32).copy().reshape(72, 24)
    array[24:48] *= 1e-3
    tensor.raw_data = array.tobytes()
    made = pipeline(message, grus.feeds(case))
    encoding = Encoding(made.layers)
    first = encoding.space.decode(starts(made, encoding, budgets=9)[0])
    widths = {name: bits for name, bits in first.items() if name.endswith(".weight")}
    quiet = widths.pop(NAME.format("reset.input"))
    assert quiet <= 3 < min(widths.values())


def test_shared_genes(made):
    encoding = Encoding(made.layers, share="kind", observers=True, granularities=True)
    for genome in starts(made, encoding):
        encoding.scheme(genome).validate(made.layers)
