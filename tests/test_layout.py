"""Guards over the source tree: packages, imports, heavy libraries, sizes of files."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
FOLDERS = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}

# Who may import whom: downwards only. A name is a package below onnxgru, or a module of its own.
#
#     cli
#     api   firmware (on onnxruntime)
#     output
#     study
#     report
#     session
#     runtime
#     passes   settings
#     calibration   rounding   training   search   models (on training)   events   cost   documents
#     custom_ops   data
#     core   runtimes
ALLOWED = {
    "core": set(),
    "runtimes": set(),  # its adapters also run where onnxgru is not installed
    "data": {"core"},
    "custom_ops": {"core"},
    "cost": {"core"},
    "documents": {"data", "core"},  # what front.json and report.json hold
    "search": {"core"},  # knows neither ONNX nor passes, only evaluate(scheme)
    "events": {"search", "core"},
    "calibration": {"custom_ops", "data", "core"},
    "training": {"custom_ops", "data", "core"},
    "models": {"training", "data", "core"},
    "rounding": {"core"},
    "passes": {"calibration", "rounding", "custom_ops", "cost", "core"},
    "settings": {"runtimes", "search", "passes", "rounding", "training", "cost", "data", "core"},
    "runtime": {"passes", "calibration", "custom_ops", "data", "core", "runtimes"},
}
ROOMS = {
    "custom_ops": {
        "kinds": set(),
        "arrays": {"kinds"},
        "integer_graph": {"kinds"},
        "kernels": {"kinds"},
    },
    "passes": {
        "graph": set(),
        "bodies": {"graph"},
        "normal": {"bodies", "graph"},
        "recognize": {"normal", "bodies", "graph"},
        "lowering": {"graph"},
        "forms": {"graph"},
        "emission": {"forms", "lowering", "graph"},
    },
}
"""Rooms of a part, and which of them each may import."""
LIBRARY = set(ALLOWED)
ALLOWED["session"] = LIBRARY - {"search", "models"}
ALLOWED["report"] = {"session", *LIBRARY}
ALLOWED["study"] = {"report", "session", *LIBRARY}
ALLOWED["output"] = {"study", "report", "session", *LIBRARY}
ALLOWED["firmware"] = {"onnxruntime", "output", "study", "report", "session", *LIBRARY}
ALLOWED["onnxruntime"] = {"output", "study", "report", "session", *LIBRARY}
ALLOWED["api"] = {"output", "study", "report", "session", *LIBRARY}
ALLOWED["cli"] = {"api", "firmware", "output", "study", "report", "session", *LIBRARY}
ALLOWED["__init__"] = {"api", "firmware", "output", "session", "settings", "training"}
ALLOWED["__init__"] |= {"data", "core"}
ALLOWED["__main__"] = {"cli"}

HEAVY = {
    "dask",
    "distributed",
    "jinja2",
    "kaldi_native_fbank",
    "matplotlib",
    "onnx.reference",
    "onnxruntime",
    "openvino",
    "pooch",
    "pymoo",
    "requests",
    "sklearn",
    "torch",
}
"""Imported inside functions only."""

TORCH = {"training", "models", "runtime"}
"""The only packages that may know torch at all; runtime uses it where it is installed."""

ONNX_FREE = {"search"}
LONGEST = 550
COMMAND = 'pip install -c constraints.txt -e ".[test]" && python -m tests'


@dataclass(frozen=True)
class Import:
    """One imported name: ``from onnxgru.core import files`` is ``onnxgru.core.files``."""

    name: str
    line: int
    level: int = 0
    deferred: bool = False
    typing: bool = False


@dataclass(frozen=True)
class Module:
    """A Python file of the library under the name that it is imported by."""

    name: str
    path: Path

    @property
    def part(self) -> str:
        """Its row in `ALLOWED`."""
        return self.name.split(".")[1] if "." in self.name else "__init__"

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text("utf-8"), str(self.path))

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()


def packages() -> Iterator[tuple[str, Path]]:
    """Every folder with Python files, under its name as a package."""
    for root, folder in FOLDERS.items():
        for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            if any(inner.glob("*.py")):
                yield ".".join((root, *inner.relative_to(folder).parts)), inner


def modules() -> Iterator[Module]:
    for package, folder in packages():
        for path in sorted(folder.glob("*.py")):
            yield Module(package if path.stem == "__init__" else f"{package}.{path.stem}", path)


MODULES = tuple(modules())
NAMES = {module.name for module in MODULES}


def imports(node: ast.AST, deferred: bool = False, typing: bool = False) -> Iterator[Import]:
    """All imports below a node; deferred if in a function, typing if for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, 0, deferred, typing)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                name = f"{child.module or ''}.{alias.name}"
                yield Import(name, child.lineno, child.level, deferred, typing)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(child, True, typing)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from imports(child, deferred, True)
        else:
            yield from imports(child, deferred, typing)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def internal(module: Module) -> Iterator[tuple[Import, str]]:
    """Imports of this project, with the name of the module that each one reads."""
    for found in imports(module.tree):
        if within(found.name, "onnxgru") and found.name != "onnxgru.__version__":
            parent = found.name.rpartition(".")[0]
            yield found, found.name if found.name in NAMES else parent


