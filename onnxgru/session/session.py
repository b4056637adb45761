"""All that one configuration makes of a model and its data, before a scheme is chosen.

A `Session` is a driver and no hub: a verb opens it once, it never changes, and only functions that
write an output folder take it whole, because they need nearly all of its parts. Functions that work
on one or two parts take these: the model, the quantizer, the yardstick, the configuration.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from onnxgru.core.scheme import Scheme
from onnxgru.data.dataset import Recorded
from onnxgru.events import Listener, Notice, Teller, silent
from onnxgru.passes.forms.form import Form
from onnxgru.passes.graph import tables
from onnxgru.passes.graph.source import Origin
from onnxgru.session import forms
from onnxgru.session.emission import Emission
from onnxgru.session.examination import Examination
from onnxgru.session.model import Model, read
from onnxgru.session.quantizer import Quantizer, uniform
from onnxgru.session.recordings import VALIDATION, Recordings
from onnxgru.session.statistics import Statistics
from onnxgru.session.yardstick import Yardstick
from onnxgru.settings.config import Config
from onnxgru.settings.quantization import AUTO

LONG = 60
"""Steps of a recording from which what each step adds to a state must not be rounded twice."""


@dataclass(frozen=True, eq=False)
class Session:
    """A model with its data, what it is judged by, and what makes programs and graphs of it.

    Parameters
    ----------
    config : Config
        What to do with it.
    listener : callable
        Receives events.
    tell : Teller
        Is told what the user should know, each sentence once.
    model : Model
        The float model.
    data : Recordings
        Data by role.
    examination : Examination
        What looks wrong with them.
    yardstick : Yardstick
        What programs are judged by.
    emission : Emission
        Makes graphs of programs.
    calibrated : callable
        Makes the quantizer; the first call collects the statistics of the model.
    """

    config: Config
    listener: Listener
    tell: Teller
    model: Model
    data: Recordings
    examination: Examination
    yardstick: Yardstick
    emission: Emission
    calibrated: Callable[[], Quantizer]

    @classmethod
    def open(
        cls,
        given: Path | Origin,
        config: Config,
        listener: Listener = silent,
        *,
        fused: bool | None = None,
    ) -> "Session":
        """Read a model and its data.

        Parameters
        ----------
        given : Path or Origin
            The ONNX file, or a model that a Python program holds.
        config : Config
            What to do with it.
        listener : callable
            Receives events.
        fused : bool, optional
            Whether programs run on compiled kernels, see `Judge`; where left out, for searches.

        Raises
        ------
        ModelError
            If the model cannot be read or holds nothing that can be quantised.
        DataError
            If data do not fit the model.
        UsageError
            If a setting does not fit the model.
        """
        model = read(given, config)
        layers = model.layers
        for note in model.recognition.notes:
            listener(Notice(note))
        for refusal in model.recognition.refusals:
            listener(Notice(f"{refusal.node} stays in float: {refusal.reason}"))
        chosen = config.chosen()
        batch = config.batch or (None if model.host.batch else chosen.batch)
        form = Form(chosen.recurrence, config.float_state, config.steps, batch)
        forms.check_batch(form, model.host.batch)
        time_axes = forms.check(model.normal, layers, form, listener)
        graph = model.normal.graph
        data = Recordings(model.path, model.host, config, listener, tables.sizes(graph))
        judged = [data[role] for role in data.judged]
        if config.ranges == AUTO:
            streams = any(part.streams for recorded in judged for part in recorded.parts)
            long = streams or forms.steps(graph, layers, judged) >= LONG
            config = replace(config, ranges="aligned" if long else "saturating")
        forms.check_data(graph, layers, form, judged)
        many = config.search if fused is None else fused
        yardstick = Yardstick.of(model, data, config, fused=many)
        tell = Teller(listener)
        examination = Examination(model.host, data, config, tell)

        @cache
        def calibrated() -> Quantizer:
            statistics = Statistics.collect(model, examination.calibration, config, listener)
            return Quantizer.of(model, statistics, config)

        emission = Emission(
            model,
            form,
            time_axes,
            yardstick.written,
            chosen.weights,
            chosen.without,
            chosen.lookup,
            functions=config.functions,
        )
        return cls(
            config, listener, tell, model, data, examination, yardstick, emission, calibrated
        )

    def examine(self, training: Recorded | None = None) -> None:
        """Name what looks wrong with the data before any work; see `Examination.check`."""
        self.examination.check(self.yardstick, training)

    @property
    def quantizer(self) -> Quantizer:
        """From schemes to programs."""
        return self.calibrated()

    @property
    def parts(self) -> tuple[Quantizer, Yardstick, Config]:
        """What searches and fine-tunes takes: programs, how they are judged, and the settings."""
        return self.quantizer, self.yardstick, self.config

    def uniform(self, bits: int) -> Scheme:
        """The scheme of one width everywhere, with the configuration's other choices."""
        return uniform(self.model.layers, bits, self.config)

    def on(self, quantizer: Quantizer, yardstick: Yardstick) -> "Session":
        """The session of the same model with other weights, such as fine-tuning left.

        Parameters
        ----------
        quantizer : Quantizer
            Of the other weights.
        yardstick : Yardstick
            Judges its programs.
        """
        return replace(
            self,
            model=quantizer.model,
            yardstick=yardstick,
            emission=replace(self.emission, model=quantizer.model),
            calibrated=lambda: quantizer,
        )

    @property
    def handed_on(self) -> dict[str, str]:
        """Outputs by the input that each is in the next call; none where calls are apart."""
        streams = any(part.streams for part in self.data[VALIDATION].parts)
        return self.model.host.interface.states if streams else {}
