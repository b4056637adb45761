"""Delays: where the states of a model that is called once per frame come from.

A state is an input whose next value is an output. Between the two it is often only moved: a
convolution's cache is shifted by a frame, or the states of several layers are stacked in one
tensor. Every element of a state is followed through such movements, over several calls, to the
computed value that it comes from, or to the state of the first call. A node that reads a state then
reads a *delay line* of computed values. So only the recurrent layers depend on earlier frames, and
every other part of the graph can run for all frames at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from onnxgru.passes.graph.segment import reads
from onnxgru.runtime.sessions import onnxruntime_session

Array = npt.NDArray[Any]
Tokens = npt.NDArray[np.int64]

_MOVEMENTS = {
    "Concat": None, "Expand": (0,), "Flatten": (0,), "Gather": (0,), "GatherElements": (0,),
    "GatherND": (0,), "Identity": (0,), "Reshape": (0,), "ScatterElements": (0, 2),
    "ScatterND": (0, 2), "Slice": (0,), "Split": (0,), "Squeeze": (0,), "Tile": (0,),
    "Transpose": (0,), "Unsqueeze": (0,),
}  # fmt: skip
"""Operators that move elements, with the positions of the inputs that hold them; None for all."""

LONGEST = 4096
"""Largest delay in calls."""


@dataclass(frozen=True, eq=False)
class Tap:
    """Elements of a value with the same source and delay.

    Parameters
    ----------
    source : str
        The computed value.
    delay : int
        Number of calls between computing and reading; 0 for the same call.
    places : ndarray of int, shape (n,)
        Flat indices in the value that is read.
    elements : ndarray of int, shape (n,)
        Flat indices in the source.
    before : ndarray of int, shape (delay, n)
        For the first calls, indices among the elements of all first states, one after the other.
    """

    source: str
    delay: int
    places: Tokens
    elements: Tokens
    before: Tokens


@dataclass(frozen=True, eq=False)
class Line:
    """The composition of a value that is moved out of states.

    Parameters
    ----------
    shape : tuple of int
        Of the value.
    dtype : numpy.dtype
        Of the value.
    taps : tuple of Tap
        Sources of its elements.
    kept : tuple of two ndarray of int, shape (n,)
        Flat indices of elements that never change, and their indices among the first states.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    taps: tuple[Tap, ...]
    kept: tuple[Tokens, Tokens]

    def hands_on(self, sources: Iterable[str | None]) -> bool:
        """Whether the value equals one of `sources` in the call before, element by element."""
        if len(self.taps) != 1 or len(self.kept[0]):
            return False
        (tap,) = self.taps
        size = int(np.prod(self.shape))
        return (
            tap.source in sources
            and tap.delay == 1
            and len(tap.places) == size
            and bool((tap.elements[np.argsort(tap.places)] == np.arange(size)).all())
        )

    def values(
        self, sources: Mapping[str, Sequence[Array]], first: Array, calls: int
    ) -> list[Array]:
        """The value in every call of one recording.

        Parameters
        ----------
        sources : mapping of str to sequence of ndarray
            Computed values, one array per call.
        first : ndarray, shape (S,)
            Elements of the first states, all states one after the other.
        calls : int
            Number of calls.
        """
        whole = np.empty((calls, int(np.prod(self.shape))), self.dtype)
        places, elements = self.kept
        whole[:, places] = first[elements]
        for tap in self.taps:
            for call in range(min(tap.delay, calls)):
                whole[call, tap.places] = first[tap.before[call]]
            if calls > tap.delay:
                found = sources[tap.source][: calls - tap.delay]
                flat = np.stack([array.reshape(-1) for array in found])
                whole[tap.delay :, tap.places] = flat[:, tap.elements]
        return [row.reshape(self.shape) for row in whole]