def test_list_of_packages_is_whole():
    listed = SETUPTOOLS["packages"]
    assert sorted(listed) == sorted(name for name, _ in packages())
    assert len(listed) == len(set(listed))


def test_packages_have_their_file():
    assert [str(path) for _, path in packages() if not (path / "__init__.py").is_file()] == []


def test_packages_listed_for_coverage():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["coverage"]
    assert {ROOT / folder for folder in settings["run"]["source"]} == set(FOLDERS.values())


def test_table_of_imports_has_no_circle():
    assert set(TopologicalSorter(ALLOWED).static_order()) == set(ALLOWED)


def test_table_of_imports_has_every_part():
    """A new package, or a new module beside `cli`, is drawn above first."""
    assert {module.part for module in MODULES} <= set(ALLOWED)


def test_imports_run_downwards():
    refused = {
        f"{module}:{found.line}: {module.part} may not import {target}"
        for module in MODULES
        for found, target in internal(module)
        if (part := Module(target, module.path).part) != module.part
        and part not in ALLOWED.get(module.part, ())
    }
    assert not refused, "\n".join(sorted(refused))


@pytest.mark.parametrize("part", ROOMS)
def test_imports_between_rooms_run_downwards(part):
    """A new room is drawn above first; nothing but the package's own file lies outside of them."""
    rooms = ROOMS[part]
    assert set(TopologicalSorter(rooms).static_order()) == set(rooms)
    package = f"onnxgru.{part}"
    here = {
        module: module.name.split(".")[2]
        for module in MODULES
        if within(module.name, package) and module.name != package
    }
    assert set(here.values()) == set(rooms)
    refused = [
        f"{module}:{found.line}: {room} may not import {target}"
        for module, room in here.items()
        for found, target in internal(module)
        if within(target, package)
        and target != package
        and target.split(".")[2] not in {room, *rooms[room]}
    ]
    assert not refused, "\n".join(refused)


def test_modules_have_no_circle():
    graph = {
        module.name: {target for found, target in internal(module) if not found.deferred}
        for module in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' <- '.join(error.args[1])}")


def test_imports_are_absolute():
    bare = {name.removeprefix("onnxgru.") for name in FOLDERS} - {"onnxgru"}
    refused = [
        f"{module}:{found.line}: {'.' * found.level}{found.name}"
        for module in MODULES
        for found in imports(module.tree)
        if found.level
        or found.name.split(".")[0] in bare | {"tests", "benchmarks"}
        or found.name.endswith(".*")
    ]
    assert not refused, "\n".join(refused)


