"""Plots: scales, ticks, marks, and paths that stay within the picture."""

from xml.etree import ElementTree

import pytest

from onnxgru.report.plot import DOT, DOWN, UP, AxisScale, Mark, Panel, texts


@pytest.mark.parametrize(
    ("low", "high", "count", "told"),
    [
        (5985.0, 6730.0, 4, ["6,000", "6,200", "6,400", "6,600"]),
        (96.5, 98.1, 4, ["96.5", "97.0", "97.5", "98.0"]),
        (-0.2, 0.3, 5, ["-0.2", "-0.1", "0.0", "0.1", "0.2", "0.3"]),
        (0.5, 8.5, 8, ["1", "2", "3", "4", "5", "6", "7", "8"]),
    ],
)
def test_ticks_are_round_and_within(low, high, count, told):
    assert texts(AxisScale(low, high).ticks(count)) == told


def test_marks_have_places_in_percent_and_tell_what_they_are():
    panel = Panel(AxisScale(0, 10), AxisScale(0, 100))
    panel.mark(Mark(2.5, 75, DOT, "member", "one <b>\ntwo", 3))
    panel.mark(Mark(5, -20, DOT, "low", "below"))
    panel.mark(Mark(5, 120, DOT, "high", "above"))
    panel.mark(Mark(11, 50, DOT, "outside", "not drawn"))
    root = ElementTree.fromstring(panel.markup())
    first, low, high = root.findall("svg[@class='at']")
    assert (first.get("x"), first.get("y")) == ("25%", "25%")
    (path,) = first
    assert path.attrib == {
        "class": "member", "d": DOT, "data-tip": "one <b>\ntwo", "data-member": "3",
    }  # fmt: skip
    assert (low.get("y"), low[0].get("d")) == ("100%", DOWN)
    assert (high.get("y"), high[0].get("d")) == ("0%", UP)


def test_lines_and_clouds_lie_in_a_stretched_picture():
    panel = Panel(AxisScale(0, 10), AxisScale(0, 100))
    panel.cloud([(1, 50), (20, 50), (10, 100)], "cloud")
    panel.cloud([], "nothing")
    panel.steps([(0, 0), (5, 50), (10, 100)], "steps")
    panel.level(25, "float")
    inner = ElementTree.fromstring(panel.markup()).find("svg[@viewBox]")
    assert inner is not None and inner.get("preserveAspectRatio") == "none"
    assert {path.get("class"): path.get("d") for path in inner} == {
        "cloud": "M100 500h0M1000 0h0",
        "steps": "M0 1000H500V500H1000V0",
        "float": "M0 750H1000",
    }
