"""C code on emulated microcontrollers: bytes, instructions a step, and the same codes.

Quantises a model of the zoo at 8, 4, 3 and 2 bits, writes C, compiles it with -Os and counts the
instructions of a step under QEMU, which counts no cycles. Beside it stands emx-onnx-cgen, given the
step graph of the same program without the float head, as it is and with its constants folded; it is
run if the environment variable ``EMX_ONNX_CGEN`` names it. All weights are in its C source;
by default, those beyond 100 kB are in a file that a program reads into RAM.

Flash is what the linker counts, parameters and code with the same start-up; the code of
emx-onnx-cgen comes with what it takes of newlib.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import onnx
from onnx.utils import Extractor

import onnxgru
from benchmarks import measure
from onnxgru.events import silent
from onnxgru.firmware.emulators import CORTEX_M0, CORTEX_M4, RISCV, Machine
from onnxgru.firmware.writing import Firmware

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ("-Os", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-fstack-usage")
WIDTHS = (8, 4, 3, 2)
STEPS = 17
THRESHOLDS = "first=2,hidden=8"
"""Of the delta network, in codes of 8 bits."""

OURS = """
#include "{name}.h"
static {layer}_state state;
static uint8_t x[{inputs}];
int main(void)
{{
    uint32_t seed = 1;
    int t, i;
    {layer}_reset(&state);
    for (t = 0; t < STEPS; ++t) {{
        for (i = 0; i < {inputs} && t % HELD == 0; ++i) {{
            seed = seed * 1664525u + 1013904223u;
            x[i] = (uint8_t)(seed >> 24);
        }}
        {layer}_step(&state, x);
    }}
    return 0;
}}
"""
EMX = """
#include <stdint.h>
typedef uint8_t codes[{width}];
void model(const float rows[1][1][{inputs}], const codes *state, codes *next);
static float x[1][1][{inputs}];
static codes states[2][1];
int main(void)
{{
    uint32_t seed = 1;
    int t, i;
    for (t = 0; t < STEPS; ++t) {{
        for (i = 0; i < {inputs}; ++i) {{
            seed = seed * 1664525u + 1013904223u;
            x[0][0][i] = (float)(seed >> 24) / 256.0f;
        }}
        model((const float (*)[1][{inputs}])x, (const codes *)states[t & 1], states[~t & 1]);
    }}
    return 0;
}}
"""


@dataclass(frozen=True)
class Counted:
    """What was counted of a program.

    Parameters
    ----------
    instructions : float
        A step.
    flash, bss, stack : int
        Bytes: all that is linked into flash, static memory, and the largest frame of a function.
    """

    instructions: float
    flash: int
    bss: int
    stack: int


def counted(
    machine: Machine, sources: Sequence[Path], place: Path, plugin: Path, *flags: str
) -> Counted:
    """Compile a program, and count a step of it: the difference of two lengths."""
    found = []
    for steps in (1, STEPS):
        program = place / f"program-{steps}"
        machine.build(sources, program, *FLAGS, f"-DSTEPS={steps}", *flags)
        tool, *rest = machine.emulator
        done = subprocess.run(
            [tool, "-plugin", str(plugin), *rest, str(program)],
            check=True, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        found.append(int(re.findall(r"instructions (\d+)", done.stderr)[-1]))
    prefix = machine.compiler.removesuffix("gcc")
    shown = subprocess.run(
        [f"{prefix}size", "-A", str(program)], check=True, capture_output=True, text=True
    ).stdout
    sizes = {
        line.split()[0]: int(line.split()[1]) for line in shown.splitlines() if "." in line[:1]
    }
    flash = sum(size for name, size in sizes.items() if name in (".text", ".rodata", ".data"))
    frames = [
        int(line.split("\t")[1])
        for path in place.glob("*.su")
        for line in path.read_text().splitlines()
    ]
    return Counted(
        (found[1] - found[0]) / (STEPS - 1), flash, sizes.get(".bss", 0), max(frames, default=0)
    )


def quantized(
    model: Path, bits: int, place: Path, recurrence: str, delta: str | None = None
) -> Path:
    """An output folder; recordings are random, which changes few bytes and few instructions."""
    output = place / f"{recurrence}-{bits}{'-delta' if delta else ''}"
    onnxgru.quantize(
        model, bits=bits, input_bits=8, output=output, verify=2, recurrence=recurrence, delta=delta,
        listener=silent,
    )  # fmt: skip
    return output


def sources_of(folder: Path) -> tuple[Firmware, list[Path]]:
    """C code of an output folder, with a program that runs its layer."""
    written = onnxgru.write_c(folder, listener=silent)
    name = next(n for n in written.files if n.endswith(".c")).removesuffix(".c")
    text = (written.folder / f"{name}.h").read_text("utf-8")
    (layer,) = re.findall(r"} (\w+)_state; /", text)
    (inputs,) = re.findall(r"_INPUTS (\d+)", text)
    run = written.folder / "run.c"
    run.write_text(OURS.format(name=name, layer=layer, inputs=inputs))
    return written, [written.folder / f"{name}.c", written.folder / f"{name}_parameters.c", run]


def held(model: Path, place: Path, plugin: Path) -> Iterator[tuple[str, float]]:
    """Lines of a delta network at 8 bits, whose input changes at every step or at every eighth."""
    _, sources = sources_of(quantized(model, 8, place, "scan", THRESHOLDS))
    for steps in (1, 8):
        made = place / f"held-{steps}"
        made.mkdir()
        found = counted(CORTEX_M4, sources, made, plugin, f"-DHELD={steps}")
        yield f"firmware.delta.input_held_{steps}.instructions", round(found.instructions)


def ours(
    model: Path, bits: int, place: Path, plugin: Path, machines: Sequence[Machine]
) -> Iterator[tuple[str, float]]:
    """Lines of one width."""
    folder = quantized(model, bits, place, "scan")
    written, sources = sources_of(folder)
    report = json.loads((folder / "report.json").read_text("utf-8"))
    yield f"firmware.{bits}.weights", report["sizes"]["flash"]["weight"]
    yield f"firmware.{bits}.parameters", written.flash
    yield f"firmware.{bits}.ram", written.ram
    for machine in machines:
        made = place / f"{machine.name}-{bits}"
        made.mkdir()
        found = counted(machine, sources, made, plugin, "-DHELD=1")
        yield f"firmware.{bits}.{machine.name}.instructions", round(found.instructions)
        yield f"firmware.{bits}.{machine.name}.flash", found.flash
        yield f"firmware.{bits}.{machine.name}.stack", found.stack


def emx(
    command: str, model: Path, bits: int, place: Path, plugin: Path
) -> Iterator[tuple[str, float]]:
    """Lines of emx-onnx-cgen on the step graph of one width."""
    folder = quantized(model, bits, place, "step")
    graph = onnx.load(folder / "integer.onnx")
    names = [value.name for value in graph.graph.input]
    state = next(v.name for v in graph.graph.output if v.type.tensor_type.elem_type != 1)
    bare = Extractor(graph).extract_model(names, [state])
    sizes = {v.name: v.type.tensor_type.shape.dim[-1].dim_value for v in bare.graph.input}
    inputs, width = sizes[names[0]], sizes[names[1]]
    for form, message in (("packed", bare), ("folded", folded(bare))):
        made = place / f"emx-{bits}-{form}"
        made.mkdir()
        onnx.save(message, made / "model.onnx")
        subprocess.run(
            [command, "compile", "--input-dim", "batch=1", "--emit-data-file",
             "--large-temp-threshold", "0", "--large-weight-threshold", "0",
             "model.onnx", "model.c"],
            cwd=made, check=True, capture_output=True,
        )  # fmt: skip
        (made / "run.c").write_text(EMX.format(inputs=inputs, width=width))
        sources = [made / name for name in ("model.c", "model_data.c", "run.c")]
        found = counted(roomy(made), sources, made, plugin)
        for what in ("instructions", "flash", "stack"):
            yield f"emx.{bits}.{form}.{what}", round(getattr(found, what))


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with everything computed that no input changes."""
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass
    from onnxscript import optimizer

    made = ir.from_proto(model)
    optimizer.fold_constants(made, input_size_limit=10**9, output_size_limit=10**9)
    RemoveUnusedNodesPass()(made)
    return ir.to_proto(made)


