"""Shrink trained GRUs to verified integer ONNX graphs, each operator at its own bit-width.

>>> import onnxgru
>>> result = onnxgru.quantize("model.onnx", onnxgru.Config(bits=4))  # doctest: +SKIP

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.6.0"

if TYPE_CHECKING:
    from onnxgru.api import measure_sensitivity as measure_sensitivity
    from onnxgru.api import quantize as quantize
    from onnxgru.core.errors import OnnxgruError as OnnxgruError
    from onnxgru.core.errors import OnnxgruWarning as OnnxgruWarning
    from onnxgru.core.scheme import Scheme as Scheme
    from onnxgru.data.dataset import Dataset as Dataset
    from onnxgru.firmware.verifying import verify as verify
    from onnxgru.firmware.writing import write_c as write_c
    from onnxgru.output.members import finetune as finetune
    from onnxgru.output.members import pick as pick
    from onnxgru.output.result import Result as Result
    from onnxgru.output.running import load as load
    from onnxgru.session.comparison import evaluate as evaluate
    from onnxgru.session.inspection import inspect as inspect
    from onnxgru.settings.config import Config as Config
    from onnxgru.training.export import export as export

_HOMES = {
    "Config": "onnxgru.settings.config",
    "Dataset": "onnxgru.data.dataset",
    "OnnxgruError": "onnxgru.core.errors",
    "OnnxgruWarning": "onnxgru.core.errors",
    "Result": "onnxgru.output.result",
    "Scheme": "onnxgru.core.scheme",
    "evaluate": "onnxgru.session.comparison",
    "export": "onnxgru.training.export",
    "finetune": "onnxgru.output.members",
    "inspect": "onnxgru.session.inspection",
    "load": "onnxgru.output.running",
    "measure_sensitivity": "onnxgru.api",
    "pick": "onnxgru.output.members",
    "quantize": "onnxgru.api",
    "verify": "onnxgru.firmware.verifying",
    "write_c": "onnxgru.firmware.writing",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - names of the table above


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'onnxgru' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
