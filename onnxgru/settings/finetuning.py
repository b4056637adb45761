"""How a scheme is fine-tuned."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxgru.settings.declare import About, Settings, setting
from onnxgru.settings.kinds import Choice, DataSource, Number, Whole
from onnxgru.training import LEARNED_SCALES

if TYPE_CHECKING:
    from onnxgru.data.reading import Source


@dataclass(frozen=True, kw_only=True)
class Finetuning(Settings):
    """How a scheme is fine-tuned."""

    about = About("finetuning", "fine-tuning", "Needs the torch extra.", switch="training_data")

    training_data: "Source" = setting(
        None,
        DataSource(),
        "fine-tune the scheme on these recordings, or the member that a search chooses",
        basic=True,
        keyed=False,  # the key has a hash of them instead
        example="train.npz",
    )
    epochs: int = setting(10, Whole(1), "passes over the training data")
    teacher_epochs: int = setting(
        0,
        Whole(0),
        "how many of the epochs first train an 8-bit version; the scheme starts from its weights "
        "and learns from its outputs",
    )
    batch_size: int = setting(64, Whole(1), "sequences per training step")
    learning_rate: float = setting(
        1e-3,
        Number("above 0", lambda value: 0 < value < math.inf),
        "largest learning rate",
    )
    distillation: float = setting(
        0.5,
        Number("from 0 to 1", lambda value: 0 <= value <= 1),
        "share of the teacher's outputs in the loss, 0 to 1",
    )
    learned_scales: str = setting("weights", Choice(LEARNED_SCALES), "which scales are trained")
    averaging: float = setting(
        0.0,
        Number("from 0 to below 1", lambda value: 0 <= value < 1),
        "decay of a running average of the weights, such as 0.998; 0: no average",
    )

    def contradictions(self) -> Iterator[tuple[bool, str]]:
        """Contradiction: a teacher that takes all epochs."""
        yield (
            self.teacher_epochs >= self.epochs,
            f"teacher_epochs are a part of epochs, {self.epochs}, and must be fewer, got "
            f"{self.teacher_epochs}; give fewer, or more epochs",
        )
