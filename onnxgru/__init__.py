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
    from onnxgru.comparison import evaluate as evaluate
    from onnxgru.core.dataset import Dataset as Dataset
    from onnxgru.core.errors import OnnxgruError as OnnxgruError
    from onnxgru.core.errors import OnnxgruWarning as OnnxgruWarning
    from onnxgru.core.scheme import Scheme as Scheme
    from onnxgru.inspection import inspect as inspect
    from onnxgru.members import finetune as finetune
    from onnxgru.members import pick as pick
    from onnxgru.result import Result as Result
    from onnxgru.settings.config import Config as Config
    from onnxgru.training.export import export as export

_HOMES = {
    "Config": "onnxgru.settings.config",
    "Dataset": "onnxgru.core.dataset",
    "OnnxgruError": "onnxgru.core.errors",
    "OnnxgruWarning": "onnxgru.core.errors",
    "Result": "onnxgru.result",
    "Scheme": "onnxgru.core.scheme",
    "evaluate": "onnxgru.comparison",
    "export": "onnxgru.training.export",
    "finetune": "onnxgru.members",
    "inspect": "onnxgru.inspection",
    "measure_sensitivity": "onnxgru.api",
    "pick": "onnxgru.members",
    "quantize": "onnxgru.api",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - names of the table above


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'onnxgru' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
