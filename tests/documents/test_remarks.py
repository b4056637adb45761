"""Sentences of a report: how sure its figures are, and what stands out."""

from dataclasses import replace
from typing import Any

import pytest

from onnxgru.documents.entries import Outlier, Quality, Widened
from onnxgru.documents.reading import read
from onnxgru.documents.remarks import (
    RANDOM,
    between,
    coarse,
    counted,
    falls,
    figure,
    glitches,
    optimistic,
    remarks,
    stuck,
    verdict,
)
from onnxgru.documents.report import Report
from tests.documents.test_report import DOCUMENT, SEARCH


def document(unit="%", **settings: Any) -> Report:
    quality = {
        "float": 97.56, "integer": 97.11, "sequences": 450, "counted": 450,
        "float_interval": [95.7, 98.6], "integer_interval": [95.1, 98.3],
        "difference": -0.45, "difference_interval": [-1.6, 0.6],
    }  # fmt: skip
    quality |= settings.pop("quality", {})
    name = {"%": "accuracy", "dB": "sqnr"}.get(unit, "own")
    metric = {"name": name, "unit": unit, "target": settings.pop("target", "labels")}
    metric |= settings.pop("metric", {})
    roles = {settings.pop("role", "holdout"): quality}
    return Report.parse({**DOCUMENT, "metric": metric, "quality": roles, **settings})


@pytest.mark.parametrize(
    ("difference", "interval", "said"),
    [
        (-0.45, [-1.6, 0.6], "0.45 points below the float model (95 % interval -1.60 to +0.60 "
         "points, 450 sequences): these recordings cannot tell which is better"),
        (-2.0, [-3.1, -0.9], "2.00 points below the float model (95 % interval -3.10 to -0.90 "
         "points, 450 sequences): worse"),
        (2.0, [0.0, 3.1], "2.00 points above the float model (95 % interval +0.00 to +3.10 "
         "points, 450 sequences): no worse"),
        (0.0, [-0.8, 0.8], "equal to the float model (95 % interval -0.80 to +0.80 points, 450 "
         "sequences): these recordings cannot tell which is better"),
    ],
)  # fmt: skip
def test_no_worse_is_said_only_where_that_is_so(difference, interval, said):
    found = document(quality={"difference": difference, "difference_interval": interval})
    assert verdict(found, "holdout") == f"On hold-out data the integer graph is {said}"


def test_nothing_is_said_where_nothing_is_known():
    found = document("dB", quality={"difference": None, "difference_interval": None})
    assert verdict(found, "holdout") is None


def test_a_metric_that_is_better_when_lower():
    found = document(
        "",
        quality={"difference": 1.0, "difference_interval": [0.5, 1.5]},
        metric={"higher_is_better": False},
    )
    assert str(verdict(found, "holdout")).endswith("worse")


@pytest.mark.parametrize(
    ("unit", "before", "after", "target", "said"),
    [
        ("%", 97.56, 34.89, "labels", "accuracy falls from 97.56 % to 34.89 % on hold-out data"),
        ("%", None, 60.0, "reference", "falls from 100.00 % to 60.00 %"),
        ("%", 97.56, 93.0, "labels", ""),
        ("dB", None, 3.2, "reference", "only 3.2 dB are left"),
        ("dB", None, 21.0, "reference", ""),
        ("dB", 9.0, 8.5, "labels", ""),
        ("dB", None, None, "reference", ""),
        ("", 5.0, 1.0, "labels", ""),
    ],
)
def test_falls_are_remarked(unit, before, after, target, said):
    found = falls(document(unit, quality={"float": before, "integer": after}, target=target))
    assert len(found) == bool(said)
    assert all(said in text and "onnxgru finetune" in text for text in found)


def test_a_fall_after_fine_tuning_does_not_advise_it_again():
    tuned = {"epochs": 3, "best_epoch": 0, "sequences": 9}
    (text,) = falls(replace(document(quality={"integer": 40.0}), finetuning=tuned))
    assert text.endswith("; give more bits, or fine-tune for more epochs or on more data")


