"""Sequence: one direction of a layer through all of its steps, as source text for Numba.

The loops are those of `onnxgru.custom_ops.kernels.loops`. Here they stand inside one function that
also makes the products and goes through time, so that a layer costs one call whatever its length.
Up to `ROWS` sequences run side by side, because a product then reads its weights once for all of
them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from onnxgru.custom_ops.kernels.kernel import STORES, Printer, unpacked
from onnxgru.custom_ops.kernels.loops import Segment

ROWS = 4
"""Sequences that run side by side."""
LANES = 64
"""Rows of codes, and columns of products, are padded to a multiple of this."""
CHUNK = 16
"""Loops over units run to a multiple of this, over padding too."""


@dataclass(frozen=True)
class Product:
    """The product at the beginning of a segment.

    Parameters
    ----------
    operand : str
        Name of the value that it reads.
    wide : bool
        Whether this value has codes of 16 bits.
    long : int
        Number of parts with 16-bit weights, whose lower planes follow the upper ones; else 0.
    """

    operand: str
    wide: bool
    long: int = 0


@dataclass(frozen=True)
class DirectionLoops:
    """A direction of a layer.

    Parameters
    ----------
    segments : tuple of Segment
        Of both stages, in order.
    products : tuple of Product or None
        What each begins with.
    input, container : str
        Name of the input, and type of its codes.
    carries : tuple of tuple of str
        Name of every carry, and of the value that it gets after a step.
    emits : str
        Name of what leaves the layer at every step.
    """

    segments: tuple[Segment, ...]
    products: tuple[Product | None, ...]
    input: str
    container: str
    carries: tuple[tuple[str, str], ...]
    emits: str


def text(direction: DirectionLoops) -> str:
    """Source of the kernel.

    Its arguments, in order:

    - ``x`` (T, B, I); ``ends`` (B,), the steps of every sequence; ``together``, whether these are
      all equal; ``reverse``; ``silence``, the output after the last step of a sequence; ``widths``
      of the segments; ``emitted`` (T, B, H), the result;
    - memory: ``uint8`` and ``uint16`` (values, `ROWS`, columns), ``int32`` (products, `ROWS`,
      columns), ``scratch`` (`ROWS`, columns);
    - every carry (B, its width), which is overwritten;
    - for every segment its `STORES`; if it has a product, also ``weights`` and ``begin``, and
      ``begin_low`` if the product reads wide codes.
    """
    return _Text(direction).text()


def memory(direction: DirectionLoops) -> dict[str, int]:
    """Number of values that a kernel needs memory for, by type."""
    return _Text(direction).memory


@dataclass(frozen=True)
class _Value:
    """A value's rows of codes, and how many of their columns are codes."""

    rows: str
    container: str
    width: str


