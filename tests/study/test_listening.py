"""What the outputs hear of each operator: measured within a budget, and followed by allocation."""

from dataclasses import replace

import pytest

from onnxgru.events import Stage
from onnxgru.session.session import Session
from onnxgru.settings.config import Config
from onnxgru.study import listening
from onnxgru.study.allocation import Allocation
from onnxgru.study.problem import encoding, shared
from tests import grus

CASE = grus.Case(I=4, H=8, T=6, B=20, direction="bidirectional", outputs=("Y_h",))
NARROW = {"reset.sum", "update.sum", "update.gate", "new.sum"}
"""Rows that are read through tables of one entry per code."""


@pytest.fixture(scope="module")
def session() -> Session:
    data = {"calibration": grus.feeds(CASE, 1), "validation": grus.feeds(CASE, 2)}
    return Session.open(grus.model(CASE), Config(search=True, **data))


@pytest.mark.parametrize(
    ("count", "found"), [(9, (2, 3, 4, 5, 6, 7)), (3, (3, 5, 7)), (2, (3, 6)), (1, (5,))]
)
def test_widths_are_spread(count: int, found: tuple[int, ...]) -> None:
    assert listening.chosen(range(2, 9), count) == found


def allocated(session: Session, **settings: object) -> Allocation:
    config = replace(session.config, **settings)
    layers = session.model.layers
    return Allocation(layers, session.quantizer.statistics.calibration, encoding(layers, config))


def test_groups_are_the_genes_that_save_bytes(session: Session) -> None:
    groups = allocated(session).groups()
    rows = {frozenset(name.split("/", 3)[-1] for name in group) for group in groups}
    assert all(len(row) == 1 and len(group) == 2 for row, group in zip(rows, groups, strict=True))
    (names,) = zip(*rows, strict=True)
    assert {name for name in names if not name.endswith(".weight")} == NARROW
    assert len(names) == len(NARROW) + 6
    gates = allocated(session, share="gate").groups()
    assert len(gates) == len({gene for group in gates for gene in group}) == 9


def test_noise_is_measured_within_the_budget(session: Session) -> None:
    genes, groups = encoding(session.model.layers, session.config), allocated(session).groups()
    heard: list[object] = []
    parts = session.quantizer.unbounded, session.yardstick, genes, groups
    enough = listening.SHARE * len(groups)
    assert not listening.measured(*parts, enough - 1, listener=heard.append) and not heard
    found = listening.measured(*parts, 2 * enough, listener=heard.append)
    assert heard == [Stage("measuring what the outputs hear of each operator")]
    assert {tuple(noise) for noise in found.values()} == {(3, 6)}
    assert all(noise[3] > noise[6] > 0 for noise in found.values())


def test_bits_go_where_they_are_heard(session: Session) -> None:
    """One group is loud at its outputs, all others are not heard."""
    allocation = allocated(session)
    groups = allocation.groups()
    loud = next(group for group in groups if group[0].endswith("new.input.weight"))
    noises = {group: {3: 1e-9, 6: 1e-12} for group in groups} | {loud: {3: 1.0, 6: 1e-3}}
    genes = [gene.name for gene in encoding(session.model.layers, session.config).space.genes]
    for genome in allocation.heard(noises).starts()[:6]:
        widths = dict(zip(genes, genome, strict=True))
        assert {widths[name] for name in loud} == {8}
    assert allocation.starts() != allocation.heard(noises).starts()


def test_operators_share_genes_where_layers_are_many(session: Session) -> None:
    layers = session.model.layers
    assert shared(layers * 4, Config()) == "none" and shared(layers * 5, Config()) == "operator"
    assert shared(layers * 5, Config(share="layer")) == "layer"
