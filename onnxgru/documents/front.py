"""``front.json``: the front of a search, its members, and uniform widths to compare with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from onnxgru.core.errors import SchemeError, UsageError
from onnxgru.core.scheme import Scheme
from onnxgru.data.intervals import Interval
from onnxgru.documents.reading import read

FORMAT = "onnxgru.front/1"
NAME = "front.json"
ROUNDING = 1e-9
"""A drop is a difference of percentages: at its limit it still counts as kept."""
ALIKE = 0.01
"""Share of a size by which members may differ and still count as equally small."""

TITLES = {"sqnr": "SQNR"}
"""Metrics that people write in another way."""


@dataclass(frozen=True)
class Metric:
    """What figures of quality are.

    Parameters
    ----------
    name, unit : str
        As in `onnxgru.data.metrics`.
    higher_is_better : bool
        Which way is better.
    """

    name: str
    unit: str
    higher_is_better: bool = True

    @property
    def title(self) -> str:
        """The name as people write it."""
        return TITLES.get(self.name, self.name)

    def score(self, figure: float) -> float:
        """The figure, turned so that more is better."""
        return figure if self.higher_is_better else -figure


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What was measured of a scheme.

    Parameters
    ----------
    flash_bytes, weight_bits, accumulator_bits, bitops : int
        As in `onnxgru.cost.account.Account`.
    mean_bits : float
        Bits per weight.
    cost : float or None
        By a table of the chip, where that is an objective.
    operations : float or None
        Multiplications a step that a delta network has left, where that is an objective.
    validation, holdout : float or None
        Figures; None where there are no such data.
    validation_interval, holdout_interval : tuple of float, or None
        95 % intervals of these.
    """

    flash_bytes: int
    weight_bits: int
    mean_bits: float
    accumulator_bits: int
    bitops: int
    cost: float | None = None
    operations: float | None = None
    validation: float
    validation_interval: Interval | None = None
    holdout: float | None = None
    holdout_interval: Interval | None = None

    def figure(self, role: str) -> tuple[float | None, Interval | None]:
        """The figure on "validation" or "holdout" data with its 95 % interval."""
        if role == "holdout":
            return self.holdout, self.holdout_interval
        return self.validation, self.validation_interval

    def size(self, key: str) -> float:
        """The objective of a name."""
        return float(getattr(self, key))

    def figures(self) -> dict[str, Any]:
        """The same as JSON has it."""
        others = {"cost": self.cost, "operations": self.operations}
        return {
            "flash_bytes": self.flash_bytes,
            "weight_bits": self.weight_bits,
            "mean_bits": self.mean_bits,
            "accumulator_bits": self.accumulator_bits,
            "bitops": self.bitops,
            **{key: value for key, value in others.items() if value is not None},
            "validation": self.validation,
            "validation_interval": _listed(self.validation_interval),
            "holdout": self.holdout,
            "holdout_interval": _listed(self.holdout_interval),
        }


@dataclass(frozen=True, kw_only=True)
class Uniform(Scored):
    """Uniform widths, which members are compared with.

    Parameters
    ----------
    bits : int
        The width of everything.
    """

    bits: int

    def document(self) -> dict[str, Any]:
        """What ``front.json`` holds of it."""
        return {"bits": self.bits, **self.figures()}


@dataclass(frozen=True, kw_only=True)
class Member(Scored):
    """A member of the front.

    Parameters
    ----------
    index : int
        Its number.
    genome : tuple of int
        Its genes, as `Front.genes` names them.
    scheme : mapping
        Its scheme as JSON.
    widened_from : int or None
        Number of the member that it was widened from, if it was.
    """

    index: int
    genome: tuple[int, ...]
    scheme: Mapping[str, Any] = field(repr=False)
    widened_from: int | None = None

    def parsed(self, where: str = NAME) -> Scheme:
        """Its scheme.

        Raises
        ------
        SchemeError
            If it is none.
        """
        return Scheme.parse(dict(self.scheme), where)

    def summary(self) -> dict[str, Any]:
        """What ``report.json`` says of it."""
        document = self.document()
        return {key: v for key, v in document.items() if key not in ("genome", "scheme")}

    def document(self) -> dict[str, Any]:
        """What ``front.json`` holds of it."""
        widened = {} if self.widened_from is None else {"widened_from": self.widened_from}
        return {
            "index": self.index,
            **self.figures(),
            "genome": list(self.genome),
            "scheme": self.scheme,
            **widened,
        }


