"""What a report says in words: how sure its figures are, and what stands out in them.

Every sentence is made from ``report.json`` alone, so that the terminal, ``report.md`` and the page
say the same.
"""

import math
from collections.abc import Iterable, Sequence

from onnxgru.documents.entries import Outlier, Quality, Widened
from onnxgru.documents.report import Report

TITLES = {
    "validation": "validation",
    "holdout": "hold-out",
    "calibration": "calibration",
    "training": "training",
}
"""What sentences call the data of each role."""

RANDOM = (
    "No data were given: ranges and all figures come from random input, and say nothing of real "
    "recordings; give --calibration and --validation"
)

FALL = 5.0
"""Points that accuracy may lose before it is remarked."""

GAIN = 3.0
"""Decibels to the float model that inputs of 16 bits must gain to be advised; of other figures it
is half of what the program loses."""

NOISY = 10.0
"""Decibels to the float model below which it is remarked."""

NAMED = 2
"""Layers that a sentence names."""

WIDEST = 8
"""Bits of a state that cannot have more."""


def points(unit: str) -> str:
    """Unit of differences."""
    return "points" if unit == "%" else unit


def figure(value: float | None, unit: str) -> str:
    """A figure of quality with its unit."""
    if value is None:
        return "exact" if unit == "dB" else "-"
    return f"{value:.2f} {unit}".strip()


def between(interval: Sequence[float] | None, unit: str = "") -> str:
    """An interval in words; a dash where nothing is known of it."""
    if interval is None:
        return "-"
    low, high = interval
    return f"{low:.2f} to {high:.2f} {unit}".strip()


def signed(interval: Sequence[float], unit: str) -> str:
    """An interval of differences in words."""
    low, high = interval
    return f"{low:+.2f} to {high:+.2f} {points(unit)}".strip()


def counted(quality: Quality) -> str:
    """How many sequences a figure was measured on, and how many frames where these count."""
    sequences, number = quality.sequences, quality.counted
    one = "sequence" if sequences == 1 else "sequences"
    return f"{sequences:,} {one}" + (f", {number:,} frames" if number != sequences else "")


def verdict(report: Report, role: str, *, brief: bool = False) -> str | None:
    """How the integer graph compares with the float model, and how sure that is.

    Parameters
    ----------
    report : Report
        The report.
    role : str
        Of the data.
    brief : bool
        Without the number of recordings.
    """
    quality, unit = report.quality[role], report.metric.unit
    if quality.difference is None or quality.difference_interval is None:
        return None
    low, high = quality.difference_interval
    distance = abs(quality.difference)
    side = "above" if quality.difference > 0 else "below"
    apart = "equal to" if distance < 0.005 else f"{distance:.2f} {points(unit)} {side}"
    if not report.metric.higher_is_better:
        low, high = -high, -low
    if low >= 0:
        judged = "no worse"
    elif high < 0:
        judged = "worse"
    else:
        judged = "these recordings cannot tell which is better"
    return (
        f"On {TITLES[role]} data the integer graph is {apart} the float model (95 % interval "
        f"{signed(quality.difference_interval, unit)}{'' if brief else ', ' + counted(quality)}"
        f"): {judged}"
    )


def judged_by(report: Report) -> str:
    """Which outputs are judged, and by which metric."""
    outputs = report.metric.outputs
    names = ", ".join(outputs)
    what = f"the worst of outputs {names}" if len(outputs) > 1 else f"output {names}"
    return f"{what} by {report.metric.title}"


def judged(report: Report) -> str:
    """Which outputs are judged, by what, and why, as a sentence without a full stop."""
    other = "--metric sqnr" if report.metric.name == "agreement" else "--metric"
    return (
        f"{judged_by(report)}, because {report.metric.reason}; choose others with "
        f"--output-name and {other}"
    )


def optimistic(report: Report, *, brief: bool = False) -> str | None:
    """A warning about validation figures if a search chose by them."""
    if report.search is None:
        return None
    if brief:
        unseen = "" if "holdout" in report.quality else "; give --holdout"
        return f"Validation figures are optimistic, the search chose by them{unseen}"
    told = (
        "Validation figures of members that the search chose are optimistic, because it kept what "
        "looked best on these data"
    )
    if "holdout" in report.quality:
        return f"{told}; hold-out data were not used for any choice"
    return f"{told}; give --holdout for a figure on data that no choice has seen"


def stuck(report: Report) -> list[str]:
    """A sentence for each layer with states that never change."""
    found = []
    for entry in report.stuck:
        if entry.bits >= WIDEST:
            cure = (
                f"they have {entry.bits} bits, so check that calibration and validation data are "
                "scaled alike"
            )
            if entry.bits == WIDEST:
                cure += "; if they are, --wide-states gives 16 to states that every step adds to"
        else:
            cure = (
                "give more bits to what writes the state, and to what that adds up; --wide-states "
                "gives 16 to states that every step adds to"
            )
        are = "is" if entry.units == 1 else "are"
        found.append(
            f"{entry.units} of {entry.of} units of {entry.layer} {are} frozen: their "
            f"quantised state never changes while the float state does; {cure}"
        )
    return found


