"""What `benchmarks.published` and `benchmarks.draws` measured: `docs/results.md` and its figures.

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
}

HEAD = """# Results on the published tasks

**Hold-out figures here are slightly optimistic.** The settings of fine-tuning (epochs, copies,
batch size, learning rate, averaging, loss, which epoch is kept, the teacher's epochs) were chosen
while looking at hold-out accuracy of the keywords and of both MNIST tasks, for ours and for uniform
widths alike. The digits were not used for that. Widths and members were chosen on validation data
alone.

The tasks are those of Miccini et al. 2024 ([arXiv 2402.12263](https://arxiv.org/abs/2402.12263)),
with models of the zoo (`onnxgru zoo`). The paper reports 25 to 55 % fewer weight
bits than homogeneous 8 bits at its accuracy, and on ten keywords an accuracy 17 % lower; its models
and splits are its own, so its figures stand beside ours and are not measured here.

- *uniform N*: weights and outputs at N bits.
- *published search*: one gene an operator, random start, plain NSGA-II over error and weight bits;
  the smallest member within half a point of uniform 8 bits on validation; fine-tuned on 10 % of the
  training data at a learning rate of 1e-5.
- *ours*: the default search with `--ranges aligned`. Of its members of at most 2.24 bits a weight
  and 40 % of the flash of uniform 8 bits, and within a point of the best of them on validation, the
  one nearest to the float model's outputs; what it leaves of these limits spent on wider operators
  (`onnxgru pick --widen`); fine-tuned with the data, epochs, learning rate and loss of the uniform
  widths. With `--teacher-epochs N`, an 8-bit teacher is trained for N epochs first. Otherwise, and
  for uniform widths, the float model teaches. Weights of the uniform widths and the published
  search are rounded to nearest, and their ranges are plain, as is usual.

Training data are those of the recipes, where few with copies augmented as there. Members and epochs
are chosen on validation data; every figure below is on hold-out data, the mean over seeds. The
interval is Student's t at 95 % of the paired differences of ours and uniform 8 bits, fine-tuned.
The epoch that is kept is the last within a standard error of the best. The teacher's epochs were
chosen on ten keywords and pixel-wise MNIST. What a change of onnxgru does not touch was not
measured again: every piece in `benchmarks/results` names its version, and on the digits, measured
whole, those pieces came out the same. The hold-out data of the keywords are few: one sequence is
0.17 points of ten keywords and 0.40 of four. Uniform 8 bits, which only round the float model, are
0.66 points above it on ten.
"""

DRAWS = """\
One calibration set cannot tell which of two rounding methods is better. So each model was also
calibrated on random halves of its recordings, by `python -m benchmarks.draws --task TASK --models
FOLDER --study benchmarks/results/draws/TASK.json`: weights of 2 and 3 bits, outputs at 8 with plain
ranges, nothing fine-tuned. Accuracy and, in brackets, cross-entropy in nats, means over the draws,
all on the same hold-out data; differences of GPTQ to nearest with their 95 % interval over the
draws, which says nothing of other hold-out data. *Alone* is with everything but the weights in
float, where rounding to nearest depends on no recordings. Cross-entropy weighs every sequence, and
tells apart what accuracy does not. Weights alone cost pixel-wise MNIST little: it is the rounding
of outputs, 361 times over, that does.
"""

EARLIER = {
    "saturating": """## Earlier, with saturating ranges

The same commands with onnxgru before 0.5.0, whose ranges did not put on the state's grid what is
added up to it; pixel-wise MNIST in batches of 64, at a learning rate of 0.001 and without
averaging. Uniform widths are else not touched, and were not measured again.
""",
    "three-epochs": """## Earlier, the keywords with 3 epochs

The commands of 0.3.0: 3 epochs instead of 10, no teacher of 8 bits, and four keywords without
averaging. More epochs lift uniform 8 bits too.
""",
    "unwidened": """## Earlier, without widening

Members as the search found them, with nothing spent of what they left of the limits (0.2.0).
Pixel-wise MNIST was fine-tuned at a learning rate of 0.0005, half the loss from the float model
and scales of weights alone learned; otherwise the commands are the same. After fine-tuning,
widening makes no difference beyond chance; before it, it costs points at 361 steps.
""",
    "three-levels": """## Earlier, with three levels in 2 bits

The commands of 0.2.0 before weights of 2 bits had the levels -3, -1, 1, 3: then they were -1, 0, 1.
Uniform widths of 3 bits and more are not touched by it, and were not measured again.
""",
}
"""What was measured before, by folder."""


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
            HEAD,
            *_summary(found),
            *_draws(found),
            *(line for t, d in found.items() for line in _task(t, d)),
            *(line for folder, head in EARLIER.items() for line in _earlier(folder, head)),
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


def _summary(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "| task | seeds | float | uniform 8, fine-tuned | ours | difference, points "
        "| weight bits less | flash less | published search, fine-tuned |",
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
    lines += [
        "",
        "Weights at 2 and 3 bits with outputs at 8: rounded to nearest, by GPTQ, and to nearest",
        "and fine-tuned, the mean over seeds (with `--narrow-seeds 1` seed 0); in brackets the",
        "SQNR of the model's outputs to the float model's. Last, weights of 2 bits with outputs of",
        "5: by GPTQ, and fine-tuned with the scales of both, seed 0.",
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
    lines += [
        "",
        "What ranges are worth: weights of 8 and 2 bits by GPTQ, outputs at 8, after training",
        "only. Last, uniform 8 bits rounded to nearest with aligned ranges and fine-tuned, with as",
        "many seeds as the narrow weights.",
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
        "| | after training | fine-tuned | bits a weight | flash, bytes |",
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


def _earlier(folder: str, head: str) -> list[str]:
    """What was measured before, as one table."""
    lines = [
        head,
        "| task | uniform 8, fine-tuned | ours, after training | ours, fine-tuned "
        "| difference, points | weight bits less | weights 2, outputs 5, fine-tuned |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for path in sorted((STORED / folder).glob("*.json")):
        document = json.loads(path.read_text("utf-8"))
        mean, half = _difference(document)
        five = f"{document['five']['holdout']:.2f} %" if "five" in document else ""
        ours, eight = (_means(document, name, "holdout") for name in ("ours", "uniform_8_tuned"))
        lines.append(
            f"| {path.stem.replace('-without-', ', without ')} | {eight:.2f} % "
            f"| {_means(document, 'ours', 'before'):.2f} % | {ours:.2f} % "
            f"| {mean:+.2f} {_plus_minus(half)} "
            f"| {_smaller(document, 'ours', 'weight_bits'):.1f} % "
            f"| {five} |"
        )
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
