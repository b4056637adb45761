"""How good programs of a model are on one set of data."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy.typing as npt

from onnxgru.config import PROCESSOR
from onnxgru.core.data import Dataset
from onnxgru.core.errors import DataError
from onnxgru.core.metrics import Metric
from onnxgru.core.program import IntegerProgram
from onnxgru.runtime import devices
from onnxgru.runtime.evaluator import Evaluator, LayerEvaluator
from onnxgru.runtime.host import Host
from onnxgru.runtime.population import PopulationEvaluator

Array = npt.NDArray[Any]

PROOF_SEQUENCES = 64
"""Sequences on which a device is compared with the processor."""


class Judge:
    """Judges programs by one output of the model.

    Parameters
    ----------
    host : Host
        The float parts of the model.
    data : Dataset
        Sequences.
    output : str
        The output that is judged.
    metric : Metric
        The figure.
    target : ndarray
        What the output is compared with, the batch first.
    fused : bool
        Run programs on compiled kernels, which many of them are worth.
    device : str
        Where several programs are run together: ``cpu``, or a torch device.
    """

    def __init__(
        self,
        host: Host,
        data: Dataset,
        output: str,
        metric: Metric,
        target: Array,
        *,
        fused: bool,
        device: str = PROCESSOR,
    ) -> None:
        self._host, self._data, self._output = host, data, output
        self._fused, self._device = fused, device
        self.metric, self.target = metric, target

    @cached_property
    def _evaluator(self) -> Evaluator:
        if not self._fused:
            return Evaluator(self._host, self._data, LayerEvaluator)
        from onnxgru.runtime.fused import FusedEngine

        return Evaluator(self._host, self._data, FusedEngine)

    def outputs(self, program: IntegerProgram) -> Array:
        """What a program computes: the output that is judged, the batch first."""
        return self._evaluator.outputs(program)[self._output]

    def figure(self, outputs: Array) -> float:
        """The figure of outputs.

        Raises
        ------
        DataError
            If the metric refuses them; the sentence begins with where the data come from.
        """
        try:
            return self.metric(outputs, self.target)
        except DataError as error:
            raise DataError(f"{self._data.source}: {error}") from error

    @cached_property
    def _population(self) -> PopulationEvaluator:
        return PopulationEvaluator(self._host, self._data, devices.resolve(self._device))

    def qualities(self, programs: Sequence[IntegerProgram]) -> Iterator[float]:
        """Figures of several programs in order, run together where there is a device for it."""
        if self._device == PROCESSOR:
            return map(self.quality, programs)
        found = self._population.outputs_of(programs)
        return (self.figure(outputs[self._output]) for outputs in found)

    def prove(self, programs: Sequence[IntegerProgram]) -> None:
        """Compare the states of programs on the device, if there is one, with the processor's.

        Raises
        ------
        VerificationError
            If one differs.
        """
        if self._device == PROCESSOR:
            return
        data = self._data.take(self._host.batch or PROOF_SEQUENCES)
        device = devices.resolve(self._device)
        PopulationEvaluator(self._host, data, device).require_same(programs)

    def quality(self, program: IntegerProgram) -> float:
        """The figure of a program."""
        return self.figure(self.outputs(program))
