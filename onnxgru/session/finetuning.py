"""Fine-tuning of one scheme of a model, and the files that it writes."""

import json
import math
from dataclasses import asdict, astuple, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core import files
from onnxgru.core.choices import MAXIMUM_BITS
from onnxgru.core.errors import (
    DataError,
    DivergedError,
    ModelError,
    OutputError,
    OverflowProofError,
)
from onnxgru.core.folder import (
    FINETUNED_CALIBRATION,
    FINETUNED_MODEL,
    FINETUNED_WEIGHTS,
    MEMBER,
    TEACHER,
)
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.core.weights import Tuned
from onnxgru.data import sources as datasets
from onnxgru.data.dataset import Dataset
from onnxgru.events import EpochEnded, Listener, Stage, silent
from onnxgru.passes.graph import source
from onnxgru.rounding import finetuned
from onnxgru.session.model import Model, read
from onnxgru.session.quantizer import Quantizer, uniform
from onnxgru.session.yardstick import Yardstick
from onnxgru.settings.config import Config
from onnxgru.training.checkpoint import Checkpoint
from onnxgru.training.finetune import Finetuning, FinetuningSettings, check
from onnxgru.training.host import require_gradients
from onnxgru.training.state import Epoch
from onnxgru.training.trace import import_torch

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Tuning:
    """A scheme after fine-tuning.

    Parameters
    ----------
    quantizer : Quantizer
        Lowers schemes of the model with its new weights.
    yardstick : Yardstick
        Judges programs of the model with its new weights.
    program : IntegerProgram
        The program of the scheme and the new weights.
    tuned : Tuned
        The new weights and their integers.
    summary : dict
        The entry ``finetuning`` of ``report.json``.
    """

    quantizer: Quantizer
    yardstick: Yardstick
    program: IntegerProgram
    tuned: Tuned
    summary: dict[str, Any]

    def contents(self) -> dict[str, bytes]:
        """Files: the float model, the integers of its weights, and all ranges.

        ``onnxgru quantize finetuned.onnx --scheme scheme.json --calibration-file
        finetuned.calibration.json --weights-file finetuned.weights.npz`` makes the same codes.
        """
        model = source.compact(source.proto(self.quantizer.model.normal))
        content: bytes = model.SerializeToString(deterministic=True)
        known = self.quantizer.statistics.calibration
        ranges = {
            name: quantization.range
            for name, quantization in self.program.values.items()
            if name in known.histograms
        }
        calibration = replace(known, overrides=ranges, model=files.digest(content))
        return {
            FINETUNED_MODEL: content,
            FINETUNED_WEIGHTS: finetuned.dump(self.tuned.rounded),
            FINETUNED_CALIBRATION: calibration.dumps(),
        }


def training_data(model: Model, yardstick: Yardstick, config: Config) -> Dataset | None:
    """Read the training data that a configuration names, and check all that fine-tuning needs.

    This comes before all other work, so that a mistake is told at once.

    Parameters
    ----------
    model : Model
        The float model.
    yardstick : Yardstick
        What its programs are judged by.
    config : Config
        Names the data and the settings of fine-tuning.

    Returns
    -------
    Dataset or None
        None where the configuration names no training data.

    Raises
    ------
    UsageError
        If torch is not installed, gradients cannot pass the model, or a setting does not fit it.
    DataError
        If the data do not fit the model, or are too few or of one class.
    """
    if config.training_data is None:
        return None
    import_torch("fine-tuning")
    nodes = [layer.node for layer in model.layers]
    require_gradients(source.proto(model.normal), nodes, yardstick.output)
    data = datasets.load(config.training_data, model.host.signature)
    if not isinstance(data, Dataset) or data.streams:
        raise DataError(
            f"{data.source}: training data must hold sequences of one length, each on its own, "
            "they hold "
            + ("frames of recordings" if isinstance(data, Dataset) else "several lengths")
            + "; pad or cut them to one length"
        )
    settings = _settings(config, config.epochs)
    outputs = yardstick.reference("validation")[yardstick.output]
    check(data, outputs, settings, model.host.batch)
    return data