def test_a_fall_at_8_bits_points_at_the_data():
    (text,) = falls(document(quality={"integer": 40.0}, sizes={"mean_bits": 8.0}))
    assert text.endswith("so check that calibration data are like these") and "more" not in text


def test_frozen_states_at_8_bits_point_at_the_data():
    rows = [{"layer": "/gru", "units": 3, "of": 64, "bits": bits} for bits in (4, 8, 16)]
    narrow, byte, wide = stuck(document(stuck_states=rows))
    for text in (narrow, byte, wide):
        assert text.startswith("3 of 64 units of /gru are frozen: their quantised state never")
    assert "give more bits to what writes the state, and to what that adds up; " in narrow
    for text in (narrow, byte):
        assert text.endswith("--wide-states gives 16 to states that every step adds to")
    assert wide.endswith("check that calibration and validation data are scaled alike")
    assert "more bits" not in byte + wide and "--wide-states" not in wide


def test_random_input_comes_first():
    rows = [{"layer": "/gru", "units": 3, "of": 64, "bits": 2}]
    found = remarks(document(quality={"integer": 20.0}, stuck_states=rows, random_input=True))
    assert found[0] == RANDOM and "falls from" in found[1] and "frozen" in found[2]


def test_validation_figures_of_a_search_are_optimistic():
    assert optimistic(document()) is None
    assert "hold-out data were not used" in str(optimistic(document(search=SEARCH)))
    assert "give --holdout" in str(optimistic(document(search=SEARCH, role="validation")))


def test_figures_in_words():
    assert figure(None, "dB") == "exact" and figure(None, "%") == "-" and figure(1, "") == "1.00"
    assert between(None) == "-" and between([1, 2.5], "%") == "1.00 to 2.50 %"
    assert counted(Quality(1.0, 1.0, 1, 1)) == "1 sequence"
    assert counted(Quality(1.0, 1.0, 20, 2000)) == "20 sequences, 2,000 frames"


def test_glitches_name_frames_and_how_many_there_are():
    entry = {"source": "a.npz", "input": "x", "count": 9, "recordings": 1, "recording": 2,
             "position": [40], "frames": True, "value": -500.0, "limit": 4.25,
             "done": "judged"}  # fmt: skip
    assert glitches([read(Outlier, entry)]) == [
        "a.npz: input 'x' holds an outlier, 9 values of up to -500 in recording 2, frame 40 "
        "(numbers start at 0), while all others are within 4.25; figures count it as it is; "
        "correct or remove the recording"
    ]
    assert remarks(document(glitches=[entry], quality={"integer": 20.0}))[0].startswith("a.npz: ")


@pytest.mark.parametrize(
    ("unit", "target", "before", "after", "said"),
    [
        (
            "dB",
            "reference",
            8.4,
            27.2,
            "with --input-bits 16 SQNR on validation data is 27.20 dB instead of 8.40 dB",
        ),
        ("dB", "reference", 8.4, 11.3, ""),
        ("%", "labels", 80.0, 90.0, "16 accuracy on validation data is 90.00 % instead of 80.00 %"),
        ("%", "labels", 80.0, 86.0, ""),
        ("%", "labels", 99.0, 98.9, ""),
        ("", "labels", 5.0, 1.0, ""),
    ],
)
def test_coarse_inputs_are_remarked(unit, target, before, after, said):
    """With half of the loss to the float model, 97.56 here, or 3 dB."""
    wide = {"validation": after, "before": before}
    quality = {"integer": before} if unit else {"float": 9.0, "integer": before}
    found = document(unit, role="validation", target=target, quality=quality, wide_inputs=wide)
    text = coarse(found)
    assert bool(text) == bool(said)
    if text is not None:
        assert text.startswith("the rounding of what layers read loses the most: ") and said in text
    states = {**wide, "validation": 100.0, "layers": ["/a", "/b", "/c"], "flash": 22, "ram": 800}
    found = replace(found, wide_states=read(Widened, states))
    text = coarse(found)
    assert text is not None and remarks(found)[0].endswith(text)
    assert "of the states of /a and /b and 1 other layer loses the most: with --wide-states" in text
    assert text.endswith("for 22 bytes of flash and 800 bytes of RAM")
