"""Sources: an integer program as the files of a C library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from onnxgru.core.integers import Codes, Quantization, WeightType
from onnxgru.core.program import IntegerLayer, IntegerProgram
from onnxgru.firmware.arrays import Arrays, Names, lines, literal, scales
from onnxgru.firmware.expressions import Stored
from onnxgru.firmware.packing import Piece, pairs
from onnxgru.firmware.steps import Step, code_type, step
from onnxgru.firmware.wrapping import wrapped

FILES = {
    "{}.c": "layers.c.j2",
    "{}.h": "layers.h.j2",
    "{}_parameters.c": "parameters.c.j2",
    "{}_parameters.h": "parameters.h.j2",
    "{}_float.c": "float.c.j2",
    "{}_float.h": "float.h.j2",
    "{}_test.c": "test.c.j2",
    "example.c": "example.c.j2",
    "Makefile": "Makefile.j2",
    "CMakeLists.txt": "CMakeLists.txt.j2",
}
"""Templates by the names of the files that they make."""


@dataclass(frozen=True, eq=False)
class Vector:
    """Codes that a layer reads in a sequence, and those that it must give.

    Parameters
    ----------
    inputs : ndarray of uint8 or uint16, shape (T, I)
        Codes of the input.
    outputs : ndarray of uint8 or uint16, shape (T, D H)
        Codes of the output, directions side by side.
    """

    inputs: Codes
    outputs: Codes


@dataclass(frozen=True, eq=False)
class LayerText:
    """A layer in C.

    Parameters
    ----------
    layer : IntegerLayer
        The layer.
    name : str
        What its functions begin with.
    steps : tuple of Step
        Its directions.
    """

    layer: IntegerLayer
    name: str
    steps: tuple[Step, ...]

    @property
    def backward(self) -> bool:
        """Whether any direction begins at the end, so that it takes whole sequences."""
        return any(recurrence.reverse for recurrence in self.layer.recurrences)

    @property
    def facts(self) -> dict[str, Any]:
        """What templates say of it."""
        given, emitted = self.layer.input.quantization, self.layer.emitted
        first = self.layer.recurrences[0]
        sides = [r.name.rpartition("/")[2] for r in self.layer.recurrences]
        return {
            "name": self.name,
            "macro": self.name.upper(),
            "title": self.layer.name,
            "backward": self.backward,
            "inputs": self.layer.input_size,
            "width": first.widths[first.emits],
            "input_type": code_type(given.type),
            "output_type": code_type(emitted.type),
            "steps": [
                {
                    **vars(one),
                    "side": side,
                    "has_counter": any("i = 0" in line for line in one.reset),
                }
                for one, side in zip(self.steps, sides, strict=True)
            ],
            **_grid("input", given),
            **_grid("output", emitted),
        }


def _grid(role: str, grid: Quantization) -> dict[str, Any]:
    return {
        f"{role}_scale": literal(_float32(grid.scale)),
        f"{role}_zero": grid.zero_point,
        f"{role}_top": grid.type.maximum,
    }


def _float32(value: float) -> Any:
    import numpy as np

    return np.float32(value)


class Library:
    """A program in C.

    Parameters
    ----------
    program : IntegerProgram
        The program.
    name : str
        What it is called: names of files and functions begin with it.
    title : str
        What it is, for comments.
    """

    def __init__(self, program: IntegerProgram, name: str, title: str) -> None:
        self.prefix, self._title = Names()(name), title
        self.arrays = Arrays(program, self.prefix)
        names = Names()
        self.layers: list[LayerText] = []
        self._conversions: list[dict[str, Any]] = []
        for layer in program.layers:
            called = f"{self.prefix}_{names(layer.name)}"
            found = []
            for recurrence in layer.recurrences:
                side = recurrence.name.rpartition("/")[2]
                backward = any(one.reverse for one in layer.recurrences)
                own = f"{called}_{side}" if backward else called
                found.append(step(layer, recurrence, self.arrays, own))
            self.layers.append(LayerText(layer, called, tuple(found)))
            self._keep_small(layer)
            self._conversions += self._converting(layer, called)

    @property
    def flash(self) -> int:
        """Bytes of all parameters."""
        return self.arrays.bytes

    @property
    def ram(self) -> int:
        """Bytes of the states of all layers."""
        return sum(one.ram for layer in self.layers for one in layer.steps)

    def _keep_small(self, layer: IntegerLayer) -> None:
        """Bytes that a device keeps although no step of this program reads them."""
        zeros = layer.zero_points
        for name, values in ((zeros.name, zeros.codes), (zeros.words_name, zeros.words)):
            self.arrays.stored(Stored(name, values, 0, values.size), name)
        for stage in (stage for r in layer.recurrences for stage in r.stages):
            if stage.results and stage.stores_reaches:
                name = f"{stage.name}/reach"
                self.arrays.stored(Stored(name, stage.reaches, 0, stage.reaches.size), name)

    def _converting(self, layer: IntegerLayer, called: str) -> list[dict[str, Any]]:
        """Functions between real numbers and codes, one a stored scale."""
        found = []
        grids = {layer.input.name: layer.input, **layer.grids}
        names = Names()
        for name, value in scales(layer).items():
            owner, _, role = name.rpartition("/")
            grid = grids[owner].quantization
            local = owner.removeprefix(f"{layer.name}/")
            kind, quantizes = code_type(grid.type), role == "reciprocal"
            values, codes = "float *values", f"{kind} *codes"
            arguments = f"const {values}, {codes}" if quantizes else f"const {codes}, {values}"
            verb = "quantize" if quantizes else "dequantize"
            found.append(
                {
                    "name": f"{called}_{verb}_{names(local)}",
                    "arguments": f"{arguments}, int32_t count",
                    "about": f"{owner}: "
                    + ("real numbers to codes" if quantizes else "codes to real numbers"),
                    "quantizes": quantizes,
                    "type": kind,
                    "scale": self.arrays.floats(name, value, name),
                    "zero": grid.zero_point,
                    "top": grid.type.maximum,
                }
            )
        return found

    def files(self, vectors: Sequence[Vector]) -> dict[str, str]:
        """All files by name.

        Parameters
        ----------
        vectors : sequence of Vector
            For the self-test, one a layer.
        """
        from onnxgru import __version__

        used = {form for layer in self.layers for one in layer.steps for form in one.products}
        members = [m for layer in self.layers for one in layer.steps for m in one.members]
        steps = {m.type for m in members if m.about.endswith(_STEPS_ABOUT)}
        facts = [layer.facts for layer in self.layers]
        context = {
            "prefix": self.prefix,
            "macro": self.prefix.upper(),
            "title": self._title,
            "notice": f"Written by onnxgru {__version__}.",
            "flash": self.flash,
            "ram": self.ram,
            "layers": facts,
            "arrays": list(self.arrays),
            "conversions": self._conversions,
            "vectors": [
                _vector(layer, vector) for layer, vector in zip(facts, vectors, strict=True)
            ],
            "forms": {form for form, _ in used},
            "narrow_steps": "int16_t" in steps,
            "wide_steps": "int32_t" in steps,
        }
        body = "".join(line for layer in facts for one in layer["steps"] for line in _code(one))
        made = [
            text
            for form, bits in sorted(used)
            for text in _functions(form, bits)
            if text.partition("(")[0].rpartition(" ")[2] in body
        ]
        context["products"], context["body"] = made, body
        context["singles"] = any("field(" in text for text in made)
        return {
            name.format(self.prefix): _template(source).render(context)
            for name, source in FILES.items()
        }


_STEPS_ABOUT = "distance from the zero point"


def _code(one: Mapping[str, Any]) -> list[str]:
    """All lines of a step."""
    found = []
    for loop in one["loops"]:
        found += loop.before
        found += [line for statement in loop.statements for line in statement.lines]
    return found


def _vector(layer: Mapping[str, Any], vector: Vector) -> dict[str, Any]:
    steps, width = vector.outputs.shape
    return {
        "layer": layer,
        "steps": steps,
        "width": width,
        "input_lines": _rows(vector.inputs),
        "output_lines": _rows(vector.outputs),
    }


def _rows(codes: Codes) -> list[str]:
    """Rows in braces."""
    found = []
    for row in codes:
        inner = lines(row)
        found += ["{", *(f"    {line}" for line in inner), "},"]
    return found


def _functions(form: str, bits: int) -> list[str]:
    """The functions of a form and a width, each with its comment."""
    text: str = _template("products.c.j2").module.product(form, bits)
    return [f"\n{part.strip()}\n" for part in text.split("\n\n") if part.strip()]


def _offset(bits: int) -> int:
    """What is subtracted from a stored code of a weight, times the spacing."""
    kind = WeightType(bits)
    return kind.maximum + (kind.spacing == 1)


def _taken(pieces: Sequence[Piece]) -> str:
    """A pair of codes taken out of the words of a block."""
    found = []
    for piece in pieces:
        move = piece.place - piece.first
        word = f"w{piece.word}"
        if move:
            word = f"({word} >> {move})" if move > 0 else f"({word} << {-move})"
        found.append(f"{word} & 0x{piece.mask:08x}u")
    return found[0] if len(found) == 1 else " | ".join(f"({one})" for one in found)


@cache
def _environment() -> Any:
    from jinja2 import DictLoader, Environment, StrictUndefined

    place = files("onnxgru.firmware").joinpath("templates")
    texts = {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in place.iterdir()
        if entry.name.endswith(".j2")
    }
    environment = Environment(
        loader=DictLoader(texts), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.globals |= {
        "pairs": pairs,
        "taken": _taken,
        "wrapped": wrapped,
        "offset": _offset,
        "spacing": lambda bits: WeightType(bits).spacing,
        "low": lambda bits: f"0x{(1 << 2 * bits) - 1:x}u",
        "mask": lambda bits: f"0x{((1 << bits) - 1) * 0x10001:08x}u",
    }
    return environment


def _template(name: str) -> Any:
    return _environment().get_template(name)
