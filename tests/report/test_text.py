"""Sentences of report.md."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from onnxgru.report import text


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (98.0, "it is equal to uniform 8 bits."),
        (98.4, "it is 0.40 points above uniform 8 bits."),
        (97.2, "it is 0.80 points below uniform 8 bits."),
        (
            96.8,
            "it is 1.20 points below uniform 8 bits. That is much more than the allowed 0.50 "
            "points: there are too few validation data to tell schemes apart.",
        ),
    ],
)
def test_holdout_figure_beside_uniform_8_bits(chosen: float, sentence: str) -> None:
    search = SimpleNamespace(
        chosen=SimpleNamespace(holdout=chosen, index=3),
        uniform_8=SimpleNamespace(holdout=98.0),
        to_uniform_8=None,
        max_drop=0.5,
    )
    assert text._on_holdout(cast(Any, search), "%").endswith(f"was not chosen by, {sentence}")