def falls(report: Report) -> list[str]:
    """A sentence where quantisation costs much of the quality; none otherwise."""
    metric, found = report.metric, []
    for role, quality in report.quality.items():
        before, after = quality.float_model, quality.integer
        if after is None:
            continue
        if metric.unit == "%":
            start = 100.0 if before is None else before
            if start - after <= FALL:
                continue
            said = f"{metric.title} falls from {figure(start, '%')} to {figure(after, '%')}"
        elif metric.unit == "dB" and metric.target == "reference":
            if after >= NOISY:
                continue
            said = f"only {after:.1f} dB are left between the float model's outputs and the noise"
        else:
            continue
        if advice := coarse(report):
            cure = advice
        elif report.sizes.mean_bits >= WIDEST:
            cure = "weights have 8 bits already, so check that calibration data are like these"
        elif report.finetuning is not None:
            cure = "give more bits, or fine-tune for more epochs or on more data"
        else:
            cure = "give more bits, --search, or fine-tune (onnxgru finetune)"
        found.append(f"{said} on {TITLES[role]} data; {cure}")
        break  # one is enough: the first is that of the hold-out data, where there are any
    return found


WIDER = (
    ("what layers read", "--input-bits 16", "wide_inputs"),
    ("the states", "--wide-states", "wide_states"),
)
"""What may be too coarse, the flag that gives it 16 bits, and the figure that it would have."""


def coarse(report: Report) -> str | None:
    """A sentence where the rounding of inputs or states loses the most; None otherwise."""
    told, flag, name = max(WIDER, key=lambda row: _gain(report, getattr(report, row[2])))
    entry: Widened | None = getattr(report, name)
    if entry is None or _gain(report, entry) <= 0:
        return None
    before, after = (figure(one, report.metric.unit) for one in (entry.before, entry.validation))
    return (
        f"the rounding of {told}{_of(entry)} loses the most: with {flag} {report.metric.title} on "
        f"validation data is {after} instead of {before}, for {entry.flash:,} bytes of flash and "
        f"{entry.ram:,} bytes of RAM"
    )


def _gain(report: Report, entry: Widened | None) -> float:
    """By how much a figure is better with 16 bits; 0 where that is too little to be advised."""
    if entry is None or entry.validation is None or entry.before is None:
        return 0.0
    metric = report.metric
    sign = 1 if metric.higher_is_better else -1
    gain, wanted = sign * (entry.validation - entry.before), GAIN
    if metric.unit != "dB" or metric.target != "reference":
        start = report.quality["validation"].float_model
        wanted = sign * ((100.0 if start is None else start) - entry.before) / 2
    return gain if gain >= wanted else 0.0


def _of(entry: Widened) -> str:
    """Layers in words; nothing where it is not known which."""
    if not entry.layers:
        return ""
    first, more = entry.layers[:NAMED], len(entry.layers) - NAMED
    others = f" and {more} other layer{'s' if more > 1 else ''}"
    return f" of {' and '.join(first)}" + (others if more > 0 else "")


CUT, KEPT, JUDGED = "cut", "kept", "judged"
"""What was done with a glitch: cut for ranges, kept by the observer minmax, counted in figures."""


def glitches(entries: Iterable[Outlier]) -> list[str]:
    """A sentence for each input that holds values far away from all others.

    Parameters
    ----------
    entries : iterable of Outlier
        These values.
    """
    found = []
    for entry in entries:
        place = f"recording {entry.recording} at index {tuple(entry.position)}"
        if entry.frames:
            place = f"recording {entry.recording}, frame {entry.position[0]}"
        held = f"{entry.value:g} in {place}"
        if entry.count > 1:
            held = f"{entry.count} values of up to {held}"
        done = {
            CUT: f"ranges come from values cut to {entry.limit:g}; correct or remove the "
            "recording, or give --observer minmax if such values are real",
            KEPT: "the observer minmax spends most codes on that range; correct or remove the "
            "recording, or leave --observer out",
            JUDGED: "figures count it as it is; correct or remove the recording",
        }[entry.done]
        found.append(
            f"{entry.source}: input {entry.input!r} holds an outlier, {held} (numbers start "
            f"at 0), while all others are within {entry.limit:g}; {done}"
        )
    return found


def remarks(report: Report) -> list[str]:
    """Everything that stands out, the most serious first, without full stops."""
    found = [RANDOM] if report.random_input else []
    advice = [text for text in [coarse(report)] if text is not None]
    return [*found, *glitches(report.glitches), *(falls(report) or advice), *stuck(report)]


def finite(interval: Sequence[float] | None) -> list[float] | None:
    """An interval as JSON can hold it."""
    if interval is None or not all(map(math.isfinite, interval)):
        return None
    return [round(end, 4) for end in interval]
