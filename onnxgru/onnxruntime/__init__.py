"""One compiled operator of onnxruntime in the place of each recurrence of a graph with functions.

>>> options = onnxruntime.SessionOptions()  # doctest: +SKIP
>>> onnxgru.onnxruntime.register(options, "out")  # doctest: +SKIP
>>> session = onnxruntime.InferenceSession("out/integer.onnx", options)  # doctest: +SKIP

A graph that was written with ``--functions`` runs in any onnxruntime. Where operators of the
functions' names are registered, onnxruntime takes these instead of the bodies. The operators call
the kernels of `onnxgru.load`, on the tensors of the session, and give the same codes.
"""

from pathlib import Path
from typing import Any

from onnxgru.core.errors import OnnxgruError, UsageError
from onnxgru.core.folder import INTEGER, path_of
from onnxgru.events import Notice, warned
from onnxgru.onnxruntime import library
from onnxgru.onnxruntime.operators import described


def register(session_options: Any, folder: str | Path, *, model: object = None) -> tuple[str, ...]:
    """Let sessions with these options compute the recurrences of a folder with compiled kernels.

    The first call on a machine builds a small library with its C compiler, and Numba compiles the
    kernels. Where anything is missing, a warning says what, and the portable bodies run.

    Parameters
    ----------
    session_options : onnxruntime.SessionOptions
        Of the sessions that will open ``integer.onnx`` of the folder.
    folder : path
        As ``onnxgru quantize --functions`` left it.
    model : path or model, optional
        The float model, where it has moved.

    Returns
    -------
    tuple of str
        Names of the recurrences that the operators compute, such as ``/gru/forward``.

    Warns
    -----
    OnnxgruWarning
        If there is no C compiler, the library cannot be loaded, the graph has no functions, or
        operators do not know one of its layers.

    Raises
    ------
    UsageError
        If the options are of another type.
    OutputError
        If the folder holds no result.
    ModelError
        If the float model is not there any more.
    """
    if not hasattr(session_options, "register_custom_ops_library"):
        raise UsageError(
            "session_options must be onnxruntime.SessionOptions, it is of type "
            f"{type(session_options).__name__}"
        )
    place = path_of(folder)
    found = described(place, model)
    try:
        for reason in found.left:
            warned(Notice(f"{place / INTEGER}: {reason}; the portable body runs"))
        if not found.operators:
            return ()
        library.register(session_options, found.operators)
    except OnnxgruError as error:
        warned(Notice(f"{error}; the portable bodies run"))
        return ()
    return tuple(name for one in found.operators for name in one.directions)
