"""Statistics of a model: values of its operators, and inputs of its linear operators."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from onnxgru.calibration.calibration import Calibration
from onnxgru.calibration.moments import MOMENTS, Moments
from onnxgru.core.errors import SchemeError
from onnxgru.data.dataset import Dataset
from onnxgru.events import Calibrated, Listener, Notice, Stage
from onnxgru.runtime.observation import calibrate, observe_moments
from onnxgru.session.model import Model
from onnxgru.settings.config import Config

Batches = Callable[[], Iterator[Dataset]]
"""Calibration data from their beginning, each time that they are asked for."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of a model on calibration data.

    Parameters
    ----------
    calibration : Calibration
        A histogram of every operator.
    moments : Moments or None
        Moments of the inputs of linear operators; None where no weight is rounded by them.
    """

    calibration: Calibration
    moments: Moments | None

    @classmethod
    def collect(
        cls, model: Model, batches: Batches, config: Config, listener: Listener
    ) -> "Statistics":
        """Read statistics from the files that a configuration names, or collect them.

        Parameters
        ----------
        model : Model
            The float model.
        batches : callable
            The calibration data.
        config : Config
            Names the files and the rounding of weights.
        listener : callable
            Receives the events of `onnxgru.events`.

        Raises
        ------
        SchemeError
            If a file is not of this model.
        DataError
            If the data do not fit the model.
        """
        calibration = _calibration(model, batches, config, listener)
        if not config.needs_moments:
            return cls(calibration, None)
        return cls(calibration, _moments(model, batches, calibration, config, listener))

    @cached_property
    def calibration_bytes(self) -> bytes:
        """Content of ``calibration.json``."""
        return self.calibration.dumps()

    @cached_property
    def moments_files(self) -> dict[str, bytes]:
        """Content of the file of moments by its name; empty where there are none."""
        return {} if self.moments is None else {MOMENTS: self.moments.dumps()}

    def retuned(self, learned: Mapping[str, tuple[float, float]]) -> "Statistics":
        """The same statistics, with ranges that fine-tuning learned, by operator."""
        if not learned:
            return self
        return replace(self, calibration=self.calibration.overridden(learned))


def _calibration(model: Model, batches: Batches, config: Config, listener: Listener) -> Calibration:
    if config.calibration_file is None:
        listener(Stage("calibrating"))
        return calibrate(
            model.observation,
            model.layers,
            batches(),
            model.digest,
            lambda count: listener(Calibrated(count)),
        )
    path = Path(config.calibration_file)
    calibration = Calibration.load(path)
    if calibration.model != model.digest:
        listener(Notice(f"{path} was made from another version of the model"))
    observed = (name for layer in model.layers for name in layer.observed)
    missing = next((name for name in observed if name not in calibration.histograms), None)
    if missing is not None:
        raise SchemeError(
            f"{path}: must have every operator of the model, lacks {missing}; "
            "it is a calibration of another model, so calibrate again"
        )
    return calibration


def _moments(
    model: Model, batches: Batches, calibration: Calibration, config: Config, listener: Listener
) -> Moments:
    if config.calibration_file is not None:
        path = Path(config.calibration_file).with_name(MOMENTS)
        if path.is_file():
            moments = Moments.load(path)
            moments.require(model.layers, model.digest, str(path))
            return moments
    listener(Stage("collecting input statistics for weight rounding"))
    return observe_moments(model.observation, model.layers, batches(), calibration)
