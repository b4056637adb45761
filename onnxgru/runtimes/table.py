"""The runtimes by name: which file runs each, where it is found, and what it needs of a graph."""

from collections.abc import Sequence
from dataclasses import dataclass

UINT16 = "Cast to uint16"
"""In `Runtime.lacks`: codes of 16 bits must then be int32."""

NUMBERS = "Mul and Div by one number"
"""In `Runtime.lacks`: an unrolled graph must then store one number per column."""


@dataclass(frozen=True)
class Runtime:
    """One runtime, at one setting.

    Parameters
    ----------
    name : str
        What users call it.
    adapter : str
        The file in ``adapters``.
    module : str
        The Python module that it needs; empty for none.
    programs : tuple of str
        The programs that it needs on the PATH.
    variant : str
        Its setting, where it has several.
    fixed : bool
        Whether it is given a copy of the graph whose axes have the sizes of the first call.
    install : str
        How it is installed.
    lacks : tuple of str
        Operators of integer graphs that it does not take, in its version of `docs/runtimes.md`.
    functions : bool
        Whether it takes model-local functions, in its version of `docs/deployment.md`.
    """

    name: str
    adapter: str
    module: str = ""
    programs: tuple[str, ...] = ()
    variant: str = ""
    fixed: bool = False
    install: str = ""
    lacks: tuple[str, ...] = ()
    functions: bool = True


_ARM = ("arm-none-eabi-gcc", "qemu-system-arm")
_LEVELS = ("disabled", "basic", "extended", "all")

RUNTIMES = (
    *(
        Runtime(
            f"onnxruntime ({level})",
            "onnxruntime",
            "onnxruntime",
            variant=level,
            install="pip install onnxruntime",
        )
        for level in _LEVELS
    ),
    Runtime("onnx.reference", "reference", "onnx", install="pip install onnx"),
    Runtime("OpenVINO", "openvino", "openvino", install="pip install openvino", functions=False),
    Runtime(
        "onnxruntime-web", "web", programs=("node",), install="npm install onnxruntime-web, Node.js"
    ),
    Runtime(
        "Apache TVM",
        "tvm",
        "tvm",
        fixed=True,
        install="pip install apache-tvm onnx",
        lacks=("Scan",),
        functions=False,
    ),
    Runtime(
        "IREE",
        "iree",
        "iree",
        fixed=True,
        install='pip install "iree-base-compiler[onnx]" iree-base-runtime',
        lacks=("Scan", UINT16),
        functions=False,
    ),
    Runtime(
        "tract",
        "tract",
        "tract",
        fixed=True,
        install="pip install tract",
        lacks=("Scan", NUMBERS),  # it takes two steps of a graph that has them
        functions=False,
    ),
    Runtime(
        "tinygrad",
        "tinygrad",
        "tinygrad",
        programs=("clang",),
        install="pip install tinygrad numpy, clang",
        lacks=("Scan",),
        functions=False,
    ),
    Runtime(
        "emx-onnx-cgen",
        "csource",
        programs=("cc",),
        variant="emx-onnx-cgen",
        fixed=True,
        install="pip install emx-onnx-cgen, a C compiler",
        functions=False,
    ),
    Runtime(
        "onnx2c",
        "csource",
        programs=("onnx2c", "cc"),
        variant="onnx2c",
        fixed=True,
        install="the program onnx2c on the PATH, a C compiler",
        lacks=("Scan", "BitwiseAnd"),  # and Cast to integers, without which no codes come about
    ),
    Runtime(
        "LiteRT",
        "litert",
        "onnx2tf",
        fixed=True,
        install="pip install onnx2tf tensorflow; it computes other codes, see docs/runtimes.md",
        lacks=("Scan", "BitwiseAnd"),  # and Div of integers, which it computes by a float product
    ),
)
"""Every runtime, in the order in which tables list them."""


DEVICES = tuple(
    Runtime(f"C ({name})", "", programs=programs, variant=name, install=install)
    for name, programs, install in (
        ("native", ("cc",), "a C compiler called cc"),
        ("cortex-m0", _ARM, "apt install gcc-arm-none-eabi qemu-system-arm"),
        ("cortex-m4", _ARM, "apt install gcc-arm-none-eabi qemu-system-arm"),
        (
            "rv32imac",
            ("riscv64-unknown-elf-gcc", "qemu-riscv32"),
            "apt install gcc-riscv64-unknown-elf qemu-user",
        ),
    )
)
"""Where the C code of `onnxgru c` is run: on this machine, and on emulated ones."""


OPERATOR = Runtime("operator", "", install="a C compiler, or pip install ziglang")
"""The operators of `onnxgru.onnxruntime` in the place of a graph's functions."""


OTHERS = {
    "MNN": ("Scan", "BitwiseAnd"),  # and MatMulInteger, without which no product is exact
    "ncnn": ("BitwiseAnd",),
}
"""Operators that other consumers lack; `verify` does not run them."""


def lacking(names: Sequence[str]) -> set[str]:
    """Operators that at least one of these consumers lacks."""
    found = {operator for name in names for operator in OTHERS.get(name, ())}
    return found.union(*(runtime.lacks for name in names for runtime in find(name)))


def key(name: str) -> str:
    """A name as it is compared: letters and digits in lower case."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def find(name: str) -> tuple[Runtime, ...]:
    """The runtimes that a name means: one, or all settings of one; nothing if there is none."""
    wanted = key(name)
    aliases = {"tvm": "apachetvm", "reference": "onnxreference", "web": "onnxruntimeweb"}
    aliases["emx"] = "emxonnxcgen"
    aliases |= {key(device.variant): key(device.name) for device in DEVICES}
    aliases["riscv32"] = aliases["riscv"] = aliases["rv32imac"]
    wanted = aliases.get(wanted, wanted)
    every = (*RUNTIMES, OPERATOR, *DEVICES)
    return tuple(r for r in every if wanted in (key(r.name), key(r.name.partition(" (")[0])))
