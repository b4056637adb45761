"""The benchmarks run in their quick form: what they compute is checked, not how long it takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import results

ROOT = Path(__file__).resolve().parent.parent


def figures(name: str, tmp_path: Path) -> dict[str, float | str]:
    target = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(target)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())
    printed = [line.split(": ", 1)[0] for line in done.stdout.splitlines()]
    assert printed == list(found)  # ``name: value`` lines
    return found


def test_evaluator(tmp_path: Path) -> None:
    found = figures("evaluator", tmp_path)
    assert found["equal to onnxruntime"] == "True"
    assert found["ratio to the plain way"] > 0


def test_population(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = figures("population", tmp_path)
    assert [v for k, v in found.items() if k.startswith("equal to the fused")] == ["True"] * 2


def test_scaling(tmp_path: Path) -> None:
    found = figures("scaling", tmp_path)
    assert found["memory for 10 times the candidates"] < 1.1
    assert found["memory of a search for 10 times the sequences"] < 1.2


def test_hypervolume(tmp_path: Path) -> None:
    found = figures("hypervolume", tmp_path)
    assert float(found["hypervolume after 40 (ours, median)"]) > float(
        found["hypervolume after 40 (random, median)"]
    )


def test_choice(tmp_path: Path) -> None:
    found = figures("choice", tmp_path)
    assert found["more than 1 point, seeds (near best found)"] == 0


def test_rounding(tmp_path: Path) -> None:
    found = figures("rounding", tmp_path)
    for bits in (2, 3):
        plain, gptq = (
            float(found[f"output, dB (weights {bits}, {n})"]) for n in ("nearest", "gptq")
        )
        assert gptq > plain + 5
    assert float(found["output, dB (outputs 3, saturating)"]) > float(
        found["output, dB (outputs 3, plain)"]
    )


def test_published(tmp_path: Path) -> None:
    found = figures("published", tmp_path)
    assert float(found["uniform 8 tuned, hold-out, mean"]) > 95
    assert float(found["published, bits a weight, mean"]) < 8
    assert float(found["ours, smaller than uniform 8 in weight bits, %"]) > 70


def test_the_page_of_results_holds_what_was_measured() -> None:
    assert results.PAGE.read_text("utf-8") == results.page(results.stored())
    for task in results.stored():
        assert (results.PAGE.parent / f"results-{task}.png").is_file()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks").glob("[a-z]*.py")), ids=lambda p: p.stem
)
def test_results_name_every_benchmark(path: Path) -> None:
    if path.stem not in ("measure", "results"):
        text = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
        assert f"python -m benchmarks.{path.stem}" in text
