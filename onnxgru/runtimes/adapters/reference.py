"""onnx.reference: ONNX's own evaluator in Python."""

from collections.abc import Callable, Mapping
from typing import Any

Run = Callable[[Mapping[str, Any]], dict[str, Any]]


def version(_job: Mapping[str, Any]) -> str:
    """The installed version of onnx."""
    import onnx

    return str(onnx.__version__)


def load(model: bytes, _job: Mapping[str, Any]) -> Run:
    """Load a model."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(onnx.load_from_string(model))
    wanted = set(evaluator.input_names)

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        feeds = {name: array for name, array in inputs.items() if name in wanted}
        return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))

    return run