class Checkpoints:
    """Checkpoints of an output folder: of the teacher, and of the scheme.

    Parameters
    ----------
    place : Path
        The output folder; it is made with the first epoch.
    """

    def __init__(self, place: Path) -> None:
        self._place, self._made = place, not place.is_dir()
        self._known = {name: Checkpoint(place / name) for name in (TEACHER, MEMBER)}

    def __getitem__(self, name: str) -> Checkpoint:
        return self._known[name]

    def check(self, *, resume: bool) -> None:
        """Check before any work that no interrupted fine-tuning is lost; see `Checkpoint.check`.

        Raises
        ------
        OutputError
            If there is nothing to resume, or something that would be lost.
        """
        there = [known for known in self._known.values() if known.is_there]
        (there or [self._known[MEMBER]])[0].check(resume=resume)

    def check_teacher(self) -> None:
        """Check, before a teacher is trained, that no scheme goes on with another teacher.

        Raises
        ------
        OutputError
            If there is a checkpoint of a scheme, and none of its teacher.
        """
        member = self._known[MEMBER]
        if member.is_there and not self._known[TEACHER].is_there:
            raise OutputError(
                f"{member.path}: must have {TEACHER} beside it, of the teacher that it goes on "
                "with; restore that, or remove this one too to begin anew"
            )

    def discard(self) -> None:
        """Remove the files, and the folder if it was made for them and holds nothing else."""
        for known in self._known.values():
            known.remove()
        if self._made and self._place.is_dir() and not any(self._place.iterdir()):
            self._place.rmdir()


@dataclass(frozen=True, eq=False)
class Lesson:
    """The start of a fine-tuning: weights, and the outputs of the teacher.

    Parameters
    ----------
    outputs : ndarray of float32, batch first
        Outputs of the teacher for the training data.
    start : Tuned, optional
        Weights to start from; those of the model where left out.
    summary : dict, optional
        Summary of the teacher's own fine-tuning; None where the float model teaches.
    """

    outputs: Array
    start: Tuned | None = None
    summary: dict[str, Any] | None = None


def prepare(
    quantizer: Quantizer,
    yardstick: Yardstick,
    config: Config,
    data: Dataset,
    *,
    start: Tuned | None = None,
    listener: Listener = silent,
    checkpoints: Checkpoints | None = None,
) -> Lesson:
    """Prepare what every fine-tuning of a model starts from, and train the teacher if there is one.

    The float model teaches, or with ``teacher_epochs`` the model at 8 bits after so many of the
    epochs, from which narrow schemes then start too (after the progressive quantisation and the
    guidance of Zhuang et al. 2018, arXiv 1711.00205): where training data take 8 bits beyond the
    float model, narrower widths follow.

    Parameters
    ----------
    quantizer : Quantizer
        Lowers schemes of the model.
    yardstick : Yardstick
        Judges programs of the model.
    config : Config
        Settings of fine-tuning.
    data : Dataset
        From `training_data`.
    start : Tuned, optional
        Weights of an earlier fine-tuning to start from, of any widths; those of the model where
        left out (a "beacon", Rezk et al. 2021, arXiv 2108.01192).
    listener : callable, optional
        Receives every epoch.
    checkpoints : Checkpoints, optional
        Checkpoints to go on from, and to write.

    Raises
    ------
    UsageError
        If it diverges.
    OutputError
        If the checkpoint cannot be written, or is of another fine-tuning.
    """
    model = quantizer.model
    lesson = Lesson(_outputs(model, yardstick.output, data), start)
    if not config.teacher_epochs:
        return lesson
    listener(Stage(f"fine-tuning a teacher of {MAXIMUM_BITS} bits on {data.size:,} sequences"))
    scheme = uniform(model.layers, MAXIMUM_BITS, config)
    if checkpoints:
        checkpoints.check_teacher()
    made = _fitted(
        quantizer.unbounded, yardstick, config, scheme, data, lesson, config.teacher_epochs,
        listener, checkpoints, TEACHER,
    )  # fmt: skip
    taught = _outputs(made.quantizer.model, yardstick.output, data)
    return Lesson(taught, made.tuned, made.summary)


