"""Long statements are broken where a person would."""

import re

from onnxgru.firmware.wrapping import WIDTH, wrapped

LONG = "the_distance_of_some_from_others"


def test_short_lines_stay() -> None:
    assert wrapped("x = f(a, b);", 4) == ["x = f(a, b);"]


def test_commas_then_sums() -> None:
    line = f"const int32_t x = clip(shift_right({LONG} + ({LONG} - zero), bits) + zero, 0, 255);"
    assert wrapped(line, 8) == [
        "const int32_t x = clip(",
        "    shift_right(",
        f"        {LONG} + ({LONG} - zero), bits",
        "    ) + zero,",
        "    0,",
        "    255",
        ");",
    ]
    assert wrapped(f"x = (a_{LONG} + b_{LONG} - c[{LONG}]);", 8) == [
        "x = (", f"    a_{LONG}", f"    + b_{LONG}", f"    - c[{LONG}]", ");",
    ]  # fmt: skip
    assert wrapped(f"x = f(b_{LONG}, d_{LONG}) + 2 * {LONG};", 8) == [
        "x = f(", f"    b_{LONG}, d_{LONG}", f") + 2 * {LONG};",
    ]  # fmt: skip


def test_nothing_is_lost() -> None:
    line = f"y = f(g({LONG}, {LONG}), {LONG} * h({LONG} - 1), -1);"
    found = wrapped(line, 0)
    assert max(map(len, found)) <= WIDTH
    assert re.sub(r"\s", "", "".join(found)) == re.sub(r"\s", "", line)
    assert wrapped("z" * 200, 0) == ["z" * 200]
