"""The report as text: ``report.md``, and sentences and tables that other views share with it."""

from onnxgru.documents.entries import Sizes
from onnxgru.documents.front import ALIKE, Metric
from onnxgru.documents.remarks import (
    TITLES,
    between,
    counted,
    figure,
    judged,
    optimistic,
    points,
    remarks,
    signed,
    verdict,
)
from onnxgru.documents.report import Report, Search, Training
from onnxgru.report import drift, eliminated, states

_RANGES = {
    "plain": "plain ranges",
    "saturating": "saturating ranges where the observer is mse",
    "aligned": "saturating ranges where the observer is mse, summands of states on their grid",
}


def methods(report: Report) -> str:
    """How weights became integers, and how ranges were chosen."""
    config = report.config
    if report.finetuning is not None:
        weights = "weights fine-tuned"
    elif config["weights_file"] is not None:
        weights = f"weights as {config['weights_file']} has them"
    else:
        weights = f"weights rounded by {config['rounding']}, biases "
        weights += "corrected" if config["bias_correction"] else "as they are"
    return f"{weights}; {_RANGES[config['ranges']]}"


def macs(all_layers: int, dense: int) -> str:
    """Multiply-accumulates per step, with those of dense layers where there are any."""
    text = f"{all_layers:,} MACs per step"
    if dense:
        text += f" ({dense:,} of dense layers, as if they ran at every step)"
    return text


def sizes_table(sizes: Sizes) -> list[tuple[str, str]]:
    """Rows of a table of sizes."""
    flash = ", ".join(f"{role} {size:,}" for role, size in sizes.flash.items())
    return [
        ("flash", f"{sizes.flash_bytes:,} bytes ({flash})"),
        (
            "weights",
            f"{sizes.weight_bits:,} bits, {sizes.mean_bits:.2f} per weight, "
            f"{100 * sizes.reduction:.1f} % less than float16",
        ),
        ("RAM per sequence", f"{sizes.ram:,} bytes"),
        ("MACs per step", macs(sizes.macs, sizes.dense_macs).replace(" MACs per step", "")),
        ("widest accumulator", f"{sizes.accumulator_bits} bits, proved"),
    ]


