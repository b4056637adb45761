"""The verb that writes the layers of an output folder as C sources."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxgru import events
from onnxgru.core import files
from onnxgru.core.errors import OutputError
from onnxgru.core.folder import (
    FINETUNED_CALIBRATION,
    FINETUNED_MODEL,
    FINETUNED_WEIGHTS,
    INTEGER,
    SCHEME,
    Folder,
    path_of,
)
from onnxgru.core.integers import Codes
from onnxgru.core.program import IntegerLayer, IntegerProgram
from onnxgru.data.dataset import Recorded
from onnxgru.data.reading import Source
from onnxgru.events import Listener, Stage, warned
from onnxgru.firmware.sources import Library, Vector
from onnxgru.output.reopening import report_of, scheme_of, session_of
from onnxgru.passes.graph import source
from onnxgru.runtime.engines import Initial, LayerEvaluator, States
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.host import Host
from onnxgru.session.recordings import VALIDATION
from onnxgru.session.session import Session
from onnxgru.settings.config import TASKS, Config
from onnxgru.settings.declare import defaults, dependent
from onnxgru.settings.finetuning import Finetuning
from onnxgru.settings.search import Search

SOURCES = "c"
"""Folder of the sources in an output folder."""

STEPS = 32
"""Most steps of the self-test."""


@dataclass(frozen=True, eq=False)
class Firmware:
    """The C sources that were written, and what they need on a device.

    Parameters
    ----------
    folder : Path
        The folder with the sources.
    files : tuple of str
        Names of the files.
    flash, ram : int
        Bytes of flash for the parameters, and of RAM for the states of all layers.
    steps : int
        Number of steps of the self-test.
    """

    folder: Path
    files: tuple[str, ...]
    flash: int
    ram: int
    steps: int


def write_c(
    folder: str | Path,
    *,
    output: str | Path | None = None,
    force: bool = False,
    model: object = None,
    validation: Source = None,
    metric: str | Callable[..., float] | None = None,
    listener: Listener = warned,
) -> Firmware:
    """Write the layers of an output folder as C99.

    Parameters
    ----------
    folder : path
        An output folder of `quantize`, `pick` or `finetune`.
    output : path, optional
        Folder for the sources; ``c`` in the output folder where left out.
    force : bool
        Replace what is there.
    model : path or model, optional
        The source model, where it has moved.
    validation : path or object, optional
        The validation data, where they have moved or came from Python; the self-test has their
        first steps.
    metric : str or callable, optional
        The metric, where it was a Python function.
    listener : callable, optional
        Receives the events of `onnxgru.events`; where left out, warnings go to `warnings.warn`.

    Returns
    -------
    Firmware
        The names of the files, and their bytes of flash and RAM.

    Raises
    ------
    OutputError
        If the folder holds no results, its ``integer.onnx`` is of another program, or something
        would be replaced.
    ModelError
        If sums of a product could leave 32 bits, or ``integer.onnx`` cannot be read.
    """
    events.check(listener)
    place = path_of(folder)
    before = report_of(place)
    target = Folder(place / SOURCES if output is None else path_of(output, "output"))
    target.check(force=force, resume=None, resumable=False)
    given = {"validation": validation, "metric": metric}
    changed = {name: value for name, value in given.items() if value is not None}
    session = _session(place, session_of(place, before, model, changed, listener, force=False))
    scheme = scheme_of(place, session.model.layers)
    program = session.quantizer(scheme)
    integer = place / INTEGER
    written = source.proto(source.read(integer))
    if _stored(session.emission.integer(program, scheme)) != _stored(written):
        raise OutputError(
            f"{integer}: must hold what its scheme and calibration make of the model, it has other "
            "weights or tables; quantise again with this version of onnxgru"
        )
    listener(Stage("writing C"))
    name = Path(files.recorded(before.model.path)).stem
    library = Library(program, name, f"{name}, quantised")
    data = session.data[VALIDATION]
    first = data.take(STEPS if any(part.streams for part in data.parts) else 1)
    vectors = golden(session.model.host, first, program)
    contents = {name: text.encode() for name, text in library.files(vectors).items()}
    target.write(contents)
    steps = max(len(vector.inputs) for vector in vectors)
    return Firmware(target.path, tuple(contents), library.flash, library.ram, steps)


def _stored(model: onnx.ModelProto) -> dict[str, bytes]:
    """Bytes of the initializers of a graph, by name."""
    return {one.name: numpy_helper.to_array(one).tobytes() for one in model.graph.initializer}


def _session(place: Path, session: Session) -> Session:
    """The session with the weights of a fine-tuning, where the folder has any."""
    weights = place / FINETUNED_WEIGHTS
    if not weights.is_file():
        return session
    known = defaults(Config, (*TASKS, *dependent(Search), *dependent(Finetuning), "training_data"))
    changed = {
        "scheme": place / SCHEME,
        "weights_file": str(weights),
        "calibration_file": place / FINETUNED_CALIBRATION,
    }
    config = replace(session.config, **{**known, **changed})
    return Session.open(place / FINETUNED_MODEL, config, session.listener)


class _Recorder:
    """Runs a layer, and keeps the codes of its input."""

    def __init__(self, layer: IntegerLayer, kept: dict[str, Codes]) -> None:
        self._layer, self._kept, self._run = layer, kept, LayerEvaluator(layer)

    def __call__(
        self,
        x: Codes,
        initial: Initial | None,
        lengths: npt.NDArray[np.integer[Any]] | None,
        *,
        trace: bool,
    ) -> States:
        steps = len(x) if lengths is None else max(1, int(lengths[0]))
        read = [self._kept[self._layer.name]] if self._layer.name in self._kept else []
        self._kept[self._layer.name] = np.concatenate([*read, x[:steps, :1]])[:STEPS]
        return self._run(x, initial, lengths, trace=trace)


def golden(host: Host, data: Recorded, program: IntegerProgram) -> list[Vector]:
    """Input codes of each layer at the beginning of a recording, and its output codes from reset.

    Parameters
    ----------
    host : Host
        The float parts of the model.
    data : Dataset or Corpus
        One recording, or the first frames of one that is given frame by frame.
    program : IntegerProgram
        The layers.
    """
    kept: dict[str, Codes] = {}
    evaluator = Evaluator(host, data, lambda layer: _Recorder(layer, kept), most=1, once=True)
    for _ in evaluator.states(program):
        if all(len(codes) == STEPS for codes in kept.values()):
            break
    return [vector(layer, kept[layer.name]) for layer in program.layers]


def vector(layer: IntegerLayer, x: Codes) -> Vector:
    """Input codes (T, 1, I) of a layer, and its output codes from reset."""
    y = LayerEvaluator(layer)(x).y
    return Vector(x[:, 0], y[:, :, 0].reshape(len(y), -1))
