"""Programs as C libraries, compiled for this machine and called from Python."""

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from onnxgru.core.program import IntegerProgram
from onnxgru.firmware.sources import LayerText, Library, Vector
from onnxgru.firmware.writing import vector

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
CHECKED = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all", "-O0")
COMPILERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"),
    )
    for name in ("gcc", "clang")
]
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def codes_for(program: IntegerProgram, steps: int, *, calm: bool = False) -> list[Vector]:
    """Random codes for every layer, and what it gives for them; calm ones change seldom."""
    generator = np.random.default_rng(steps)
    found = []
    for layer in program.layers:
        kind = layer.input.quantization.type
        x = generator.integers(0, kind.levels, (steps, 1, layer.input_size))
        if calm:
            kept = generator.random(x.shape) < 0.8
            for t in range(1, steps):
                x[t] = np.where(kept[t], x[t - 1], x[t])
        found.append(vector(layer, x.astype(kind.container)))
    return found


def write(library: Library, vectors: Sequence[Vector], place: Path) -> list[Path]:
    """Write all files; returns those that a test program is made of."""
    place.mkdir(parents=True, exist_ok=True)
    contents = library.files(vectors)
    for name, text in contents.items():
        (place / name).write_text(text)
    return [
        place / name for name in contents if name.endswith(".c") and not name.startswith("example")
    ]


def compile_with(compiler: str, sources: Sequence[Path], target: Path, *flags: str) -> None:
    command = [compiler, *STRICT, *flags, *map(str, sources), "-o", str(target)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run(program: Path) -> None:
    done = subprocess.run([str(program)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


class Called:
    """A layer of one direction in a shared library.

    Parameters
    ----------
    path : Path
        Of the shared library.
    text : LayerText
        The layer.
    """

    def __init__(self, path: Path, text: LayerText) -> None:
        (one,) = text.steps
        kinds = {name: getattr(ctypes, f"c_{name[:-2]}") for name in TYPES}
        fields = [(m.name, kinds[m.type] * m.count) for m in one.members]
        self.structure = type("State", (ctypes.Structure,), {"_fields_": fields})
        library = ctypes.CDLL(str(path))
        self._reset = getattr(library, f"{one.name}_reset")
        self._step = getattr(library, f"{one.name}_step")
        self._step.restype = ctypes.c_void_p
        self._emitted = one.emitted

    def run(self, x: np.ndarray, carries: dict[str, np.ndarray]) -> np.ndarray:
        """What it emits for codes (T, I), from carries under their names in C."""
        state = self.structure()
        self._reset(ctypes.byref(state))
        for name, codes in carries.items():
            np.ctypeslib.as_array(getattr(state, name))[:] = codes
        x = np.ascontiguousarray(x)
        emitted = np.ctypeslib.as_array(getattr(state, self._emitted))
        found = np.empty((len(x), emitted.size), emitted.dtype)
        where = ctypes.byref(state)
        for t, row in enumerate(x):
            self._step(where, ctypes.c_void_p(row.ctypes.data))
            found[t] = emitted
        return found


TYPES = ("uint8_t", "uint16_t", "int16_t", "int32_t")
