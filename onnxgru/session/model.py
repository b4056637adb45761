"""A model: read, brought to normal form, and its recurrent layers recognised."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from onnxgru.core import files
from onnxgru.core.network import Layer
from onnxgru.core.weights import Tuned
from onnxgru.passes.graph import source
from onnxgru.passes.graph.source import Origin
from onnxgru.passes.normal.normalize import Normalize
from onnxgru.passes.recognize.layers import Recognition, recognize, require
from onnxgru.passes.recognize.retune import Retune
from onnxgru.runtime.declared import Declared
from onnxgru.runtime.host import Host
from onnxgru.runtime.observation import Observation
from onnxgru.settings.config import Config

NO_HEAD = (
    "--head found no dense layer: MatMul or Gemm with constant float32 weights, whose input has "
    "two or three axes, before or behind a recurrent layer"
)


@dataclass(frozen=True, eq=False)
class Model:
    """A model in normal form, with what was recognised in it.

    Parameters
    ----------
    origin : Origin
        The file, or what a Python program holds.
    normal : onnx_ir.Model
        The model in normal form. Nobody changes it; passes that do are given a clone.
    recognition : Recognition
        Its layers, and what stays in float.
    include, exclude : sequence of str
        Which nodes were to be recognised, as for `recognize`.
    declared : Declared
        What the user says of inputs and outputs.
    """

    origin: Origin
    normal: ir.Model
    recognition: Recognition
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    declared: Declared = field(default_factory=Declared)

    @classmethod
    def read(
        cls,
        given: object,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        declared: Declared | None = None,
        *,
        head: bool = False,
    ) -> "Model":
        """Read a model, normalise it and recognise its layers.

        Parameters
        ----------
        given : path, Origin, bytes, ModelProto or onnx_ir.Model
            As for `onnxgru.passes.graph.source.origin`.
        include, exclude : sequence of str
            As for `recognize`.
        declared : Declared, optional
            What the user says of inputs and outputs.
        head : bool
            Whether dense layers are quantised too.

        Raises
        ------
        ModelError
            If the model cannot be read.
        UsageError
            If a name matches no recurrent node.
        """
        origin = source.origin(given)
        return cls.of(origin, source.read(origin), include, exclude, declared, head=head)

    @classmethod
    def of(
        cls,
        origin: Origin,
        model: ir.Model,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        declared: Declared | None = None,
        *,
        head: bool = False,
    ) -> "Model":
        """Normalise a model that has been read already, in place; else as `read`."""
        Normalize(heads=head)(model)
        found = recognize(model, include, exclude)
        if head and all(layer.recurrent for layer in found.layers):
            found = replace(found, notes=(*found.notes, NO_HEAD))
        return cls(origin, model, found, include, exclude, declared or Declared())

    @property
    def path(self) -> Path:
        """The file."""
        return self.origin.path

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return files.digest(self.origin.content)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that are quantised, of which there must be one.

        Raises
        ------
        ModelError
            If there is none; the message has every reason.
        """
        return require(self.recognition, str(self.path))

    @cached_property
    def host(self) -> Host:
        """The float parts around the layers; raises what `Host` does."""
        return Host(self.normal, self.recognition.layers, self.declared)

    @cached_property
    def observation(self) -> Observation:
        """The decomposed float graph with every operator visible."""
        return Observation(self.normal, self.layers, self.host.batch)

    def serialized(self) -> bytes:
        """The model in normal form with all its weights, as a ``ModelProto``.

        Raises
        ------
        ModelError
            If it is larger than 2 GiB.
        """
        content: bytes = source.proto(self.normal).SerializeToString(deterministic=True)
        return content

    def retuned(self, tuned: Tuned) -> "Model":
        """The same model with weights that fine-tuning left."""
        model = self.normal.clone()
        Retune(self.layers, tuned.weights, tuned.initializers)(model)
        found = recognize(model, self.include, self.exclude)
        return replace(self, normal=model, recognition=found)


def read(given: object, config: Config) -> Model:
    """The model of a configuration; see `Model.read`."""
    declared = Declared.parse(config.batch_axis, config.state)
    return Model.read(given, config.include, config.exclude, declared, head=config.head)
