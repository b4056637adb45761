"""What the published study measured: `docs/results.md` and its figures.

    python -m benchmarks.results

Nothing is computed here that is not in ``benchmarks/results``; a test holds the page to it.
"""

import json
import math
import statistics
from pathlib import Path
from typing import Any

from benchmarks.draws import METHODS
from benchmarks.published import DEFAULT_SEQUENCES, SHOWN_GENERATIONS, USUAL, interval
from onnxgru.passes import RANGES

ROOT = Path(__file__).parent.parent
STORED = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"

TITLES = {
    "digits-row": "Handwritten digits, 8 steps of 8 pixels, 64 units",
    "mnist-row": "MNIST row-wise, 28 steps of 28 pixels, 128 units",
    "mnist-pixel": "MNIST pixel-wise, 361 steps of one pixel, 128 units",
    "speech-4": "Speech Commands, 4 keywords, 63 steps of 40 mel features, 128 units",
    "speech-10": "Speech Commands, 10 keywords, 63 steps of 40 mel features, 128 units",
    "vowels": "A fresh task: Japanese Vowels, 9 speakers, 29 steps of 12 coefficients, 64 units",
}

EIGHT = "uniform 8"
"""Name of that scheme beside those of the seeds."""

TITLE = "# Results on the published tasks, and on a fresh one"

NOTES = """\
All figures are on hold-out data and are means over seeds. The interval is Student's t at 95 %
of the paired differences between ours and uniform 8 bits, both fine-tuned.

**Hold-out figures here are slightly optimistic.** The settings of fine-tuning (epochs, copies,
batch size, learning rate, averaging, loss, the rule for the epoch that is kept, the teacher's
epochs) were chosen while looking at hold-out accuracy of the keywords and of both MNIST tasks,
for ours and for uniform widths alike. The digits were not used for that. Widths, members and
epochs were chosen on validation data alone.

**One task is fresh.** *vowels* came after every setting (`benchmarks/fresh.py`): nobody tuned
anything to it, and it was run once. The settings are those of the digits, the other small task,
with epochs for as many steps. The task is easy: weights of 2 bits lose nothing, and the published
search does as well as ours. So it confirms the size and the accuracy, and says nothing of which
search is better.

The hold-out data of the keywords are few: one sequence is 0.17 points of ten keywords and 0.40
points of four. On ten keywords uniform 8 bits, which only rounds the float model, is 0.66
points above it.

## What was compared

All tasks but *vowels* are those of Miccini et al. 2024 ([arXiv
2402.12263](https://arxiv.org/abs/2402.12263)), with the models of this repository (`onnxgru
zoo`). The paper reports 25 to 55 % fewer weight bits than uniform 8 bits at its accuracy, and
on ten keywords an accuracy 17 % lower. It has models and splits of its own, so its figures are
no measurements of ours.

- *uniform N*: weights and outputs at N bits, weights rounded to nearest, plain ranges, as is
  usual.
- *published search*: one gene per operator, random start, plain NSGA-II over error and weight
  bits, weights rounded to nearest, plain ranges. Chosen is the smallest member within half a
  point of uniform 8 bits on validation. It is fine-tuned on 10 % of the training data at a
  learning rate of 1e-5.
- *ours*: the default search with `--ranges aligned`. Candidates are its members of at most 2.24
  bits per weight and 40 % of the flash of uniform 8 bits, within a point of the best of them on
  validation. Chosen is the one nearest to the float model's outputs. `onnxgru pick --widen`
  spends the bytes left on wider operators. It is fine-tuned with the data, epochs, learning
  rate and loss of the uniform widths.

With `--teacher-epochs N`, an 8-bit teacher is trained for N epochs first. Otherwise, and for
uniform widths, the float model teaches. The teacher's epochs were chosen on ten keywords and
pixel-wise MNIST. Training data are those of the recipes; small sets are enlarged with augmented
copies. The epoch that is kept is the last within a standard error of the best.

A change of onnxgru is measured again only where it changes figures: every entry in
`benchmarks/results` names its version. On the digits everything was measured again, and the
entries that no change touches came out the same.
"""

DRAWS = """\
## Rounding, over draws of the calibration data

One calibration set cannot tell which of two rounding methods is better. So each model was also
calibrated on random halves of its recordings, with weights of 2 and 3 bits, outputs of 8 bits,
plain ranges and no fine-tuning:

`python -m benchmarks.draws --task TASK --models FOLDER --study benchmarks/results/draws/TASK.json`

The table has means over the draws, on the same hold-out data: accuracy and, in brackets,
cross-entropy in nats. Differences are GPTQ minus nearest, with their 95 % interval over the
draws; the interval says nothing of other hold-out data. Cross-entropy weighs every sequence,
and shows differences that accuracy hides. *Alone* has everything but the weights in float;
rounding to nearest then depends on no recordings. Weights alone cost pixel-wise MNIST little:
its loss comes from rounding outputs, 361 times in sequence.
"""

