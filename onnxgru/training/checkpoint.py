"""The state of a training in a file, from which a killed training goes on."""

import io
import pickle
from pathlib import Path
from typing import Any

from onnxgru.core import files
from onnxgru.core.errors import OutputError
from onnxgru.training.trace import import_torch


class Checkpoint:
    """The state of a training in one file, which is replaced after every epoch.

    Parameters
    ----------
    path : pathlib.Path
        The file; a missing folder is made with the first epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_there(self) -> bool:
        """Whether the file exists."""
        return self.path.is_file()

    def check(self, *, resume: bool) -> None:
        """Check before any work that no interrupted training is lost, or that one can be resumed.

        Parameters
        ----------
        resume : bool
            Whether to go on from the file.

        Raises
        ------
        OutputError
            If there is nothing to resume, or the file is there and `resume` is not given.
        """
        if resume and not self.is_there:
            raise OutputError(f"{self.path}: there is no checkpoint to resume; leave out --resume")
        if self.is_there and not resume:
            raise OutputError(
                f"{self.path}: holds an interrupted training; go on with --resume, or remove the "
                "file to begin anew"
            )

    def load(self, identity: str) -> dict[str, Any] | None:
        """The state that was saved last; None where there is no file.

        Parameters
        ----------
        identity : str
            Digest of everything that the training depends on.

        Raises
        ------
        OutputError
            If the file is damaged, or belongs to a training with another identity.
        """
        if not self.is_there:
            return None
        torch = import_torch("training")
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            found = state["identity"]
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be read ({error.strerror or error}); make it readable, or "
                "remove it to begin anew"
            ) from error
        except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise OutputError(
                f"{self.path}: must be a checkpoint of this program, it is truncated or corrupt "
                f"({type(error).__name__}); remove it to begin anew"
            ) from error
        if found != identity:
            raise OutputError(
                f"{self.path}: must be of the same settings, data and versions, but it is of "
                "others; give the options it was begun with, or remove it to begin anew"
            )
        return dict(state)

    def save(self, identity: str, state: dict[str, Any]) -> None:
        """Replace the file.

        Parameters
        ----------
        identity : str
            See `load`.
        state : dict
            Tensors, numbers and texts only, so that loading executes nothing.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        stream = io.BytesIO()
        import_torch("training").save({"identity": identity} | state, stream)
        if not self.path.parent.is_dir():
            try:
                self.path.parent.mkdir()
            except OSError as error:
                raise OutputError(
                    f"{self.path.parent}: cannot be made ({error.strerror or error}); give another "
                    "folder with -o"
                ) from error
        self._sweep()
        files.write(self.path, stream.getvalue())

    def remove(self) -> None:
        """Remove the file, if it is there."""
        self.path.unlink(missing_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove files of processes that were killed while they wrote."""
        for left in self.path.parent.glob(f".{self.path.name}.*{files.PARTIAL}"):
            left.unlink(missing_ok=True)
