"""The kind of the setting ``objectives``: a list of names, one of which may hold a path."""

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
        """Parse it."""
        from onnxgru.cost import objectives

        objectives.parse(value)

    def beside(self, value: Any, folder: Path) -> Any:
        """Find the cost table below the folder."""
        from onnxgru.cost import objectives

        cost = objectives.COST
        return ",".join(
            f"{cost}{folder / name.removeprefix(cost)}" if name.startswith(cost) else name
            for name in objectives.parse(value)
        )