TODAY = """\
## Flash of today

Everything above and below was measured with the version that it names: with four bytes per
bias and two per multiplier. Today both are narrower where that costs at most a part of a code.
So the schemes of *ours* were lowered again, without fine-tuning:

`python -m benchmarks.again --models FOLDER --tasks TASK`

*Then* is what the other tables say. Accuracy and SQNR of the outputs are on hold-out data, with
exact biases and multipliers and with those of today, means over the schemes of all seeds. *Then*
and *exact* differ by everything else that has changed since, such as the choice of ranges. The
fine-tuned weights were not stored. So accuracy after fine-tuning is known of the former versions
only. *vowels* was not lowered again.
"""


def stored() -> dict[str, dict[str, Any]]:
    """What was measured, by task, in the order of the page."""
    return {
        task: json.loads((STORED / f"{task}.json").read_text("utf-8"))
        for task in TITLES
        if (STORED / f"{task}.json").is_file()
    }


def page(found: dict[str, dict[str, Any]]) -> str:
    """The text of the page."""
    return "\n".join(
        [
            TITLE,
            "",
            *_summary(found),
            NOTES,
            *_narrow(found),
            *_ranges(found),
            *_draws(found),
            *_today(found),
            *(line for t, d in found.items() for line in _task(t, d)),
        ]
    )


def _seeds(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for _, entry in sorted(document["seeds"].items())]


def _means(document: dict[str, Any], name: str, key: str) -> float:
    return statistics.fmean(float(entry[name][key]) for entry in _seeds(document))


def _difference(document: dict[str, Any]) -> tuple[float, float]:
    return interval(
        [e["ours"]["holdout"] - e["uniform_8_tuned"]["holdout"] for e in _seeds(document)]
    )


def _smaller(document: dict[str, Any], name: str, key: str) -> float:
    """Percent below uniform 8 bits."""
    return 100 * (1 - _means(document, name, key) / document["uniform"]["8"][key])


