"""The figures of a quantised model, as the content of ``report.json``."""

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
from onnxgru.core.scheme import LinearScheme, Scheme
from onnxgru.cost.account import account
from onnxgru.data import intervals, metrics
from onnxgru.documents.remarks import finite
from onnxgru.documents.report import FORMAT
from onnxgru.passes.forms.states import recorded
from onnxgru.report import drift, widening
from onnxgru.runtime.observation import compare
from onnxgru.runtime.verify import Verification
from onnxgru.session import delta
from onnxgru.session.distance import distance
from onnxgru.session.session import Session
from onnxgru.session.yardstick import Yardstick

Array = npt.NDArray[Any]

PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "numpy", "pymoo")


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """A quantised model with its verification.

    Parameters
    ----------
    scheme : Scheme
        Widths.
    program : IntegerProgram
        The program of the scheme.
    integer, annotated : onnx.ModelProto
        The graphs of the program.
    verification : Verification
        Comparison of the integer graph with the reference implementation.
    """

    scheme: Scheme
    program: IntegerProgram
    integer: onnx.ModelProto
    annotated: onnx.ModelProto
    verification: Verification


def _finite(value: float) -> float | None:
    """A figure with 4 decimals; None for an infinite one, which JSON cannot hold."""
    return None if math.isinf(value) else round(value, 4)


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on, by name."""
    from onnxgru import __version__

    found = {"onnxgru": __version__, "python": platform.python_version()}
    return found | {name: version(name) for name in PACKAGES}


def build(
    session: Session,
    written: QuantizedModel,
    file_bytes: Mapping[str, int],
    search: Mapping[str, Any] | None = None,
    tuning: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure a quantised model.

    Parameters
    ----------
    session : Session
        The model and its data.
    written : QuantizedModel
        The quantised model.
    file_bytes : mapping of str to int
        Size of every file written, by name.
    search : mapping, optional
        Summary of the search that the scheme comes from.
    tuning : mapping, optional
        Summary of the fine-tuning of the weights.

    Returns
    -------
    dict
        Content of ``report.json``, see ``docs/formats.md``.
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
                "copy_bits": entry.copy,
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
    figure = session.yardstick.judge("validation").figure(found["validation"])
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
        "quality": {role: _quality(session.yardstick, role, found[role]) for role in roles},
        "outputs": _outputs(session.yardstick, found["validation"]),
        "drift": drift.measure(
            session.model.host,
            session.data["validation"],
            session.yardstick.reference("validation"),
            found["validation"],
        ),
        **widening.measure(session.quantizer, session.yardstick, written.scheme, figure),
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
        "delta": delta.measure(session.quantizer, session.yardstick, written.scheme),
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
                "input_copy_bits": written.scheme.inputs[layer.name].copy,
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
        "config": {
            k: v for k, v in session.config.document().items() if k not in ("force", "resume")
        },
        "seed": session.config.seed,
        "versions": versions(),
    }
    if search is not None:
        document["search"] = dict(search)
    if tuning is not None:
        document["finetuning"] = dict(tuning)
    return document


def _quality(yardstick: Yardstick, role: str, outputs: Mapping[str, Array]) -> dict[str, Any]:
    """Figures on a role's data, with intervals and numbers of recordings."""
    judge = yardstick.judge(role)
    before, after = (judge.estimate(one) for one in (yardstick.reference(role), outputs))
    apart = intervals.difference(judge.sums(outputs), judge.sums(yardstick.reference(role)))
    if yardstick.metric.target == "reference":  # the float model is what is compared with
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


def _outputs(yardstick: Yardstick, found: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Entries for all outputs of the model, judged or not, on validation data."""
    rows: list[dict[str, Any]] = []
    reference = yardstick.reference("validation")
    judge = yardstick.judge("validation")
    for output in yardstick.outputs:
        name, whole = output.name, metrics.holds_classes(found[output.name])
        row: dict[str, Any] = {
            "name": name,
            "reached": output.reached,
            "state": output.state,
            "judged": name in yardstick.choice.outputs,
            "metric": None,
            "unit": None,
            "float": None,
            "integer": None,
            "real": not whole,
            "sqnr_db": None if whole else _finite(metrics.sqnr(reference[name], found[name])),
        }
        if row["judged"]:
            metric, target = yardstick.metric, judge.targets[name]
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
    """Operators that write the emitted state of a layer: its sum, and the terms of the sum."""
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
