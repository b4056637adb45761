"""The sensitivity of a model: what each operator costs when it alone is narrow.

Every operator's output, and every linear operator's weights, goes to each width in turn while
everything else stays at 8 bits. The drop is what the metric loses on the validation data against
uniform 8 bits, in the metric's unit; the SQNR is that of the model's output, once against the
float model and once against uniform 8 bits, where only the operator's own noise is left.
"""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core import files
from onnxgru.core.choices import MAXIMUM_BITS
from onnxgru.core.choices import widths as parse_widths
from onnxgru.core.errors import OverflowProofError, UsageError
from onnxgru.core.network import Layer, LinearOperator
from onnxgru.core.scheme import LinearScheme, Scheme
from onnxgru.cost.account import account
from onnxgru.data import metrics
from onnxgru.documents.front import Metric
from onnxgru.documents.remarks import points
from onnxgru.events import Listener, Measured, Stage, silent
from onnxgru.report.record import versions
from onnxgru.session.quantizer import Quantizer, uniform
from onnxgru.session.yardstick import Yardstick
from onnxgru.settings.config import Config
from onnxgru.settings.data import Data
from onnxgru.settings.declare import keyed
from onnxgru.settings.quantization import Quantization

Array = npt.NDArray[Any]

FORMAT = "onnxgru.sensitivity/1"
OUTPUTS, WEIGHTS = "outputs", "weights"

_ROLE = "validation"


@dataclass(frozen=True)
class Entry:
    """One operator at one width.

    Parameters
    ----------
    bits : int
        The width.
    quality : float or None
        The metric on the validation data; None, as all other figures, where an accumulator could
        overflow.
    drop : float or None
        How much worse that is than uniform 8 bits, in the metric's unit.
    sqnr_db : float or None
        SQNR of the model's output against the float model's; None too where they are equal.
    sqnr_uniform_db : float or None
        The same against uniform 8 bits.
    flash_bytes : int or None
        Flash of the whole network.
    """

    bits: int
    quality: float | None
    drop: float | None
    sqnr_db: float | None
    sqnr_uniform_db: float | None
    flash_bytes: int | None


