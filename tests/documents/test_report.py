"""``report.json`` as work on a folder goes on from it."""

import pytest

from onnxgru.core.errors import SchemeError
from onnxgru.documents.report import Report, Source, Tuned

DOCUMENT = {
    "model": {"path": "m.onnx", "sha256": "ab"},
    "data": {"validation": {"source": "v.npz", "sequences": 3, "sha256": "cd"}},
    "config": {"seed": 1},
    "versions": {"onnxgru": "0.6.0"},
}
SEARCH = {"max_drop": 0.5, "chosen": {"index": 3}, "first_choice": 3}


def test_what_a_report_holds() -> None:
    found = Report.parse(DOCUMENT)
    assert found.model == Source("m.onnx", "ab")
    assert found.data == {"validation": Source("v.npz", "cd")}
    assert found.search is None and found.outdated is None
    assert found.document is DOCUMENT


def test_a_search_in_a_report() -> None:
    tuned = {"sha256": "ef", "settings": {"epochs": 2}}
    search = Report.parse({**DOCUMENT, "search": {**SEARCH, "finetuning": tuned}}).search
    assert search is not None
    assert search.finetuning == Tuned("ef", {"epochs": 2})
    assert search.chosen(4) == {**SEARCH, "finetuning": tuned, "first_choice": 4}
    plain = Report.parse({**DOCUMENT, "search": SEARCH}).search
    assert plain is not None and plain.finetuning is None and plain.max_drop == 0.5


def test_what_an_early_version_wrote_is_outdated() -> None:
    found = Report.parse({**DOCUMENT, "versions": {"onnxgru": "0.1.2"}})
    assert found.outdated is not None
    assert found.outdated.startswith("was made by onnxgru 0.1.2, whose weights of 2 bits had three")


def test_a_report_of_another_version_is_refused() -> None:
    with pytest.raises(SchemeError, match=r"^x: must be a report that this version wrote, but 'pa"):
        Report.parse({**DOCUMENT, "model": {}}, "x")
