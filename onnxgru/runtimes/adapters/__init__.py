"""One runtime a file: how it is loaded and called.

Every file has ``version(job)``, which raises ImportError or FileNotFoundError where the runtime is
not installed, and ``load(model, job)``, which returns ``run(inputs) -> outputs``, both by name.
`model` is the bytes of an ONNX file. `job` has:

- ``inputs``: element type and shape of every graph input at the first call, by name;
- ``outputs``: element type of every graph output, by name;
- ``work``: a folder for what the runtime writes;
- ``variant``: which setting of the runtime is meant, where it has several;
- ``where``: a program or folder that the user named, or an empty string.

A file may import numpy, the standard library and its runtime, and nothing else.
"""
