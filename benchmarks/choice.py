"""How the member of a front is chosen: its drop on hold-out data, by two rules, over many seeds.

The search runs at its defaults on the shipped model. Both rules take the fewest flash bytes at no
more than 0.5 points below a figure on validation data: that of uniform 8 bits, or the best found,
which is the rule of the tool. Only the seed changes.

    python -m benchmarks.choice [--quick] [--json FILE]
"""

import tempfile
from pathlib import Path
from typing import Any

import onnxgru
from benchmarks.measure import arguments, show

MODEL = Path(__file__).resolve().parent.parent / "models" / "digits_row.onnx"
DROP = 0.5


def by_uniform(front: dict[str, Any]) -> dict[str, Any]:
    """The smallest member near uniform 8 bits."""
    floor = front["uniform"][0]["validation"] - DROP
    fitting = [m for m in front["members"] if m["validation"] >= floor]
    return min(fitting, key=lambda m: (m["flash_bytes"], -m["validation"]))


def main() -> None:
    """Measure and print."""
    parsed = arguments(__doc__)
    seeds = range(1 if parsed.quick else 24)
    spent: dict[str, Any] = {"population": 20, "generations": 6} if parsed.quick else {}
    found: dict[str, list[tuple[float, float]]] = {"best found": [], "uniform 8 bits": []}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            config = onnxgru.Config(search=True, seed=seed, output=Path(folder) / "out", **spent)
            front = onnxgru.quantize(MODEL, config).front
        assert front is not None
        uniform = front["uniform"][0]
        for rule, member in (
            ("best found", front["members"][front["chosen"]]),
            ("uniform 8 bits", by_uniform(front)),
        ):
            drop = uniform["holdout"] - member["holdout"]
            found[rule].append((drop, 100 * member["flash_bytes"] / uniform["flash_bytes"]))
    figures: dict[str, float | str] = {"seeds": len(seeds)}
    for rule, pairs in found.items():
        drops, shares = zip(*pairs, strict=True)
        figures[f"hold-out drop, worst, points (near {rule})"] = max(drops)
        figures[f"hold-out drop, mean, points (near {rule})"] = sum(drops) / len(drops)
        figures[f"more than 1 point, seeds (near {rule})"] = sum(d > 1 for d in drops)
        figures[f"flash, mean, % of uniform 8 bits (near {rule})"] = sum(shares) / len(shares)
    show(figures, parsed)


if __name__ == "__main__":
    main()
