"""The scheme in the metadata of graphs: every entry, in the order of the scheme, in few bytes."""

import dataclasses
import json

import pytest

from onnxgru.core import brief
from onnxgru.core.errors import SchemeError
from onnxgru.core.network import Layer
from onnxgru.core.scheme import Scheme
from tests import grus
from tests.pipeline import pipeline


def layers(count: int) -> tuple[Layer, ...]:
    """Of GRUs of one size."""
    cases = [grus.Case(T=2, B=1, I=4, H=4, seed=seed) for seed in range(count)]
    return pipeline(grus.stacked(cases), grus.feeds(cases[0])).layers


def small(scheme: Scheme) -> str:
    """As it stands in a file."""
    return json.dumps(brief.dumped(scheme), separators=(",", ":"))


def test_a_scheme_is_read_as_it_was_written() -> None:
    """With settings of every kind, and with layers that are equal and that are not."""
    uniform = Scheme.uniform(layers(3), 5, observer="minmax")
    entries = dict(uniform.operators)
    last = list(entries)[-1]
    entries[last] = dataclasses.replace(entries[last], bits=16, copy=4, threshold=2)
    for scheme in (uniform, Scheme(uniform.inputs, entries)):
        found = brief.parsed(json.loads(small(scheme)), "here")
        assert found == scheme
        assert list(found.operators) == list(scheme.operators)


@pytest.mark.parametrize(
    "change",
    [{"operators": [[["/"], [9, "a"]]]}, {"operators": [1]}, {"inputs": None}, {"settings": 0}],
    ids=str,
)
def test_damaged_schemes_are_refused(change: dict[str, object]) -> None:
    document = brief.dumped(Scheme.uniform(layers(1), 8))
    with pytest.raises(SchemeError, match=r"^here: the scheme in its metadata must be as onnxgru"):
        brief.parsed(document | change, "here")


def test_equal_layers_share_their_entries() -> None:
    """A layer more costs little more than its name."""
    sizes = [len(small(Scheme.uniform(layers(count), 8))) for count in (1, 2, 3)]
    assert sizes[2] - sizes[1] < 50 < sizes[0] < 500


def test_graphs_of_earlier_versions_are_read() -> None:
    """They hold what `scheme.json` holds."""
    scheme = Scheme.uniform(layers(1), 8)
    assert brief.parsed(scheme.brief(), "here") == scheme
