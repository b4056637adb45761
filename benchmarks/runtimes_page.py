"""``docs/runtimes.md`` from what ``benchmarks.runtimes`` has measured."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from onnxgru.runtimes import table
from onnxgru.session.toolchains import ABSENT, DIFFERS, REFUSES, SAME

WORDS = {SAME: "same", DIFFERS: "**DIFFERS**", REFUSES: "refuses", ABSENT: ""}

FORMS = {
    "step": "one step per call, `--recurrence step`",
    "scan": "a loop, `--recurrence scan`",
    "functions": "one step per call, `--recurrence step --functions`",
    "functions scan": "a loop, `--recurrence scan --functions`",
    "unrolled": "no loop, `--recurrence unrolled`, six steps, or as many as a column says",
}

HEAD = """# Runtimes

`onnxgru verify FOLDER` runs an integer graph in every runtime that is installed and compares all
codes bit for bit. This page has what it said of small models. The command that measured it and
wrote this page:

```sh
python -m benchmarks.runtimes --install --json benchmarks/results/runtimes.json \\
    --page docs/runtimes.md
```

- *same*: all codes are equal, those of the states at every step and those of quantised inputs.
- *refuses*: the runtime does not load or run the graph, or does not come back in time: 60 seconds,
  and at least 5 seconds per step of an unrolled graph. The reason is below the table.
- **DIFFERS**: it computes other codes. Do not use it.
- An empty cell was not measured.

The models have one layer of eight units and four inputs, at 4 bits: the operators GRU, RNN and LSTM
(with a cell state of 16 bits); LiGRU, written out in the body of a `Scan`; a GRU with a state of 16
bits; a GRU as a delta network; a GRU and a dense layer quantised with `--head`. Runtimes that
compile for fixed sizes get the graph with the sizes of the call, as `--batch` sets them. C is the
code of `onnxgru c`, on this machine and under QEMU; it is the same for all profiles and forms. The
operator is that of `onnxgru.onnxruntime.register`, in the place of the functions of `--functions`.
"""

ONNX2C = """
## onnx2c

**Not measured.** Debian 12, PyPI and npm have no package of it.
With the program on the PATH, or `--at onnx2c=PROGRAM`, the command above measures it. Its source
has no `Cast` to an integer type (read, not run), so no codes come about from float inputs.
"""

LITERT = """
## LiteRT (TensorFlow Lite) through onnx2tf

**DIFFERS: do not use it.** The operator is `Div` of integers, which every integer graph has.
onnx2tf 1.29 writes it as a cast to float32, a product with the reciprocal, and a cast back. The
stored reciprocals of a vector of divisors are not exact: that of 2 is 0.49999997. A quotient that
is a whole number then comes out one too small. That is seldom, so LiteRT is run on recordings of
1,000 steps, and all other runtimes on six. Where the table says "same", these recordings had no
such quotient; others have.
"""


def page(record: Mapping[str, Any]) -> str:
    """The page."""
    parts = [HEAD, *_versions(record), *_tables(record)]
    if not any("onnx2c" in rows for rows in record["rows"].values()):
        parts.append(ONNX2C)
    return "\n".join([*parts, LITERT, *_division(record)]).rstrip() + "\n"


def _division(record: Mapping[str, Any]) -> Iterator[str]:
    """One division that LiteRT computes wrongly."""
    shown = record.get("division")
    if shown is not None and isinstance(shown["found"], list):
        given, found = (", ".join(map(str, shown[name])) for name in ("given", "found"))
        yield f"One `Div` of int32 numbers divides {given} by {shown['divisor']}; it gives {found}."


def _versions(record: Mapping[str, Any]) -> Iterator[str]:
    yield "## Versions and installation\n"
    yield "| runtime | version | how it is installed |"
    yield "|---|---|---|"
    seen = set()
    for runtime in (*table.RUNTIMES, table.OPERATOR, *table.DEVICES):
        name = runtime.name
        if name.startswith("onnxruntime ("):
            name = name.partition(" (")[0]
        if name not in seen:
            seen.add(name)
            version = record["versions"].get(runtime.name, "not measured")
            yield f"| {name} | {version} | {runtime.install} |"
    yield ""


def _tables(record: Mapping[str, Any]) -> Iterator[str]:
    kinds: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for key, rows in record["rows"].items():
        profile, form, sample = key.split(" / ")
        kinds.setdefault((profile, form), {})[sample] = rows
    for profile in sorted({profile for profile, _ in kinds}, key=_order):
        yield f"## `--profile {profile}`\n"
        for form, words in FORMS.items():
            if (profile, form) in kinds:
                yield from _one(words, kinds[profile, form])


def _order(profile: str) -> tuple[int, str]:
    known = ("onnxruntime", "host", "compilers", "plain")
    return (known.index(profile) if profile in known else len(known), profile)


def _one(words: str, samples: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    names = [name for name in ORDER if name in samples]
    yield f"### {words[0].upper()}{words[1:]}\n"
    yield f"| runtime | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    reasons: dict[str, list[str]] = {}
    for label, group in _groups():
        cells = []
        for name in names:
            found = [samples[name][r] for r in group if r in samples[name]]
            verdicts = {row["verdict"] for row in found}
            worst = next((v for v in (DIFFERS, REFUSES, SAME) if v in verdicts), ABSENT)
            cells.append(WORDS[worst])
            for row in found:
                if row["verdict"] in (DIFFERS, REFUSES):
                    reason = _reason(row["detail"])
                    reasons.setdefault(f"{label}: {reason}", []).append(name)
        if any(cells):
            yield f"| {label} | {' | '.join(cells)} |"
    yield ""
    for reason, affected in reasons.items():
        where = "" if set(affected) == set(names) else f" ({', '.join(dict.fromkeys(affected))})"
        yield f"- {reason}{where}"
    if reasons:
        yield ""


ORDER = ("GRU", "RNN", "LSTM", "LiGRU", "16 bits", "delta", "dense")
ORDER += tuple(f"GRU, {steps} steps" for steps in (16, 32, 64))


def _groups() -> Iterator[tuple[str, list[str]]]:
    """Rows of a table: all levels of onnxruntime in one."""
    names = [runtime.name for runtime in (*table.RUNTIMES, table.OPERATOR, *table.DEVICES)]
    first = [name for name in names if name.startswith("onnxruntime (")]
    yield "onnxruntime, all levels", first
    yield from ((name, [name]) for name in names if name not in first)


def _reason(text: str) -> str:
    """A reason without paths and numbers that differ from run to run, cut to a line."""
    if found := re.search(r'failed to legalize .*?name = "onnx\.(\w+)"', text):
        kind = " to uint16" if "onnx.to = 4 " in text else ""
        return f"the compiler cannot lower the operator {found[1]}{kind}"
    text = re.sub(r"(/tmp|/var)/[^\s:\"']*/", "", text)
    text = re.sub(r" at 0x[0-9a-f]+|#\d+", "", text).replace("|", "/").replace("<", "&lt;")
    return text if len(text) <= 160 else f"{text[:157]}..."
