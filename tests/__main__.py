"""Every check of the project, for contributors and continuous integration alike.

::

    python -m tests                      format, lint, types and tests
    python -m tests --only lint,types    some of them
    python -m tests tests/core -x        all, with arguments for pytest

All checks run even if one fails; the exit status is 1 if any did.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKS = {
    "format": ("ruff", "format", "--check", "."),
    "lint": ("ruff", "check", "."),
    "types": ("mypy", "-p", "onnxgru"),
    "tests": ("pytest", "--numprocesses=auto", "--maxprocesses=4", "--dist=worksteal"),
}
# glibc keeps the memory of freed arrays, or it is given back and zeroed anew for every array.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 28), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}


def link(root: Path = ROOT) -> Path:
    """Make ``.typecheck``: links to the sources, laid out as in the wheel, for type checkers.

    Returns
    -------
    Path
        The folder that a type checker should search for ``onnxgru``.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    folders = project["tool"]["setuptools"]["package-dir"]
    tree = root / ".typecheck"
    shutil.rmtree(tree, ignore_errors=True)
    for package in sorted(folders):
        target = tree.joinpath(*package.split("."))
        source = root / folders[package]
        if any(other.startswith(f"{package}.") for other in folders):
            target.mkdir(parents=True)  # a folder of its own, for others are mapped into it
            for entry in source.iterdir():
                if entry.name != "__pycache__":
                    (target / entry.name).symlink_to(entry)
        else:
            target.symlink_to(source, target_is_directory=True)
    return tree


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks and say in one line which of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests", description="Check the project.", allow_abbrev=False
    )
    parser.add_argument("--only", help=f"some of {','.join(CHECKS)} (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help="leave out the tests that are marked slow"
    )
    options, rest = parser.parse_known_args(arguments)
    if options.quick:
        rest = ["-m", "not slow", *rest]
    chosen = options.only.split(",") if options.only else list(CHECKS)
    if unknown := sorted(set(chosen) - set(CHECKS)):
        parser.error(f"--only takes {', '.join(CHECKS)}, not {', '.join(unknown)}")
    if importlib.util.find_spec("onnxgru.passes") is None:
        parser.exit(
            2,
            "onnxgru.passes cannot be imported: the checks need the editable install, "
            'pip install -c constraints.txt -e ".[test]"\n',
        )
    if rest and "tests" not in chosen:
        parser.error(f"only tests take more arguments: {' '.join(rest)}")
    results = {}
    for name, command in CHECKS.items():
        if name not in chosen:
            continue
        if name == "types":
            link()
        given = rest if name == "tests" else ()
        print(f"-- {name}: {' '.join((*command, *given))}", flush=True)
        ran = subprocess.run(
            [sys.executable, "-m", *command, *given],
            cwd=ROOT,
            env=MEMORY | os.environ,
            check=False,
        )
        results[name] = "ok" if ran.returncode == 0 else f"FAILED ({ran.returncode})"
    print("--", ", ".join(f"{name} {result}" for name, result in results.items()))
    return int(any(result != "ok" for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
