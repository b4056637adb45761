"""``report.json`` as work on an output folder goes on from it: what was quantised, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxgru.core.errors import SchemeError
from onnxgru.documents.front import Member

FORMAT = "onnxgru.report/1"
NAME = "report.json"


@dataclass(frozen=True)
class Source:
    """Where a model or data came from.

    Parameters
    ----------
    path : str
        The file or folder, or words for what is none.
    sha256 : str
        Digest of what it held.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class Tuned:
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


@dataclass(frozen=True, eq=False)
class Search:
    """What a report says of a search.

    Parameters
    ----------
    max_drop : float
        How far the member chosen may fall, in the metric's unit.
    finetuning : Tuned or None
        How candidates were fine-tuned, if they were.
    summary : mapping
        All of it.
    """

    max_drop: float
    finetuning: Tuned | None
    summary: Mapping[str, Any] = field(repr=False)

    def chosen(self, first: int, member: Member | None = None) -> dict[str, Any]:
        """The summary for the files of a member; for those of the member before if left out.

        Parameters
        ----------
        first : int
            Number of the member that the search chose.
        member : Member, optional
            The one that is written now.
        """
        summary = dict(self.summary) | {"first_choice": first}
        return summary if member is None else summary | {"chosen": member.summary()}


@dataclass(frozen=True, eq=False)
class Report:
    """What ``report.json`` holds.

    Parameters
    ----------
    model : Source
        The float model.
    data : mapping of str to Source
        Data by role.
    config : mapping
        Settings by name.
    version : str
        The version of onnxgru that wrote it.
    search : Search or None
        Of the search that the scheme comes from.
    document : mapping
        All of it, for the page.
    """

    model: Source
    data: Mapping[str, Source]
    config: Mapping[str, Any]
    version: str
    search: Search | None
    document: Mapping[str, Any] = field(repr=False)

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
            model = document["model"]
            return cls(
                Source(model["path"], model["sha256"]),
                {r: Source(e["source"], e["sha256"]) for r, e in document["data"].items()},
                document["config"],
                document["versions"]["onnxgru"],
                _search(document["search"]) if "search" in document else None,
                document,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise SchemeError(
                f"{where}: must be a report that this version wrote, but {error} is wrong with "
                "it; quantise again"
            ) from error

    @property
    def outdated(self) -> str | None:
        """What no longer holds of a folder of an earlier version, as the end of a sentence."""
        if not self.version.startswith("0.1."):
            return None
        return (
            f"was made by onnxgru {self.version}, whose weights of 2 bits had three levels, not "
            "four: figures of its front that have such weights do not hold; search again"
        )


def _search(summary: Mapping[str, Any]) -> Search:
    tuned = summary.get("finetuning")
    known = None if tuned is None else Tuned(tuned["sha256"], tuned["settings"])
    return Search(summary["max_drop"], known, summary)