def tune(
    quantizer: Quantizer,
    yardstick: Yardstick,
    config: Config,
    scheme: Scheme,
    data: Dataset,
    *,
    lesson: Lesson | None = None,
    listener: Listener = silent,
    checkpoints: Checkpoints | None = None,
) -> Tuning:
    """Fine-tune a scheme.

    Parameters
    ----------
    quantizer : Quantizer
        Of the model.
    yardstick : Yardstick
        What its programs are judged by.
    config : Config
        How to fine-tune.
    scheme : Scheme
        Widths to fine-tune for.
    data : Dataset
        From `training_data`.
    lesson : Lesson, optional
        From `prepare`, which is called where left out.
    listener : callable, optional
        Receives every epoch.
    checkpoints : Checkpoints, optional
        Checkpoints to go on from, and to write.

    Raises
    ------
    UsageError
        If it diverges.
    OutputError
        If a checkpoint cannot be written, or is of another fine-tuning.
    """
    if lesson is None:
        lesson = prepare(
            quantizer, yardstick, config, data, listener=listener, checkpoints=checkpoints
        )
    listener(Stage(f"fine-tuning on {data.size:,} sequences"))
    epochs = config.epochs - config.teacher_epochs
    return _fitted(
        quantizer, yardstick, config, scheme, data, lesson, epochs, listener, checkpoints, MEMBER
    )


def _fitted(
    quantizer: Quantizer,
    yardstick: Yardstick,
    config: Config,
    scheme: Scheme,
    data: Dataset,
    lesson: Lesson,
    epochs: int,
    told: Listener,
    checkpoints: Checkpoints | None,
    name: str,
) -> Tuning:
    """Fine-tune a scheme for a number of epochs, with a checkpoint under a name."""
    settings, host = _settings(config, epochs), quantizer.model.host
    began = quantizer if lesson.start is None else quantizer.started(lesson.start, config)
    program = began(scheme)
    finetuning = Finetuning(
        source.proto(began.model.normal),
        began.model.layers,
        program,
        scheme,
        yardstick.output,
        host.interface.outputs[yardstick.output] or 0,
        settings,
        host.batch,
    )
    history: list[Epoch] = []
    metric = yardstick.metric

    def judge(tuned: Tuned) -> float:
        other = began.retuned(tuned)
        judging = yardstick.on(other.model.host)
        try:
            return metric.error(judging.quality(other(scheme), "validation"))
        except OverflowProofError:  # weights have grown so that accumulators do not fit any more
            return math.inf

    def report(epoch: Epoch) -> None:
        history.append(epoch)
        told(EpochEnded(epoch.number, epoch.total, epoch.loss, metric.quality(epoch.error)))

    target = yardstick.targets("validation")[yardstick.output]
    labels = metric.target == "labels"
    counted = int(np.count_nonzero(target >= 0) if labels else np.prod(target.shape[:-1]))
    checkpoint = checkpoints[name] if checkpoints else None
    if checkpoint and checkpoint.is_there:
        told(Stage(f"going on from {checkpoint.path}"))
    try:
        chosen, tuned = finetuning.run(
            data,
            lesson.outputs,
            judge,
            report,
            lambda error: metric.uncertainty(error, counted),
            checkpoint,
            _identity(quantizer, yardstick, program, finetuning, data, lesson, settings)
            if checkpoint
            else "",
        )
    except DivergedError:  # it would again
        if checkpoints:
            checkpoints.discard()
        raise
    errors = [epoch.error for epoch in history]
    summary = {
        "data": {"source": data.source, "sequences": data.size, "sha256": data.digest()},
        "teacher": lesson.summary,
        "epochs": settings.epochs,
        "chosen_epoch": chosen,
        "learning_rate": settings.learning_rate,
        "batch_size": settings.batch_size,
        "distillation": settings.distillation,
        "learned_scales": settings.scales,
        "averaging": settings.averaging,
        "before": metric.quality(errors[0]),
        "validation_by_epoch": [
            metric.quality(error) if math.isfinite(error) else None for error in errors
        ],
    }
    final = began.retuned(tuned)
    return Tuning(final, yardstick.on(final.model.host), final(scheme), tuned, summary)


