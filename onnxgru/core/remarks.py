"""What a report says in words: how sure its figures are, and what stands out in them.

Every sentence is made from ``report.json`` alone, so that the terminal, ``report.md`` and the page
say the same.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

TITLES = {"validation": "validation", "holdout": "hold-out", "calibration": "calibration"}
"""How data are called for people."""

RANDOM = (
    "No data were given: ranges and all figures come from random input, and say nothing of real "
    "recordings; give --calibration and --validation"
)

FALL = 5.0
"""Points that accuracy may lose before it is remarked."""

NOISY = 10.0
"""Decibels to the float model below which it is remarked."""

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


def counted(quality: Mapping[str, Any]) -> str:
    """What a figure rests on: sequences, and frames where these are counted."""
    sequences, number = quality["sequences"], quality["counted"]
    one = "sequence" if sequences == 1 else "sequences"
    return f"{sequences:,} {one}" + (f", {number:,} frames" if number != sequences else "")


def verdict(document: Mapping[str, Any], role: str, *, brief: bool = False) -> str | None:
    """How the integer graph compares with the float model, and how sure that is.

    Parameters
    ----------
    document : mapping
        A report.
    role : str
        Of the data.
    brief : bool
        Without the number of recordings.
    """
    quality, unit = document["quality"][role], document["metric"]["unit"]
    if quality["difference"] is None or quality["difference_interval"] is None:
        return None
    low, high = quality["difference_interval"]
    distance = abs(quality["difference"])
    side = "above" if quality["difference"] > 0 else "below"
    apart = "equal to" if distance < 0.005 else f"{distance:.2f} {points(unit)} {side}"
    if not document["metric"].get("higher_is_better", True):
        low, high = -high, -low
    if low >= 0:
        judged = "no worse"
    elif high < 0:
        judged = "worse"
    else:
        judged = "these recordings cannot tell which is better"
    return (
        f"On {TITLES[role]} data the integer graph is {apart} the float model (95 % interval "
        f"{signed(quality['difference_interval'], unit)}{'' if brief else ', ' + counted(quality)}"
        f"): {judged}"
    )


def judged_by(document: Mapping[str, Any]) -> str:
    """Which outputs are judged, and by what."""
    metric = document["metric"]
    names = ", ".join(metric["outputs"])
    several = len(metric["outputs"]) > 1
    what = f"the worst of outputs {names}" if several else f"output {names}"
    return f"{what} by {metric['name']}"


def optimistic(document: Mapping[str, Any], *, brief: bool = False) -> str | None:
    """What to say of validation figures that a search has chosen by."""
    if "search" not in document:
        return None
    if brief:
        unseen = "" if "holdout" in document["quality"] else "; give --holdout"
        return f"Validation figures are optimistic, the search chose by them{unseen}"
    told = (
        "Validation figures of members that the search chose are optimistic, because it kept what "
        "looked best on these data"
    )
    if "holdout" in document["quality"]:
        return f"{told}; hold-out data were not used for any choice"
    return f"{told}; give --holdout for a figure on data that no choice has seen"


def stuck(document: Mapping[str, Any]) -> list[str]:
    """What to say of states that stand still, a sentence per layer."""
    found = []
    for entry in document["stuck_states"]:
        if entry.get("bits", 0) >= WIDEST:
            cure = (
                f"they have {WIDEST} bits, the most there are, so check that calibration and "
                "validation data are scaled alike"
            )
        else:
            cure = "give state.sum, state.new and state.keep more bits"
        found.append(
            f"{entry['units']} of {entry['of']} units of {entry['layer']} are frozen: their "
            f"quantised state never changes while the float state does; {cure}"
        )
    return found


def falls(document: Mapping[str, Any]) -> list[str]:
    """What to say of a figure that quantisation has ruined."""
    metric, found = document["metric"], []
    for role, quality in document["quality"].items():
        before, after = quality["float"], quality["integer"]
        if after is None:
            continue
        if metric["unit"] == "%":
            start = 100.0 if before is None else before
            if start - after <= FALL:
                continue
            said = f"{metric['name']} falls from {figure(start, '%')} to {figure(after, '%')}"
        elif metric["unit"] == "dB" and metric.get("target", "reference") == "reference":
            if after >= NOISY:
                continue
            said = f"only {after:.1f} dB are left between the float model's outputs and the noise"
        else:
            continue
        if document.get("sizes", {}).get("mean_bits", 0) >= WIDEST:
            cure = "weights have 8 bits already, so check that calibration data are like these"
        else:
            cure = "give more bits, --search, or fine-tune (onnxgru finetune)"
        found.append(f"{said} on {TITLES[role]} data; {cure}")
        break  # one is enough: the first is that of the hold-out data, where there are any
    return found


CUT, KEPT, JUDGED = "cut", "kept", "judged"
"""What was done with a glitch: cut for ranges, kept by the observer minmax, counted in figures."""


def glitches(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to say of values that no tail explains, a sentence for each input.

    Parameters
    ----------
    entries : sequence of mapping
        As ``report.json`` has them.
    """
    found = []
    for entry in entries:
        place = f"recording {entry['recording']} at index {tuple(entry['position'])}"
        if entry["frames"]:
            place = f"recording {entry['recording']}, frame {entry['position'][0]}"
        held = f"{entry['value']:g} in {place}"
        if entry["count"] > 1:
            held = f"{entry['count']} values of up to {held}"
        done = {
            CUT: f"ranges come from values cut to {entry['limit']:g}; correct or remove the "
            "recording, or give --observer minmax if such values are real",
            KEPT: "the observer minmax spends most codes on that range; correct or remove the "
            "recording, or leave --observer out",
            JUDGED: "figures count it as it is; correct or remove the recording",
        }[entry["done"]]
        found.append(
            f"{entry['source']}: input {entry['input']!r} holds an outlier, {held} (numbers start "
            f"at 0), while all others are within {entry['limit']:g}; {done}"
        )
    return found


def remarks(document: Mapping[str, Any]) -> list[str]:
    """Everything that stands out, the gravest first, without full stops."""
    found = [RANDOM] if document.get("random_input") else []
    told = glitches(document.get("glitches", []))
    return [*found, *told, *falls(document), *stuck(document)]


def finite(interval: Sequence[float] | None) -> list[float] | None:
    """An interval as JSON can hold it."""
    if interval is None or not all(map(math.isfinite, interval)):
        return None
    return [round(end, 4) for end in interval]
