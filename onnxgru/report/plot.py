"""Plots as SVG that fit any width: the marks of the report's page, made without a library.

Places are percentages of the plot and sizes of marks and letters are pixels, so that a plot is as
wide as its place while its text stays readable; colours are classes that the page's style sheet
gives, so that light and dark need no second drawing. Lines and clouds lie in an inner picture of
1000 by 1000 units that is stretched.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

STAR = "M0-9 2.2-2.9 8.6-2.8 3.5 1.1 5.3 7.3 0 3.6-5.3 7.3-3.5 1.1-8.6-2.8-2.2-2.9Z"
SQUARE = "M-4.5-4.5H4.5V4.5H-4.5Z"
DIAMOND = "M0-6.5 6.5 0 0 6.5-6.5 0Z"
DOWN, UP = "M-5-9H5L0-1Z", "M-5 9H5L0 1Z"
DOT = "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z"

Point = tuple[float, float]


@dataclass(frozen=True)
class AxisScale:
    """A range of values along an axis.

    Parameters
    ----------
    low, high : float
        Its ends.
    """

    low: float
    high: float

    def place(self, value: float) -> float:
        """Where a value lies, in percent of the axis."""
        return 100 * (value - self.low) / (self.high - self.low)

    def holds(self, value: float) -> bool:
        """Whether a value lies between the ends."""
        return self.low <= value <= self.high

    def ticks(self, count: int) -> list[float]:
        """Round values between the ends, about `count` of them."""
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = min(
            (power * one for one in (1, 2, 2.5, 5, 10)), key=lambda one: abs(math.log(one / rough))
        )
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


@dataclass(frozen=True)
class Mark:
    """A point that tells something when the pointer is over it.

    Parameters
    ----------
    x, y : float
        Values, or a percentage for `y` outside of what the scale holds.
    shape : str
        Path about the origin, in pixels.
    name : str
        Class of its colour.
    tip : str
        What it tells, in lines.
    index : int, optional
        Number of the member that a click on it shows.
    """

    x: float
    y: float
    shape: str
    name: str
    tip: str
    index: int | None = None


class Panel:
    """One plot.

    Parameters
    ----------
    x, y : AxisScale
        Its axes.
    name : str
        Class of the element.
    """

    def __init__(self, x: AxisScale, y: AxisScale, name: str = "panel") -> None:
        self.x, self.y = x, y
        self.root = Element("svg", {"class": name})
        self._grid = SubElement(self.root, "g", {"class": "grid"})
        self._inner = SubElement(
            self.root,
            "svg",
            {"viewBox": "0 0 1000 1000", "preserveAspectRatio": "none"}
            | {"width": "100%", "height": "100%"},
        )

    def across(self, values: Iterable[float], *, labels: bool = True) -> None:
        """Draw lines at values of y, with the values on the left."""
        values = list(values)
        for value, text in zip(values, texts(values), strict=True):
            place = _percent(100 - self.y.place(value))
            SubElement(self._grid, "line", {"x2": "100%", "y1": place, "y2": place})
            if labels:
                written = SubElement(self._grid, "text", {"class": "left", "x": "-8", "y": place})
                written.text = text

    def along(self, places: Sequence[float], labels: Sequence[str]) -> None:
        """Write labels below values of x."""
        group = SubElement(self._grid, "g", {"class": "along"})
        for value, label in zip(places, labels, strict=True):
            place = _percent(self.x.place(value))
            SubElement(group, "line", {"y2": "100%", "x1": place, "x2": place})
            written = SubElement(group, "text", {"x": place, "y": "100%", "dy": "18"})
            written.text = label

    def cloud(self, points: Iterable[Point], name: str) -> None:
        """Draw dots that tell nothing."""
        places = (self._place(*point) for point in points if self._holds(*point))
        self._path("".join(f"M{x} {y}h0" for x, y in places), name)

    def steps(self, points: Sequence[Point], name: str) -> None:
        """Draw a line that is level until the next point."""
        places = [self._place(*point) for point in points]
        path = "".join(f"H{x}V{y}" for x, y in places[1:])
        self._path(f"M{places[0][0]} {places[0][1]}{path}", name)

    def level(self, y: float, name: str) -> None:
        """Draw a line at a value of y."""
        self._path(f"M0 {self._place(self.x.low, y)[1]}H1000", name)

    def mark(self, mark: Mark) -> None:
        """Draw a mark; one that lies above or below the plot is an arrow at its edge."""
        if not self.x.holds(mark.x):
            return
        shape, y = mark.shape, 100 - self.y.place(mark.y)
        if not self.y.holds(mark.y):
            shape, y = (DOWN, 100.0) if mark.y < self.y.low else (UP, 0.0)
        place = {"x": _percent(self.x.place(mark.x)), "y": _percent(y), "class": "at"}
        path = SubElement(
            SubElement(self.root, "svg", place), "path", {"class": mark.name, "d": shape}
        )
        path.set("data-tip", mark.tip)
        if mark.index is not None:
            path.set("data-member", str(mark.index))

    def markup(self) -> str:
        """The plot as SVG to stand in HTML."""
        return ElementTree.tostring(self.root, encoding="unicode")

    def _holds(self, x: float, y: float) -> bool:
        return self.x.holds(x) and self.y.holds(y)

    def _place(self, x: float, y: float) -> tuple[int, int]:
        return round(10 * self.x.place(x)), round(1000 - 10 * self.y.place(y))

    def _path(self, path: str, name: str) -> None:
        if path:
            SubElement(self._inner, "path", {"class": name, "d": path})


def texts(values: Sequence[float]) -> list[str]:
    """Values of an axis in words: with as many decimals as tell them apart."""
    digits = next(
        (n for n in range(7) if all(math.isclose(v, round(v, n), abs_tol=1e-9) for v in values)), 6
    )
    return [f"{value:,.{digits}f}" for value in values]


def _percent(value: float) -> str:
    return f"{round(value, 2):g}%"