def markdown(report: Report) -> str:
    """Content of ``report.md``."""
    lines = ["# Quantisation report", "", f"`{report.model.path}`", ""]
    lines += [line for text in remarks(report) for line in (f"**{text}.**", "")]
    lines += _quality_lines(report)
    lines += ["", "## Sizes", "", "| size | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in sizes_table(report.sizes)]
    lines += [f"| {name} | {size:,} bytes |" for name, size in report.files.items()]
    lines += _checked_lines(report)
    if report.search is not None:
        lines += ["", *_search_lines(report, report.search)]
    if report.finetuning is not None:
        lines += ["", *_tuning_lines(report.finetuning, report.metric.unit)]
    lines += [
        "",
        "## Operators",
        "",
        "| operator | bits | weight bits | SQNR, dB | accumulator bits |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in report.operators:
        accumulator = "" if row.accumulator is None else row.accumulator.bits
        sqnr = "exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
        weight = row.weight_bits or ""
        bits = f"{row.bits}" if row.copy_bits is None else f"{row.bits}, copy {row.copy_bits}"
        lines.append(f"| `{row.name}` | {bits} | {weight} | {sqnr} | {accumulator} |")
    lines += eliminated.lines(report)
    lines += states.table(report.states)
    if report.left_in_float:
        lines += ["", "## Left in float", ""]
        lines += [f"- `{refused.node}`: {refused.reason}" for refused in report.left_in_float]
    lines += ["", "## Made with", ""]
    lines += [f"- {name} {text}" for name, text in report.versions.items()]
    lines += [f"- {methods(report)}", f"- seed {report.seed}"]
    lines += [
        f"- {TITLES[role]}: {entry.source}, {entry.sequences:,} sequences, SHA-256 "
        f"`{entry.sha256[:16]}...`"
        for role, entry in report.data.items()
    ]
    return "\n".join(lines) + "\n"


def _quality_lines(report: Report) -> list[str]:
    """Figures on hold-out data first, with their intervals, and every output of the model."""
    unit = report.metric.unit
    lines = [
        f"| {report.metric.title} | float | integer | 95 % interval | recordings |",
        "|---|---:|---:|---:|---:|",
    ]
    for role, quality in report.quality.items():
        floats, integers = (figure(one, unit) for one in (quality.float_model, quality.integer))
        lines.append(
            f"| {TITLES[role]} | {floats} | {integers} | "
            f"{between(quality.integer_interval, unit)} | {counted(quality)} |"
        )
    told = [verdict(report, role) for role in report.quality]
    told += [f"Judged: {judged(report)}", optimistic(report)]
    lines += [line for text in told if text is not None for line in ("", f"{text}.")]
    if len(report.outputs) > 1:
        lines += [
            "",
            "| output, on validation | judged | metric | float | integer | SQNR |",
            "|---|---|---|---:|---:|---:|",
        ]
        lines += [f"| {' | '.join(row)} |" for row in outputs_table(report)]
    return lines + drift.lines(report)


def outputs_table(report: Report) -> list[tuple[str, ...]]:
    """Rows of the model's outputs: name, whether it is judged, metric, figures."""
    rows = []
    for output in report.outputs:
        unit, metric = output.unit or "", output.metric
        role = "yes" if output.judged else "state" if output.state else "no"
        if role == "no" and not output.reached:
            role = "no: no layer reaches it"
        figures = ["-", "-"]
        if metric is not None:
            figures = [figure(one, unit) for one in (output.float_model, output.integer)]
        noise = "exact" if output.real else "-"
        shown = noise if output.sqnr_db is None else f"{output.sqnr_db:.1f} dB"
        rows.append((output.name, role, Metric(metric or "-", unit).title, *figures, shown))
    return rows


def _checked_lines(report: Report) -> list[str]:
    """Lines about the comparison with the reference implementation."""
    checked, distance = report.verification, report.distance
    if checked is None or distance is None:
        return []
    return [
        "",
        f"Verified: `integer.onnx` equals the reference implementation bit for bit in "
        f"{checked.runtime} ({checked.codes:,} state codes of {checked.sequences:,} "
        f"sequences). The annotated graph differs from it by {distance.mean:.2f} codes on "
        f"average, {distance.largest} at most.",
        *states.ties(checked),
    ]


def _search_lines(report: Report, search: Search) -> list[str]:
    chosen, uniform, metric = search.chosen, search.uniform_8, report.metric
    unit = metric.unit
    share = 100 * chosen.flash_bytes / uniform.flash_bytes
    limit = f"{search.max_drop:g} {points(unit)}".strip()
    limit += f" below the best validation {metric.title}"
    titles = {"flash_bytes": "flash bytes", **search.objectives}
    size = titles[search.size]
    least = "smallest member" if search.size == "flash_bytes" else f"member of the least {size}"
    rule = (
        f"the {least} at most {limit}, or a better one that is at most {100 * ALIKE:.0f} % larger"
        if search.within
        else f"the most accurate member, because none is at most {limit}"
    )
    wide = uniform.accumulator_bits
    beyond = f", with accumulators of {wide}" if wide > report.config["accumulator_bits"] else ""
    return [
        "## Search",
        "",
        f"{search.evaluations:,} schemes evaluated, {search.members} on the front "
        f"(`front.csv`, `front.png`). {_choice(search, rule)}.",
        "",
        f"| | {' | '.join(titles.values())} | hold-out | validation |",
        "|---|" + "---:|" * (2 + len(titles)),
        *(
            f"| {name} | {' | '.join(f'{getattr(entry, key):,}' for key in titles)} | "
            f"{figure(entry.holdout, unit) if entry.holdout is not None else '-'} | "
            f"{figure(entry.validation, unit)} |"
            for name, entry in (
                (f"chosen, number {chosen.index}", chosen),
                (f"uniform 8 bits{beyond}", uniform),
            )
        ),
        "",
        f"The chosen scheme needs {share:.1f} % of uniform 8 bits' flash."
        + _on_holdout(search, unit),
    ]


def _choice(search: Search, rule: str) -> str:
    """Why a member was chosen."""
    chosen, first = search.chosen, search.first_choice
    if chosen.index == first:
        return f"Chosen: {rule}"
    picked = f"Picked: number {chosen.index}"
    if chosen.widened_from is not None:
        picked += f", widened from number {chosen.widened_from} to use the flash that was left"
    return f"{picked}. The search chose number {first}: {rule}"


def tuned(training: Training, unit: str) -> str:
    """How a fine-tuning went, in one sentence without a full stop."""
    before, after = figure(training.before, unit), figure(training.figure, unit)
    return (
        f"{training.epochs} epoch{'s' * (training.epochs != 1)} over "
        f"{training.data.sequences:,} sequences of {training.data.source}, "
        f"learning rate {training.learning_rate:g}; on validation "
        f"{before} before, {after} after epoch {training.chosen_epoch}, which was kept"
    )


def _tuning_lines(training: Training, unit: str) -> list[str]:
    taught = ""
    if (teacher := training.teacher) is not None:
        taught = (
            " It started from the model at 8 bits, which was fine-tuned before (epochs: "
            f"{teacher.epochs}; {figure(teacher.figure, unit)} on validation) and was its teacher."
        )
    return [
        "## Fine-tuning",
        "",
        f"{tuned(training, unit)}.{taught} `finetuned.onnx` is the float model that the integers "
        "were rounded from.",
    ]


def _on_holdout(search: Search, unit: str) -> str:
    """A sentence that compares the chosen member with uniform 8 bits on hold-out data."""
    chosen, uniform = search.chosen.holdout, search.uniform_8.holdout
    if chosen is None or uniform is None:
        return ""
    distance = figure(abs(chosen - uniform), points(unit))
    place = f"{distance} {'below' if chosen < uniform else 'above'}"
    if chosen == uniform:
        place = "equal to"
    known = search.to_uniform_8
    sure = ""
    if known is not None and known.index == search.chosen.index and known.holdout is not None:
        sure = f" (95 % interval of the difference {signed(known.holdout, unit)})"
    sentence = f" On hold-out data, which it was not chosen by, it is {place} uniform 8 bits{sure}."
    if uniform - chosen > 2 * search.max_drop:
        sentence += (
            f" That is much more than the allowed {figure(search.max_drop, points(unit))}: there "
            "are too few validation data to tell schemes apart."
        )
    return sentence
