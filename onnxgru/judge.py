"""How good programs of a model are on one set of data."""

from functools import cached_property
from typing import Any

import numpy.typing as npt

from onnxgru.core.data import Dataset
from onnxgru.core.errors import DataError
from onnxgru.core.metrics import Metric
from onnxgru.core.program import IntegerProgram
from onnxgru.runtime.evaluator import Evaluator, LayerEvaluator
from onnxgru.runtime.host import Host

Array = npt.NDArray[Any]


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
    """

    def __init__(
        self, host: Host, data: Dataset, output: str, metric: Metric, target: Array, *, fused: bool
    ) -> None:
        self._host, self._data, self._output, self._fused = host, data, output, fused
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

    def quality(self, program: IntegerProgram) -> float:
        """The figure of a program."""
        return self.figure(self.outputs(program))
