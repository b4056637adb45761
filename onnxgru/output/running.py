"""Running what an output folder holds from Python, on compiled kernels, without its ONNX graphs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import DataError, UsageError
from onnxgru.core.folder import path_of
from onnxgru.core.integers import Codes
from onnxgru.core.program import IntegerLayer, IntegerProgram
from onnxgru.data.dataset import Dataset, InputSpec
from onnxgru.output.reopening import program_of
from onnxgru.runtime.engines import States
from onnxgru.runtime.fused import FusedEngine
from onnxgru.runtime.host import Host
from onnxgru.runtime.walk import Group, Walk

Array = npt.NDArray[Any]


def load(folder: str | Path, *, streaming: bool = False, model: object = None) -> "Runner":
    """Load the quantised model of an output folder, to run it in this process.

    It computes the codes of ``integer.onnx`` and is faster, because a layer is one compiled call.
    Kernels are compiled at the first call, once per machine.

    Parameters
    ----------
    folder : path
        As ``onnxgru quantize``, ``pick`` or ``finetune`` left it.
    streaming : bool
        Every call continues the recording of the call before, until `Runner.reset`: states of the
        layers are kept, and the model's own state inputs may be left out.
    model : path or model, optional
        The float model, where it has moved.

    Returns
    -------
    Runner
        Runs the model with ``run(output_names, feeds)``, as a session of onnxruntime does.

    Raises
    ------
    OutputError
        If the folder holds no result.
    ModelError
        If the float model is not there any more.
    UsageError
        If the folder is no path, or `streaming` is given and a layer runs backwards.

    Examples
    --------
    >>> runner = onnxgru.load("out")  # doctest: +SKIP
    >>> (scores,) = runner.run(None, {"x": frames})  # doctest: +SKIP
    """
    found, program = program_of(path_of(folder), model)
    return Runner(found.host, program, str(folder), streaming=streaming)


class Runner:
    """A quantised model with the interface of an onnxruntime session.

    Parameters
    ----------
    host : Host
        The float parts of the model.
    program : IntegerProgram
        Its layers.
    name : str
        Name of the folder, for messages.
    streaming : bool
        Every call continues the recording of the call before.

    Raises
    ------
    UsageError
        If `streaming` is given and a layer runs backwards.
    """

    def __init__(
        self, host: Host, program: IntegerProgram, name: str, *, streaming: bool = False
    ) -> None:
        self._host, self._name, self._streaming = host, name, streaming
        self._plan = host.plan()
        self._layers = [(layer, FusedEngine(layer)) for layer in program.layers]
        self._axes = {spec.name: spec.batch_axis for spec in host.signature}
        self._fed_by = host.interface.states if streaming else {}
        backwards = next(
            (layer for layer in program.layers if any(r.reverse for r in layer.recurrences)), None
        )
        if streaming and backwards is not None:
            raise UsageError(
                f"{name}: layer {backwards.node} runs backwards too and needs whole recordings; "
                "load it without streaming"
            )
        self.reset()

    def __repr__(self) -> str:
        """The folder, the inputs and the outputs."""
        inputs = ", ".join(map(str, self.inputs))
        return f"<Runner of {self._name}: {inputs} -> {', '.join(self.outputs)}>"

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Inputs of a call; states may be left out where calls continue a recording."""
        return tuple(self._host.signature)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(self._host.interface.outputs)

    def reset(self) -> None:
        """Begin a new recording: all states get their first values."""
        self._following: dict[str, Array] = {}
        self._held: dict[str, dict[str, Codes]] = {}

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """Run the model once.

        Parameters
        ----------
        output_names : sequence of str or None
            Names of the wanted outputs; None for all, in the model's order.
        feeds : mapping of str to ndarray
            Inputs by name, in the shapes that the float model takes.

        Returns
        -------
        list of ndarray
            The outputs, in the order of the names.

        Raises
        ------
        DataError
            If inputs are missing, unknown, or of another type or shape.
        UsageError
            If an output is unknown.
        """
        names = self.outputs if output_names is None else tuple(output_names)
        for name in names:
            if name not in self.outputs:
                raise UsageError(
                    f"{self._name} has no output {name!r}; it has {', '.join(self.outputs)}"
                )
        data = Dataset(self._given(feeds), None, "what run was given", self._axes)
        walk = Walk(Group(self._plan, [data], [0], once=True))
        held = {}
        for place in self._plan.order:
            layer, engine = self._layers[place]
            (job,) = walk.jobs(place, layer)
            initial = {**(job.initial or {}), **self._kept(layer, job.x.shape[1])}
            states = engine(job.x, initial, job.lengths)
            walk.keep(place, layer, [job], [(states.y, states.last)])
            held[layer.name] = self._to_keep(layer, states)
        (found,) = walk.outputs(tuple(dict.fromkeys((*names, *self._fed_by.values()))))
        if self._streaming:
            self._held = held
            self._following = {name: found[output] for name, output in self._fed_by.items()}
        return [found[name] for name in names]

    def _kept(self, layer: IntegerLayer, batch: int) -> dict[str, Codes]:
        """States that a layer continues with."""
        kept = self._held.get(layer.name, {})
        before = next((codes.shape[1] for codes in kept.values()), batch)
        if before != batch:
            raise DataError(
                f"{self._name}: a stream of {before} sequences goes on with as many, this call has "
                f"{batch}; call reset() to begin another"
            )
        return kept

    def _to_keep(self, layer: IntegerLayer, states: States) -> dict[str, Codes]:
        """States for the next call of a layer, without those that the model itself hands on."""
        if not self._streaming:
            return {}
        given = layer.ports.initial if self._fed_by else {}
        return {carry: codes for carry, codes in states.last.items() if carry not in given}

    def _given(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All inputs of the model, checked."""
        unknown = next((name for name in feeds if name not in self._axes), None)
        if unknown is not None:
            raise DataError(
                f"{self._name} has no input {unknown!r}; it takes "
                f"{', '.join(map(str, self.inputs))}"
            )
        given = {name: np.asarray(value) for name, value in feeds.items()}
        found = {**self._following, **given}
        for spec in self.inputs:
            if spec.name not in found and spec.name in self._fed_by:
                found[spec.name] = _zeros(spec, found, self.inputs)
            if spec.name not in found:
                raise DataError(f"{self._name}: input {spec} is missing")
            _check(spec, found[spec.name], self._name)
        return {spec.name: found[spec.name] for spec in self.inputs}


def _zeros(spec: InputSpec, found: Mapping[str, Array], inputs: Sequence[InputSpec]) -> Array:
    """First value of a state input, for as many sequences as the other inputs have."""
    batch = next(
        (
            found[other.name].shape[other.batch_axis]
            for other in inputs
            if other.name in found and other.batch_axis is not None
        ),
        1,
    )
    sizes = [
        size if isinstance(size, int) else batch if axis == spec.batch_axis else 1
        for axis, size in enumerate(spec.shape)
    ]
    return np.zeros(sizes, spec.dtype)


def _check(spec: InputSpec, value: Array, name: str) -> None:
    sizes = spec.shape
    fits = value.ndim == len(sizes) and all(
        not isinstance(size, int) or size == own
        for size, own in zip(sizes, value.shape, strict=True)
    )
    if value.dtype != spec.dtype or not fits:
        shape = ", ".join(map(str, value.shape))
        raise DataError(f"{name}: input {spec} cannot be {value.dtype} ({shape})")