class _Text:
    """Writes the text of one direction."""

    def __init__(self, direction: DirectionLoops) -> None:
        self.memory = dict.fromkeys(("uint8", "uint16", "int32"), 0)
        self._direction = direction
        self._carries = [f"carry{place}" for place in range(len(direction.carries))]
        self._values: dict[str, _Value] = {}
        self._add(direction.input, direction.container, "x.shape[2]")
        for index, segment in enumerate(direction.segments):
            for loop in segment.loops:
                self._add(loop.target, loop.container, f"widths[{index}]")
        for carry, written in direction.carries:
            self._add(carry, self._values[written].container, self._values[written].width)
        self._names = ["x", "ends", "together", "reverse", "silence", "widths", "emitted"]
        self._names += [*self.memory, "scratch", *self._carries]
        self._prepared = [
            f"{value.rows} = {self._taken(value.container)}" for value in self._values.values()
        ]
        self._step: list[str] = []
        for index, pair in enumerate(zip(direction.segments, direction.products, strict=True)):
            self._segment(index, *pair)

    def _add(self, name: str, container: str, width: str) -> None:
        self._values[name] = _Value(f"value{len(self._values)}", container, width)

    def _taken(self, container: str) -> str:
        """Memory of one value."""
        self.memory[container] += 1
        return f"{container}[{self.memory[container] - 1}]"

    def text(self) -> str:
        """The function."""
        head = f"def kernel({', '.join(self._names)}):"
        return "\n".join([head, *_indented([*self._prepared, *self._through_time()])]) + "\n"

    def _through_time(self) -> list[str]:
        """Loops over sequences and steps."""
        direction, values = self._direction, self._values
        emitted = values[direction.emits].rows
        carries = [
            (carry, values[name], values[written])
            for carry, (name, written) in zip(self._carries, direction.carries, strict=True)
        ]
        inner = [
            f"rows = {ROWS} if together and x.shape[1] - b >= {ROWS} else 1",
            "steps = ends[b]",
            *(_move(own.rows, "0", carry, "b", own.width) for carry, own, _ in carries),
            "for i in range(steps):",
            "    t = steps - 1 - i if reverse else i",
            f"    {_move(values[direction.input].rows, '0', 'x[t]', 'b', 'x.shape[2]')}",
            *_indented(self._step),
            f"    {_move('emitted[t]', 'b', emitted, '0', 'emitted.shape[2]')}",
            *(f"    {_move(o.rows, '0', w.rows, '0', o.width)}" for _, o, w in carries),
            "for t in range(steps, x.shape[0]):",
            "    emitted[t, b : b + rows] = silence",
            *(_move(carry, "b", own.rows, "0", own.width) for carry, own, _ in carries),
            "b += rows",
        ]
        return ["b = 0", "while b < x.shape[1]:", *_indented(inner)]

    def _segment(self, index: int, segment: Segment, product: Product | None) -> None:
        """A segment's parameters, and its part of a step."""
        stores = {store: f"{store}{index}" for store in STORES}
        symbols = {argument: f"p{index}_{i}" for i, argument in enumerate(segment.arguments)}
        self._names += stores.values()
        self._prepared.append(f"span{index} = (widths[{index}] + {CHUNK - 1}) // {CHUNK} * {CHUNK}")
        self._prepared += unpacked(segment, symbols, stores)
        if product is not None:
            self._product(index, product)
        printer = Printer(
            {name: f"{value.rows}[r]" for name, value in self._values.items()},
            symbols,
            f"products{index}[r]",
            f"widths[{index}]",
            f"span{index}",
        )
        lines = [line for loop in segment.loops for line in printer.lines(loop)]
        self._step += ["for r in range(rows):", *_indented(lines)]

    def _product(self, index: int, product: Product) -> None:
        made, weights, begin = f"products{index}", f"weights{index}", f"begin{index}"
        self._names += [weights, begin]
        self._prepared.append(f"{made} = {self._taken('int32')}")
        codes = self._values[product.operand].rows
        planes = [
            f"{'carry' if product.wide else 'join'}_planes"
            f"({made}, rows, {product.long} * widths[{index}])"
        ]
        planes = planes if product.long else []
        if not product.wide:
            self._step.append(f"multiply({made}, {codes}, scratch, {weights}, {begin}, rows)")
            self._step += planes
            return
        low, upper, lower = f"low{index}", f"upper{index}", f"lower{index}"
        self._names.append(f"begin_low{index}")
        self._prepared += [
            f"{low} = {self._taken('int32')}",
            f"{upper} = {self._taken('uint8')}",
            f"{lower} = {self._taken('uint8')}",
        ]
        self._step += [
            f"apart({codes}, {upper}, {lower}, rows)",
            f"multiply({made}, {upper}, scratch, {weights}, {begin}, rows)",
            f"multiply({low}, {lower}, scratch, {weights}, begin_low{index}, rows)",
            f"join({made}, {low}, rows)",
            *planes,
        ]


def _move(target: str, to: str, source: str, start: str, columns: str) -> str:
    return f"move({target}, {to}, {source}, {start}, rows, {columns})"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
