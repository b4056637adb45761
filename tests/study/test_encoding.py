"""Genes of a network: how many, what they decide, and what they share."""

import numpy as np
import pytest

from onnxgru.core.choices import widths
from onnxgru.core.errors import UsageError
from onnxgru.core.network import LinearOperator
from onnxgru.core.scheme import Scheme
from onnxgru.settings.config import Config
from onnxgru.study.encoding import Encoding
from tests import grus
from tests.pipeline import pipeline


@pytest.fixture(scope="module")
def made():
    """Two layers, the first in both directions."""
    cases = [grus.Case(direction="bidirectional"), grus.Case(I=12, H=5, seed=1)]
    feeds = grus.feeds(cases[0])
    return pipeline(grus.stacked(cases), {"X": feeds["X"]})


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 22 + 23 + 23),  # two directions write one state
        ({"coupled": True}, 16 + 17 + 17),
        ({"inputs": True}, 68 + 2),
        ({"share": "layer"}, 2 * (4 + 2)),
        ({"share": "kind"}, 4 + 2),
        ({"share": "gate"}, 4 + 6),
        ({"share": "operator"}, 17 + 6),
        ({"share": "kind", "inputs": True}, 7),
        ({"granularities": True}, 68 + 18),
        ({"share": "kind", "granularities": True}, 6 + 2),
        ({"thresholds": True}, 68 + 2 * 2),
        ({"share": "gate", "thresholds": True}, 10 + 2),
    ],
)
def test_number_of_genes(made, settings, count):
    assert len(Encoding(made.layers, **settings).space.genes) == count


@pytest.mark.parametrize("share", ["none", "layer", "kind", "gate", "operator"])
@pytest.mark.parametrize("coupled", [False, True])
def test_every_genome_is_a_scheme(made, share, coupled):
    encoding = Encoding(
        made.layers,
        coupled=coupled,
        inputs=True,
        observers=True,
        granularities=True,
        share=share,
    )
    generator = np.random.default_rng(0)
    for _ in range(20):
        scheme = encoding.scheme(encoding.space.random(generator))
        scheme.validate(made.layers)
        if coupled:
            for layer in made.layers:
                for operator in layer.operators:
                    if isinstance(operator, LinearOperator):
                        entry = scheme.linear(operator.name)
                        assert entry.weight_bits == entry.bits


@pytest.mark.parametrize("settings", [{}, {"observers": True, "granularities": True}])
def test_uniform_genomes_are_uniform_schemes(made, settings):
    encoding = Encoding(made.layers, granularity="gate", observer="minmax", **settings)
    for bits in (2, 5, 8):
        expected = Scheme.uniform(made.layers, bits, granularity="gate", observer="minmax")
        assert encoding.scheme(encoding.uniform(bits)).dumps() == expected.dumps()


def test_genes_of_observers_and_granularities_decide(made):
    encoding = Encoding(made.layers, observers=True, granularities=True)
    values = encoding.space.decode(encoding.uniform(8))
    name = "/gru1/forward/new.hidden"
    values[f"{name}.observer"], values[f"{name}.granularity"] = 0, 1
    entry = encoding.scheme(encoding.space.encode(values)).linear(name)
    assert (entry.observer, entry.granularity) == ("minmax", "gate")
    # Gates have the range of their function, so there is nothing to observe.
    assert "/gru1/forward/reset.gate.observer" not in values
    assert "/gru1/forward/reset.sum.observer" in values


def test_genes_of_thresholds_decide(made):
    encoding = Encoding(made.layers, thresholds=True)
    values = encoding.space.decode(encoding.uniform(4))
    assert values["/gru0/state.threshold"] == 0
    values |= {"/gru0/state.threshold": 32, "/gru1/input.threshold": 8}
    scheme = encoding.scheme(encoding.space.encode(values))
    directions = [f"/gru0/{name}/state.sum" for name in ("forward", "reverse")]
    assert [scheme.operators[name].threshold for name in directions] == [2, 2]  # 32 * 15 / 255
    assert scheme.inputs["/gru1"].threshold == 8  # of 8 bits
    assert scheme.inputs["/gru0"].threshold == 0
    assert not any(name.endswith("threshold") for name in encoding.growing)
    plain = Encoding(made.layers).starts()
    assert len(encoding.starts()) == len(plain) + 7


def test_shared_genes_of_gates_reach_all_layers(made):
    encoding = Encoding(made.layers, share="gate")
    values = encoding.space.decode(encoding.uniform(8))
    values["new"], values["update.R.weight"] = 5, 3
    scheme = encoding.scheme(encoding.space.encode(values))
    for layer in made.layers:
        for operator in layer.operators:
            entry = scheme.operators[operator.name]
            assert entry.bits == (5 if operator.row.startswith("new.") else 8)
            if isinstance(operator, LinearOperator):
                narrow = operator.row == "update.hidden"
                assert scheme.linear(operator.name).weight_bits == (3 if narrow else 8)


def test_widths_limit_every_gene_and_start(made):
    encoding = Encoding(made.layers, widths=(2, 4, 8))
    assert {gene.choices for gene in encoding.space.genes} == {(2, 4, 8)}
    starts = encoding.starts()
    assert starts[:3] == tuple(encoding.uniform(bits) for bits in (8, 4, 2))
    assert {width for start in starts for width in start} == {2, 4, 8}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2-8", tuple(range(2, 9))), ("8,2, 4", (2, 4, 8)), ("2-4,8", (2, 3, 4, 8)), ("5", (5,))],
)
def test_widths_are_read(text, expected):
    assert widths(text) == expected


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"widths": "1-9"}, "from 2 to 8"),
        ({"widths": "8-2"}, "ascending"),
        ({"widths": "2-8,16"}, "16 bits are for cell states, see cell_state"),
        ({"widths": ""}, "such as 2-8 or 2,4,8, got ''"),
        ({"widths": "2;4"}, "got '2;4'"),
        ({"widths": 4}, "widths must be a text such as 2-8, got 4"),
        ({"genes": "observer"}, "genes must be bits"),
        ({"genes": "bits,colour"}, "'bits,colour'"),
        ({"genes": "bits,observer,observer"}, "genes must be bits"),
        ({"share": "all"}, "share must be one of auto, none, layer, kind, gate"),
        ({"strategy": "luck"}, "strategy must be one of explore-exploit, plain"),
        ({"objectives": "error,speed"}, "'speed'"),
        ({"genes": "bits,threshold"}, "belong together; give genes bits,threshold and objectives"),
        ({"objectives": "error,operations"}, "genes for threshold and the objective operations"),
        (
            {"genes": "bits,threshold", "objectives": "error,operations", "device": "cuda"},
            "operations are counted on the processor, without training; leave out device",
        ),
        (
            {"genes": "bits,threshold", "objectives": "error,operations", "delta": 2},
            "delta sets thresholds after a search, and genes for threshold search them",
        ),
    ],
)
def test_wrong_settings_are_refused_when_made(settings, part):
    with pytest.raises(UsageError) as caught:
        Config(search=True, **settings)
    assert part in str(caught.value)
