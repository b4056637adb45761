"""``report.json``: what was quantised, how, and what was found out about the result.

`onnxgru.report.record` writes it. Everybody else reads it here: report.md, the page, the terminal,
notebooks, and the commands that go on from an output folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxgru.core.errors import SchemeError
from onnxgru.data.intervals import Interval
from onnxgru.documents.entries import (
    Delta,
    Distance,
    Judging,
    LayerEntry,
    OperatorEntry,
    Outlier,
    OutputEntry,
    Quality,
    Refused,
    Sizes,
    StepState,
    Stuck,
    Verified,
    Widened,
)
from onnxgru.documents.front import Member, Scored, Uniform
from onnxgru.documents.reading import named, read

FORMAT = "onnxgru.report/1"
NAME = "report.json"


@dataclass(frozen=True)
class ModelFile:
    """The float model.

    Parameters
    ----------
    path : str
        The file.
    sha256 : str
        Digest of its content.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """Data of one role.

    Parameters
    ----------
    source : str
        The file or folder, or words for data that have none.
    sha256 : str
        Digest of all arrays.
    sequences : int
        How many there are.
    """

    source: str
    sha256: str
    sequences: int = 0


@dataclass(frozen=True)
class CandidateTuning:
    """How a search fine-tuned its candidates.

    Parameters
    ----------
    sha256 : str
        Digest of the training data.
    settings : mapping
        Settings by name.
    """

    sha256: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Chosen(Scored):
    """The member of a front whose files are in the folder.

    Parameters
    ----------
    index : int
        Its number.
    widened_from : int or None
        Number of the member that it was widened from, if it was.
    """

    index: int
    widened_from: int | None = None


@dataclass(frozen=True)
class Apart:
    """How much better a member is than uniform 8 bits.

    Parameters
    ----------
    index : int
        The member's number.
    validation, holdout : tuple of float, or None
        95 % intervals of the difference.
    """

    index: int
    validation: Interval | None = None
    holdout: Interval | None = None


@dataclass(frozen=True, eq=False)
class Search:
    """What a report says of a search.

    Parameters
    ----------
    evaluations, members : int
        Schemes evaluated, and members of the front.
    max_drop : float
        How far the member chosen may fall, in the metric's unit.
    within : bool
        Whether any member falls no further.
    objectives : mapping of str to str
        Titles of sizes by name.
    size : str
        The one by which a member is chosen.
    first_choice : int
        Number of the member that the search chose.
    chosen : Chosen
        The one whose files are in the folder.
    uniform_8 : Uniform
        Uniform 8 bits.
    to_uniform_8 : Apart or None
        How a member compares with it.
    finetuning : CandidateTuning or None
        How candidates were fine-tuned, if they were.
    document : mapping
        The same as JSON has it.
    """

    evaluations: int
    members: int
    max_drop: float
    within: bool
    objectives: Mapping[str, str]
    size: str
    first_choice: int
    chosen: Chosen
    uniform_8: Uniform
    to_uniform_8: Apart | None = None
    finetuning: CandidateTuning | None = None
    document: Mapping[str, Any] = field(repr=False, default_factory=dict)

    def rewritten(self, first: int, member: Member | None = None) -> dict[str, Any]:
        """The document for the files of a member; for those of the member before if left out.

        Parameters
        ----------
        first : int
            Number of the member that the search chose.
        member : Member, optional
            The one that is written now.
        """
        document = dict(self.document) | {"first_choice": first}
        return document if member is None else document | {"chosen": member.summary()}


@dataclass(frozen=True)
class Teacher:
    """The model at 8 bits that a fine-tuning began with.

    Parameters
    ----------
    epochs, chosen_epoch : int
        Epochs, and the one that was kept.
    validation_by_epoch : tuple of float or None
        Figures on validation data, that before the first epoch first.
    """

    epochs: int
    chosen_epoch: int
    validation_by_epoch: tuple[float | None, ...]

    @property
    def figure(self) -> float | None:
        """Figure of the epoch that was kept."""
        return self.validation_by_epoch[self.chosen_epoch]