class Tracer:
    """Follows the elements of states through one call of a model.

    Parameters
    ----------
    model : onnx.ModelProto
        Normalised, sorted.
    states : mapping of str to str
        Output by state input.
    inputs : mapping of str to ndarray
        Inputs of one call, for the shapes.
    """

    def __init__(
        self, model: onnx.ModelProto, states: Mapping[str, str], inputs: Mapping[str, Array]
    ) -> None:
        self._states = dict(states)
        self._producers = {name: node for node in model.graph.node for name in node.output if name}
        self._constants = {t.name: t for t in model.graph.initializer}
        self._opsets = model.opset_import
        self._known = {**inputs, **_everything(model, inputs)}
        self._tokens: dict[str, Tokens] = {}
        self._starts: list[tuple[int, str]] = []  # first token of every computed value
        self._next = 0
        self.first: dict[str, int] = {}
        """Place of every state's first element among the elements of all states."""
        for name in self._states:
            self.first[name] = self._next
            self._tokens[name] = self._fresh(self._known[name].shape)
        self._count = self._next
        self._note_readers(model)
        self._following = self._after()

    @property
    def lines(self) -> dict[str, Line]:
        """Lines of every state, and of every value with elements of states that something reads.

        Raises
        ------
        ValueError
            If elements circulate in the states and are never computed.
        """
        return {name: self._line(name) for name in {**dict.fromkeys(self._states), **self._read}}

    def _note_readers(self, model: onnx.ModelProto) -> None:
        """Note the values with elements of states that something computes with."""
        tainted = set(self._states)
        self._read: dict[str, None] = {}
        for node in model.graph.node:
            held = [name for name in reads(node) if name in tainted]
            if held and _moves(node) and any(name in tainted for name in _operands(node)):
                tainted.update(name for name in node.output if name)
                held = [name for name in held if name not in _operands(node)]
            self._read.update(dict.fromkeys(held))
        self._read.update({v.name: None for v in model.graph.output if v.name in tainted})

    def _after(self) -> Tokens:
        """Token that every element of the states has in the next call."""
        following = np.empty(self._count, np.int64)
        for name, output in self._states.items():
            start, tokens = self.first[name], self._of(output).reshape(-1)
            following[start : start + len(tokens)] = tokens
        return following

    def _fresh(self, shape: tuple[int, ...]) -> Tokens:
        size = int(np.prod(shape))
        tokens = np.arange(self._next, self._next + size).reshape(shape)
        self._next += size
        return tokens

    def _of(self, name: str) -> Tokens:
        """Tokens of a value: those that it was moved from, or its own."""
        pending = [name]
        while pending:
            current = pending[-1]
            if current in self._tokens:
                pending.pop()
                continue
            node = self._producers.get(current)
            if node is None or not _moves(node):
                self._starts.append((self._next, current))
                self._tokens[current] = self._fresh(self._array(current).shape)
                continue
            missing = [n for n in _operands(node) if n and n not in self._tokens]
            if missing:
                pending.extend(missing)
                continue
            outputs = self._evaluated(node)
            self._tokens.update(outputs)
        return self._tokens[name]

    def _array(self, name: str) -> Array:
        if name in self._constants:
            return numpy_helper.to_array(self._constants[name])
        return self._known[name]

    def _evaluated(self, node: onnx.NodeProto) -> dict[str, Tokens]:
        """A movement, applied to tokens."""
        from onnx.reference import ReferenceEvaluator

        held = set(_operands(node))
        feeds = {n: self._tokens[n] if n in held else self._array(n) for n in node.input if n}
        graph = helper.make_graph(
            [node],
            "movement",
            [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), None)
             for n, a in feeds.items()],
            [helper.make_tensor_value_info(n, onnx.TensorProto.INT64, None)
             for n in node.output if n],
        )  # fmt: skip
        message = helper.make_model(graph, opset_imports=self._opsets)
        names = [name for name in node.output if name]
        results: Any = ReferenceEvaluator(message).run(names, feeds)
        return {n: np.asarray(r, np.int64) for n, r in zip(names, results, strict=True)}

    def _line(self, name: str) -> Line:
        tokens = self._of(name).reshape(-1)
        array = self._known[name]
        taps: list[Tap] = []
        current, delay = tokens.copy(), 0
        waiting = np.arange(len(tokens))  # places whose element is not found yet
        passed: list[Tokens] = []  # which elements of states they were, call by call
        while len(waiting):
            now = current[waiting]
            computed = now >= self._count
            ready = waiting[computed]
            if len(ready):
                taps += self._taps(current, ready, delay, passed)
            waiting = waiting[~computed]
            if not len(waiting):
                break
            if delay == LONGEST or bool(
                (self._following[current[waiting]] == current[waiting]).all()
            ):
                break
            row = np.full(len(tokens), -1, np.int64)
            row[waiting] = current[waiting]
            passed.append(row)
            current[waiting] = self._following[current[waiting]]
            delay += 1
        still = self._following[current[waiting]] == current[waiting]
        if not still.all():
            raise ValueError(f"{name}: elements of it never leave the states")
        return Line(array.shape, array.dtype, tuple(taps), (waiting, current[waiting]))

    def _taps(
        self, current: Tokens, ready: Tokens, delay: int, passed: Sequence[Tokens]
    ) -> list[Tap]:
        """Taps of elements that were computed some calls before, one per source."""
        starts = np.array([start for start, _ in self._starts])
        owners = np.searchsorted(starts, current[ready], side="right") - 1
        found = []
        for owner in np.unique(owners):
            places = ready[owners == owner]
            start, source = self._starts[owner]
            # In the first calls the element is still one of the first states: in call t, the one
            # that it reaches after t movements.
            before = (
                np.stack([passed[t][places] for t in range(delay)])
                if delay
                else np.empty((0, len(places)), np.int64)
            )
            found.append(Tap(source, delay, places, current[places] - start, before))
        return found


def _operands(node: onnx.NodeProto) -> list[str]:
    """Names of the inputs of a movement that hold what is moved."""
    places = _MOVEMENTS[node.op_type]
    if places is None:
        return list(node.input)
    return [node.input[place] for place in places if place < len(node.input)]


def _moves(node: onnx.NodeProto) -> bool:
    return (
        node.op_type in _MOVEMENTS
        and node.domain in ("", "ai.onnx")
        and not any(a.name == "reduction" and a.s not in (b"", b"none") for a in node.attribute)
    )


def _everything(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Every value of one call."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name and name not in known:
                probed.graph.output.append(onnx.ValueInfoProto(name=name))
    return onnxruntime_session(probed, "disabled", threads=1)(inputs)
