"""A run: where its results go, its seed, and its last check."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onnxgru.settings.declare import About, Settings, setting
from onnxgru.settings.kinds import Location, Switch, Whole


@dataclass(frozen=True, kw_only=True)
class Run(Settings):
    """A run: where its results go, its seed, and its last check."""

    about = About("run", "output")

    output: Path | str | None = setting(
        None,
        Location("FOLDER"),
        "folder for the results",
        unset="<model>-onnxgru",
        short="-o",
        basic=True,
        keyed=False,
        example="small",
    )
    force: bool = setting(
        False, Switch(), "replace the results in an existing folder", basic=True, keyed=False
    )
    resume: bool = setting(
        False,
        Switch(),
        "continue an interrupted search or fine-tuning in its folder",
        basic=True,
        keyed=False,
    )
    seed: int = setting(0, Whole(0), "seed of everything that is random")
    verify: int = setting(
        256,
        Whole(1),
        "sequences on which integer.onnx is compared, bit for bit, with the reference "
        "implementation; an unrolled graph for a minute at most",
        keyed=False,
    )

    def contradictions(self) -> Iterator[tuple[bool, str]]:
        """Contradiction: replacing and resuming."""
        yield self.resume and self.force, "resume and force exclude each other; give one of them"
