"""The library that onnxruntime loads: built once a machine, and told what operators there are."""

import ctypes
import functools
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from onnx.helper import np_dtype_to_tensor_dtype

from onnxgru.core import cache
from onnxgru.core.errors import OutputError, UsageError
from onnxgru.onnxruntime.entry import Entry
from onnxgru.onnxruntime.operators import CompiledOperator

SOURCE = "operator.c"
FLAGS = ("-std=c99", "-O2", "-fPIC", "-shared")
SECONDS = 300
"""That the compiler may take; that of ziglang compiles a library of its own at its first call."""

_LOCK = Lock()
_KEPT: list[Entry] = []
"""What sessions may call at any time."""


def _compilers() -> Iterator[list[str]]:
    """Commands, best first."""
    if os.environ.get("CC"):
        yield shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            yield [name]
    if importlib.util.find_spec("ziglang"):
        yield [sys.executable, "-m", "ziglang", "cc"]


@functools.cache
def _built(source: bytes, folder: Path) -> Path:
    """The library, from the cache or a compiler.

    Raises
    ------
    UsageError
        If there is no compiler, or it fails.
    """
    path = folder / f"operator_{hashlib.sha256(source).hexdigest()[:16]}.so"
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="onnxgru-")) / path.name
    compiler = next(_compilers(), None)
    if compiler is None:
        raise UsageError(
            "operators for onnxruntime need a C compiler, and there is none; install gcc or clang, "
            "or pip install ziglang"
        )
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        text, made = Path(place) / SOURCE, Path(place) / path.name
        text.write_bytes(source)
        command = [*compiler, *FLAGS, str(text), "-o", str(made)]
        try:
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            told = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise UsageError(
                f"operators for onnxruntime need a C compiler, and {shlex.join(compiler)} fails: "
                f"{told[0] if told else error}; set CC to another one"
            ) from error
        os.replace(made, path)
    return path


@functools.cache
def _loaded(path: Path) -> Any:
    """The library in this process.

    Raises
    ------
    OutputError
        If it cannot be loaded.
    """
    try:
        found = ctypes.CDLL(str(path))
        describe, direction = found.onnxgru_operator, found.onnxgru_direction
    except (OSError, AttributeError) as error:
        raise OutputError(
            f"{path}: must be the library of onnxgru's operators, but {error}; delete it"
        ) from error
    integers, words = ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int64)
    describe.restype = ctypes.c_void_p
    describe.argtypes = [ctypes.c_char_p, *[ctypes.c_size_t] * 3, integers, integers]
    direction.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int64,
        words,
        *[ctypes.c_void_p] * 2,
    ]
    return found


def register(session_options: Any, operators: Sequence[CompiledOperator]) -> None:
    """Register operators with the options of sessions.

    Raises
    ------
    UsageError
        If there is no C compiler, it fails, or this onnxruntime refuses the operators.
    OutputError
        If the library cannot be loaded.
    """
    source = files("onnxgru.onnxruntime").joinpath(SOURCE).read_bytes()
    path = _built(source, cache.folder())
    found = _loaded(path)
    with _LOCK:
        found.onnxgru_forget()
        for one in operators:
            _describe(found, one)
        try:
            session_options.register_custom_ops_library(str(path))
        except Exception as error:
            raise UsageError(
                f"onnxruntime must take the operators of onnxgru, but refuses them: {error}"
            ) from error


def _describe(found: Any, one: CompiledOperator) -> None:
    first = next(iter(one.directions.values()))
    inputs, outputs = list(first.inputs), list(first.outputs)
    if one.masked:
        inputs.insert(1, np.dtype(np.uint8))
    read, written = (
        (ctypes.c_int * len(types))(*map(np_dtype_to_tensor_dtype, types))
        for types in (inputs, outputs)
    )
    handle = found.onnxgru_operator(
        one.name.encode(), one.inputs, int(one.masked), len(outputs), read, written
    )
    for name, direction in one.directions.items():
        made = direction.entry(masked=one.masked)
        _KEPT.append(made)
        context = made.context.ctypes.data
        widths = (ctypes.c_int64 * len(outputs))(*direction.widths)
        told = (name.encode(), direction.layer.input_size, widths, made.address, context)
        if not (handle and found.onnxgru_direction(handle, *told)):
            raise MemoryError
