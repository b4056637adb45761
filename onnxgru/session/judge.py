"""The quality of programs of a model on one set of data."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from onnxgru.core.errors import DataError
from onnxgru.core.program import IntegerProgram
from onnxgru.data import intervals
from onnxgru.data.dataset import Recorded
from onnxgru.data.intervals import Estimate, Sums
from onnxgru.data.metrics import Metric
from onnxgru.runtime import devices
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.host import Host
from onnxgru.runtime.population import PopulationEvaluator
from onnxgru.settings.search import PROCESSOR

if TYPE_CHECKING:  # compiled kernels are slow to import
    from onnxgru.runtime.elimination import Elimination, Measuring

Array = npt.NDArray[Any]

PROOF_SEQUENCES = 64
"""Sequences on which a device is compared with the processor."""


class Judge:
    """Judges programs by outputs of the model; the figure is that of the worst output.

    Parameters
    ----------
    host : Host
        The float parts of the model.
    data : Dataset or Corpus
        The recordings.
    metric : Metric
        Compares an output with its target.
    targets : mapping of str to ndarray
        Target of every output that is judged, the batch first.
    fused : bool
        Whether programs run on compiled kernels. Compiling them takes seconds, which pays where
        many programs are judged.
    device : str
        Device that runs several programs together: ``cpu``, or a torch device.
    """

    def __init__(
        self,
        host: Host,
        data: Recorded,
        metric: Metric,
        targets: Mapping[str, Array],
        *,
        fused: bool,
        device: str = PROCESSOR,
    ) -> None:
        self._host, self._data = host, data
        self._fused, self._device = fused, device
        self.metric, self.targets = metric, targets

    def _evaluating(self, outputs: Sequence[str] | None = None) -> Evaluator:
        if not self._fused:
            return Evaluator(self._host, self._data, LayerEvaluator, outputs=outputs)
        from onnxgru.runtime.fused import FusedEngine

        return Evaluator(self._host, self._data, FusedEngine, outputs=outputs)

    @cached_property
    def _evaluator(self) -> Evaluator:
        return self._evaluating()

    @cached_property
    def _judging(self) -> Evaluator:
        """Computes the outputs that are judged, and no others."""
        if set(self.targets) == set(self._host.interface.outputs):
            return self._evaluator
        return self._evaluating(tuple(self.targets))

    @cached_property
    def _measuring(self) -> "Measuring":
        from onnxgru.runtime.elimination import Measuring

        return Measuring(self._host, self._data, tuple(self.targets))

    def measured(self, program: IntegerProgram) -> "tuple[float, Elimination]":
        """The figure of a delta network and the products that it eliminates; see `Measuring`."""
        outputs, found = self.eliminated(program)
        return self.figure(outputs), found

    def eliminated(self, program: IntegerProgram) -> "tuple[dict[str, Array], Elimination]":
        """Judged outputs of a delta network, and the products that it eliminates."""
        return self._measuring(program)

    def outputs(self, program: IntegerProgram) -> dict[str, Array]:
        """All outputs of a program by name, the batch first."""
        return self._evaluator.outputs(program)

    def figure(self, outputs: Mapping[str, Array]) -> float:
        """The figure of outputs: that of the worst output that is judged.

        Raises
        ------
        DataError
            If the metric refuses an output; the sentence begins with the source of the data.
        """
        worst = min if self.metric.higher_is_better else max
        return worst(self._of(name, outputs[name]) for name in self.targets)

    def _of(self, name: str, output: Array) -> float:
        try:
            return self.metric(output, self.targets[name])
        except DataError as error:
            raise DataError(f"{self._data.source}: output {name!r}: {error}") from error

    def sums(self, outputs: Mapping[str, Array]) -> list[Sums | None]:
        """Contribution of every recording to the figure, for each output that is judged."""
        return [
            intervals.sums_of(self.metric, outputs[name], target, self._data)
            for name, target in self.targets.items()
        ]

    def estimate(self, outputs: Mapping[str, Array]) -> Estimate:
        """The figure of outputs with its 95 % interval and the number of recordings.

        Raises
        ------
        DataError
            As `figure` does.
        """
        figure = self.figure(outputs)
        sums = self.sums(outputs)
        counted = next((found.counted for found in sums if found is not None), self._data.size)
        number = intervals.recordings(self._data)
        return Estimate(figure, intervals.interval(sums), number, counted)

    @cached_property
    def _population(self) -> PopulationEvaluator:
        device = devices.resolve(self._device)
        return PopulationEvaluator(self._host, self._data, device, outputs=tuple(self.targets))

    def qualities(self, programs: Sequence[IntegerProgram]) -> Iterator[float]:
        """Figures of several programs in order, run together where there is a device for it."""
        if self._device == PROCESSOR:
            return map(self.quality, programs)
        found = self._population.outputs_of(programs)
        return map(self.figure, found)

    def prove(self, programs: Sequence[IntegerProgram]) -> None:
        """Compare the states of programs on the device, if there is one, with the processor's.

        Raises
        ------
        VerificationError
            If one differs.
        """
        if self._device == PROCESSOR:
            return
        data = self._data.take(PROOF_SEQUENCES)
        device = devices.resolve(self._device)
        PopulationEvaluator(self._host, data, device).require_same(programs)

    def quality(self, program: IntegerProgram) -> float:
        """The figure of a program."""
        return self.figure(self._judging.outputs(program))