@dataclass(frozen=True)
class SensitivityRow:
    """One operator's outputs or weights at every width.

    Parameters
    ----------
    name : str
        The operator.
    part : {"outputs", "weights"}
        What is narrow.
    operators : tuple of str
        All that are narrow together: the directions of a layer share the width of their state.
    entries : tuple of Entry
        By width.
    """

    name: str
    part: str
    operators: tuple[str, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Sensitivities of all operators.

    Parameters
    ----------
    metric, unit : str
        What quality and drop are.
    float_quality : float or None
        The float model's figure; None where the metric compares with the float model itself.
    uniform : Entry
        Uniform 8 bits.
    widths : tuple of int
        Widths measured.
    rows : tuple of SensitivityRow
        Outputs of all operators and weights of the linear ones, in the operators' order.
    source : mapping
        Where the figures come from: model, data, settings, versions, with their hashes.
    """

    metric: str
    unit: str
    float_quality: float | None
    uniform: Entry
    widths: tuple[int, ...]
    rows: tuple[SensitivityRow, ...]
    source: Mapping[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        """What ``sensitivity.json`` holds."""
        return {
            "format": FORMAT,
            "metric": {"name": self.metric, "unit": self.unit},
            "float": self.float_quality,
            "uniform": asdict(self.uniform),
            "widths": list(self.widths),
            "rows": [
                {
                    "name": row.name,
                    "part": row.part,
                    "operators": list(row.operators),
                    "entries": [asdict(entry) for entry in row.entries],
                }
                for row in self.rows
            ],
            **self.source,
        }


def parts(layers: Sequence[Layer]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """What is made narrow alone: name, part, and the operators that it is at once."""
    for layer in layers:
        shared = {name: writers for writers in layer.writers.values() for name in writers}
        for operator in layer.operators:
            writers = shared.get(operator.name, (operator.name,))
            if operator.name == writers[0]:
                yield operator.name, OUTPUTS, writers
            if isinstance(operator, LinearOperator):
                yield operator.name, WEIGHTS, (operator.name,)


def narrowed(scheme: Scheme, part: str, operators: Sequence[str], bits: int) -> Scheme:
    """A scheme with the outputs, or the weights, of some operators at another width."""
    entries = dict(scheme.operators)
    for name in operators:
        entry = entries[name]
        if part == WEIGHTS:
            assert isinstance(entry, LinearScheme)
            entries[name] = replace(entry, weight_bits=bits)
        else:
            entries[name] = replace(entry, bits=bits)
    return Scheme(scheme.inputs, entries)


class _Bench:
    """Measures schemes against uniform 8 bits."""

    def __init__(self, quantizer: Quantizer, yardstick: Yardstick, config: Config) -> None:
        self._quantizer, self._yardstick = quantizer, yardstick
        self._judge, self._float = yardstick.judge(_ROLE), yardstick.reference(_ROLE)
        self.scheme = uniform(quantizer.model.layers, MAXIMUM_BITS, config)
        self._uniform = self._judge.outputs(quantizer(self.scheme))
        self._error = yardstick.metric.error(self._judge.figure(self._uniform))

    def entry(self, scheme: Scheme, bits: int) -> Entry:
        """Figures of a scheme."""
        try:
            program = self._quantizer(scheme)
        except OverflowProofError:
            return Entry(bits, None, None, None, None, None)
        outputs = self._judge.outputs(program)
        quality = self._judge.figure(outputs)
        return Entry(
            bits,
            metrics.limited(quality),
            self._yardstick.metric.error(quality) - self._error,
            self._decibels(self._float, outputs),
            self._decibels(self._uniform, outputs),
            account(program).flash_bytes,
        )

    def _decibels(
        self, reference: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> float | None:
        """SQNR of the worst output that is judged; None where all are equal, or hold classes."""
        judged = self._yardstick.choice.outputs
        names = [n for n in judged if not metrics.holds_classes(outputs[n])]
        figure = min((metrics.sqnr(reference[n], outputs[n]) for n in names), default=np.inf)
        return None if figure == np.inf else metrics.limited(figure)


def narrow_widths(text: str) -> tuple[int, ...]:
    """The widths below 8 that a configuration names.

    Raises
    ------
    UsageError
        If there is none.
    """
    widths = tuple(bits for bits in parse_widths(text) if bits < MAXIMUM_BITS)
    if not widths:
        raise UsageError(f"widths must have one below {MAXIMUM_BITS} to be measured, got {text!r}")
    return widths


def measure(
    quantizer: Quantizer, yardstick: Yardstick, config: Config, listener: Listener = silent
) -> Sensitivity:
    """Measure every operator of a model alone at every width below 8 that is configured.

    Parameters
    ----------
    quantizer : Quantizer
        Of the model.
    yardstick : Yardstick
        What its programs are judged by; best with fused kernels.
    config : Config
        The widths, and how the uniform scheme is made.
    listener : callable, optional
        Receives what is done.

    Raises
    ------
    UsageError
        If no width is left to measure.
    OverflowProofError
        If even uniform 8 bits do not fit the accumulators.
    DataError
        If the model's outputs are not finite.
    """
    widths = narrow_widths(config.widths)
    bench = _Bench(quantizer, yardstick, config)
    plain = bench.entry(bench.scheme, MAXIMUM_BITS)
    listener(Stage("measuring every operator alone"))
    rows = list(parts(quantizer.model.layers))
    work = [(part, operators, bits) for _, part, operators in rows for bits in widths]

    def entry(task: tuple[str, tuple[str, ...], int]) -> Entry:
        return bench.entry(narrowed(bench.scheme, *task), task[-1])

    found = []
    with ThreadPoolExecutor(config.jobs or os.cpu_count()) as workers:
        for one in workers.map(entry, work):
            found.append(one)
            listener(Measured(len(found), len(work)))
    count = len(widths)
    return Sensitivity(
        yardstick.metric.name,
        yardstick.metric.unit,
        yardstick.float_figure(_ROLE),
        plain,
        widths,
        tuple(
            SensitivityRow(name, part, operators, tuple(found[index * count : (index + 1) * count]))
            for index, (name, part, operators) in enumerate(rows)
        ),
        _source(quantizer, yardstick, config),
    )


def _source(quantizer: Quantizer, yardstick: Yardstick, config: Config) -> dict[str, Any]:
    model, settings = quantizer.model, config.document()
    return {
        "model": {"path": str(model.path.resolve()), "sha256": model.digest},
        "data": {role: asdict(entry) for role, entry in yardstick.data.describe().items()},
        "calibration_sha256": files.digest(quantizer.statistics.calibration_bytes),
        "config": {name: settings[name] for name in (*keyed(Quantization), *keyed(Data))},
        "versions": versions(),
    }


def picture(document: Mapping[str, Any]) -> bytes:
    """The drops as a heat map, PNG: weights on the left, outputs on the right.

    Parameters
    ----------
    document : mapping
        What ``sensitivity.json`` holds.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["name"] for row in document["rows"]))
    widths = document["widths"]
    tables = {part: np.full((len(names), len(widths)), np.nan) for part in (WEIGHTS, OUTPUTS)}
    for row in document["rows"]:
        line = [np.nan if e["drop"] is None else e["drop"] for e in row["entries"]]
        tables[row["part"]][names.index(row["name"])] = line
    longest = max(map(len, names))
    size = (2.2 + 0.08 * longest + 2 * 0.55 * len(widths), 1.5 + 0.27 * len(names))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    top = max(float(np.nanmax(list(tables.values()), initial=0.0)), 1e-9)
    scale = PowerNorm(0.5, 0.0, top, clip=True)
    for axes, (part, drops) in zip(panels, tables.items(), strict=True):
        axes.set_facecolor("0.93")
        image = axes.imshow(drops, cmap="YlOrRd", norm=scale, aspect="auto")
        for row_number, column in np.argwhere(~np.isnan(drops)):
            drop = drops[row_number, column]
            dark = scale(max(drop, 0.0)) > 0.6
            axes.text(
                column,
                row_number,
                shown(drop),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
        axes.set_title(part, fontsize=10)
        axes.set_xticks(range(len(widths)), [str(bits) for bits in widths])
        axes.set_xlabel("bits")
        axes.tick_params(length=0)
    panels[0].set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    figure.colorbar(image, ax=panels, label=drop_title(Metric(**document["metric"])), pad=0.01)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def shown(drop: float | None) -> str:
    """A drop with two decimals."""
    return "-" if drop is None else f"{round(drop, 2) + 0.0:.2f}"  # + 0.0: never minus zero


def drop_title(metric: Metric) -> str:
    """The title of drops, with their unit."""
    unit = points(metric.unit)
    return f"drop of {metric.title} on validation" + (f", {unit}" if unit else "")
