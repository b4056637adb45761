"""A hundred damaged models and data; `python -m benchmarks.fuzz` runs as many as are wanted."""

from pathlib import Path

import pytest

from benchmarks import damage, fuzz

pytestmark = pytest.mark.slow

COUNT, TOGETHER = 100, 25


@pytest.mark.parametrize("first", range(0, COUNT, TOGETHER))
def test_a_clear_error_or_a_right_result(tmp_path: Path, first: int) -> None:
    endings = set()
    for number in range(first, first + TOGETHER):
        place = tmp_path / str(number)
        place.mkdir()
        case = fuzz.run(number, 0, place)
        assert case.failure == "", case
        endings.add(case.ending)
    assert endings == {"refused", "done"}


def test_the_fuzzer_sees_wrong_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is damaged, everything is done; a spoiled file is found, and what is left."""
    import numpy as np

    generator = np.random.default_rng(3)
    (tmp_path / "m.onnx").write_bytes(damage.valid_model(generator).SerializeToString())
    np.savez(tmp_path / "m.calibration.npz", **damage.valid_data(generator))
    assert fuzz.examine(tmp_path, []) == ("", "done")
    golden = tmp_path / "out" / "test_data_set_0" / "output_0.pb"
    content = bytearray(golden.read_bytes())
    content[-1] ^= 0x40
    golden.write_bytes(content)
    assert "is not the golden one" in fuzz._wrong_result(tmp_path / "out")
    assert fuzz.examine(tmp_path, [])[0] == "something is left behind"  # the folder of before
    monkeypatch.setattr(fuzz, "onnxgru", lambda _arguments: 1 / 0)
    assert fuzz.examine(tmp_path, [])[0].startswith("traceback: ZeroDivisionError")
