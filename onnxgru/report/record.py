"""The report of a quantisation: figures as JSON, and the same for people to read."""

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy.typing as npt
import onnx

from onnxgru.core.cells import CELLS
from onnxgru.core.network import Layer
from onnxgru.core.program import IntegerProgram
from onnxgru.core.remarks import (
    TITLES,
    between,
    counted,
    figure,
    finite,
    judged_by,
    optimistic,
    points,
    remarks,
    signed,
    verdict,
)
from onnxgru.core.scheme import LinearScheme, Scheme
from onnxgru.cost.account import account
from onnxgru.data import intervals, metrics
from onnxgru.documents.report import FORMAT
from onnxgru.passes.states import recorded
from onnxgru.report import drift, eliminated, states
from onnxgru.runtime.observation import compare
from onnxgru.runtime.verify import Verification
from onnxgru.session import delta
from onnxgru.session.distance import distance
from onnxgru.session.session import Session

Array = npt.NDArray[Any]

_RANGES = {
    "plain": "plain ranges",
    "saturating": "saturating ranges where the observer is mse",
    "aligned": "saturating ranges where the observer is mse, summands of states on their grid",
}
PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "numpy", "pymoo")


@dataclass(frozen=True, eq=False)
class Written:
    """A quantised model and what was found out about it.

    Parameters
    ----------
    scheme : Scheme
        Widths.
    program : IntegerProgram
        What they were lowered to.
    integer, annotated : onnx.ModelProto
        The graphs.
    verification : Verification
        Of the integer graph.
    """

    scheme: Scheme
    program: IntegerProgram
    integer: onnx.ModelProto
    annotated: onnx.ModelProto
    verification: Verification


def _finite(value: float) -> float | None:
    """None for an infinite figure, which JSON cannot hold."""
    return None if math.isinf(value) else round(value, 4)


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    from onnxgru import __version__

    found = {"onnxgru": __version__, "python": platform.python_version()}
    return found | {name: version(name) for name in PACKAGES}


