"""The configuration of a quantisation: the settings of all themes in one object."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from onnxgru.settings import manual
from onnxgru.settings.data import Data
from onnxgru.settings.finetuning import Finetuning
from onnxgru.settings.graphs import Graphs
from onnxgru.settings.quantization import Quantization
from onnxgru.settings.run import Run
from onnxgru.settings.search import Search

TASKS = ("bits", "scheme", "search")
"""Settings of which one says what to do."""


@dataclass(frozen=True, kw_only=True)
class Config(Quantization, Search, Finetuning, Data, Graphs, Run):
    """Every setting of `quantize`, by its name: ``Config(bits=4)``.

    A `Config` is also one of each theme, and serves wherever one of them is wanted.

    Raises
    ------
    UsageError
        If there is no such setting, a value is wrong, or two contradict each other.
    """

    def contradictions(self) -> Iterator[tuple[bool, str]]:
        """Contradictions between settings of different themes."""
        asked = [name for name in TASKS if getattr(self, name) not in (None, False)]
        tunes = self.training_data is not None
        yield len(asked) > 1, f"{' and '.join(asked)} exclude each other; give one of them"
        yield (
            self.resume and not self.search and not tunes,
            "resume continues a search or a fine-tuning; give search or training_data too",
        )
        yield (
            self.scheduler is not None and not isinstance(self.metric, str),
            "workers of a scheduler import the metric by its name; give it as package.module:name",
        )
        yield (
            self.finetune_candidates and not (self.search and tunes),
            "finetune_candidates fine-tunes every candidate of a search; give search and "
            "training_data too",
        )
        yield (
            self.delta is not None and self.search and "threshold" in self.genes,
            "delta sets thresholds after a search, and genes for threshold search them; give one "
            "of them",
        )
        yield (
            self.weights_file is not None and (self.scheme is None or tunes),
            "weights_file holds the integers of one scheme; give that scheme, and leave out "
            "training_data",
        )

    def document(self) -> dict[str, Any]:
        """Every setting by its name, as JSON can hold it."""
        from onnxgru.data import metrics

        found = {field.name: _plain(getattr(self, field.name)) for field in fields(self)}
        return found | {"metric": metrics.title(self.metric)}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


Config.__doc__ = manual.documented(Config)
