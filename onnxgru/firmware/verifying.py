"""Verifying an output folder: its graph in every runtime, and its C code beside it.

The C code is written and compiled in a temporary folder and runs its self-test: each layer gets the
codes that it reads in the graph, from its reset on, and must give the codes that the graph gives.
"""

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnxgru.core.errors import OnnxgruError, OutputError, UsageError
from onnxgru.core.program import IntegerProgram
from onnxgru.data.reading import Source
from onnxgru.events import Listener, Stage, silent
from onnxgru.firmware.emulators import MACHINES, NATIVE
from onnxgru.firmware.sources import Library, Vector
from onnxgru.firmware.writing import STEPS, vector
from onnxgru.onnxruntime.verifying import has_functions, operator_row
from onnxgru.output.reopening import program_of
from onnxgru.passes.forms.states import first_values, recorded
from onnxgru.runtime.probe import Probe
from onnxgru.runtimes.process import Calls
from onnxgru.runtimes.table import DEVICES, OPERATOR, RUNTIMES, Runtime
from onnxgru.session.toolchains import (
    ABSENT,
    DIFFERS,
    REFUSES,
    SAME,
    SECONDS,
    RuntimeRow,
    Trial,
    Verdicts,
    known,
    places_of,
    reference,
    rows,
)

_MACHINES = {NATIVE.name: NATIVE, **MACHINES}
_BASE, _MOST = 64, 60
"""Exit code of a self-test that finds nothing wrong, and how many wrong codes it can tell."""

MAIN = """int {prefix}_test(void);

int main(void)
{{
    int wrong = {prefix}_test();
    return {base} + (wrong > {most} ? {most} : wrong);
}}
"""


def verify(
    path: str | Path,
    data: Source | None = None,
    runtimes: Sequence[str] = (),
    *,
    where: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
    listener: Listener = silent,
) -> Verdicts:
    """Run a written graph in every runtime that is installed and compare all codes.

    Of an output folder, the C code is run too: on this machine, and on emulated ones where cross
    compilers and QEMU are installed; and of a graph with functions the operators of
    `onnxgru.onnxruntime` in their place.

    Parameters
    ----------
    path : path
        An output folder, or an ONNX file.
    data : str, path or object, optional
        Recordings to run, as for `quantize`; where left out, the test data sets beside the graph,
        or random numbers if there are none.
    runtimes : sequence of str
        Names of runtimes; all where left out. ``C`` means all machines that run C code.
    where : mapping of str to str, optional
        By name of a runtime: a Python interpreter that has it, its program, or for onnxruntime-web
        the folder with ``node_modules``.
    seconds : float
        Time limit of each runtime.
    listener : callable, optional
        Receives the events of `onnxgru.events`.

    Returns
    -------
    Verdicts
        One row per runtime: the same codes, other codes, a refusal, or not installed.

    Raises
    ------
    UsageError
        If there is no runtime of a name, the time limit is not above 0, or C or the operator is
        asked for of a single file.
    ModelError
        If the file cannot be read, or onnxruntime cannot run it.
    DataError
        If data or test data sets do not fit.
    """
    if not seconds > 0:
        raise UsageError(f"--seconds must be a number above 0, got {seconds:g}")
    wanted = known(runtimes, (*RUNTIMES, OPERATOR, *DEVICES))
    folder = Path(path)
    devices = [runtime for runtime in wanted if runtime in DEVICES]
    operator = OPERATOR in wanted
    if not folder.is_dir():
        if runtimes and (devices or operator):
            raise UsageError(
                f"{(*devices, OPERATOR)[0].name} needs an output folder, from which its code is "
                f"made, got {path}; give the folder"
            )
        devices, operator = [], False
    places = places_of(where or {})
    trial = Trial.of(path, data)
    others = [runtime for runtime in wanted if runtime in RUNTIMES]
    found = rows(trial, others, places, seconds=seconds, listener=listener)
    if operator and (runtimes or has_functions(trial)):
        listener(Stage("verifying the compiled operators in onnxruntime"))
        began = time.monotonic()
        row = operator_row(folder, trial)
        found.append(replace(row, seconds=round(time.monotonic() - began, 1)))
    found += _devices(folder, trial, devices, seconds, listener)
    return Verdicts(str(trial.file), trial.inputs, tuple(found))


def _devices(
    folder: Path, trial: Trial, devices: Sequence[Runtime], seconds: float, listener: Listener
) -> list[RuntimeRow]:
    """What becomes of the C code of an output folder on some machines."""
    found = []
    with tempfile.TemporaryDirectory(prefix="onnxgru-") as place:
        written: _Written | str | None = None
        for device in devices:
            if _MACHINES[device.variant].missing:
                found.append(RuntimeRow(device.name, ABSENT, detail=device.install))
                continue
            listener(Stage(f"verifying in {device.name}"))
            began = time.monotonic()
            if written is None:
                try:
                    written = _written(folder, trial, Path(place))
                except OnnxgruError as error:
                    written = str(error)
            if isinstance(written, str):
                row = RuntimeRow(device.name, REFUSES, detail=written)
            else:
                row = _row(device, written, Path(place) / device.variant, seconds)
            found.append(replace(row, seconds=round(time.monotonic() - began, 1)))
    return found