def test_heavy_libraries_are_deferred():
    refused = [
        f"{module}:{found.line}: {found.name}"
        for module in MODULES
        for found in imports(module.tree)
        if not (found.deferred or found.typing)
        and any(within(found.name, library) for library in HEAVY)
    ]
    assert not refused, "\n".join(refused)


def test_torch_stays_in_training():
    refused = [
        f"{module}:{found.line}: {found.name}"
        for module in MODULES
        for found in imports(module.tree)
        if within(found.name, "torch") and module.part not in TORCH
    ]
    assert not refused, "\n".join(refused)


def test_search_knows_no_onnx():
    refused = [
        f"{module}:{found.line}: {found.name}"
        for module in MODULES
        for found in imports(module.tree)
        if module.part in ONNX_FREE
        and found.name.startswith("onnx")
        and not within(found.name, "onnxgru")
    ]
    assert not refused, "\n".join(refused)


def test_library_does_not_print():
    refused = [
        f"{module}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "pprint")
    ]
    assert not refused, "\n".join(refused)


def test_files_are_short_and_named():
    places = [*FOLDERS.values(), ROOT / "tests", ROOT / "benchmarks"]
    files = {path for place in places for path in place.rglob("*.py")}
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in sorted(files)}
    assert [f"{p}: {count}" for p, count in lengths.items() if count > LONGEST] == []
    assert [str(path) for path in files if path.stem in ("utils", "util", "helpers")] == []


def loaded(statements: str) -> set[str]:
    """Names of the modules in a fresh interpreter that has run these statements."""
    command = (sys.executable, "-c", f"import sys\n{statements}\nprint(*sys.modules)")
    ran = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return set(ran.stdout.split())


def test_import_of_the_package_is_light():
    assert loaded("import onnxgru") & (HEAVY | {"onnx", "onnx_ir", "onnxscript"}) == set()


def test_import_of_everything_is_light():
    everything = sorted(name for name in NAMES if not name.endswith("__main__"))
    assert loaded(f"import {', '.join(everything)}") & HEAVY == set()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documented_command_is_what_is_run(name):
    """`.ci/run` runs the line that README and CONTRIBUTING give, in two halves."""
    assert COMMAND in (ROOT / name).read_text("utf-8")
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    install, check = COMMAND.split(" && ")
    assert 0 < script.index(install) < script.index(f"\n{check}\n")


KNOWING = {"passes/graph/recurrent.py", "passes/recognize", "onnxgru/core/cells.py"}
WRITING = {"onnxgru/training/symbolic.py"}
"""What writes a torch module as ONNX names the operator that it writes."""


def test_recognition_alone_knows_recurrent_operators() -> None:
    """No other module has the name of one, its input numbers, or the name of a cell's row."""
    from onnxgru.core.cells import CELLS

    rows = {row.name for cell in CELLS.values() for row in cell.rows if "." in row.name}
    words = "|".join(map(re.escape, sorted({"GRU", "LSTM", "RNN", "initial_h", *rows})))
    literal = re.compile(rf"""["'](?:{words})["']|graph\.node\([^)]*\)\.inputs\[""")
    found = []
    for place in ("onnxgru", "passes", "custom_ops", "search"):
        for path in sorted((ROOT / place).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name in WRITING or any(name == k or name.startswith(k + "/") for k in KNOWING):
                continue
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                if literal.search(line):
                    found.append(f"{name}:{number}: {line.strip()}")
    assert found == []


@pytest.mark.parametrize("part", ROOMS)
def test_contributing_draws_the_rooms(part):
    """Its tables of rooms name each one, and what it imports."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z_]+)(?:/|\.py)` \| .+ \| (.+) \|$", text, re.MULTILINE)
    drawn = {name: set(re.findall(r"`(\w+)`", imported)) for name, imported in rows}
    assert {room: drawn.get(room) for room in ROOMS[part]} == ROOMS[part]
