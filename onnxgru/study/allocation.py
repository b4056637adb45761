"""Bits go where they silence the most noise per byte, as far as calibration knows.

For every gene and width the noise that quantisation adds is estimated as a share of the signal::

    output      E[(y - y_q)^2] / E[s^2]                    from the operator's histogram
    weights     sum (W - W_q)^2 E[x^2] / (outputs E[s^2])  from that of its operand x

where s is the sum that the output y is a term of, or y itself: a term that is small beside the
other may be coarse. Shares are summed over the operators of a gene. Starting from the widest
widths, the gene that adds the least noise per byte saved is narrowed, until a budget is met. Each
of several budgets gives a scheme to start a search with. The other way round, a scheme that leaves
some of a budget is widened where that silences the most noise per byte. Nothing is run: it is the
greedy allocation of rate and distortion (Shoham and Gersho 1988, "Efficient bit allocation for an
arbitrary set of quantizers"), and owes nothing to the data that schemes are judged by.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

import numpy as np

from onnxgru.calibration.calibration import Calibration
from onnxgru.calibration.histogram import Histogram
from onnxgru.calibration.observers import squared_error
from onnxgru.core import weights
from onnxgru.core.choices import MAXIMUM_BITS
from onnxgru.core.integers import WeightType
from onnxgru.core.network import Layer, LinearOperator, LookupOperator, Operator, Recurrence
from onnxgru.custom_ops.kinds.interpolation import table_bytes
from onnxgru.search.genome import Genome
from onnxgru.study.encoding import Encoding

BUDGETS = 12
OUTPUT, WEIGHTS = "output", "weights"  # of an operator
ROWS = 32  # of a matrix that are looked at: the noise is a mean


@dataclass
class _Tally:
    """What the operators of one gene add up to, by width."""

    noise: dict[int, float] = field(default_factory=dict)
    size: dict[int, float] = field(default_factory=dict)

    def add(self, width: int, noise: float, size: float) -> None:
        self.noise[width] = self.noise.get(width, 0.0) + noise
        self.size[width] = self.size.get(width, 0.0) + size


class Allocation:
    """Allocates the bits of a network's genes.

    Parameters
    ----------
    layers : sequence of Layer
        The network.
    calibration : Calibration
        Its statistics.
    encoding : Encoding
        Its genes.
    observer : str
        How ranges are chosen.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        calibration: Calibration,
        encoding: Encoding,
        observer: str = "mse",
    ) -> None:
        self._layers, self._encoding = tuple(layers), encoding
        self._tallies = _tallies(layers, calibration, encoding, observer)

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Genes that save bytes where they are narrow, those of one operator of the cell together.

        Returns
        -------
        tuple of tuple of str
            Names of genes; each is in one group at most.
        """
        rows: dict[str, set[tuple[str, str]]] = {}
        for layer in self._layers:
            for operator in layer.operators:
                names = self._encoding.names(layer, operator)
                for part, gene in zip((OUTPUT, WEIGHTS), names, strict=True):
                    if gene in self._tallies:
                        rows.setdefault(gene, set()).add((operator.row, part))
        found: dict[frozenset[tuple[str, str]], list[str]] = {}
        for gene, tally in self._tallies.items():
            if len(set(tally.size.values())) > 1:
                found.setdefault(frozenset(rows[gene]), []).append(gene)
        return tuple(map(tuple, found.values()))

    def heard(self, noises: Mapping[tuple[str, ...], Mapping[int, float]]) -> "Allocation":
        """The same with noises as they were measured at the model's outputs.

        Genes of a group share its noise as they share that of its operators. Widths that were not
        measured have the noise of the nearest one that was, in proportion to that of the operators.

        Parameters
        ----------
        noises : mapping
            By group and width.
        """
        tallies = dict(self._tallies)
        for group, known in noises.items():
            totals = {
                bits: math.fsum(tallies[gene].noise[bits] for gene in group)
                for bits in tallies[group[0]].noise
            }
            for gene in group:
                tally, widest = tallies[gene], max(totals)
                noise = {widest: 0.0}
                for bits in set(totals) - {widest}:
                    nearest = min(known, key=lambda width: (abs(width - bits), width))
                    part = tally.noise[bits] / totals[nearest] if totals[nearest] else 1.0
                    noise[bits] = known[nearest] * part
                tallies[gene] = _Tally(noise, tally.size)
        made = copy(self)
        made._tallies = tallies
        return made

    def starts(self, budgets: int = BUDGETS) -> tuple[Genome, ...]:
        """Schemes for byte budgets, from below the widest to the narrowest.

        Parameters
        ----------
        budgets : int
            Schemes wanted; they are closer together where bytes are few, as fronts are steep there.

        Returns
        -------
        tuple of Genome
            At most so many, none twice.
        """
        return _greedy(self._tallies, self._encoding, budgets)

    def widened(self, genome: Genome, fits: Callable[[Genome], bool]) -> Genome:
        """A genome whose widths have grown until none of them fits any wider.

        What costs no bytes grows first.

        Parameters
        ----------
        genome : Genome
            To start from.
        fits : callable
            Whether a genome is allowed.
        """
        encoding = self._encoding
        names = [gene.name for gene in encoding.space.genes]
        growing = {names.index(name) for name in encoding.growing}
        before: Genome | None = None
        while genome != before:  # a width may cost less than nothing, and let in what did not fit
            before = genome
            left = set(growing)
            choices = {place: encoding.choices[names[place]] for place in left}
            while left := {place for place in left if genome[place] < choices[place][-1]}:
                worth = {place: self._worth(names[place], genome[place]) for place in sorted(left)}
                place = max(worth, key=worth.__getitem__)
                wider = _next(choices[place], genome[place])
                other = (*genome[:place], wider, *genome[place + 1 :])
                if fits(other):
                    genome = other
                else:
                    left.remove(place)
        return genome

    def _worth(self, name: str, width: int) -> float:
        """Noise per byte that the next width of a gene silences."""
        tally = self._tallies.get(name, _Tally())
        wider = _next(self._encoding.choices[name], width)
        price = tally.size.get(wider, 0.0) - tally.size.get(width, 0.0)
        silenced = tally.noise.get(width, 0.0) - tally.noise.get(wider, 0.0)
        return _rounded(silenced / price) if price > 0 else math.inf


def _next(widths: Sequence[int], width: int) -> int:
    """The next wider one."""
    return min(bits for bits in widths if bits > width)


def _tallies(
    layers: Sequence[Layer], calibration: Calibration, encoding: Encoding, observer: str
) -> dict[str, _Tally]:
    """Noise and bytes of every gene that is a width, of layers' inputs excepted."""
    tallies: dict[str, _Tally] = {}
    genes = {gene.name for gene in encoding.space.genes}
    for layer in layers:
        for recurrence in layer.recurrences:
            tables = {o.inputs[0] for o in recurrence.operators if isinstance(o, LookupOperator)}
            sums = {i: o.name for o in recurrence.operators if o.kind == "add" for i in o.inputs}
            for operator in recurrence.operators:
                output, weight = encoding.names(layer, operator)
                heard = sums.get(operator.name, operator.name)
                power = _power(calibration.histograms[_value(layer, recurrence, heard)])
                value = _value(layer, recurrence, operator.name)
                choices = encoding.choices[output]
                # Noise of a cell state adds up over steps, which nothing here sees: narrow codes
                # of it save no bytes, so that it stays wide.
                least = choices[-1] if choices[-1] > MAXIMUM_BITS else choices[0]
                for bits in choices:
                    table = table_bytes(max(bits, least)) if operator.name in tables else 0
                    tallies.setdefault(output, _Tally()).add(
                        bits,
                        _output_noise(operator, value, calibration, observer, bits) / power,
                        float(table),
                    )
                if isinstance(operator, LinearOperator) and weight is not None:
                    source = _value(layer, recurrence, operator.inputs[0])
                    tally = tallies.setdefault(weight if weight in genes else output, _Tally())
                    gain = _power(calibration.histograms[source]) / power
                    widths = encoding.choices.get(weight, encoding.widths)
                    for bits, noise in _weight_noise(operator, widths):
                        tally.add(bits, gain * noise, operator.weight.size * bits / 8)
    return tallies