@dataclass(frozen=True)
class _Written:
    """Sources of a self-test.

    Parameters
    ----------
    sources : tuple of Path
        Its files.
    flags : tuple of str
        What they are compiled with.
    codes : int
        Codes that it compares.
    """

    sources: tuple[Path, ...]
    flags: tuple[str, ...]
    codes: int


def _written(folder: Path, trial: Trial, place: Path) -> _Written:
    """C code of an output folder, with a self-test of codes that its graph reads."""
    _, program = program_of(folder)
    library = Library(program, "verified", "a model")
    vectors = _vectors(trial, program)
    contents = library.files(vectors)
    contents["main.c"] = MAIN.format(prefix=library.prefix, base=_BASE, most=_MOST)
    for name, text in contents.items():
        (place / name).write_text(text, "utf-8")
    sources = tuple(place / n for n in contents if n.endswith(".c") and n != "example.c")
    flags = ("-Os", f"-D{library.prefix.upper()}_NO_MAIN")
    return _Written(sources, flags, sum(one.outputs.size for one in vectors))


def _vectors(trial: Trial, program: IntegerProgram) -> list[Vector]:
    """Codes that each layer reads in the graph, or random ones, and what it gives for them.

    Raises
    ------
    OutputError
        If the graph gives something else.
    """
    probe = Probe(trial.model, program)
    states = recorded(trial.model)
    calls = _in_a_row(trial, bool(states))
    values = reference(probe.model, calls)
    begun = calls.inputs[0]
    first = first_values(states, len(begun[states[0]["input"]])) if states else {}
    fresh = all(np.array_equal(begun[name], array) for name, array in first.items())
    generator = np.random.default_rng(0)
    found = []
    for layer in program.layers:
        reading, kind = probe.inputs.get(layer.name), layer.input.quantization.type
        if reading is None or reading.codes not in values[0]:
            drawn = generator.integers(0, kind.levels, (STEPS, 1, layer.input_size))
            found.append(vector(layer, drawn.astype(kind.container)))
            continue
        x = np.concatenate([call[reading.codes] for call in values])[:STEPS, :1]
        made = vector(layer, x.astype(kind.container))
        found.append(made)
        name = f"{layer.name}/y"
        if fresh and not layer.ports.initial and not layer.ports.lengths and name in values[0]:
            y = np.concatenate([call[name] for call in values])[:STEPS, :, 0]
            if not np.array_equal(y.reshape(len(y), -1), made.outputs):
                raise OutputError(
                    f"{trial.file}: must hold what its scheme and calibration make of the model, "
                    f"but {layer.name} gives other codes; quantise again with this version of "
                    "onnxgru"
                )
    return found


def _in_a_row(trial: Trial, step: bool) -> Calls:
    """The calls that are one sequence: of the step form those of one recording, else the first."""
    calls = trial.calls
    count = 1
    if step:
        later = [index for index in calls.anew if index and calls.states]
        count = min([len(calls.inputs), *later])
    return replace(calls, inputs=calls.inputs[:count])


def _row(device: Runtime, written: _Written, program: Path, seconds: float) -> RuntimeRow:
    """What becomes of a self-test on a machine."""
    machine = _MACHINES[device.variant]
    version = _version(machine.compiler)
    try:
        machine.build(written.sources, program, *written.flags)
        code = machine.run(program, seconds=seconds)
    except subprocess.CalledProcessError as error:
        lines = [line for line in str(error.stderr).splitlines() if "rror" in line]
        reason = f"{machine.compiler} ends with exit code {error.returncode}: {' '.join(lines[:1])}"
        return RuntimeRow(device.name, REFUSES, version, reason)
    except subprocess.TimeoutExpired:
        return RuntimeRow(
            device.name, REFUSES, version, f"has not ended within {seconds:g} seconds"
        )
    wrong = code - _BASE
    if not 0 <= wrong <= _MOST:
        return RuntimeRow(
            device.name, REFUSES, version, f"the self-test ended with exit code {code}"
        )
    if wrong:
        few = f"{wrong}" if wrong < _MOST else f"{wrong} or more"
        return RuntimeRow(device.name, DIFFERS, version, f"{few} of {written.codes:,} codes differ")
    return RuntimeRow(device.name, SAME, version, codes=written.codes)


def _version(compiler: str) -> str:
    told = subprocess.run(
        [compiler, "-dumpfullversion"], check=False, capture_output=True, text=True
    )
    return f"{compiler} {told.stdout.strip()}"