def roomy(place: Path) -> Machine:
    """The Cortex-M4 with 16 MB of memory and newlib, which its code needs."""
    script = files("onnxgru.firmware").joinpath("boards", "cortex.ld").read_text("utf-8")
    memory = "ORIGIN = 0x21000000, LENGTH = 16M"
    (place / "big.ld").write_text(
        re.sub(r"ORIGIN = 0x20000000, LENGTH = \d+K", memory, script).replace("256K", "4M")
    )
    libraries = ("-fno-freestanding", "-lm", "-lc_nano", "-lgcc", "-lnosys")
    return replace(CORTEX_M4, linked=("-T", str(place / "big.ld"), *libraries))


def figures(model: Path, *, quick: bool) -> Iterator[tuple[str, float | str]]:
    """All lines."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        plugin = place / "instructions.so"
        source = Path(__file__).with_name("instructions.c")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", source, "-o", plugin], check=True)
        machines = [CORTEX_M4] if quick else [CORTEX_M4, CORTEX_M0, RISCV]
        machines = [machine for machine in machines if not machine.missing]
        found: dict[str, float | str] = {"model": model.stem}
        yield from found.items()
        for bits in (8, 2) if quick else WIDTHS:
            for name, value in ours(model, bits, place, plugin, machines):
                found[name] = value
                yield name, value
        for machine in machines:
            wide, narrow = (
                float(found[f"firmware.{bits}.{machine.name}.instructions"]) for bits in (8, 2)
            )
            yield f"firmware.{machine.name}.2_bits_over_8", narrow / wide
        if not quick and CORTEX_M4 in machines:
            yield from held(model, place, plugin)
        command = os.environ.get("EMX_ONNX_CGEN")
        widths = (8, 2) if quick else WIDTHS
        for bits in widths if command and CORTEX_M4 in machines else ():
            for name, value in emx(str(command), model, bits, place, plugin):
                yield name, value
                own = found.get(f"firmware.{bits}.{CORTEX_M4.name}.{name.rpartition('.')[2]}")
                if own is not None:
                    yield f"{name}.ours_over_it", float(own) / float(value)
                if name.endswith(".flash"):
                    weights = float(found[f"firmware.{bits}.weights"])
                    yield f"{name}.our_weights_over_it", weights / float(value)


def main() -> None:
    """Print all lines."""
    parser = measure.parser_of(__doc__)
    parser.add_argument(
        "model", nargs="?", type=Path, default=ROOT / "models" / "mnist_row.onnx",
        help="a classifier with one GRU",
    )  # fmt: skip
    parsed = parser.parse_args()
    measure.show(dict(figures(parsed.model, quick=parsed.quick)), parsed)


if __name__ == "__main__":
    main()
