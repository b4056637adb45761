"""The oracle: an integer program in plain int64, with every intermediate checked against int32.

This is a second implementation of the integer arithmetic, on purpose. It shares no code with the
back ends in `onnxgru.custom_ops`: it reads the program's parameters and applies the equations
directly, one step at a time, so that errors in primitives and back ends show.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from onnxgru.core.errors import OverflowProofError
from onnxgru.core.integers import Codes, Quantization
from onnxgru.core.program import IntegerLayer, IntegerOperator, IntegerRecurrence, Output
from onnxgru.custom_ops.kinds.add import Add
from onnxgru.custom_ops.kinds.copy import Copy
from onnxgru.custom_ops.kinds.delta import Delta
from onnxgru.custom_ops.kinds.interpolation import Interpolation
from onnxgru.custom_ops.kinds.linear import Linear, Part
from onnxgru.custom_ops.kinds.lookup import Lookup
from onnxgru.custom_ops.kinds.mul import Mul
from onnxgru.custom_ops.kinds.scale import Scale

Wide = npt.NDArray[np.int64]
INT32 = np.iinfo(np.int32)


def _fits(value: Wide, name: str) -> Wide:
    if value.size and (value.min() < INT32.min or value.max() > INT32.max):
        raise OverflowProofError(
            f"{name}: an intermediate left int32 ({value.min()} .. {value.max()}); "
            "the accumulator proof must rule this out: please report it"
        )
    return value


def _rounded_shift(value: Wide, shift: int, name: str) -> Wide:
    half = (1 << shift) // 2
    return _fits(value + half, name) >> shift


def _saturate(value: Wide, quantization: Quantization, name: str) -> Codes:
    shifted = _fits(value + quantization.zero_point, name)
    return _stored(np.clip(shifted, 0, 2**quantization.bits - 1), quantization)


def _stored(codes: Wide, quantization: Quantization) -> Codes:
    return codes.astype(np.uint16 if quantization.bits > 8 else np.uint8)


def _requantize(accumulator: Wide, output: Output, offset: Wide | int = 0) -> Codes:
    parameters, name = output.requantization, output.name
    quantization = output.boundary.quantization
    kept = 23 if quantization.bits > 8 else 15
    value = _rounded_shift(_fits(accumulator, name), max(0, parameters.reach - kept), name)
    limit = 2 ** min(parameters.reach, kept)
    value = np.clip(value, -limit, limit)
    if limit > 2**15:  # two words: floors one after the other are the floor of the whole
        half = (1 << parameters.shift) // 2
        carried = _fits((value % 256) * parameters.multipliers + half, name) >> 8
        total = _fits((value >> 8) * parameters.multipliers + carried, name)
        return _saturate(total >> parameters.shift - 8, quantization, name)
    product = _fits(_fits(value * parameters.multipliers, name) + offset, name)
    return _saturate(_rounded_shift(product, parameters.shift, name), quantization, name)


def _linear(operator: Linear, codes: Codes) -> list[Codes]:
    quantization, name = operator.operands[0].quantization, operator.outputs[0]
    results = []
    for part in operator.parts:
        weight = part.weight.astype(np.int64).T
        if part.type.bits > 8:
            product = _long(codes.astype(np.int64) - quantization.zero_point, part, name)
        elif quantization.bits > 8:
            zero = quantization.zero_point
            whole = codes.astype(np.int64)
            upper = _fits(((whole >> 8) - (zero >> 8)) @ weight * 256, name)
            product = _fits(upper + (whole % 256 - zero % 256) @ weight, name)
        else:
            product = _fits((codes.astype(np.int64) - quantization.zero_point) @ weight, name)
        if part.after:
            results.append(_requantize(product, part.output, part.bias.astype(np.int64)))
        else:
            results.append(_requantize(product + part.bias, part.output))
    return results


def _long(steps: Wide, part: Part, name: str) -> Wide:
    """Product with weights of 16 bits; its intermediates must fit int32."""
    weight = part.weight.astype(np.int64).T
    high, low = (weight + 128) // 256, (weight + 128) % 256 - 128
    upper, lower = (_fits(steps @ plane, name) for plane in (high, low))
    whole = steps @ weight  # of both 16 bits, this needs more than 32
    if part.dropped:
        return _fits(whole + 128 >> 8, name)
    return _fits(_fits(upper * 256, name) + lower, name)


def _add_words(operator: Add, values: tuple[Codes, Codes]) -> list[Codes]:
    name, parameters = operator.output.name, operator.output.requantization
    upper = np.zeros(values[0].shape, np.int64)
    lower = np.full(values[0].shape, 128 << parameters.shift, np.int64)
    for codes, boundary, scale in zip(
        values, operator.operands, parameters.multipliers, strict=True
    ):
        zero, whole = boundary.quantization.zero_point, codes.astype(np.int64)
        if boundary.quantization.bits <= 8:
            upper += _fits(int(scale) * (whole - zero), name)
            continue
        upper += _fits(int(scale) * ((whole >> 8) - (zero >> 8)), name)
        lower += _fits(int(scale) * (whole % 256 - zero % 256), name)
    total = _fits(_fits(upper, name) + (_fits(lower, name) >> 8), name)
    return [_saturate(total >> parameters.shift, operator.output.boundary.quantization, name)]


def _add(operator: Add, left: Codes, right: Codes) -> list[Codes]:
    if max(boundary.quantization.bits for boundary in operator.operands) > 8:
        return _add_words(operator, (left, right))
    name, parameters = operator.output.name, operator.output.requantization
    total = np.zeros(left.shape, np.int64)
    for codes, boundary, scale in zip(
        (left, right), operator.operands, parameters.multipliers, strict=True
    ):
        steps = codes.astype(np.int64) - boundary.quantization.zero_point
        total += _fits(int(scale) * steps, name)
    shifted = _rounded_shift(_fits(total, name), parameters.shift, name)
    return [_saturate(shifted, operator.output.boundary.quantization, name)]


def _mul(operator: Mul, left: Codes, right: Codes) -> list[Codes]:
    steps = [
        codes.astype(np.int64) - boundary.quantization.zero_point
        for codes, boundary in zip((left, right), operator.operands, strict=True)
    ]
    if min(boundary.quantization.bits for boundary in operator.operands) > 8:
        name = operator.output.name
        carried = _rounded_shift((steps[0] % 256) * steps[1], 8, name)
        return [_requantize(_fits((steps[0] >> 8) * steps[1], name) + carried, operator.output)]
    return [_requantize(steps[0] * steps[1], operator.output)]


def _scale(operator: Scale, codes: Codes) -> list[Codes]:
    name, parameters = operator.output.name, operator.output.requantization
    (operand,), result = operator.operands, operator.output.boundary.quantization
    if operand.quantization.bits > 8:
        zero, whole = operand.quantization.zero_point, codes.astype(np.int64)
        lower = _fits((whole % 256 - zero % 256) * parameters.multipliers, name)
        carried = _fits(lower + (128 << parameters.shift), name) >> 8
        upper = _fits(((whole >> 8) - (zero >> 8)) * parameters.multipliers, name)
        return [_saturate(_fits(upper + carried, name) >> parameters.shift, result, name)]
    steps = codes.astype(np.int64) - operand.quantization.zero_point
    product = _fits(steps * parameters.multipliers, name)
    return [_saturate(_rounded_shift(product, parameters.shift, name), result, name)]


def _lookup(operator: Lookup, codes: Codes) -> list[Codes]:
    return [operator.table[codes.astype(np.int64)]]


def _interpolation(operator: Interpolation, codes: Codes) -> list[Codes]:
    entries, g = operator.curve.entries.astype(np.int64), operator.curve.segment
    place = np.clip(codes.astype(np.int64) - operator.curve.start, 0, (len(entries) - 1 << g) - 1)
    index, rest = place >> g, place % (1 << g)
    line = (entries[index] << g) + rest * (entries[index + 1] - entries[index])
    found = _rounded_shift(_fits(line, operator.name), g + 16 - operator.result.bits, operator.name)
    return [_stored(found, operator.result)]


def _delta(operator: Delta, codes: Codes, held: Codes) -> list[Codes]:
    moved = np.abs(codes.astype(np.int64) - held) > operator.threshold
    return [np.where(moved, codes, held)]


def _copy(operator: Copy, codes: Codes) -> list[Codes]:
    zero_point = operator.operands[0].quantization.zero_point
    return [_requantize(codes.astype(np.int64) - zero_point, operator.output)]


_EQUATIONS: Mapping[type[IntegerOperator], Callable[..., list[Codes]]] = {
    Linear: _linear,
    Add: _add,
    Mul: _mul,
    Scale: _scale,
    Lookup: _lookup,
    Interpolation: _interpolation,
    Delta: _delta,
    Copy: _copy,
}


def _step(operators: tuple[IntegerOperator, ...], values: dict[str, Codes]) -> None:
    for operator in operators:
        results = _EQUATIONS[type(operator)](operator, *(values[n] for n in operator.inputs))
        values.update(zip(operator.outputs, results, strict=True))


def _direction(
    recurrence: IntegerRecurrence,
    layer: IntegerLayer,
    x: Codes,
    before: Mapping[str, Codes],
    lengths: npt.NDArray[np.integer] | None,
) -> tuple[Codes, dict[str, Codes], dict[str, Codes]]:
    steps, batch = x.shape[:2]
    names, zeros = recurrence.bound, layer.zeros(recurrence)
    silence = layer.emitted.zero
    ends = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    carried = dict(before)
    emitted: list[Codes] = []
    trace: dict[str, list[Codes]] = {}
    order = range(steps - 1, -1, -1) if recurrence.reverse else range(steps)
    for t in order:
        values = {recurrence.input: x[t]}
        values |= {names[carry].name: codes for carry, codes in carried.items()}
        known = set(values)
        _step(recurrence.operators, values)
        going = (t < ends)[:, None]
        emitted.append(np.where(going, values[recurrence.emits], silence))
        carried = {
            carry: np.where(going, values[names[carry].written_by], codes)
            for carry, codes in carried.items()
        }
        for name in values.keys() - known:
            trace.setdefault(name, []).append(values[name])
    if lengths is not None:
        carried = {
            carry: np.where((ends > 0)[:, None], codes, zeros[carry])
            for carry, codes in carried.items()
        }
    direction = -1 if recurrence.reverse else 1
    traced = {name: np.stack(v[::direction]) for name, v in trace.items()}
    return np.stack(emitted[::direction]), carried, traced


def run(
    layer: IntegerLayer,
    x: Codes,
    initial: Mapping[str, Codes] | None = None,
    lengths: npt.NDArray[np.integer] | None = None,
) -> tuple[Codes, dict[str, Codes], dict[str, Codes]]:
    """Run one layer.

    Parameters
    ----------
    layer : IntegerLayer
        The layer.
    x : ndarray of uint8 or uint16, shape (T, B, I)
        Input codes.
    initial : mapping of str to ndarray of uint8 or uint16, shape (D, B, H), optional
        Codes of carries before the first step; the code of 0.0 where left out.
    lengths : ndarray of int, shape (B,), optional
        Steps of every sequence.

    Returns
    -------
    y : ndarray of uint8 or uint16, shape (T, D, B, H)
        Codes of what is emitted.
    last : dict of str to ndarray of uint8 or uint16, shape (D, B, H)
        Codes of the carries after the last step.
    trace : dict of str to ndarray of uint8 or uint16, shape (T, B, H)
        Codes of every operator at every step.

    Raises
    ------
    OverflowProofError
        If an intermediate leaves int32.
    """
    y, trace = [], {}
    last: dict[str, list[Codes]] = {carry: [] for carry in layer.recurrences[0].bound}
    for index, recurrence in enumerate(layer.recurrences):
        before, zeros = {}, layer.zeros(recurrence)
        for carry, bound in recurrence.bound.items():
            shape = (x.shape[1], recurrence.widths[bound.written_by])
            given = (initial or {}).get(carry)
            before[carry] = np.full(shape, zeros[carry]) if given is None else given[index]
        emitted, carried, values = _direction(recurrence, layer, x, before, lengths)
        y.append(emitted)
        for carry, codes in carried.items():
            last[carry].append(codes)
        trace.update(values)
    return np.stack(y, axis=1), {c: np.stack(codes) for c, codes in last.items()}, trace
