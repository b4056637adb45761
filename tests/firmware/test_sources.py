"""C sources give the codes of the program, on this machine and on emulated ones."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxgru.core import skip
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import Scheme
from onnxgru.cost.account import account
from onnxgru.firmware.emulators import MACHINES
from onnxgru.firmware.sources import Library
from onnxgru.runtime.engines import LayerEvaluator
from onnxgru.runtime.verify import oracle_engine
from tests import grus
from tests.firmware.libraries import (
    CHECKED,
    COMPILERS,
    STRICT,
    Called,
    codes_for,
    compile_with,
    needs_gcc,
    run,
    write,
)
from tests.pipeline import pipeline, thresholded
from tests.runtime.test_wide import MIXED, STATES, wide_scheme

pytestmark = needs_gcc


def made(case: grus.Case) -> IntegerProgram:
    """Every operator at a width of its own."""
    return pipeline(grus.model(case), grus.feeds(case)).mixed(case.seed)


def widened(case: grus.Case, rows: tuple[str, ...], most: int = 0) -> IntegerProgram:
    """Some rows with codes of 16 bits, and thresholds up to a number."""
    model = pipeline(grus.model(case), grus.feeds(case))
    scheme = wide_scheme(model, 5, rows, 16)
    generator = np.random.default_rng(case.seed)
    if most:
        scheme = thresholded(model.layers, scheme, lambda: int(generator.integers(0, most)))
    return model.lower(scheme)


def skipped(case: grus.Case) -> IntegerProgram:
    """Products with the state in weights and codes of 16 bits."""
    model = pipeline(grus.model(case), grus.feeds(case))
    scheme = Scheme.uniform(model.layers, 4)
    chosen = skip.named(model.layers, ("*.hidden",))
    return model.lower(skip.applied(scheme, model.layers, chosen))


def delta(case: grus.Case) -> IntegerProgram:
    model = pipeline(grus.model(case), grus.feeds(case))
    generator = np.random.default_rng(case.seed)
    scheme = Scheme.uniform(model.layers, 3)
    return model.lower(thresholded(model.layers, scheme, lambda: int(generator.integers(0, 3))))


GRU = grus.Case(I=70, H=33)
LSTM = grus.Case(operator="LSTM", I=5, H=37, peepholes=True)
BOTH = grus.Case(I=35, H=9, linear_before_reset=0, direction="bidirectional", seed=4)
PROGRAMS = {
    "gru": lambda: made(GRU),
    "both_directions": lambda: made(BOTH),
    "one_input": lambda: made(grus.Case(I=1, H=34)),
    "rnn": lambda: made(grus.Case(operator="RNN", I=1, H=1)),
    "wide": lambda: widened(LSTM, MIXED),
    "skip": lambda: skipped(grus.Case(I=5, H=34)),
    "delta": lambda: delta(grus.Case(I=6, H=38, linear_before_reset=0)),
    "wide_delta": lambda: widened(LSTM, STATES, 900),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_codes_and_bytes(name: str, tmp_path: Path) -> None:
    program = PROGRAMS[name]()
    library = Library(program, name, name)
    sources = write(library, codes_for(program, 12, calm="delta" in name), tmp_path)
    compile_with("gcc", sources, tmp_path / "test", *CHECKED)
    run(tmp_path / "test")
    assert library.flash == account(program).flash_bytes
    assert library.ram == account(program).ram
    text = "".join(path.read_text() for path in sources)
    assert "malloc" not in text and "int64" not in text and "long" not in text


@pytest.mark.parametrize("compiler", COMPILERS)
def test_both_compilers_take_all_widths(compiler: str, tmp_path: Path) -> None:
    program = made(replace(GRU, H=4, seed=2))
    library = Library(program, "gru", "gru")
    sources = write(library, codes_for(program, 5), tmp_path)
    compile_with(compiler, sources, tmp_path / "test", "-Os")
    run(tmp_path / "test")
    example = [tmp_path / "example.c", *(s for s in sources if not s.name.endswith("_test.c"))]
    compile_with(compiler, example, tmp_path / "example", "-Os")
    run(tmp_path / "example")


def test_the_linker_finds_the_bytes_of_the_report(tmp_path: Path) -> None:
    program = made(GRU)
    library = Library(program, "gru", "gru")
    write(library, codes_for(program, 2), tmp_path)
    command = ["gcc", *STRICT, "-Os", "-c", "gru_parameters.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    shown = subprocess.run(
        ["nm", "-S", "--defined-only", "gru_parameters.o"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    sizes = [int(line.split()[1], 16) for line in shown.stdout.splitlines()]
    assert sum(sizes) == account(program).flash_bytes


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
def test_emulated_machines_give_the_same_codes(machine, tmp_path: Path) -> None:
    if machine.missing:
        pytest.skip(f"{' and '.join(machine.missing)}: not installed")
    program = made(grus.Case(I=5, H=34, seed=1))
    vectors = codes_for(program, 6)
    sources = write(Library(program, "gru", "gru"), vectors, tmp_path)
    machine.build(sources, tmp_path / "test", *STRICT[1:], "-Os")
    assert machine.run(tmp_path / "test") == 0
    vectors[0].outputs[5, 3] ^= 1  # the test finds what is wrong
    sources = write(Library(program, "gru", "gru"), vectors, tmp_path)
    machine.build(sources, tmp_path / "test", "-Os")
    assert machine.run(tmp_path / "test") == 1


@pytest.mark.parametrize(
    "case", [grus.Case(I=3, H=8), replace(LSTM, I=3, H=8)], ids=["gru", "lstm"]
)
def test_steps_from_extreme_states(case: grus.Case, tmp_path: Path) -> None:
    program = made(case)
    library = Library(program, "net", "net")
    (layer,), (text,) = program.layers, library.layers
    sources = [s for s in write(library, codes_for(program, 2), tmp_path) if "_test" not in s.name]
    compile_with("gcc", sources, tmp_path / "net.so", "-O2", "-shared", "-fPIC")
    called = Called(tmp_path / "net.so", text)
    generator = np.random.default_rng(0)
    steps, batch = 20, 60
    kind = layer.input.quantization.type
    x = generator.integers(0, kind.levels, (steps, batch, case.I)).astype(kind.container)
    extreme = generator.random((steps, batch, 1)) < 0.3
    x = np.where(extreme, np.where(x > kind.middle, kind.maximum, 0), x).astype(kind.container)
    initial = {}
    for carry in layer.recurrences[0].bound:
        grid = layer.carried(carry).type
        codes = grid.maximum * generator.integers(0, 2, (1, batch, case.H))
        initial[carry] = codes.astype(grid.container)
    for engine in (LayerEvaluator(layer), oracle_engine(layer)):
        wanted = engine(x, initial, None, trace=False).y[:, 0]
        for b in range(batch):
            carries = {name: codes[0, b] for name, codes in initial.items()}
            np.testing.assert_array_equal(called.run(x[:, b], carries), wanted[:, b])
