"""``report.json`` as work on a folder goes on from it."""

import pytest

from onnxgru.core.errors import SchemeError
from onnxgru.documents.report import CandidateTuning, ModelFile, Report, Source

DOCUMENT = {
    "model": {"path": "m.onnx", "sha256": "ab"},
    "data": {"validation": {"source": "v.npz", "sequences": 3, "sha256": "cd"}},
    "config": {"seed": 1},
    "versions": {"onnxgru": "0.6.0"},
}
SIZES = {"flash_bytes": 7, "weight_bits": 8, "mean_bits": 2.5, "accumulator_bits": 20, "bitops": 9}
SEARCH = {
    "evaluations": 40, "members": 5, "max_drop": 0.5, "within": True,
    "objectives": {"flash_bytes": "flash bytes"}, "size": "flash_bytes", "first_choice": 3,
    "chosen": {"index": 3, **SIZES, "validation": 97.5, "validation_interval": [96.0, 98.5]},
    "uniform_8": {"bits": 8, **SIZES, "validation": 98.0},
}  # fmt: skip


def test_what_a_report_holds() -> None:
    found = Report.parse(DOCUMENT)
    assert found.model == ModelFile("m.onnx", "ab")
    assert found.data == {"validation": Source("v.npz", "cd", 3)}
    assert found.search is None and found.outdated is None
    assert found.document is DOCUMENT


def test_a_search_in_a_report() -> None:
    tuned = {"sha256": "ef", "settings": {"epochs": 2}}
    search = Report.parse({**DOCUMENT, "search": {**SEARCH, "finetuning": tuned}}).search
    assert search is not None
    assert search.finetuning == CandidateTuning("ef", {"epochs": 2})
    assert search.rewritten(4) == {**SEARCH, "finetuning": tuned, "first_choice": 4}
    plain = Report.parse({**DOCUMENT, "search": SEARCH}).search
    assert plain is not None and plain.finetuning is None and plain.max_drop == 0.5
    assert (plain.chosen.index, plain.chosen.validation_interval) == (3, (96.0, 98.5))
    assert plain.uniform_8.bits == 8 and plain.uniform_8.holdout is None


def test_what_an_early_version_wrote_is_outdated() -> None:
    found = Report.parse({**DOCUMENT, "versions": {"onnxgru": "0.1.2"}})
    assert found.outdated is not None
    assert found.outdated.startswith("was made by onnxgru 0.1.2, whose weights of 2 bits had three")


def test_a_report_of_another_version_is_refused() -> None:
    with pytest.raises(SchemeError, match=r"^x: must be a report that this version wrote, but 'pa"):
        Report.parse({**DOCUMENT, "model": {}}, "x")
    with pytest.raises(SchemeError, match=r"but 3, which must be an object, is wrong with it"):
        Report.parse({**DOCUMENT, "model": 3})
    with pytest.raises(SchemeError, match=r"but 'x', which must be a list, is wrong with it"):
        Report.parse({**DOCUMENT, "operators": "x"})


def test_entries_that_are_missing_or_unknown() -> None:
    """Those of early versions have defaults; those of later ones are left out."""
    quality = {"float": 98.0, "integer": 97.5, "later": 1}
    found = Report.parse({**DOCUMENT, "quality": {"holdout": quality}, "later": {}})
    assert found.quality["holdout"].float_model == 98.0
    assert found.quality["holdout"].integer_interval is None
    assert found.operators == () and found.verification is None and found.sizes.flash == {}
