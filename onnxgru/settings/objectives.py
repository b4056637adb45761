"""Values of the setting ``objectives``: a list of names, one of which may contain a path."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxgru.settings.kinds import Text


@dataclass(frozen=True)
class Objectives(Text):
    """Objectives as `onnxgru.cost.objectives.parse` understands them."""

    form: str = "a text such as error,flash"
    metavar: str = "NAMES"

    def examine(self, value: Any) -> None:
        """Parse the names."""
        from onnxgru.cost import objectives

        objectives.parse(value)

    def beside(self, value: Any, folder: Path) -> Any:
        """The names, with the path of a cost table relative to the folder."""
        from onnxgru.cost import objectives

        cost = objectives.COST
        return ",".join(
            f"{cost}{folder / name.removeprefix(cost)}" if name.startswith(cost) else name
            for name in objectives.parse(value)
        )
