"""Examination of the data: warnings about what looks wrong, and calibration without glitches."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from onnxgru.calibration.glitches import Glitch, limited
from onnxgru.data import intervals
from onnxgru.data.dataset import Dataset, Recorded
from onnxgru.documents import remarks
from onnxgru.documents.entries import Outlier
from onnxgru.documents.reading import read
from onnxgru.events import Teller
from onnxgru.runtime.host import Host
from onnxgru.session import suspicion
from onnxgru.session.recordings import CALIBRATION, Recordings
from onnxgru.session.suspicion import Summary
from onnxgru.session.yardstick import Yardstick
from onnxgru.settings.config import Config


class Examination:
    """Looks at the data of every role once.

    Parameters
    ----------
    host : Host
        Knows which inputs are states.
    data : Recordings
        Data by role.
    config : Config
        The observer, and whether calibration comes from a file.
    tell : Teller
        Is told what the user should know.
    """

    def __init__(self, host: Host, data: Recordings, config: Config, tell: Teller) -> None:
        self._host, self._data, self._tell = host, data, tell
        self._from_file = config.calibration_file is not None
        self._spans_all = config.observer == "minmax"
        self._states: Sequence[str] = [spec.name for spec in host.signature if spec.state]

    def check(self, yardstick: Yardstick, training: Recorded | None = None) -> None:
        """Name what looks wrong with the data before any work.

        Parameters
        ----------
        yardstick : Yardstick
            What data are judged by.
        training : Dataset or Corpus, optional
            Data to fine-tune on.

        Raises
        ------
        DataError
            If data do not fit the model.
        """
        if not self._data.synthetic:
            for sentence in self._suspicions(yardstick, training):
                self._tell(sentence)

    def calibration(self) -> Iterator[Dataset]:
        """Stream the calibration data with glitches cut, so that ranges do not span them."""
        cut = self._cut
        for sentence in remarks.glitches(self.outliers) if cut else ():
            self._tell(sentence)
        for batch in self._data.calibration():
            kept = limited(batch, cut) if cut else batch
            yield self._host.handed_on(kept) if cut and batch.streams else kept

    @property
    def outliers(self) -> list[Outlier]:
        """Outliers of all inputs, and what is done about each."""
        return [read(Outlier, entry) for entry in self.glitches]

    @property
    def glitches(self) -> list[dict[str, Any]]:
        """The same as entries of ``report.json``."""
        found = []
        for role, summary in {} if self._data.synthetic else self._summaries.items():
            done = remarks.JUDGED
            if role == CALIBRATION:
                done = remarks.CUT if self._cut else remarks.KEPT
            elif summary.source == self._data.calibration_source and CALIBRATION in self._summaries:
                continue  # the same data serve for both
            found += [{**asdict(glitch), "done": done} for glitch in summary.glitches]
        return found

    def _suspicions(self, yardstick: Yardstick, training: Recorded | None) -> Iterator[str]:
        summaries = dict(self._summaries)
        if training is not None:
            summaries["training"] = suspicion.summarise(
                training.parts, training.source, self._states
            )
        yield from remarks.glitches(self.outliers)
        yield from suspicion.of_inputs(summaries)
        metric, output = yardstick.metric, yardstick.output
        classes = metric.target == "labels" and metric.unit == "%"
        for role in self._data.judged:
            data = self._data[role]
            yield from suspicion.of_count(role, data.source, intervals.recordings(data))
            yardstick.float_quality(role)  # refuses labels that do not fit
            if classes:
                found_outputs = yardstick.reference(role)[output]
                labels = yardstick.targets(role)[output]
                yield from suspicion.of_labels(role, data.source, found_outputs, labels)
        if not classes:
            yield from suspicion.of_bytes(summaries)

    @cached_property
    def _summaries(self) -> dict[str, Summary]:
        """Summaries of the data of every role."""
        found: dict[str, Summary] = {}
        if not self._from_file:
            found[CALIBRATION] = self._calibrated_on
        for role in self._data.judged:
            data = self._data[role]
            found[role] = suspicion.summarise(data.parts, data.source, self._states)
        return found

    @cached_property
    def _calibrated_on(self) -> Summary:
        """Summary of the calibration data."""
        data = self._data
        return suspicion.summarise(data.calibration(), data.calibration_source, self._states)

    @property
    def _cut(self) -> list[Glitch]:
        """Glitches of the calibration data that ranges must not span."""
        if self._spans_all or self._data.synthetic:
            return []
        return self._calibrated_on.glitches