def _greedy(tallies: dict[str, _Tally], encoding: Encoding, budgets: int) -> tuple[Genome, ...]:
    widths = {name: encoding.choices[name] for name in tallies}
    chosen = {name: choices[-1] for name, choices in widths.items()}
    size = math.fsum(tally.size[chosen[name]] for name, tally in tallies.items())
    least = math.fsum(tally.size[widths[name][0]] for name, tally in tallies.items())
    limits = [
        size * (least / size) ** math.sqrt(number / budgets) for number in range(1, budgets + 1)
    ]
    found: list[Genome] = []
    while limits:
        moves = []
        for name, width in chosen.items():
            tally, place = tallies[name], widths[name].index(width)
            for narrower in widths[name][:place]:
                saved = tally.size[width] - tally.size[narrower]
                if saved > 0:
                    noise = tally.noise[narrower] - tally.noise[width]
                    moves.append((_rounded(noise / saved), name, narrower, saved))
        if not moves:
            break
        _, name, narrower, saved = min(moves)
        chosen[name] = narrower
        size -= saved
        while limits and size <= limits[0]:
            limits.pop(0)
            found.append(encoding.genome(chosen))
    return tuple(dict.fromkeys(found))


def _rounded(rate: float) -> float:
    """To six digits, so that processors that add in another order choose alike."""
    return float(f"{rate:.6g}")


def _value(layer: Layer, recurrence: Recurrence, name: str) -> str:
    """Name under which calibration has a value."""
    if name in layer.grids:
        return layer.grids[name]
    return layer.input if name == recurrence.input else name


def _power(histogram: Histogram) -> float:
    """Mean square, never zero."""
    shares = histogram.counts / max(1, histogram.count)
    return max(float(np.dot(shares, histogram.centres**2)), 1e-30)


def _output_noise(
    operator: Operator, value: str, calibration: Calibration, observer: str, bits: int
) -> float:
    """Mean squared error of the output's codes."""
    histogram = calibration.histograms[value]
    codomain = (
        operator.function.quantization(bits) if isinstance(operator, LookupOperator) else None
    )
    limits = (
        calibration.range(value, observer, bits)
        if codomain is None
        else calibration.gate(value, codomain, observer).range
    )
    return squared_error(histogram, *limits, bits)


def _weight_noise(operator: LinearOperator, widths: Sequence[int]) -> list[tuple[int, float]]:
    """Width and squared error of an output's weights, the mean over outputs, for every width."""
    matrix = operator.weight
    rows = matrix[:: -(-len(matrix) // ROWS)].astype(np.float64)
    found = []
    for bits in widths:
        kind = WeightType(bits)
        limits = weights.clipping(rows.astype(np.float32), bits)
        scales = np.maximum(limits / kind.maximum, 1e-30)[:, None]
        error = rows - scales * kind.nearest(rows / scales)
        found.append((bits, float(np.square(error).sum()) / len(rows)))
    return found
