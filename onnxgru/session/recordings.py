"""The data of a session by role: a stream to calibrate on, and what candidates are judged by."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxgru.data import sources as datasets
from onnxgru.data import wav
from onnxgru.data.dataset import Dataset, Recorded
from onnxgru.data.intervals import recordings
from onnxgru.data.reading import Source
from onnxgru.documents.remarks import TITLES
from onnxgru.events import Listener, Notice, Stage
from onnxgru.runtime.host import Host
from onnxgru.settings.config import Config

SYNTHETIC = "random input"
"""Source of the numbers that are drawn where there are no data."""
SYNTHETIC_SEQUENCES = 64
SYNTHETIC_STEPS = 32
CALIBRATION, VALIDATION, HOLDOUT = datasets.ROLES


@dataclass(frozen=True)
class Description:
    """Data of one role, as reports describe them.

    Parameters
    ----------
    source : str
        The file or folder, or words for data that have none.
    sequences : int
        Number of sequences.
    sha256 : str
        SHA-256 over all arrays.
    """

    source: str
    sequences: int
    sha256: str


class Recordings:
    """Data by role: given, found beside the model, or random.

    Calibration data are streamed, so that there may be any number of batches, with sequences of
    another length in each. Validation and hold-out data are held in memory.

    Parameters
    ----------
    path : Path
        The model, beside which data are looked for.
    host : Host
        Knows the model's inputs.
    config : Config
        Names the sources.
    listener : callable
        Is told which data serve in place of missing ones.
    tables : mapping of str to int, optional
        Number of values that random integer inputs may take, see `onnxgru.passes.graph.tables`.

    Raises
    ------
    DataError
        If validation or hold-out data do not fit the model.
    """

    def __init__(
        self,
        path: Path,
        host: Host,
        config: Config,
        listener: Listener,
        tables: Mapping[str, int] | None = None,
    ) -> None:
        self._host, self._seed, self._listener = host, config.seed, listener
        self._steps = config.steps or SYNTHETIC_STEPS
        self._tables = tables or {}
        sources: dict[str, Source] = {}
        for role in datasets.ROLES:
            given: Source = getattr(config, role)
            found = given if given is not None else datasets.beside(path, role)
            if found is not None:
                sources[role] = found
        self._described: Description | None = None
        self.synthetic = not sources
        """Whether there are no data, so that random input takes their place."""
        if not sources:
            listener(
                Notice(
                    "no data given or found beside the model: ranges and accuracy come from random "
                    "input and say nothing of real recordings; give --calibration and --validation"
                )
            )
            self._calibration: Source | Dataset = self._synthetic(0)
            self._judged: dict[str, Recorded] = {VALIDATION: self._synthetic(1)}
            return
        for role, others in (
            (VALIDATION, (CALIBRATION, HOLDOUT)),
            (CALIBRATION, (VALIDATION, HOLDOUT)),
        ):
            if role not in sources:
                other = next(name for name in others if name in sources)
                listener(Notice(_missing(role, other)))
                sources[role] = sources[other]
        folders = {role: Path(s) for role, s in sources.items() if isinstance(s, str | Path)}
        for text in wav.compared(folders):
            listener(Stage(text))
        self._calibration = sources.pop(CALIBRATION)
        self._judged = {role: recorded(host, source) for role, source in sources.items()}
        self._tell()

    def _tell(self) -> None:
        """Tell that calls hand states on, and which."""
        found = []
        for data in self._judged.values():
            if any(part.streams for part in data.parts):
                number = recordings(data)
                count = f"{number} recording{'s' if number > 1 else ''}"
                found.append(f"{data.source}: {count} of {data.size:,} frames in all")
        if found:
            pairs = ", ".join(
                f"output {output} is input {name} of the next call"
                for name, output in self._host.interface.states.items()
            )
            self._listener(
                Notice(
                    f"{'; '.join(found)}; run through the states ({pairs}); give --state none "
                    "where frames are apart"
                )
            )

    def __contains__(self, role: str) -> bool:
        return role in self._judged

    def __getitem__(self, role: str) -> Recorded:
        """Validation or hold-out data."""
        return self._judged[role]

    @property
    def judged(self) -> tuple[str, ...]:
        """Roles of the data that quality is measured on."""
        return tuple(self._judged)

    def calibration(self) -> Iterator[Dataset]:
        """Stream the calibration data, batch by batch.

        Raises
        ------
        DataError
            If a batch does not fit the model.
        """
        whole = hashlib.sha256()
        count, name = 0, ""
        for batch in self._batches():
            whole.update(batch.digest().encode())
            count, name = count + batch.size, name or batch.source
            yield batch
        if not isinstance(self._calibration, Dataset):
            name = str(self._calibration)
        self._described = Description(name, count, whole.hexdigest())

    @property
    def calibration_source(self) -> str:
        """Source of the calibration data."""
        known = self._calibration
        return known.source if isinstance(known, Dataset) else str(known)

    def _batches(self) -> Iterator[Dataset]:
        if isinstance(self._calibration, Dataset):
            yield self._calibration
        else:
            yield from self._host.continued(
                datasets.stream(self._calibration, self._host.signature)
            )

    def describe(self) -> dict[str, Description]:
        """Descriptions of the data by role; of calibration data once they have been streamed."""
        found = {} if self._described is None else {CALIBRATION: self._described}
        for role, data in self._judged.items():
            found[role] = Description(data.source, data.size, data.digest())
        return found

    def _synthetic(self, seed: int) -> Dataset:
        generator = np.random.default_rng([self._seed, seed])
        inputs = {}
        for spec in self._host.signature:
            shape = [self._steps if not isinstance(n, int) else n for n in spec.shape]
            if spec.batch_axis is not None:
                shape[spec.batch_axis] = self._host.batch or SYNTHETIC_SEQUENCES
            if np.issubdtype(spec.dtype, np.floating):
                inputs[spec.name] = generator.standard_normal(shape).astype(spec.dtype)
            elif spec.name in self._tables:
                values = generator.integers(0, self._tables[spec.name], shape)
                inputs[spec.name] = values.astype(spec.dtype)
            elif spec.dtype.kind == "b":
                inputs[spec.name] = generator.integers(0, 2, shape).astype(bool)
            else:  # lengths
                inputs[spec.name] = np.full(shape, self._steps, spec.dtype)
        axes = {spec.name: spec.batch_axis for spec in self._host.signature}
        bare = frozenset(spec.name for spec in self._host.signature if spec.bare)
        return Dataset(inputs, None, SYNTHETIC, axes, bare=bare)


def recorded(host: Host, source: Source) -> Recorded:
    """Read recordings, with the states that a model hands from call to call.

    Parameters
    ----------
    host : Host
        Knows the model's inputs and computes its states.
    source : str, path or object
        The recordings, as `onnxgru.quantize` takes them.

    Raises
    ------
    DataError
        If they do not fit the model.
    """
    batches = list(host.continued(datasets.stream(source, host.signature)))
    return datasets.join(batches, host.signature, datasets.name_of(source))


def _missing(role: str, other: str) -> str:
    """A sentence that names the data which serve in place of missing ones."""
    others = f"the {TITLES[other]} data"
    if role == VALIDATION:
        return f"no validation data: accuracy is measured on {others}; give --validation"
    return f"no calibration data: ranges come from {others}; give --calibration"
