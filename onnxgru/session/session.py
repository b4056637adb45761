"""All that one configuration makes of a model and its data, before a scheme is chosen."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from onnxgru.core.choices import ACCUMULATOR_BITS
from onnxgru.core.scheme import Scheme
from onnxgru.core.weights import Tuned
from onnxgru.data import metrics
from onnxgru.data.dataset import Recorded
from onnxgru.events import Listener, Notice, Teller, silent
from onnxgru.passes import tables
from onnxgru.passes.form import Form
from onnxgru.passes.lower import Rounding
from onnxgru.passes.source import Origin
from onnxgru.rounding.given import Given
from onnxgru.runtime.interface import Wishes
from onnxgru.session import forms
from onnxgru.session.emission import Emission
from onnxgru.session.examination import Examination
from onnxgru.session.model import Model
from onnxgru.session.quantizer import Quantizer, uniform
from onnxgru.session.recordings import VALIDATION, Recordings
from onnxgru.session.statistics import Statistics
from onnxgru.session.yardstick import Yardstick
from onnxgru.settings.config import Config
from onnxgru.settings.quantization import AUTO

LONG = 60
"""Steps of a recording from which what each step adds to a state must not be rounded twice."""


def read(given: object, config: Config) -> Model:
    """The model of a configuration; see `Model.read`."""
    wishes = Wishes.parse(config.batch_axis, config.state)
    return Model.read(given, config.include, config.exclude, wishes, head=config.head)


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
    collect : callable
        Statistics of the model, collected when they are first asked for.
    rounding : callable, optional
        Codes of weights that are known already.
    """

    config: Config
    listener: Listener
    tell: Teller
    model: Model
    data: Recordings
    examination: Examination
    yardstick: Yardstick
    emission: Emission
    collect: Callable[[], Statistics]
    rounding: Rounding | None = None

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
            Evaluate programs on compiled kernels, which many of them are worth; as a search does
            where left out.

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
        def collect() -> Statistics:
            return Statistics.collect(model, examination.calibration, config, listener)

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
        return cls(config, listener, tell, model, data, examination, yardstick, emission, collect)

    def examine(self, training: Recorded | None = None) -> None:
        """Name what looks wrong with the data before any work; see `Examination.check`."""
        self.examination.check(self.yardstick, training)

    @property
    def statistics(self) -> Statistics:
        """Statistics of the model."""
        return self.collect()

    @cached_property
    def quantizer(self) -> Quantizer:
        """From schemes to programs."""
        return Quantizer.of(self.model, self.statistics, self.config, self.rounding)

    def uniform(self, bits: int) -> Scheme:
        """The scheme of one width everywhere, with the configuration's other choices."""
        return uniform(self.model.layers, bits, self.config)

    @cached_property
    def unbounded(self) -> "Session":
        """The same with accumulators of any width: for what is compared with and never written."""
        if self.config.accumulator_bits == ACCUMULATOR_BITS:
            return self
        wide = replace(self.config, accumulator_bits=ACCUMULATOR_BITS)
        return replace(self, config=wide, rounding=self.quantizer.rounding)

    def retuned(self, tuned: Tuned, *, integers: bool = True) -> "Session":
        """The session with weights that fine-tuning left.

        Figures are still compared with the float model that this one began with.

        Parameters
        ----------
        tuned : Tuned
            What fine-tuning left.
        integers : bool
            With the integers of the weights, and its ranges: for the scheme that it was for.
        """
        model = self.model.retuned(tuned)
        statistics = self.statistics.retuned(tuned, ranges=integers)
        return replace(
            self,
            model=model,
            yardstick=self.yardstick.on(model.host),
            emission=replace(self.emission, model=model),
            collect=lambda: statistics,
            rounding=Given(tuned.rounded, "fine-tuning") if integers else None,
        )

    @property
    def handed_on(self) -> dict[str, str]:
        """Outputs by the input that each is in the next call; none where calls are apart."""
        streams = any(part.streams for part in self.data[VALIDATION].parts)
        return self.model.host.interface.states if streams else {}

    def settings(self) -> dict[str, Any]:
        """The configuration as JSON can hold it."""
        found = {
            field.name: _plain(getattr(self.config, field.name)) for field in fields(self.config)
        }
        return found | {"metric": metrics.title(self.config.metric)}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)