@dataclass(frozen=True)
class Front:
    """The front of a search.

    Parameters
    ----------
    metric : Metric
        What quality is.
    objectives : mapping of str to str
        What the sizes that were minimised are called, by name.
    size : str
        The one by which a member is chosen.
    accumulator_bits : int
        Width of accumulators that members fit; 0 where it is not known.
    float_validation : float or None
        The float model's figure; None where it is infinite.
    sequences : mapping of str to int
        Recordings by role of the data.
    genes : tuple of str
        Names of the genes.
    uniform : tuple of Uniform
        Uniform widths, 8 bits first.
    members : tuple of Member
        By size; then what was added later.
    chosen : int
        Number of the member that the search chose.
    """

    metric: Metric
    objectives: Mapping[str, str]
    size: str
    accumulator_bits: int
    float_validation: float | None
    sequences: Mapping[str, int]
    genes: tuple[str, ...]
    uniform: tuple[Uniform, ...]
    members: tuple[Member, ...]
    chosen: int = 0

    @classmethod
    def parse(cls, document: Mapping[str, Any], where: str = NAME) -> "Front":
        """Read what ``front.json`` holds.

        Parameters
        ----------
        document : mapping
            The object.
        where : str
            Where it comes from, for messages.

        Raises
        ------
        SchemeError
            If something is missing.
        """
        try:
            chosen = document["chosen"]  # not the default, which is for fronts in the making
            return read(cls, {"accumulator_bits": 0, **document, "chosen": chosen})
        except (KeyError, TypeError, AttributeError) as error:
            raise SchemeError(
                f"{where}: must be a front that this version wrote, but {error} is wrong with it; "
                "search again"
            ) from error

    def document(self) -> dict[str, Any]:
        """What ``front.json`` holds."""
        return {
            "format": FORMAT,
            "metric": {
                "name": self.metric.name,
                "unit": self.metric.unit,
                "higher_is_better": self.metric.higher_is_better,
            },
            "objectives": dict(self.objectives),
            "size": self.size,
            "accumulator_bits": self.accumulator_bits,
            "float_validation": self.float_validation,
            "sequences": dict(self.sequences),
            "genes": list(self.genes),
            "uniform": [entry.document() for entry in self.uniform],
            "members": [member.document() for member in self.members],
            "chosen": self.chosen,
        }

    @property
    def searched(self) -> Sequence[Member]:
        """The members that the search found."""
        return [member for member in self.members if member.widened_from is None]

    @property
    def widened(self) -> Sequence[Member]:
        """The members that others were widened to."""
        return [member for member in self.members if member.widened_from is not None]

    @property
    def size_title(self) -> str:
        """Title of the size by which members are chosen."""
        return self.objectives[self.size]

    @property
    def quality_title(self) -> str:
        """Title of the figure by which members are judged."""
        unit = self.metric.unit
        return f"{self.metric.title} on validation" + (f", {unit}" if unit else "")

    def measure(self, entry: Scored) -> float:
        """The size of an entry by which members are chosen."""
        return entry.size(self.size)

    def score(self, entry: Scored) -> float:
        """The figure on validation, turned so that more is better."""
        return self.metric.score(entry.validation)

    def drop(self, entry: Scored, other: Scored) -> float:
        """How much worse than one another is on validation; negative where it is better."""
        return self.score(entry) - self.score(other)

    def within(self, max_drop: float) -> list[Member]:
        """Members at most `max_drop` below the best figure on validation, uniform 8 bits included.

        A search keeps what looks best on its validation data, and with it their noise: figures of
        the members it found are optimistic. Counting from the best of them, which is as optimistic
        as the rest, keeps the drop on other data near `max_drop`; counting from uniform 8 bits,
        which nothing was searched for, does not (``benchmarks/choice.py``).
        """
        best = max(map(self.score, (self.uniform[0], *self.searched)))
        return [m for m in self.searched if best - self.score(m) <= max_drop + ROUNDING]

    def smallest(self, max_drop: float) -> Member:
        """The smallest member within a drop; the best one on validation where there is none.

        Of members whose sizes are equal within `ALIKE`, the best one is taken.
        """
        if found := self.within(max_drop):
            most = (1 + ALIKE) * min(m.size(self.size) for m in found)
            alike = [m for m in found if m.size(self.size) <= most]
            return max(alike, key=lambda m: (self.score(m), -m.size(self.size)))
        return max(self.searched, key=lambda m: (self.score(m), -m.size(self.size)))

    def pick(
        self,
        index: int | None = None,
        max_bytes: int | None = None,
        max_drop: float | None = None,
    ) -> Member:
        """The member of a number, or of those found the one for some bytes or some drop.

        Parameters
        ----------
        index : int, optional
            The member's number.
        max_bytes : int, optional
            The best member of at most so many flash bytes.
        max_drop : float, optional
            The smallest member at most so far below the best figure on validation.

        Raises
        ------
        UsageError
            If there is none.
        """
        if index is not None:
            if not 0 <= index < len(self.members):
                raise UsageError(f"--index must be from 0 to {len(self.members) - 1}, got {index}")
            return self.members[index]
        if max_bytes is not None:
            fitting = [m for m in self.searched if m.flash_bytes <= max_bytes]
            if not fitting:
                least = min(m.flash_bytes for m in self.searched)
                raise UsageError(
                    f"--max-bytes {max_bytes:,}: the smallest member of the front has {least:,} "
                    "flash bytes; allow at least these, or search with fewer bits"
                )
            return max(fitting, key=lambda m: (self.score(m), -m.flash_bytes))
        drop = max_drop if max_drop is not None else 0.0
        if not drop >= 0:
            raise UsageError(f"--max-drop must be a number of at least 0, got {drop:g}")
        if not self.within(drop):
            best = max(self.searched, key=self.score).validation
            raise UsageError(
                f"--max-drop {drop:g}: no member comes so near to the best figure on validation, "
                f"that of uniform 8 bits; the best of the front has {best:.2f}, so allow more"
            )
        return self.smallest(drop)

    def grown(self, member: Member) -> "Front":
        """The front with a further member."""
        return replace(self, members=(*self.members, member))


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)