@dataclass(frozen=True)
class Training(Teacher):
    """A fine-tuning.

    Parameters
    ----------
    learning_rate : float
        The largest.
    before : float or None
        Figure on validation data before it.
    data : Source
        What it was trained on.
    teacher : Teacher or None
        What it began with, if not with the float model.
    """

    learning_rate: float
    before: float | None
    data: Source
    teacher: Teacher | None = None


@dataclass(frozen=True, eq=False)
class Report:
    """What ``report.json`` holds.

    Fields with a default may be missing in reports of early versions.

    Parameters
    ----------
    model : ModelFile
        The float model.
    data : mapping of str to Source
        Data by role.
    config : mapping
        Settings by name.
    versions : mapping of str to str
        Versions of packages by name.
    metric : Judging
        What programs were judged by.
    quality : mapping of str to Quality
        Figures by role, those of hold-out data first.
    outputs : tuple of OutputEntry
        Every output of the model.
    drift : mapping of str to tuple of float or None
        SQNR in dB of tenths of the recordings, by output.
    sizes : Sizes
        What the program costs.
    files : mapping of str to int
        Bytes of graphs by name of the file.
    operators : tuple of OperatorEntry
        All operators.
    distance : Distance or None
        From the integer graph to the annotated one.
    verification : Verified or None
        What was compared with the reference implementation.
    states : tuple of StepState
        States of the step form.
    delta : Delta or None
        What a delta network eliminates.
    stuck : tuple of Stuck
        Layers with units that stand still.
    wide_inputs, wide_states : Widened or None
        The figure with inputs or states of 16 bits, where the program is far from the float model.
    layers : tuple of LayerEntry
        Recurrent layers.
    left_in_float : tuple of Refused
        Nodes that were not quantised.
    glitches : tuple of Outlier
        Values that no tail explains.
    random_input : bool
        Whether there were no data.
    seed : int
        Of random numbers.
    search : Search or None
        Of the search that the scheme comes from.
    finetuning : Training or None
        Of the weights.
    document : mapping
        The same as JSON has it.
    """

    model: ModelFile
    data: Mapping[str, Source]
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    metric: Judging = field(default_factory=lambda: Judging("", ""))
    quality: Mapping[str, Quality] = field(default_factory=dict)
    outputs: tuple[OutputEntry, ...] = ()
    drift: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=Sizes)
    files: Mapping[str, int] = field(default_factory=dict)
    operators: tuple[OperatorEntry, ...] = ()
    distance: Distance | None = named("annotated_distance_codes", default=None)
    verification: Verified | None = None
    states: tuple[StepState, ...] = ()
    delta: Delta | None = None
    stuck: tuple[Stuck, ...] = named("stuck_states", default=())
    wide_inputs: Widened | None = None
    wide_states: Widened | None = None
    layers: tuple[LayerEntry, ...] = ()
    left_in_float: tuple[Refused, ...] = ()
    glitches: tuple[Outlier, ...] = ()
    random_input: bool = False
    seed: int = 0
    search: Search | None = None
    finetuning: Training | None = None
    document: Mapping[str, Any] = field(repr=False, default_factory=dict)

    @classmethod
    def parse(cls, document: Mapping[str, Any], where: str = NAME) -> "Report":
        """Read what ``report.json`` holds.

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
            whole = {**document, "document": document}
            if "search" in document:
                whole["search"] = {**document["search"], "document": document["search"]}
            return read(cls, whole)
        except (KeyError, TypeError, AttributeError) as error:
            raise SchemeError(
                f"{where}: must be a report that this version wrote, but {error} is wrong with "
                "it; quantise again"
            ) from error

    @property
    def version(self) -> str:
        """The version of onnxgru that wrote it."""
        return self.versions["onnxgru"]

    @property
    def outdated(self) -> str | None:
        """What no longer holds of a folder of an early version, as the end of a sentence."""
        if not self.version.startswith("0.1."):
            return None
        return (
            f"was made by onnxgru {self.version}, whose weights of 2 bits had three levels, not "
            "four: figures of its front that have such weights do not hold; search again"
        )
