"""Machines: C sources compiled for this one, or for other instruction sets and run under QEMU.

QEMU counts instructions and no cycles. Cortex-M runs bare on an emulated board; its start-up and
linker script are in ``boards``. RISC-V runs as a process.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

SECONDS = 300
"""That a program may run."""


MEMORY = "memory.c"
"""File of ``boards`` with the functions that compilers call."""


@dataclass(frozen=True)
class Machine:
    """A machine.

    Parameters
    ----------
    name : str
        Processor.
    compiler : str
        Its C compiler.
    flags : tuple of str
        Of the compiler, for the processor.
    start : str
        File of ``boards`` that starts a program; empty where an operating system does.
    linked : tuple of str
        Flags of the linker; ``{boards}`` is the folder of ``boards``.
    emulator : tuple of str
        What runs a program, in front of its path; empty on this machine.
    """

    name: str
    compiler: str
    flags: tuple[str, ...]
    start: str
    linked: tuple[str, ...]
    emulator: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Programs that are not installed."""
        wanted = (self.compiler, *self.emulator[:1])
        return tuple(name for name in wanted if shutil.which(name) is None)

    def build(self, sources: Sequence[Path], program: Path, *flags: str) -> None:
        """Compile and link sources with the start-up of the machine.

        Raises
        ------
        subprocess.CalledProcessError
            If the compiler refuses them.
        """
        command = [self.compiler, "-std=c99", *self.flags, *flags, *map(str, sources)]
        if not self.start:
            command += ["-o", str(program)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            return
        with as_file(files("onnxgru.firmware").joinpath("boards")) as boards:
            linked = [flag.format(boards=boards) for flag in self.linked]
            command += [
                "-ffreestanding", "-nostdlib", str(boards / self.start), str(boards / MEMORY),
                *linked, "-lgcc", "-o", str(program),
            ]  # fmt: skip
            subprocess.run(command, check=True, capture_output=True, text=True)

    def run(self, program: Path, *options: str, seconds: float = SECONDS) -> int:
        """Exit code of a program; `options` go to the emulator."""
        command = [*self.emulator[:1], *options, *self.emulator[1:], str(program)]
        quiet = {**os.environ, "QEMU_AUDIO_DRV": "none"}
        return subprocess.run(
            command, check=False, capture_output=True, timeout=seconds, env=quiet
        ).returncode


def _cortex(name: str, board: str) -> Machine:
    bare = ("-display", "none", "-serial", "none", "-monitor", "none")
    return Machine(
        name,
        "arm-none-eabi-gcc",
        (f"-mcpu={name}", "-mthumb"),
        "cortex.c",
        ("-T", "{boards}/cortex.ld"),
        ("qemu-system-arm", "-M", board, *bare, "-semihosting-config", "enable=on", "-kernel"),
    )


CORTEX_M0, CORTEX_M4 = _cortex("cortex-m0", "microbit"), _cortex("cortex-m4", "mps2-an386")
RISCV = Machine(
    "rv32imac",
    "riscv64-unknown-elf-gcc",
    ("-march=rv32imac", "-mabi=ilp32"),
    "riscv.c",
    ("-Wl,--no-relax", "-Wl,--no-warn-rwx-segments"),
    ("qemu-riscv32",),
)
NATIVE = Machine("native", "cc", (), "", (), ())
MACHINES = {machine.name: machine for machine in (CORTEX_M0, CORTEX_M4, RISCV)}
"""Emulated ones, by the name of their processor."""
