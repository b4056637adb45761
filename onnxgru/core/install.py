"""Commands that install optional libraries, for a checkout and for a wheel."""

from pathlib import Path

LIBRARIES = {
    "torch": '"torch>=2.8"',
    "distributed": '"distributed>=2025.1"',
    "zoo": "kaldi-native-fbank pooch requests scikit-learn",
}
"""Requirements of every extra, as arguments of pip; tests compare them with pyproject.toml."""


def hint(extra: str) -> str:
    """Command that installs an extra.

    Parameters
    ----------
    extra : str
        A key of `LIBRARIES`.

    Returns
    -------
    str
        For a checkout, its own command with its tested versions; otherwise the libraries.
    """
    root = Path(__file__).resolve().parents[2]
    if (root / "constraints.txt").is_file():
        return f'pip install -c constraints.txt -e ".[{extra}]" in {root}'
    return f"pip install {LIBRARIES[extra]}"
