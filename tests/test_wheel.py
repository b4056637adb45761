"""The wheel, installed outside the checkout: complete, and nothing generic in site-packages."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
DATA = PROJECT["tool"]["setuptools"]["package-data"]


def python(*arguments: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Standard output of Python in a folder, with `path` (if any) as its only PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, "-P", *map(str, arguments)]
    ran = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="session")
def distributions(tmp_path_factory) -> Path:
    """Folder with the sdist, and the wheel that was built from it, made from a clean copy."""
    folder = tmp_path_factory.mktemp("distributions")
    patterns = shutil.ignore_patterns(".git", *ignored())
    shutil.copytree(ROOT, folder / "source", ignore=patterns)
    python("-m", "build", "--no-isolation", "--outdir", folder, folder / "source", cwd=folder)
    shutil.rmtree(folder / "source")
    return folder


@pytest.fixture(scope="session")
def installed(distributions, tmp_path_factory) -> Path:
    """Folder like site-packages with the wheel in it, for ``python(..., path=installed)``."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = distributions.glob("*.whl")
    options = ("--quiet", "--no-index", "--no-deps", "--target", folder)
    python("-m", "pip", "install", *options, wheel, cwd=folder)
    return folder


def ignored() -> list[str]:
    """Patterns of names that are not part of the project."""
    return [line.rstrip("/") for line in (ROOT / ".gitignore").read_text("utf-8").split()]


def is_data(package: str, inner: Path) -> bool:
    """Whether a file of a package belongs to the data of it, or of a package below."""
    return any(
        pattern.count("/") == len(inner.parts) - depth - 1
        and fnmatch("/".join(inner.parts[depth:]), pattern)
        for depth in range(len(inner.parts))
        for pattern in DATA.get(".".join((package, *inner.parts[:depth])), ())
    )


def contents() -> set[str]:
    """Every file that the package must hold, as found in the checkout."""
    files = set()
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            inner = path.relative_to(ROOT / folder)
            held = path.suffix == ".py" or is_data(package, inner)
            if path.is_file() and held and not any(fnmatch(path.name, p) for p in ignored()):
                files.add(Path(*package.split("."), inner).as_posix())
    return files


def test_sdist_and_wheel_are_built(distributions):
    version = PROJECT["project"]["version"]
    names = {path.name for path in distributions.iterdir()}
    assert names == {f"onnxgru-{version}.tar.gz", f"onnxgru-{version}-py3-none-any.whl"}


def test_nothing_generic_is_installed(installed):
    top = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert top == {"onnxgru", "bin"}
    assert {path.name for path in (installed / "bin").iterdir()} == {"onnxgru"}


def test_wheel_holds_every_file(installed):
    files = (path for path in (installed / "onnxgru").rglob("*") if path.suffix != ".pyc")
    assert {
        path.relative_to(installed).as_posix() for path in files if path.is_file()
    } == contents()


def test_wheel_holds_model_data_and_types(installed):
    """Of the models only digits_row: the others are of no use without data that cannot be in it."""
    models = (installed / "onnxgru" / "models").iterdir()
    parts = ("onnx", "json", "calibration.npz", "validation.npz", "holdout.npz")
    found = {path.name for path in models if path.is_file() and path.suffix not in (".py", ".md")}
    assert found == {f"digits_row.{part}" for part in parts}
    assert (installed / "onnxgru" / "py.typed").is_file()


def test_licenses_are_installed(installed):
    (information,) = installed.glob("*.dist-info")
    for name in PROJECT["project"]["license-files"]:
        assert (information / "licenses" / name).read_bytes() == (ROOT / name).read_bytes()


def test_packages_are_imported_from_the_wheel(installed, tmp_path):
    """Each from the folder: an editable install would supply what the wheel lacks."""
    script = (
        "import importlib, sys\nfor n in sys.argv[1:]: print(importlib.import_module(n).__file__)"
    )
    files = python("-c", script, *PACKAGES, cwd=tmp_path, path=installed).split("\n")[:-1]
    expected = [installed.joinpath(*name.split("."), "__init__.py") for name in PACKAGES]
    assert [Path(file) for file in files] == expected


def test_command_line_runs_from_the_wheel(installed, tmp_path):
    """On a copy of the shipped model, with nothing else of the checkout at hand."""
    for path in (ROOT / "models").glob("digits_row.*"):
        shutil.copy(path, tmp_path)
    command = ("-m", "onnxgru", "quantize", "digits_row.onnx", "--bits", "8", "--format", "json")
    report = json.loads(python(*command, cwd=tmp_path, path=installed))
    folder = tmp_path / report["folder"]
    for name, size in report["files"].items():
        assert (folder / name).stat().st_size == size
    assert report["quality"]["holdout"]["integer"] >= report["quality"]["holdout"]["float"] - 0.5
    where = "import onnxgru.cli; print(onnxgru.cli.__file__)"
    origin = Path(python("-c", where, cwd=tmp_path, path=installed).strip())
    assert origin.is_relative_to(installed)
