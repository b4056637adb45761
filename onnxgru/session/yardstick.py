"""The measure of programs: outputs that are judged, metric, and outputs of the float model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from onnxgru.core.errors import DataError
from onnxgru.core.program import IntegerProgram
from onnxgru.data.metrics import Metric
from onnxgru.runtime.host import Host
from onnxgru.session import outputs
from onnxgru.session.judge import Judge
from onnxgru.session.model import Model
from onnxgru.session.outputs import Judged, ModelOutput
from onnxgru.session.recordings import VALIDATION, Recordings
from onnxgru.settings.config import Config

Array = npt.NDArray[Any]


class Reference:
    """Outputs of the float model on the data of each role, the batch first, computed once.

    Parameters
    ----------
    host : Host
        Runs the float model.
    data : Recordings
        Data by role.
    """

    def __init__(self, host: Host, data: Recordings) -> None:
        self._host, self._data = host, data
        self._known: dict[str, dict[str, Array]] = {}

    def __getitem__(self, role: str) -> dict[str, Array]:
        if role not in self._known:
            self._known[role] = self._host.outputs_of(self._data[role])
        return self._known[role]


@dataclass(frozen=True, eq=False)
class Yardstick:
    """Judges programs of a model.

    Parameters
    ----------
    host : Host
        Runs programs within the float parts of the model.
    data : Recordings
        Data by role.
    floats : Reference
        Outputs of the float model.
    outputs : tuple of ModelOutput
        All outputs of the model.
    choice : Judged
        The outputs that are judged, and the metric.
    fused, device
        As for `Judge`.
    """

    host: Host
    data: Recordings
    floats: Reference
    outputs: tuple[ModelOutput, ...]
    choice: Judged
    fused: bool
    device: str
    _judges: dict[str, Judge] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, model: Model, data: Recordings, config: Config, *, fused: bool) -> "Yardstick":
        """The yardstick of a model and a configuration; labels that fit no output are refused.

        Raises
        ------
        DataError
            If labels fit no output.
        UsageError
            If the metric or the outputs named do not fit the model.
        """
        states = model.host.interface.states.values()
        described = outputs.describe(model.normal.graph, model.layers, states)
        floats, judged = Reference(model.host, data), data[VALIDATION]
        names = outputs.split(config.output_name)
        try:
            choice = outputs.choose(
                described, floats[VALIDATION], judged.labels, config.metric, names
            )
        except DataError as error:
            raise DataError(f"{judged.source}: {error}") from error
        return cls(model.host, data, floats, described, choice, fused, config.device)

    def on(self, host: Host) -> "Yardstick":
        """The same for programs of other weights; the float model's outputs stay the reference."""
        return replace(self, host=host)

    @property
    def metric(self) -> Metric:
        """The metric."""
        return self.choice.metric

    @property
    def output(self) -> str:
        """The output that is judged, the first one where there are several."""
        return self.choice.outputs[0]

    @property
    def written(self) -> Sequence[str]:
        """Outputs that emitted graphs are judged by: those that layers reach, without states."""
        kept = [output.name for output in self.outputs if output.reached and not output.state]
        return kept or [self.output]

    def reference(self, role: str) -> dict[str, Array]:
        """Outputs of the float model on the data of a role, the batch first."""
        return self.floats[role]

    def targets(self, role: str) -> dict[str, Array]:
        """Targets of the outputs that are judged: labels, or outputs of the float model.

        Raises
        ------
        DataError
            If the data lack labels that the validation data have.
        """
        if self.metric.target != "labels":
            return {name: self.floats[role][name] for name in self.choice.outputs}
        labels = self.data[role].labels
        if labels is None:
            raise DataError(
                f"{self.data[role].source}: must hold labels because the validation data do; "
                "add them, or give --metric agreement or sqnr"
            )
        return {name: labels for name in self.choice.outputs}

    def judge(self, role: str) -> Judge:
        """The judge of programs on the data of a role."""
        if role not in self._judges:
            self._judges[role] = Judge(
                self.host,
                self.data[role],
                self.metric,
                self.targets(role),
                fused=self.fused,
                device=self.device,
            )
        return self._judges[role]

    def float_quality(self, role: str) -> float:
        """The float model's figure."""
        return self.judge(role).figure(self.reference(role))

    def float_figure(self, role: str) -> float | None:
        """The float model's figure as JSON can hold it: None where it is infinite decibels."""
        figure = self.float_quality(role)
        return None if math.isinf(figure) else figure

    def quality(self, program: IntegerProgram, role: str) -> float:
        """A program's figure on the data of a role."""
        return self.judge(role).quality(program)