def _span(values: list[float], digits: int) -> str:
    """From the least to the largest."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def _summary(found: dict[str, dict[str, Any]]) -> list[str]:
    """What came out: a sentence and a table."""
    apart = [_difference(document)[0] for document in found.values()]
    bits = [_means(document, "ours", "mean_bits") for document in found.values()]
    flash = [_smaller(document, "ours", "flash_bytes") for document in found.values()]
    lines = [
        f"After fine-tuning, onnxgru's schemes have {_span(bits, 1)} bits per weight and take "
        f"{_span(flash, 0)} % less flash",
        "than uniform 8 bits. Their accuracy differs from that of uniform 8 bits by "
        f"{min(apart):+.2f} to {max(apart):+.2f} points.",
        "",
        "| task | seeds | float | uniform 8, fine-tuned | ours, fine-tuned | difference, points "
        "| weight bits saved | flash saved | published search, fine-tuned |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for task, document in found.items():
        mean, half = _difference(document)
        published = statistics.fmean(e["published"]["tuned"]["holdout"] for e in _seeds(document))
        lines.append(
            f"| {task} | {len(_seeds(document))} | {document['float']['holdout']:.2f} % "
            f"| {_means(document, 'uniform_8_tuned', 'holdout'):.2f} % "
            f"| {_means(document, 'ours', 'holdout'):.2f} % | {mean:+.2f} {_plus_minus(half)} "
            f"| {_smaller(document, 'ours', 'weight_bits'):.1f} % "
            f"| {_smaller(document, 'ours', 'flash_bytes'):.1f} % "
            f"| {published:.2f} % at "
            f"{_smaller(document, 'published', 'weight_bits'):.1f} % fewer weight bits |"
        )
    return [*lines, ""]


def _narrow(found: dict[str, dict[str, Any]]) -> list[str]:
    """Weights of 2 and 3 bits."""
    lines = [
        "## Weights of 2 and 3 bits",
        "",
        "Outputs have 8 bits. Weights are rounded to nearest, by GPTQ, or to nearest and then",
        "fine-tuned: the mean over seeds, or seed 0 with `--narrow-seeds 1`. In brackets: SQNR",
        "of the model's outputs to the float model's. The last two columns have weights of 2",
        "bits with outputs of 5 bits: by GPTQ, and fine-tuned with the scales of both, seed 0.",
        "",
        "| task | 2 bits, nearest | GPTQ | fine-tuned | 3 bits, nearest | GPTQ | fine-tuned "
        "| 2 and 5, GPTQ | fine-tuned |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for task, document in found.items():
        figures = []
        for arms in (document["narrow"][bits] for bits in ("2", "3")):
            figures += [
                f"{arms[method]['holdout']:.2f} % ({arms[method]['sqnr']:.1f} dB)"
                for method in ("nearest", "gptq")
            ]
            mean = statistics.fmean(entry["holdout"] for entry in arms["tuned"].values())
            figures.append(f"{mean:.2f} %")
        figures += [f"{document['five'][key]:.2f} %" for key in ("before", "holdout")]
        lines.append(f"| {task} | {' | '.join(figures)} |")
    return [*lines, ""]


def _ranges(found: dict[str, dict[str, Any]]) -> list[str]:
    """What kinds of ranges gain."""
    lines = [
        "## Ranges",
        "",
        "Weights have 8 or 2 bits and are rounded by GPTQ; outputs have 8 bits; nothing is",
        "fine-tuned. The last column is uniform 8 bits, rounded to nearest with aligned ranges",
        "and fine-tuned, with as many seeds as the narrow weights.",
        "",
        "| task | 8 bits, plain | saturating | aligned | 2 bits, plain | saturating | aligned "
        "| uniform 8, aligned, fine-tuned |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for task, document in found.items():
        figures = [
            f"{arm['holdout']:.2f} % ({arm['sqnr']:.1f} dB)"
            for bits in ("8", "2")
            for arm in (document["ranges"][bits][ranges] for ranges in RANGES)
        ]
        mean = statistics.fmean(entry["holdout"] for entry in document["aligned"].values())
        lines.append(f"| {task} | {' | '.join(figures)} | {mean:.2f} % |")
    return [*lines, ""]


def _draws(found: dict[str, dict[str, Any]]) -> list[str]:
    """Rounding to nearest beside GPTQ, over draws of the calibration recordings."""
    lines = [
        DRAWS,
        "| task | draws | bits | nearest | GPTQ | difference, points | in cross-entropy "
        "| alone, nearest | GPTQ |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for task in found:
        path = STORED / "draws" / f"{task}.json"
        if not path.is_file():
            continue
        document = json.loads(path.read_text("utf-8"))
        for bits, methods in sorted(document["weights"].items()):
            draws = sorted(methods["gptq"])
            nearest, gptq = ([methods[method][draw] for draw in draws] for method in METHODS)
            points, nats = (
                interval([b[key] - a[key] for a, b in zip(nearest, gptq, strict=True)])
                for key in ("holdout", "entropy")
            )
            figures = [_mean_of(nearest), _mean_of(gptq)]
            figures.append(f"{points[0]:+.2f} {_plus_minus(points[1])}")
            figures.append(f"{nats[0]:+.4f} {_plus_minus(nats[1], 4)}")
            figures += [_mean_of([row["alone"] for row in rows]) for rows in (nearest, gptq)]
            lines.append(f"| {task} | {len(gptq)} | {bits} | {' | '.join(figures)} |")
    return [*lines, ""]


def _today(found: dict[str, dict[str, Any]]) -> list[str]:
    """Flash of the stored schemes by the rules of today."""
    lines = [
        TODAY,
        "| task | ours, flash in bytes: then | today | uniform 8: then | today | flash saved "
        "today | accuracy of ours: then | exact | today | SQNR, exact | today |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for task, document in found.items():
        if "today" not in document:
            continue
        rows = dict(document["today"]["schemes"])
        eight = rows.pop(EIGHT)["now"]["flash_bytes"]

        def mean(name: str, key: str, rows: dict[str, Any] = rows) -> float:
            return statistics.fmean(row[name][key] for row in rows.values())

        flash = mean("now", "flash_bytes")
        figures = [
            f"{_means(document, 'ours', 'flash_bytes'):,.0f}", f"{flash:,.0f}",
            f"{document['uniform']['8']['flash_bytes']:,}", f"{eight:,}",
            f"{100 * (1 - flash / eight):.1f} %",
            f"{_means(document, 'ours', 'before'):.2f} %",
            *(f"{mean(name, 'holdout'):.2f} %" for name in ("exact", "now")),
            *(f"{mean(name, 'sqnr'):.2f} dB" for name in ("exact", "now")),
        ]  # fmt: skip
        lines.append(f"| {task} | {' | '.join(figures)} |")
    return [*lines, ""]


def _mean_of(rows: list[dict[str, Any]]) -> str:
    """Mean accuracy and cross-entropy."""
    accuracy, entropy = (
        statistics.fmean(row[key] for row in rows) for key in ("holdout", "entropy")
    )
    return f"{accuracy:.2f} % ({entropy:.4f})"


def _versions(document: dict[str, Any]) -> str:
    """Of the pieces that are ours."""
    return ", ".join(sorted({entry["ours"]["onnxgru"] for entry in _seeds(document)}))


def _plus_minus(half: float, digits: int = 2) -> str:
    return "" if math.isnan(half) else f"± {half:.{digits}f}"


def _task(task: str, document: dict[str, Any]) -> list[str]:
    used = document["command"]
    narrow = used["narrow_seeds"]
    command = (
        f"python -m benchmarks.published --task {task} --seeds {used['seeds']} --epochs "
        f"{used['epochs']} --batch-size {used['batch_size']} --learning-rate "
        f"{used['learning_rate']:g}"
        + (f" --sequences {used['sequences']}" if used["sequences"] > DEFAULT_SEQUENCES else "")
        + "".join(
            f" --{name.replace('_', '-')} {used[name]}"
            for name in ("averaging", "distillation", "teacher_epochs", "learned_scales")
            if used[name] != getattr(USUAL, name)
        )
        + (f" --copies {used['copies']}" if used["copies"] > 1 else "")
        + (f" --validation {used['validation']}" if used["validation"] else "")
        + (f" --narrow-seeds {narrow}" if narrow != used["seeds"] else "")
    )
    lines = [
        f"## {TITLES[task]}",
        "",
        f"`{command} --models FOLDER --study benchmarks/results/{task}.json`, seeds 0 to "
        f"{used['seeds'] - 1}, {used['sequences']:,} training sequences; about "
        f"{document['seconds'] / 60:.0f} minutes of a core ({used['machine']}), the other one busy "
        f"too; *ours* with onnxgru {_versions(document)}.",
        "",
        f"![Accuracy on validation against weight bits](results-{task}.png)",
        "",
        "| | after training | fine-tuned | bits per weight | flash, bytes |",
        "|---|---:|---:|---:|---:|",
        f"| float | {document['float']['holdout']:.2f} % | | 32 | |",
    ]
    eight = {"holdout": _means(document, "uniform_8_tuned", "holdout")}
    tuned = document["tuned"] | {"8": eight}
    for bits, entry in sorted(document["uniform"].items(), reverse=True):
        name = f"uniform {bits}" + (", mean over seeds" if bits == "8" else "")
        lines.append(_row(name, entry, entry["holdout"], tuned.get(bits)))
    for seed, entry in enumerate(_seeds(document)):
        row = entry["published"]
        lines.append(_row(f"published search, seed {seed}", row, row["holdout"], row["tuned"]))
    for seed, entry in enumerate(_seeds(document)):
        row = entry["ours"]
        lines.append(_row(f"**ours, seed {seed}**", row, row["before"], row))
    return [*lines, ""]


def _row(name: str, sizes: dict[str, Any], before: float, tuned: dict[str, Any] | None) -> str:
    after = "" if tuned is None else f"{tuned['holdout']:.2f} %"
    return (
        f"| {name} | {before:.2f} % | {after} | {sizes['mean_bits']:.2f} "
        f"| {sizes['flash_bytes']:,} |"
    )


def draw(task: str, document: dict[str, Any]) -> None:
    """The fronts: homogeneous, the published search as it went on, and ours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    growth = document["seeds"]["0"]["published"]["growth"]
    for place, generation in enumerate(SHOWN_GENERATIONS):
        members = sorted((m[1] / 8000, 100 - m[0]) for m in growth.get(str(generation), []))
        if members:
            shade = str(0.85 - 0.5 * place / (len(SHOWN_GENERATIONS) - 1))
            name = f"published search, generation {generation}"
            axes.plot(*zip(*members, strict=True), ".-", color=shade, lw=1, label=name)
    uniform = [document["uniform"][bits] for bits in sorted(document["uniform"])]
    tuned = [document["tuned"][bits] for bits in sorted(document["tuned"])]
    tuned.append(document["seeds"]["0"]["uniform_8_tuned"])
    for rows, style, name in (
        (uniform, "s-C0", "homogeneous, 2 to 8 bits"),
        (tuned, "s:C0", "homogeneous, fine-tuned"),
        ([e["ours"] for e in _seeds(document)], "*C1", "ours, fine-tuned"),
    ):
        points = [(row["weight_bits"] / 8000, row["validation"]) for row in rows]
        hollow = {"markerfacecolor": "none"} if rows is tuned else {}
        axes.plot(*zip(*points, strict=True), style, label=name, **hollow)
    axes.set(xlabel="weights, kB", ylabel="accuracy on validation, %", title=TITLES[task])
    axes.set_ylim(bottom=min(uniform[2]["validation"], document["float"]["validation"] - 8))
    axes.set_ylim(top=document["float"]["validation"] + 1.5)
    axes.axhline(document["float"]["validation"], color="C2", lw=1, ls=":", label="float")
    axes.legend(fontsize=8)
    figure.savefig(PAGE.parent / f"results-{task}.png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def main() -> None:
    """Write the page and the figures."""
    found = stored()
    PAGE.write_text(page(found), "utf-8")
    for task, document in found.items():
        draw(task, document)


if __name__ == "__main__":
    main()