def _identity(
    quantizer: Quantizer,
    yardstick: Yardstick,
    program: IntegerProgram,
    finetuning: Finetuning,
    data: Dataset,
    lesson: Lesson,
    settings: FinetuningSettings,
) -> str:
    """Digest of everything that a fine-tuning depends on."""
    from onnxgru import __version__

    began = finetuning.result()
    known = [
        __version__,
        *(version(name) for name in ("numpy", "onnxruntime", "torch")),
        asdict(settings),
        quantizer.limits.accumulator_bits,  # an epoch that does not fit them is not kept
        quantizer.model.digest,
        yardstick.output,
        yardstick.metric.name,
        data.digest(),
        yardstick.data["validation"].digest(),
        sorted((name, astuple(value)) for name, value in program.values.items()),
        files.digest(lesson.outputs.tobytes()),
        files.digest(finetuned.dump(began.rounded)),
        *(files.digest(b"".join(a.tobytes() for a in of)) for of in began.weights.values()),
        *(files.digest(array.tobytes()) for array in began.initializers.values()),
    ]
    return files.digest(json.dumps(known).encode())


class Candidates:
    """Fine-tunes every scheme that it is called with, all from one lesson, without events.

    Parameters
    ----------
    quantizer : Quantizer
        Of the model.
    yardstick : Yardstick
        What its programs are judged by.
    config : Config
        How to fine-tune.
    data : Dataset
        From `training_data`.
    listener : callable, optional
        Receives every epoch of the teacher.
    checkpoints : Checkpoints, optional
        Checkpoints of the teacher to go on from, and to write.

    Raises
    ------
    UsageError
        If the teacher diverges.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        yardstick: Yardstick,
        config: Config,
        data: Dataset,
        listener: Listener = silent,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._yardstick, self._config, self._data = yardstick, config, data
        self.lesson = prepare(
            quantizer, yardstick, config, data, listener=listener, checkpoints=checkpoints
        )

    def __call__(self, quantizer: Quantizer, scheme: Scheme) -> tuple[Yardstick, IntegerProgram]:
        """The yardstick and the program of a scheme after fine-tuning.

        Parameters
        ----------
        quantizer : Quantizer
            Lowers schemes of the same model, perhaps within other limits.
        scheme : Scheme
            Widths to fine-tune for.

        Raises
        ------
        OverflowProofError
            If an accumulator could overflow.
        UsageError
            If fine-tuning diverges.
        """
        made = tune(
            quantizer, self._yardstick, self._config, scheme, self._data, lesson=self.lesson
        )
        return made.yardstick, made.program


def _settings(config: Config, epochs: int) -> FinetuningSettings:
    return FinetuningSettings(
        epochs=epochs,
        learning_rate=config.learning_rate,
        batch_size=config.batch_size,
        distillation=config.distillation,
        scales=config.learned_scales,
        averaging=config.averaging,
        seed=config.seed,
    )


def _outputs(model: Model, output: str, data: Dataset) -> Array:
    """One output of a float model for training data, the batch first."""
    return model.host.outputs_of(data)[output]


def load_tuned(model: Model, config: Config, folder: Path) -> Tuned:
    """Weights that an earlier fine-tuning of the same model left in a folder.

    Raises
    ------
    OutputError
        If the folder has none.
    ModelError
        If it is of another model.
    """
    path = folder / FINETUNED_MODEL
    if not path.is_file():
        raise OutputError(
            f"{folder}: must be the folder of a fine-tuning, it has no {FINETUNED_MODEL}; "
            "fine-tune one member first"
        )
    found = read(path, config)
    weights, wanted = (
        {o.name: o.numbers for layer in layers for o in layer.operators if o.numbers}
        for layers in (found.layers, model.layers)
    )
    if set(weights) != set(wanted):
        raise ModelError(
            f"{path}: must be a fine-tuned {model.path.name}, but has other layers; give a "
            "folder of the same model, or fine-tune it again"
        )
    known = model.normal.graph.initializers
    initializers = {
        str(name): value.const_value.numpy()
        for name, value in found.normal.graph.initializers.items()
        if value.const_value is not None and name in known
    }
    return Tuned({}, weights, {}, initializers)
