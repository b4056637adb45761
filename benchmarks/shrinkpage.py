"""The page of `benchmarks.shrink`: what was measured, beside what was published."""

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

WIDTH = 118
"""Of lines of the page."""

Documents = Mapping[str, dict[str, Any]]

HEAD = """# Shrink and Eliminate, on ten keywords

Rezk et al. 2022, "Shrink and Eliminate: A Study of Post-Training Quantization and Repeated
Operations Elimination in RNN Models" (Information 13(4):176), quantise LSTM, GRU, LiGRU and SRU
models of speech (TIMIT, several layers of two directions, phone error). Here schemes of the same
kinds are measured on ten keywords of Speech Commands: one layer of 128 units, or of 64 units in
each of two directions, and a dense layer, which is quantised too (`--head`). Accuracy is that of
605 hold-out recordings, with the 95 % interval; one recording is 0.17 points. All rows are after
training only, where they do not say otherwise.

This page is written by `python -m benchmarks.shrink --page` from `benchmarks/results/shrink/`,
which `python -m benchmarks.shrink WORK` measures: {measured}. One process, one thread, on two
cores of an AMD EPYC (family 26). That was before biases of narrow widths took fewer bytes. Six of
the models were lowered again: their rows of 4 bits take 0.3 to 2.7 % less flash today, the others
differ by at most 0.1 %.

- **8 bits, 4 bits**: every operator and every weight, by the defaults of `onnxgru quantize`. An
  LSTM's cell state has 16 bits.
- **skip**: `--skip new.hidden`: the product of the candidate with the state has weights of 16
  bits and reads a state of 16 bits; what else reads the state reads a copy at the width of the
  row. **part**: in the forward direction alone.
- **wide states**: `--wide-states`: 16 bits for a state that every step adds to and for what is
  added; all products read a copy. An LSTM has that already.
- **as published**: weights of so many bits, rounded to nearest, one scale per matrix; the values
  that products read have so many bits; everything else has 16.
- **M1 to M8**: everything has 16 bits, but for weights and what products read. Widths of the
  weights of input products, recurrent products and dense layer, and of what they read: {mixed}.
  `new.hidden` is skipped. The published M1 has recurrent weights of 2 bits, too; the widths of
  our other schemes are our own.
- **delta**: every operand of the layer has a threshold, 0 or chosen on validation data (`--delta
  auto`).
"""

PUBLISHED = """## What was published

Phone error on TIMIT, of the GRU where nothing else is said:

| | no skip | skip |
|---|---:|---:|
| float | 15.4 % | |
| 8 bits | 19.3 % | 15.5 % |
| 4 bits | 21.9 % | 16.0 % |
| recurrent weights of 2 bits | | 15.4 %, 7.2 times smaller |

The best compressed models are more than 85 % smaller. They lose 0.6 (LSTM), 0.0 (GRU), 2.1
(LiGRU) and 0.2 points (SRU). Delta networks of the GRU eliminate 18 % of the operations at 8 bits
and 46 % at 4 bits with thresholds of 0, and 56 % and 64 % with chosen thresholds, the latter at
0.1 points more error.
"""


def page(documents: Documents, mixed: Mapping[str, Sequence[int]], compared: str) -> str:
    """The page.

    Parameters
    ----------
    documents : mapping of str to dict
        Results by name of the model.
    mixed : mapping of str to sequence of int
        Widths of the mixed schemes.
    compared : str
        What agrees and what does not, in words.
    """
    dates = sorted(document["date"] for document in documents.values())
    versions = sorted({f"onnxgru {document['version']}" for document in documents.values()})
    first = next(iter(documents.values()))
    measured = f"{', '.join(versions)}, Python {first['python']}, seed 0, {dates[0]}"
    if dates[-1] != dates[0]:
        measured += f" to {dates[-1]}"
    widths = "; ".join(f"{name} {', '.join(map(str, bits))}" for name, bits in mixed.items())
    parts = [_wrapped(HEAD.format(measured=measured, mixed=widths))]
    for title, two in (("One direction", False), ("Two directions", True)):
        chosen = {n: d for n, d in documents.items() if n.endswith("two directions") == two}
        if not chosen:
            continue
        parts += [f"## {title}\n", *_tables(chosen)]
    return "\n".join([*parts, PUBLISHED, compared])


def _wrapped(text: str) -> str:
    """Text with lines of even length; a paragraph or point is one that begins so."""
    pieces = re.split(r"\n(?=\n|- )", text.strip())
    filled = [
        textwrap.fill(
            " ".join(piece.split()),
            WIDTH,
            initial_indent="\n" * piece.startswith("\n"),
            subsequent_indent="  " * piece.startswith(("- ", "\n- ")),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for piece in pieces
    ]
    return "\n".join(filled) + "\n"


def _tables(documents: Documents) -> Iterator[str]:
    yield "Accuracy, percent, with its 95 % interval:\n"
    yield _table(documents, _quality)
    yield "Flash of the quantised layers, bytes, and mean width of a weight:\n"
    yield _table(documents, _size)
    yield "Eliminated multiplications of the layer's products, and thresholds in codes:\n"
    yield _table(documents, _eliminated)


def _table(documents: Documents, cell: Callable[[dict[str, Any]], str]) -> str:
    longest = max(documents.values(), key=lambda document: len(document["rows"]))
    every = (longest, *documents.values())
    names = dict.fromkeys(row for document in every for row in document["rows"])
    titles = [name.split(",")[0] for name in documents]
    lines = [f"| | {' | '.join(titles)} |", f"|---|{'---:|' * len(titles)}"]
    for row in names:
        cells = [cell(document["rows"].get(row) or {}) for document in documents.values()]
        if any(cells):
            lines.append(f"| {row.replace('published', 'as published,')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _quality(row: dict[str, Any]) -> str:
    if not row:
        return ""
    low, high = row["interval"]
    return f"{row['quality']:.1f} ({low:.1f} to {high:.1f})"


def _size(row: dict[str, Any]) -> str:
    if not row:
        return ""
    return f"{row['bytes']:,}" + (f" ({row['mean_bits']:.2f})" if "mean_bits" in row else "")


def _eliminated(row: dict[str, Any]) -> str:
    if "eliminated" not in row:
        return ""
    limits = "/".join(map(str, row["thresholds"].values()))
    return f"{row['eliminated']:.1f} % ({limits})"
