"""What a step costs on Cortex-M4, counted by QEMU, and what it calls."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.firmware import OURS, counted
from onnxgru.firmware.emulators import CORTEX_M0, CORTEX_M4
from onnxgru.firmware.sources import Library
from tests import grus
from tests.firmware.libraries import codes_for, needs_gcc, write
from tests.pipeline import pipeline

pytestmark = [
    needs_gcc,
    pytest.mark.skipif(
        bool(CORTEX_M4.missing), reason=f"{' and '.join(CORTEX_M4.missing)}: not installed"
    ),
]
CASE = grus.Case(I=28, H=64)
PLUGIN = Path(__file__).resolve().parents[2] / "benchmarks" / "instructions.c"


def test_two_bits_take_hardly_more_instructions_than_eight(tmp_path: Path) -> None:
    plugin = tmp_path / "instructions.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", PLUGIN, "-o", plugin], check=True)
    model = pipeline(grus.model(CASE), grus.feeds(CASE))
    found = {}
    for bits in (2, 8):
        program = model.uniform(bits, input_bits=8)
        place = tmp_path / f"{bits}"
        code, parameters = write(Library(program, "net", "net"), codes_for(program, 1), place)[:2]
        (place / "run.c").write_text(OURS.format(name="net", layer="net_gru", inputs=CASE.I))
        sources = [code, parameters, place / "run.c"]
        found[bits] = counted(CORTEX_M4, sources, place, plugin, "-DHELD=1").instructions
    products = 3 * CASE.H * (CASE.I + CASE.H)
    assert found[8] < 4 * products
    assert found[2] <= 1.1 * found[8]


@pytest.mark.parametrize("machine", [CORTEX_M0, CORTEX_M4], ids=lambda machine: machine.name)
def test_a_step_calls_no_function_of_a_library(machine, tmp_path: Path) -> None:
    """No floats, no division and no products of 64 bits: the compiler would call ``__aeabi``."""
    program = pipeline(grus.model(CASE), grus.feeds(CASE)).mixed(1)
    write(Library(program, "net", "net"), codes_for(program, 1), tmp_path)
    command = [machine.compiler, *machine.flags, "-std=c99", "-Os", "-c", "net.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    shown = subprocess.run(
        [machine.compiler.replace("gcc", "nm"), "-u", "net.o"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    outside = {line.split()[-1] for line in shown.stdout.splitlines()}
    assert {name for name in outside if not name.startswith("net_gru_")} <= {"memset", "memcpy"}