def build(
    session: Session,
    written: Written,
    file_bytes: Mapping[str, int],
    search: Mapping[str, Any] | None = None,
    tuning: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Figures of a quantised model.

    Parameters
    ----------
    session : Session
        The model and its data.
    written : Written
        The quantised model.
    file_bytes : mapping of str to int
        Size of every file written, by name.
    search : mapping, optional
        What a search adds.
    tuning : mapping, optional
        What fine-tuning adds.
    """
    program = written.program
    compared = compare(
        session.model.observation, session.model.host, program, session.data["validation"]
    )
    proofs = {proof.name: proof for proof in program.proofs()}
    operators = []
    for layer in session.model.layers:
        for operator in layer.operators:
            entry = written.scheme.operators[operator.name]
            row: dict[str, Any] = {
                "name": operator.name,
                "kind": operator.kind,
                "bits": entry.bits,
                "weight_bits": entry.weight_bits if isinstance(entry, LinearScheme) else None,
                "sqnr_db": _finite(compared.sqnr[operator.name]),
            }
            if operator.name in proofs:
                proof = proofs[operator.name]
                row["accumulator"] = {
                    "bits": proof.bits,
                    "minimum": proof.minimum,
                    "maximum": proof.maximum,
                }
            operators.append(row)
    roles = [role for role in ("holdout", "validation") if role in session.data]
    found = {role: session.yardstick.judge(role).outputs(program) for role in roles}
    document = {
        "format": FORMAT,
        "model": {
            "path": str(session.model.path.resolve()),
            "sha256": session.model.digest,
            "bytes": len(session.model.origin.content),
        },
        "random_input": session.data.synthetic,
        "glitches": session.examination.glitches,
        "metric": {
            "name": session.yardstick.metric.name,
            "unit": session.yardstick.metric.unit,
            "higher_is_better": session.yardstick.metric.higher_is_better,
            "target": session.yardstick.metric.target,
            "outputs": list(session.yardstick.choice.outputs),
            "reason": session.yardstick.choice.reason,
        },
        "quality": {role: _quality(session, role, found[role]) for role in roles},
        "outputs": _outputs(session, found["validation"]),
        "drift": drift.measure(
            session.model.host,
            session.data["validation"],
            session.yardstick.reference("validation"),
            found["validation"],
        ),
        "sizes": account(program).to_dict(),
        "files": dict(file_bytes),
        "operators": operators,
        "annotated_distance_codes": distance(
            session.emission,
            written.program,
            written.scheme,
            session.data["validation"],
            session.config.verify,
        ),
        "verification": {
            "runtime": f"onnxruntime {version('onnxruntime')}",
            "sequences": written.verification.sequences,
            "codes": written.verification.codes,
            "calls": written.verification.calls,
            "ties": written.verification.ties,
            "differences": 0,
        },
        "states": recorded(written.integer),
        "delta": delta.measure(session, written.scheme),
        "stuck_states": [
            {
                "layer": layer.name,
                "units": compared.stuck[layer.name],
                "of": _units(layer),
                "bits": min(written.scheme.operators[name].bits for name in _states(layer)),
            }
            for layer in session.model.layers
            if compared.stuck[layer.name]
        ],
        "layers": [
            {
                "name": layer.name,
                "node": layer.node,
                "cell": layer.cell.name,
                **({} if layer.cell.name in CELLS else {"table": layer.cell.to_dict()}),
                "recurrences": [recurrence.name for recurrence in layer.recurrences],
                "input_bits": written.scheme.inputs[layer.name].bits,
                **layer.attributes,
            }
            for layer in session.model.layers
        ],
        "left_in_float": [
            {"node": refusal.node, "reason": refusal.reason}
            for refusal in session.model.recognition.refusals
        ],
        "data": {
            role: asdict(description) for role, description in session.data.describe().items()
        },
        "config": {k: v for k, v in session.settings().items() if k not in ("force", "resume")},
        "seed": session.config.seed,
        "versions": versions(),
    }
    if search is not None:
        document["search"] = dict(search)
    if tuning is not None:
        document["finetuning"] = dict(tuning)
    return document


def _quality(session: Session, role: str, outputs: Mapping[str, Array]) -> dict[str, Any]:
    """Figures of a role's data with what they rest on."""
    judge = session.yardstick.judge(role)
    before, after = (judge.estimate(one) for one in (session.yardstick.reference(role), outputs))
    apart = intervals.difference(judge.sums(outputs), judge.sums(session.yardstick.reference(role)))
    if session.yardstick.metric.target == "reference":  # the float model is what is compared with
        apart = None
    return {
        "float": _finite(before.figure),
        "integer": _finite(after.figure),
        "sequences": after.sequences,
        "counted": after.counted,
        "float_interval": None if apart is None else finite(before.interval),
        "integer_interval": finite(after.interval),
        "difference": None if apart is None else round(apart[0], 4),
        "difference_interval": None if apart is None else finite(apart[1]),
    }


def _outputs(session: Session, found: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Every output of the model on validation data, whether or not it is judged."""
    rows: list[dict[str, Any]] = []
    reference = session.yardstick.reference("validation")
    judge = session.yardstick.judge("validation")
    for output in session.yardstick.outputs:
        name, whole = output.name, metrics.holds_classes(found[output.name])
        row: dict[str, Any] = {
            "name": name,
            "reached": output.reached,
            "state": output.state,
            "judged": name in session.yardstick.choice.outputs,
            "metric": None,
            "unit": None,
            "float": None,
            "integer": None,
            "real": not whole,
            "sqnr_db": None if whole else _finite(metrics.sqnr(reference[name], found[name])),
        }
        if row["judged"]:
            metric, target = session.yardstick.metric, judge.targets[name]
        else:
            metric = metrics.METRICS["agreement" if whole else "sqnr"]
            target = reference[name]
        if output.reached or row["judged"]:
            row |= {"metric": metric.name, "unit": metric.unit}
            row["float"] = _finite(metric(reference[name], target))
            row["integer"] = _finite(metric(found[name], target))
        rows.append(row)
    return rows


def _states(layer: Layer) -> list[str]:
    """Operators that write what a layer emits: the sums and what they are sums of."""
    return [
        name
        for recurrence in layer.recurrences
        for name in (
            recurrence.emits,
            *(name for name, adder in recurrence.summands.items() if adder == recurrence.emits),
        )
    ]


def _units(layer: Layer) -> int:
    return len(layer.recurrences) * layer.hidden_size


def methods(document: Mapping[str, Any]) -> str:
    """How weights became integers, and how ranges were chosen."""
    config = document["config"]
    if "finetuning" in document:
        weights = "weights fine-tuned"
    elif config["weights_file"] is not None:
        weights = f"weights as {config['weights_file']} has them"
    else:
        weights = f"weights rounded by {config['rounding']}, biases "
        weights += "corrected" if config["bias_correction"] else "as they are"
    return f"{weights}; {_RANGES[config['ranges']]}"


def sizes_table(sizes: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of what a program costs."""
    flash = ", ".join(f"{role} {size:,}" for role, size in sizes["flash"].items())
    return [
        ("flash", f"{sizes['flash_bytes']:,} bytes ({flash})"),
        (
            "weights",
            f"{sizes['weight_bits']:,} bits, {sizes['mean_bits']:.2f} per weight, "
            f"{100 * sizes['reduction']:.1f} % less than float16",
        ),
        ("RAM per sequence", f"{sizes['ram']:,} bytes"),
        ("MACs per step", f"{sizes['macs']:,}"),
        ("widest accumulator", f"{sizes['accumulator_bits']} bits, proved"),
    ]


def markdown(document: Mapping[str, Any]) -> str:
    """The report for people."""
    unit = document["metric"]["unit"]
    lines = ["# Quantisation report", "", f"`{document['model']['path']}`", ""]
    lines += [line for text in remarks(document) for line in (f"**{text}.**", "")]
    lines += _quality_lines(document, unit)
    lines += ["", "| size | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in sizes_table(document["sizes"])]
    lines += [f"| {name} | {size:,} bytes |" for name, size in document["files"].items()]
    checked, distance = document["verification"], document["annotated_distance_codes"]
    lines += [
        "",
        f"Verified: `integer.onnx` equals the reference implementation bit for bit in "
        f"{checked['runtime']} ({checked['codes']:,} state codes of {checked['sequences']:,} "
        f"sequences). The annotated graph differs from it by {distance['mean']:g} codes on "
        f"average, {distance['max']} at most.",
    ]
    lines += states.ties(checked)
    if "search" in document:
        lines += ["", *_search_lines(document, unit)]
    if "finetuning" in document:
        lines += ["", *_tuning_lines(document["finetuning"], unit)]
    lines += [
        "",
        "## Operators",
        "",
        "| operator | bits | weight bits | SQNR, dB | accumulator bits |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in document["operators"]:
        accumulator = row.get("accumulator", {}).get("bits", "")
        sqnr = "exact" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}"
        weight = row["weight_bits"] or ""
        lines.append(f"| `{row['name']}` | {row['bits']} | {weight} | {sqnr} | {accumulator} |")
    lines += eliminated.lines(document)
    lines += states.table(document["states"])
    if document["left_in_float"]:
        lines += ["", "## Left in float", ""]
        lines += [f"- `{r['node']}`: {r['reason']}" for r in document["left_in_float"]]
    lines += ["", "## Made with", ""]
    lines += [f"- {name} {text}" for name, text in document["versions"].items()]
    lines += [
        f"- {methods(document)}",
        f"- seed {document['seed']}",
    ]
    lines += [
        f"- {TITLES[role]}: {entry['source']}, {entry['sequences']:,} sequences, SHA-256 "
        f"`{entry['sha256'][:16]}...`"
        for role, entry in document["data"].items()
    ]
    return "\n".join(lines) + "\n"


def _quality_lines(document: Mapping[str, Any], unit: str) -> list[str]:
    """Figures on hold-out data first, with their intervals, and every output of the model."""
    metric = document["metric"]
    lines = [
        f"| {metric['name']} | float | integer | 95 % interval | recordings |",
        "|---|---:|---:|---:|---:|",
    ]
    for role, quality in document["quality"].items():
        floats, integers = (figure(quality[kind], unit) for kind in ("float", "integer"))
        lines.append(
            f"| {TITLES[role]} | {floats} | {integers} | "
            f"{between(quality['integer_interval'], unit)} | {counted(quality)} |"
        )
    told = [verdict(document, role) for role in document["quality"]]
    told += [f"Judged: {judged(document)}", optimistic(document)]
    lines += [line for text in told if text is not None for line in ("", f"{text}.")]
    if len(document["outputs"]) > 1:
        lines += [
            "",
            "| output, on validation | judged | metric | float | integer | SQNR |",
            "|---|---|---|---:|---:|---:|",
        ]
        lines += [f"| {' | '.join(row)} |" for row in outputs_table(document)]
    return lines + drift.lines(document)


def outputs_table(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the model's outputs: name, whether it is judged, metric, figures."""
    rows = []
    for output in document["outputs"]:
        unit = output["unit"] or ""
        role = "yes" if output["judged"] else "state" if output["state"] else "no"
        if role == "no" and not output["reached"]:
            role = "no: no GRU reaches it"
        figures = ["-", "-"]
        if output["metric"] is not None:
            figures = [figure(output[kind], unit) for kind in ("float", "integer")]
        noise = "-" if output["real"] is False else "exact"
        shown = noise if output["sqnr_db"] is None else f"{output['sqnr_db']:.1f} dB"
        rows.append((output["name"], role, output["metric"] or "-", *figures, shown))
    return rows


def judged(document: Mapping[str, Any]) -> str:
    """Which outputs are judged, by what, and why, as a sentence without a full stop."""
    metric = document["metric"]
    other = "--metric sqnr" if metric["name"] == "agreement" else "--metric"
    return (
        f"{judged_by(document)}, because {metric['reason']}; choose others with "
        f"--output-name and {other}"
    )


def _search_lines(document: Mapping[str, Any], unit: str) -> list[str]:
    search = document["search"]
    chosen, uniform = search["chosen"], search["uniform_8"]
    share = 100 * chosen["flash_bytes"] / uniform["flash_bytes"]
    name = document["metric"]["name"]
    limit = f"{search['max_drop']:g} {points(unit)}".strip() + f" below the best validation {name}"
    titles = {"flash_bytes": "flash bytes", **search["objectives"]}
    size = titles[search["size"]]
    least = "smallest member" if search["size"] == "flash_bytes" else f"member of the least {size}"
    rule = (
        f"the {least} at most {limit}"
        if search["within"]
        else f"the most accurate member, because none is at most {limit}"
    )
    wide = uniform.get("accumulator_bits", 0)
    beyond = (
        f", with accumulators of {wide}" if wide > document["config"]["accumulator_bits"] else ""
    )
    return [
        "## Search",
        "",
        f"{search['evaluations']:,} schemes evaluated, {search['members']} on the front "
        f"(`front.csv`, `front.png`). {_choice(search, rule)}.",
        "",
        f"| | {' | '.join(titles.values())} | hold-out | validation |",
        "|---|" + "---:|" * (2 + len(titles)),
        *(
            f"| {name} | {' | '.join(f'{entry[key]:,}' for key in titles)} | "
            f"{figure(entry['holdout'], unit) if entry['holdout'] is not None else '-'} | "
            f"{figure(entry['validation'], unit)} |"
            for name, entry in (
                (f"chosen, number {chosen['index']}", chosen),
                (f"uniform 8 bits{beyond}", uniform),
            )
        ),
        "",
        f"The chosen scheme needs {share:.1f} % of uniform 8 bits' flash."
        + _on_holdout(search, unit),
    ]


def _choice(search: Mapping[str, Any], rule: str) -> str:
    """Why a member was chosen."""
    chosen, first = search["chosen"], search["first_choice"]
    if chosen["index"] == first:
        return f"Chosen: {rule}"
    picked = f"Picked: number {chosen['index']}"
    if "widened_from" in chosen:
        picked += (
            f", widened from number {chosen['widened_from']} by what was left of a limit of flash"
        )
    return f"{picked}. The search chose number {first}: {rule}"


def _tuning_lines(tuning: Mapping[str, Any], unit: str) -> list[str]:
    data, chosen = tuning["data"], tuning["chosen_epoch"]
    before, after = (
        figure(value, unit) for value in (tuning["before"], tuning["validation_by_epoch"][chosen])
    )
    taught = ""
    if (teacher := tuning.get("teacher")) is not None:
        best = figure(teacher["validation_by_epoch"][teacher["chosen_epoch"]], unit)
        taught = (
            " It started from, and was taught by, the model at 8 bits, fine-tuned before "
            f"(epochs: {teacher['epochs']}; {best} on validation)."
        )
    return [
        "## Fine-tuning",
        "",
        f"{tuning['epochs']} epochs over {data['sequences']:,} sequences of {data['source']}, "
        f"learning rate {tuning['learning_rate']:g}: on validation {before} before, {after} after "
        f"epoch {chosen}, which was kept.{taught} `finetuned.onnx` is the float model that the "
        "integers were rounded from.",
    ]


def _on_holdout(search: Mapping[str, Any], unit: str) -> str:
    """How the member chosen does where it was not chosen by."""
    chosen, uniform = search["chosen"]["holdout"], search["uniform_8"]["holdout"]
    if chosen is None or uniform is None:
        return ""
    side = "below" if chosen < uniform else "above"
    distance = figure(abs(chosen - uniform), points(unit))
    known = search.get("to_uniform_8")
    sure = ""
    if known is not None and known["index"] == search["chosen"]["index"] and known["holdout"]:
        sure = f" (95 % interval of the difference {signed(known['holdout'], unit)})"
    return (
        f" On hold-out data, which it was not chosen by, it is {distance} "
        f"{side} uniform 8 bits{sure}; a much larger drop than the allowed one means that there "
        "are too few validation data to tell schemes apart."
    )
