"""Comparison of emitted graphs with the oracle, code for code, in every runtime."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import pytest

from onnxgru.core.program import IntegerProgram
from onnxgru.custom_ops.integer_graph.vocabulary import Vocabulary
from onnxgru.passes.forms.form import Form
from onnxgru.passes.forms.start import Start
from onnxgru.passes.forms.step import Step
from onnxgru.runtime.engines import States
from onnxgru.runtime.evaluator import Evaluator
from onnxgru.runtime.probe import probe
from onnxgru.runtime.sessions import require_equal, runtimes
from onnxgru.runtime.verify import oracle_engine
from tests import grus
from tests.pipeline import Pipeline, dataset, pipeline

RUNTIMES = tuple(runtimes())
ONE = ("onnxruntime (all)",)
require_openvino = pytest.mark.skipif(
    "OpenVINO" not in RUNTIMES, reason="OpenVINO is not installed"
)


@dataclass(frozen=True, eq=False)
class Expected:
    """What the oracle computed: outputs of the model and, by layer, codes with traces."""

    outputs: dict[str, np.ndarray]
    states: dict[str, States]

    @property
    def codes(self) -> dict[str, np.ndarray]:
        return {
            f"{layer}/{name}": value
            for layer, found in self.states.items()
            for name, value in (("y", found.y), *last_values(found))
        }


def last_values(found: States) -> list[tuple[str, np.ndarray]]:
    """Last values of the carries under their names in the graph: the first has no suffix."""
    labels = ["y_h", *(f"y_h/{carry}" for carry in list(found.last)[1:])]
    return list(zip(labels, found.last.values(), strict=False))


def expect(made: Pipeline, program: IntegerProgram, inputs: Mapping[str, np.ndarray]) -> Expected:
    """Run the oracle, with the float parts of the model around it."""
    data = dataset(made.host, dict(inputs))
    evaluator = Evaluator(made.host, data, oracle_engine)
    ((_, states),) = evaluator.states(program, trace=True)
    (outputs,) = evaluator.calls_outputs(program)
    return Expected(outputs, states)


def require_exact(
    made: Pipeline,
    program: IntegerProgram,
    inputs: Mapping[str, np.ndarray],
    form: Form | None = None,
    names: Iterable[str] = RUNTIMES,
    vocabulary: Vocabulary | None = None,
) -> Expected:
    """Emit, check and run; state codes and model outputs equal the oracle's."""
    expected = expect(made, program, inputs)
    message = made.emit(program, form, vocabulary)
    require_valid(message)
    probed, codes = probe(message, program)
    assert codes
    for name in names:
        found = runtimes()[name](probed)(inputs)
        for code in codes:
            assert found[code].dtype == expected.codes[code].dtype
        require_equal(expected.codes, found, codes, name)
        require_equal(expected.outputs, found, expected.outputs, name)
    return expected


def require_valid(message: onnx.ModelProto) -> None:
    """ONNX's full check, and operators of the standard domain only."""
    onnx.checker.check_model(message, full_check=True)
    assert [(o.domain, o.version >= 18) for o in message.opset_import] == [("", True)]
    assert not message.functions
    assert {node.domain for node in every_node(message.graph)} == {""}


def every_node(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from every_node(attribute.g)


def to_step(made: Pipeline) -> Pipeline:
    """The same pipeline over a model that reads one step a call."""
    model = made.model.clone()
    Start(made.layers)(model)
    Step(made.layers)(model)
    return Pipeline(model, made.layers, made.host, made.calibration, made.lower)


@cache
def _made(key: str) -> tuple[Pipeline, dict[str, np.ndarray]]:
    case = _CASES[key]
    inputs = grus.feeds(case)
    return pipeline(grus.model(case), inputs), inputs


_CASES: dict[str, grus.Case] = {}


def made(case: grus.Case) -> tuple[Pipeline, dict[str, np.ndarray]]:
    """Pipeline and inputs of a case, made once."""
    _CASES[str(case)] = case
    return _made(str(case))
