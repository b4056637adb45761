"""Products that a delta network eliminates: sentences, a table and a chart."""

from onnxgru.documents.entries import Operand
from onnxgru.documents.remarks import TITLES, points, signed
from onnxgru.documents.report import Report
from onnxgru.report.charts import HEIGHTS, Chart
from onnxgru.report.plot import DOT, AxisScale, Mark, Panel, texts

COLOURS = 6
"""Number of operands that the chart has colours for."""


def sentence(report: Report) -> str | None:
    """A sentence with the share of eliminated products by role; None without a delta network."""
    found = report.delta
    if found is None:
        return None
    shares = (
        f"{entry.eliminated:.1f} % on {TITLES[role]} ({entry.eliminated_at_0:.1f} % at threshold 0)"
        for role, entry in found.roles.items()
    )
    return f"multiplications eliminated: {', '.join(shares)}"


def costs(report: Report) -> list[str]:
    """A sentence per role: how thresholds change the figure beside thresholds of 0."""
    if report.delta is None:
        return []
    unit = report.metric.unit
    return [
        f"On {TITLES[role]} data the thresholds change the {report.metric.name} by "
        f"{share.difference:+.2f} {points(unit)} (95 % interval "
        f"{signed(share.difference_interval, unit)})."
        for role, share in report.delta.roles.items()
        if share.difference is not None and share.difference_interval is not None
    ]


def memory(report: Report) -> str:
    """A sentence about the RAM of kept accumulators; empty without a delta network."""
    if report.delta is None:
        return ""
    return (
        "The RAM of the sizes holds what was last read, and accumulators that are kept from step "
        f"to step: {report.delta.accumulator_bytes:,} bytes per sequence."
    )


def rows(report: Report) -> list[list[str]]:
    """Rows of a table of operands, the head first; empty without a delta network."""
    found = report.delta
    if found is None:
        return []
    roles, whole = list(found.roles), found.roles.values()
    return [
        ["operand", "threshold, codes", "multiplications per element"]
        + [f"eliminated, {TITLES[role]}" for role in roles],
        *(
            [row.name, _threshold(row), f"{row.multiplications:,}"]
            + [f"{row.eliminated[role]:.1f} %" for role in roles]
            for row in found.operands
        ),
        ["all", "", "", *(f"{entry.eliminated:.1f} %" for entry in whole)],
        ["all, at threshold 0", "", "", *(f"{e.eliminated_at_0:.1f} %" for e in whole)],
    ]


def lines(report: Report) -> list[str]:
    """Lines of report.md; none without a delta network."""
    table = rows(report)
    if not table:
        return []
    head, *others = table
    return [
        "",
        "## Delta network",
        "",
        "Matrix products read an element of an operand only when it changed by more than a "
        "threshold since it was last read. The others need no multiplications: they are "
        "eliminated. Firmware that keeps its accumulators saves them; `integer.onnx` computes "
        "them all. An operand without a threshold is counted at 0, which changes no code.",
        "",
        " ".join([memory(report), *costs(report)]),
        "",
        f"| {' | '.join(head)} |",
        "|---|" + "---:|" * (len(head) - 1),
        *(f"| {' | '.join(row)} |" for row in others),
    ]


def _threshold(row: Operand) -> str:
    return "none" if row.threshold is None else str(row.threshold)


def chart(report: Report) -> Chart | None:
    """A chart of eliminated products by step; None where there is nothing to draw."""
    found = report.delta
    if found is None or len(found.over_time.steps) < 2:
        return None
    time = found.over_time
    x, y = AxisScale(-0.5, time.steps[-1] + 0.5), AxisScale(0.0, 100.0)
    panel = Panel(x, y)
    panel.across(y.ticks(5))
    ticks = [tick for tick in x.ticks(6) if tick == int(tick) and tick >= 0]
    panel.along(ticks, texts(ticks))
    keys = [("member", "all multiplications")]
    drawn = list(time.operands.items())[:COLOURS]
    for place, (name, shares) in enumerate(drawn):
        colour = f"cloud generation-{place * (COLOURS - 1) // max(1, len(drawn) - 1)}"
        panel.cloud(zip(time.steps, shares, strict=True), colour)
        keys.append((colour, name))
    panel.steps(list(zip(time.steps, time.whole, strict=True)), "steps")
    for step, share in zip(time.steps, time.whole, strict=True):
        tip = f"step {step}\neliminated: {share:.1f} %"
        panel.mark(Mark(step, share, DOT, "member", tip))
    above = f"multiplications eliminated on {TITLES[time.role]}, %"
    return Chart(above, ("step",), (panel.markup(),), tuple(keys), HEIGHTS[1])
