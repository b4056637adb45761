"""Which operators are skipped, and what schemes say of weights and copies."""

from dataclasses import replace

import numpy as np
import pytest

from onnxgru.core import skip
from onnxgru.core.errors import SchemeError, UsageError
from onnxgru.core.scheme import LinearScheme, OutputScheme, Scheme
from onnxgru.settings.config import Config
from onnxgru.study.allocation import Allocation
from onnxgru.study.encoding import Encoding
from tests import grus
from tests.pipeline import Pipeline, pipeline


@pytest.fixture(scope="module")
def model() -> Pipeline:
    cases = (grus.Case(T=6, direction="bidirectional"), grus.Case(I=12, H=5, seed=2))
    return pipeline(grus.stacked(cases), grus.feeds(cases[0]))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("new.hidden",), ("/gru0/forward", "/gru0/reverse", "/gru1/forward")),
        (("first:new.hidden",), ("/gru0/forward", "/gru0/reverse")),
        (("/*/forward/new.hidden",), ("/gru0/forward", "/gru1/forward")),
        (("/gru1/forward/new.hidden", "new.hidd*"), ("/gru1", "/gru0/forward", "/gru0/reverse")),
    ],
)
def test_names(model: Pipeline, names: tuple[str, ...], found: tuple[str, ...]) -> None:
    chosen = skip.named(model.layers, names)
    assert len(chosen) == len(found) and all(name.endswith("/new.hidden") for name in chosen)
    assert all(name.startswith(start) for name, start in zip(chosen, found, strict=True))


def test_a_layer_is_all_of_its_products(model: Pipeline) -> None:
    rows = [name.removeprefix("/gru1/forward/") for name in skip.named(model.layers, ("/gru1",))]
    assert len(rows) == 6 and {row.split(".")[1] for row in rows} == {"input", "hidden"}


def test_names_of_nothing_are_refused(model: Pipeline) -> None:
    with pytest.raises(UsageError) as error:
        skip.named(model.layers, ("new.hidden", "state.sum"))
    assert str(error.value) == (
        "skip must name linear operators or layers of the model, got 'state.sum'; the operators "
        "are reset.input, reset.hidden, update.input, update.hidden, new.input, new.hidden, the "
        "layers /gru0, /gru1"
    )


def test_schemes(model: Pipeline) -> None:
    """What a layer reads of another one's codes keeps its width, but not the first one's input."""
    plain = Scheme.uniform(model.layers, 5)
    found = skip.applied(plain, model.layers, skip.named(model.layers, ("new.*",)))
    assert found == Scheme.parse({"inputs": {}, "operators": {}} | _document(found), "scheme")
    assert b"copy" not in plain.dumps()
    assert found.inputs["/gru0"] == OutputScheme(16, copy=8)
    for name, entry in found.operators.items():
        row = name.rsplit("/", 1)[-1]
        assert (entry.bits, entry.copy) == ((16, 5) if row == "state.sum" else (5, None))
        if isinstance(entry, LinearScheme):
            assert entry.weight_bits == (16 if row.startswith("new") else 5)
    assert found.narrowed().operators["/gru0/forward/state.sum"] == OutputScheme(5)


def _document(scheme: Scheme) -> dict[str, object]:
    import json

    document: dict[str, object] = json.loads(scheme.dumps())
    return document


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"weight_bits": 12},
            "scheme: /gru1/forward/new.hidden: weight_bits must be a whole number from 2 to 8, or "
            "16, got 12",
        ),
        (
            {"copy": 8},
            "scheme: /gru1/forward/new.hidden: a copy must be a whole number from 2 to 8, of a "
            "value of 16 bits, got 8 of 8",
        ),
        (
            {"bits": 16, "copy": 9},
            "scheme: /gru1/forward/new.hidden: a copy must be a whole number from 2 to 8, of a "
            "value of 16 bits, got 9 of 16",
        ),
        (
            {"bits": 16, "copy": 4, "threshold": 16},
            "scheme: /gru1/forward/new.hidden: a threshold must be a whole number from 0 to 15, "
            "the largest code, got 16",
        ),
    ],
)
def test_entries_that_mean_nothing(model: Pipeline, change: dict, sentence: str) -> None:
    document = _document(Scheme.uniform(model.layers, 8))
    document["operators"]["/gru1/forward/new.hidden"] |= change
    with pytest.raises(SchemeError) as error:
        Scheme.parse(document, "scheme")
    assert str(error.value) == sentence


def test_directions_share_a_copy(model: Pipeline) -> None:
    scheme = skip.applied(
        Scheme.uniform(model.layers, 8), model.layers, skip.named(model.layers, ("new.hidden",))
    )
    name = "/gru0/reverse/state.sum"
    other = {**scheme.operators, name: replace(scheme.operators[name], copy=4)}
    with pytest.raises(SchemeError, match="write one state and must have the same copy, got 4 and"):
        Scheme(scheme.inputs, other).validate(model.layers)


@pytest.mark.parametrize("share", ["none", "layer", "kind", "gate"])
@pytest.mark.parametrize("coupled", [False, True])
def test_genes(model: Pipeline, share: str, coupled: bool) -> None:
    names = skip.named(model.layers, ("new.hidden",))
    encoding = Encoding(model.layers, share=share, coupled=coupled, skipped=names)
    for bits in (2, 8):
        wanted = skip.applied(Scheme.uniform(model.layers, bits), model.layers, names)
        assert encoding.scheme(encoding.uniform(bits)) == wanted
    if not coupled:
        narrow = encoding.scheme(encoding.narrow_weights(3))
        assert {
            o.weight_bits for o in narrow.operators.values() if isinstance(o, LinearScheme)
        } == {3}
        assert {entry.copy for entry in narrow.operators.values()} == {None}
    for seed in range(3):
        drawn = encoding.scheme(encoding.space.random(np.random.default_rng(seed)))
        model.lower(drawn)
        assert all((entry.copy is None) == (entry.bits != 16) for entry in drawn.operators.values())


def test_allocation_narrows_them_too(model: Pipeline) -> None:
    names = skip.named(model.layers, ("new.hidden",))
    encoding = Encoding(model.layers, skipped=names)
    starts = Allocation(model.layers, model.calibration, encoding).starts()
    widths = {encoding.scheme(genome).linear(names[0]).weight_bits for genome in starts}
    assert len(widths) > 2


def test_wide_states(model: Pipeline) -> None:
    """What a GRU adds up has 16 bits, and products read copies; an LSTM has none of them."""
    plain = Scheme.uniform(model.layers, 4)
    found = skip.with_wide_states(plain, model.layers)
    for name, entry in found.operators.items():
        row = name.rsplit("/", 1)[-1]
        wide = {"state.sum": (16, 4), "state.new": (16, None), "state.keep": (16, None)}
        assert (entry.bits, entry.copy) == wide.get(row, (4, None))
    model.lower(found)
    encoding = Encoding(model.layers, wide_states=True)
    assert encoding.scheme(encoding.uniform(4)) == found
    case = grus.Case(operator="LSTM", outputs=("Y_h",))
    lstm = pipeline(grus.model(case), grus.feeds(case))
    assert [layer.summed_states for layer in lstm.layers] == [{}]


@pytest.mark.parametrize("name", ["skip", "wide_states"])
def test_a_scheme_says_its_own(name: str) -> None:
    value = {"skip": ("new.hidden",), "wide_states": True}[name]
    with pytest.raises(UsageError, match=f"a scheme says its own {name}; leave out {name}, or the"):
        Config(scheme="scheme.json", **{name: value})
