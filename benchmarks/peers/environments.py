"""The peers, their pinned versions, and the virtual environments that they run in.

Peers contradict each other in what they need, so each has an environment of its own, made once
and kept. Their scripts, beside this file, are run in it as ``MODEL CALIBRATION OUTPUT [OPTION]``.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from onnxgru.core import cache

HERE = Path(__file__).parent
MOST_MEGABYTES = 2000
INSTALLING, RUNNING = 1800, 900
"""Seconds, after which an installation and a run are given up."""

TORCH = "torch==2.13.0"  # a CPU build; where the index has only others, it is too large


class Unavailable(Exception):  # noqa: N818 - a result, one sentence in a row of the table
    """A peer that cannot be installed or run; the message says why."""


@dataclass(frozen=True)
class Peer:
    """A quantiser.

    Parameters
    ----------
    name : str
        Of its row.
    script : str
        Stem of the script that calls it.
    requirements : tuple of str
        What pip installs, exact versions, the quantiser itself first. Equal ones share an
        environment.
    options : tuple of str
        Further arguments of the script.
    """

    name: str
    script: str
    requirements: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Of the quantiser."""
        return self.requirements[0].partition("==")[2]

    @property
    def environment(self) -> str:
        """Name of its environment's folder."""
        return self.requirements[0].replace("==", "-")


ONNXRUNTIME = ("onnxruntime==1.31.1", "onnx==1.23.2", "numpy==2.4.6", "sympy==1.14.0")
NNCF = ("nncf==3.4.0", "onnx==1.19.1", "onnxruntime==1.31.1", "numpy==2.4.6")
QUARK = ("amd-quark==0.13", "onnx==1.22.0", "onnxruntime==1.31.1", "numpy==2.4.6", TORCH)
AIMET = ("aimet-onnx==2.42.0", "onnx==1.23.2", "onnxruntime==1.31.1", "numpy==2.4.6", TORCH)
PPQ = ("esp-ppq==1.3.12", "onnx==1.19.1", "onnxruntime==1.31.1", "numpy==2.4.6", TORCH)

PEERS = (
    Peer("onnxruntime, quantize_dynamic", "dynamic", ONNXRUNTIME),
    Peer("onnxruntime, quantize_static", "static", ONNXRUNTIME),
    Peer("NNCF, quantize", "nncf", NNCF, ("quantize",)),
    Peer("NNCF, compress_weights", "nncf", NNCF, ("compress_weights",)),
    Peer("AMD Quark, A8W8", "quark", QUARK),
    Peer("AIMET-ONNX, W8A8", "aimet", AIMET, ("int8",)),
    Peer("AIMET-ONNX, W4A8", "aimet", AIMET, ("int4",)),
    Peer("ESP-PPQ, int8", "ppq", PPQ),
)


def folder() -> Path:
    """Where environments are kept."""
    return cache.folder() / "peers"


def prepare(peer: Peer, place: Path) -> Path:
    """The Python of a peer's environment, which is made if need be.

    Raises
    ------
    Unavailable
        If the packages cannot be installed, or are too large.
    """
    home = place / peer.environment
    python, ready = home / "bin" / "python", home / "ready.txt"
    pins = "\n".join(peer.requirements) + "\n"
    if ready.is_file() and ready.read_text("utf-8") == pins:
        return python
    shutil.rmtree(home, ignore_errors=True)
    call([sys.executable, "-m", "venv", str(home)], INSTALLING, "no environment can be made")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--no-cache-dir"]
    try:
        call([*pip, *peer.requirements], INSTALLING, "pip cannot install it")
        size = sum(p.lstat().st_size for p in home.rglob("*") if p.is_file()) // 1_000_000
        if size > MOST_MEGABYTES:
            raise Unavailable(f"its packages take {size} MB, more than {MOST_MEGABYTES}")
    except Unavailable:
        shutil.rmtree(home, ignore_errors=True)
        raise
    ready.write_text(pins, "utf-8")
    return python


def run(peer: Peer, python: Path, model: Path, calibration: Path, output: Path) -> None:
    """Quantise a model, in the folder of the output.

    The peer gets a copy of the model: ESP-PPQ writes a simplified one over its input, and Quark
    leaves a table in the current folder.

    Raises
    ------
    Unavailable
        If the peer fails, or writes nothing.
    """
    script = str(HERE / f"{peer.script}.py")
    copied = shutil.copy(model, output.with_name("float.onnx"))
    arguments = [str(Path(path).resolve()) for path in (copied, calibration, output)]
    # isolated: neither a script's neighbours nor this project can be taken for the peer's packages
    call(
        [str(python), "-I", script, *arguments, *peer.options], RUNNING, "it stopped", output.parent
    )
    if not output.is_file():
        raise Unavailable("it ended without a model")


def call(command: list[str], limit: float, failure: str, folder: Path | None = None) -> None:
    """Run a command, its output kept back.

    Raises
    ------
    Unavailable
        If it fails, with the last line that it wrote.
    """
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=limit,
            errors="replace",
            cwd=folder,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{failure}: not done after {limit} seconds") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = lines[-1] if lines else f"exit status {done.returncode}"
        raise Unavailable(f"{failure}: {said}")
