"""From schemes to programs: weights are rounded, ranges chosen, accumulators proved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from onnxgru.core import skip
from onnxgru.core.choices import ACCUMULATOR_BITS
from onnxgru.core.network import Layer
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.core.weights import Tuned
from onnxgru.passes.lowering.lower import Lowering
from onnxgru.rounding import finetuned, methods
from onnxgru.rounding.finetuned import Finetuned
from onnxgru.rounding.nearest import Rounding
from onnxgru.session.model import Model
from onnxgru.session.statistics import Statistics
from onnxgru.settings.config import Config


@dataclass(frozen=True)
class Limits:
    """Limits of programs.

    Parameters
    ----------
    accumulator_bits : int
        Width that every accumulator must fit.
    ranges : {"plain", "saturating", "aligned"}
        As in `Lowering`.
    """

    accumulator_bits: int
    ranges: str


@dataclass(frozen=True, eq=False)
class Quantizer:
    """Lowers schemes of one model with its statistics.

    Parameters
    ----------
    model : Model
        The float model.
    statistics : Statistics
        Statistics of its operators.
    rounding : callable
        Rounds weights to codes; a method of `onnxgru.rounding`.
    limits : Limits
        Limits that programs must keep.
    """

    model: Model
    statistics: Statistics
    rounding: Rounding
    limits: Limits

    @classmethod
    def of(
        cls,
        model: Model,
        statistics: Statistics,
        config: Config,
    ) -> "Quantizer":
        """The quantizer that a configuration asks for.

        Parameters
        ----------
        model : Model
            The float model.
        statistics : Statistics
            Statistics of its operators.
        config : Config
            Names the rounding and the limits.

        Raises
        ------
        SchemeError
            If the file of the weights cannot be read.
        """
        limits = Limits(config.accumulator_bits, config.ranges)
        return cls(model, statistics, _rounding(model.layers, statistics, config), limits)

    @cached_property
    def _lowering(self) -> Lowering:
        return Lowering(
            self.model.normal.graph,
            self.model.layers,
            self.statistics.calibration,
            self.limits.accumulator_bits,
            self.rounding,
            ranges=self.limits.ranges,
        )

    def __call__(self, scheme: Scheme) -> IntegerProgram:
        """The program of a scheme.

        Raises
        ------
        OverflowProofError
            If an accumulator could overflow.
        """
        return self._lowering(scheme)

    @cached_property
    def unbounded(self) -> "Quantizer":
        """The same with accumulators of 32 bits, for programs that are never written."""
        if self.limits.accumulator_bits == ACCUMULATOR_BITS:
            return self
        return replace(self, limits=replace(self.limits, accumulator_bits=ACCUMULATOR_BITS))

    def retuned(self, tuned: Tuned) -> "Quantizer":
        """The same with weights, integers and ranges of a fine-tuning.

        Parameters
        ----------
        tuned : Tuned
            Result of fine-tuning a scheme; its integers are for that scheme alone.
        """
        return replace(
            self,
            model=self.model.retuned(tuned),
            statistics=self.statistics.retuned(tuned.ranges),
            rounding=Finetuned(tuned.rounded, "fine-tuning"),
        )

    def started(self, tuned: Tuned, config: Config) -> "Quantizer":
        """The same with the float weights of a fine-tuning, rounded anew for any scheme.

        Parameters
        ----------
        tuned : Tuned
            Result of fine-tuning.
        config : Config
            Names the rounding.
        """
        model = self.model.retuned(tuned)
        rounding = _rounding(model.layers, self.statistics, config)
        return replace(self, model=model, rounding=rounding)


def _rounding(layers: Sequence[Layer], statistics: Statistics, config: Config) -> Rounding:
    """How a configuration rounds weights."""
    if config.weights_file is not None:
        return finetuned.load(Path(config.weights_file))
    moments = statistics.moments
    return methods.resolve(
        layers,
        config.rounding,
        bias_correction=config.bias_correction,
        seconds={} if moments is None else moments.seconds,
        means={} if moments is None else moments.means,
    )


def uniform(layers: Sequence[Layer], bits: int, config: Config) -> Scheme:
    """The scheme of one width everywhere, with the other choices of a configuration."""
    found = Scheme.uniform(
        layers,
        bits,
        granularity=config.granularity,
        observer=config.observer,
        input_bits=config.input_bits,
        cell_state=config.cell_state,
    )
    found = skip.applied(found, layers, skip.named(layers, config.skip))
    return skip.with_wide_states(found, layers) if config.wide_states else found
