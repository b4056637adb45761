"""The compiled operators of an output folder, compared code for code with its graph's functions."""

from pathlib import Path

from onnxgru.core.errors import OnnxgruError
from onnxgru.core.metadata import DOMAIN
from onnxgru.onnxruntime import library
from onnxgru.onnxruntime.operators import matched
from onnxgru.output.reopening import program_of
from onnxgru.runtimes.process import RAN, Ran
from onnxgru.runtimes.table import OPERATOR
from onnxgru.session.toolchains import REFUSES, RuntimeRow, Trial, called, judged


def has_functions(trial: Trial) -> bool:
    """Whether operators could stand in the place of functions of a graph."""
    return any(function.domain == DOMAIN for function in trial.model.functions)


def operator_row(folder: Path, trial: Trial) -> RuntimeRow:
    """What becomes of a graph whose functions the compiled operators replace, in this process.

    Parameters
    ----------
    folder : Path
        The output folder.
    trial : Trial
        Its graph, and what it is run on.
    """
    import onnxruntime

    version = str(onnxruntime.__version__)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        _, program = program_of(folder)
        found = matched(trial.shown.model, program)
        if found.left:
            return RuntimeRow(OPERATOR.name, REFUSES, version, found.left[0])
        library.register(options, found.operators)
    except OnnxgruError as error:
        return RuntimeRow(OPERATOR.name, REFUSES, version, str(error))
    session = onnxruntime.InferenceSession(
        trial.shown.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    taken = {value.name for value in session.get_inputs()}
    outputs = called(
        lambda feeds: dict(
            zip(
                names,
                session.run(names, {name: feeds[name] for name in feeds if name in taken}),
                strict=True,
            )
        ),
        trial.calls,
    )
    return judged(trial, OPERATOR, Ran(RAN, "", version, tuple(outputs)))
