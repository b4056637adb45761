"""Where recipes find published recordings: a folder named by ``ONNXGRU_DATA``, or the network.

In the folder, files stand as ``<data set>/<file>``, such as ``mnist/t10k-labels-idx1-ubyte.gz``.
Where the variable is not set, files are downloaded from their public home into the same places of
the cache folder, once, and their SHA-256 is compared with the published one each time.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from onnxgru.core import cache
from onnxgru.core.errors import DataError
from onnxgru.models.task import Download, Listener, missing

VARIABLE = "ONNXGRU_DATA"
TIMEOUT = 30
"""Seconds without an answer or a byte after which a download is given up."""


@dataclass(frozen=True)
class Source:
    """A published file.

    Parameters
    ----------
    folder : str
        Name of the data set.
    name : str
        Name of the file.
    url : str
        Where it is published.
    sha256 : str
        Checksum of the file at `url`, in hexadecimal.
    pattern : str
        Pattern of other names that the file may have in the user's folder.
    """

    folder: str
    name: str
    url: str
    sha256: str
    pattern: str = ""


def find(source: Source, listener: Listener) -> Path:
    """Return the path of a file, which is downloaded if it must be.

    Parameters
    ----------
    source : Source
        The file.
    listener : callable
        Called with the progress of a download.

    Returns
    -------
    pathlib.Path
        In the folder that ``ONNXGRU_DATA`` names, whose content is not compared here, or in the
        cache.

    Raises
    ------
    DataError
        If it is not in the folder, cannot be downloaded, or is not the published file.
    UsageError
        If it has to be downloaded and pooch is not installed.
    """
    given = os.environ.get(VARIABLE)
    if given is None:
        return _download(source, listener)
    folder = Path(given) / source.folder
    for pattern in filter(None, (source.name, source.pattern)):
        for path in sorted(folder.glob(pattern)):
            return path
    raise DataError(
        f"{folder / source.name}: no such file; put it into the folder that {VARIABLE} names, or "
        f"unset {VARIABLE} to download it from {source.url}"
    )


def _download(source: Source, listener: Listener) -> Path:
    try:
        import pooch
        import requests
    except ImportError as error:
        raise missing("pooch") from error
    folder = cache.folder() / "data" / source.folder
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        path = pooch.retrieve(
            source.url,
            f"sha256:{source.sha256}",
            fname=source.name,
            path=folder,
            downloader=pooch.HTTPDownloader(
                progressbar=_Progress(source.name, listener), timeout=TIMEOUT
            ),
        )
    except requests.RequestException as error:
        if error.response is not None:
            error.response.close()  # which pooch leaves open
        raise DataError(
            f"{source.url}: cannot be downloaded ({type(error).__name__}); fetch it elsewhere, put "
            f"it into a folder as {source.folder}/{source.name}, and name that folder with "
            f"{VARIABLE}"
        ) from error
    except ValueError as error:  # pooch's, where the checksum differs
        raise DataError(
            f"{source.url}: must have the SHA-256 {source.sha256}, what was downloaded has "
            f"another; nothing was kept, try again or name a folder with {VARIABLE}"
        ) from error
    except OSError as error:
        raise DataError(
            f"{folder}: must be a folder that downloads can be written to ({error.strerror}); name "
            "another cache folder with ONNXGRU_CACHE"
        ) from error
    return Path(path)


class _Progress:
    """A progress bar with the interface of tqdm, which pooch calls; it informs a listener."""

    def __init__(self, name: str, listener: Listener) -> None:
        self._name = name
        self._listener = listener
        self._done = 0
        self.total = 0

    def update(self, count: int) -> None:
        self._done += count
        self._listener(Download(self._name, self._done, self.total))

    def reset(self) -> None:
        """Pooch starts again from 0 before it reports the whole."""
        self._done = 0

    def close(self) -> None:
        """End of the download."""
