"""A setting is declared once: its flag, help, TOML key, check and journal key come from there."""

import argparse
import inspect
import pickle
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

import onnxgru
from onnxgru.cli import options
from onnxgru.core.choices import MAXIMUM_BITS
from onnxgru.core.errors import UsageError
from onnxgru.data.reading import Held
from onnxgru.settings import manual, toml
from onnxgru.settings.config import TASKS, Config
from onnxgru.settings.declare import (
    About,
    Settings,
    declared,
    defaults,
    dependent,
    keyed,
    setting,
    themes,
)
from onnxgru.settings.finetuning import Finetuning
from onnxgru.settings.kinds import Choice, Location, Switch, Whole
from onnxgru.settings.quantization import Quantization
from onnxgru.settings.search import Search

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Painting(Settings):
    """A theme that only this test has."""

    about = About("painting", "colours", "Of the cell.", switch="paint")

    paint: bool = setting(False, Switch(), "draw the cell", keyed=False)
    colour: str = setting("red", Choice(("red", "dark green")), "colour of the cell", short="-c")
    strokes: int | None = setting(None, Whole(1, 9), "strokes of the brush", unset="few", example=3)
    canvas: Path | None = setting(None, Location(), "what is painted on", example="c.png")

    def contradictions(self) -> Iterator[tuple[bool, str]]:
        """Strokes are of a brush."""
        yield (
            self.strokes is not None and not self.paint,
            "strokes are of a painting; give paint too",
        )


@dataclass(frozen=True, kw_only=True)
class Extended(Painting, Config):
    """All settings, and those of the test."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="test", exit_on_error=False)
    options.add_themes(made, Extended)
    return made


def test_a_declared_setting_has_a_flag() -> None:
    given = options.given(parser().parse_args(["-c", "dark green", "--strokes", "4"]), Extended)
    assert given == {"colour": "dark green", "strokes": 4}
    assert options.given(parser().parse_args(["--paint"]), Extended) == {"paint": True}
    assert options.given(parser().parse_args([]), Extended) == {}


def test_a_declared_setting_is_explained_in_help() -> None:
    text = " ".join(parser().format_help().split())
    assert "colours: Of the cell. --paint draw the cell -c NAME, --colour NAME" in text
    assert "colour of the cell: red or dark green (default: red)" in text
    assert "--strokes N strokes of the brush: 1 to 9 (default: few)" in text
    documented = "colour : str, default 'red'\n    Colour of the cell: red or dark green.\n"
    assert documented in manual.documented(Extended)
    assert "| `strokes` | few | strokes of the brush: 1 to 9 |" in manual.page(Extended)


def test_a_declared_setting_has_a_key_in_files(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    for text in ('colour = "red"\ncanvas = "c.png"\n', '[painting]\ncolour="red"\ncanvas="c.png"'):
        path.write_text(text)
        assert toml.load(path, Extended) == {"colour": "red", "canvas": tmp_path / "c.png"}
    assert '# Colour of the cell: red or dark green.\n# colour = "red"\n' in toml.template(Extended)
    assert "[painting]\n# Of the cell.\n" in toml.template(Extended)


def test_a_declared_setting_is_checked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^colour must be one of red, dark green, got 'blue'$"):
        Extended(colour="blue")
    with pytest.raises(UsageError, match=r"^strokes must be a whole number from 1 to 9, got 10$"):
        Extended(paint=True, strokes=10)
    with pytest.raises(UsageError, match=r"^strokes are of a painting; give paint too$"):
        Extended(strokes=2)
    with pytest.raises(UsageError, match=r"^there is no setting 'color'; did you mean 'colour'?"):
        Extended(color="red")
    (tmp_path / "file.toml").write_text("strokes = 0")
    with pytest.raises(UsageError, match=r"file.toml: strokes must be .* from 1 to 9, got 0$"):
        toml.load(tmp_path / "file.toml", Extended)
    assert Extended(paint=True, strokes=2, bits=4).bits == 4


def test_a_declared_setting_is_in_the_key_of_the_journal() -> None:
    assert set(keyed(Extended)) - set(keyed(Config)) == {"colour", "strokes", "canvas"}
    assert dependent(Painting) == ("colour", "strokes", "canvas")


def test_the_key_of_the_journal_has_what_evaluations_depend_on() -> None:
    assert set(keyed(Config)) - set(dependent(Finetuning)) == {
        *("granularity", "observer", "ranges", "rounding", "bias_correction", "input_bits"),
        *("accumulator_bits", "include", "exclude", "head", "batch_axis", "state", "metric"),
        *("output_name", "genome", "search_inputs", "widths", "genes", "share", "population"),
        *("seed", "objectives", "cell_state", "skip", "wide_states"),
    }


def test_every_setting_belongs_to_one_theme() -> None:
    names = [field.name for theme in themes(Config) for field in fields(theme)]
    assert sorted(names) == sorted(set(names)) == sorted(field.name for field in fields(Config))
    assert list(declared(Config)) == names
    for theme in themes(Config):
        assert theme.about.switch in ("", *declared(theme))
    assert set(TASKS) <= set(names)
    for one in declared(Config).values():
        one.check(one.default)
        one.check(one.default if one.example is None else one.example)
        assert one.help[0].islower() and not one.help.endswith("."), one.help
        assert one.default is not None or one.example is not None, one.name


def test_python_sees_every_setting() -> None:
    parameters = inspect.signature(onnxgru.Config).parameters
    assert parameters.keys() == declared(Config).keys()
    assert {name: p.default for name, p in parameters.items()} == defaults(Config, declared(Config))
    for one in declared(Config).values():
        assert f"\n{one.name} : " in str(Config.__doc__)


def test_a_configuration_serves_as_any_theme() -> None:
    config = Config(bits=4, calibration={"x": [[1.0]]})
    assert isinstance(config, Quantization) and isinstance(config, Search)
    assert isinstance(config.calibration, Held)
    assert Config(include=["a", "b"]).include == ("a", "b")
    assert pickle.loads(pickle.dumps(Config(bits=4))) == Config(bits=4)
    assert replace(Config(bits=4), bits=5) == Config(bits=5)
    with pytest.raises(
        UsageError, match="input_bits must be a whole number from 2 to 8, or 16, got 9"
    ):
        Quantization(input_bits=9)


# --- files ---------------------------------------------------------------------------------------


def uncommented(text: str) -> list[str]:
    """The lines of settings."""
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    return [line for line in lines if line.partition(" = ")[0] in declared(Config)]


def test_the_complete_file_has_every_setting_with_its_default(tmp_path: Path) -> None:
    path = tmp_path / "complete.toml"
    path.write_text(toml.template())
    assert toml.load(path) == {}
    lines = uncommented(toml.template())
    assert [line.partition(" = ")[0] for line in lines] == list(declared(Config))
    for line in lines:
        name = line.partition(" = ")[0]
        path.write_text(toml.template().replace(f"# {line}\n", f"{line}\n"))
        (value,) = toml.load(path).values()
        if (usual := declared(Config)[name].default) is not None:
            assert value == usual, name
    assert max(map(len, toml.template().splitlines())) <= 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[search]\nbits = 4\n", r"bits belongs to section \[quantization\], not to \[search\]; m"),
        ("bits = 4\n[quantization]\nbits = 4\n", "bits is given twice; leave out one of them"),
        ("input_bits = 4\ninput-bits = 4\n", "input_bits is given twice; leave out one of them"),
        ("[searching]\nwidths = '2'\n", "there is no setting 'searching'"),
        ("[search]\nwidth = '2'\n", "there is no setting 'width'; did you mean 'widths'?"),
        ("[search]\nwidths = 2\n", "widths must be a text such as 2-8, got 2"),
        ("[search]\nwidths = '2-9'\n", "widths must be from 2 to 8"),
        ("[output]\n", "there is no setting|output must be a path, got {}"),
        ("batch_axis = 'x=1'\n", "batch_axis must be a list of texts such as x=1, got 'x=1'"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"^.*wrong.toml: ({message})"):
        toml.load(path)


def test_files_have_sections_or_none(tmp_path: Path) -> None:
    path = tmp_path / "mixed.toml"
    path.write_text(
        'seed = 3\n[search]\nsearch = true\nsearch-inputs = true\n[run]\noutput = "small"\n'
        '[data]\nstate = ["hn=h"]\ncalibration = "module:name"\nvalidation = "v.npz"\n'
    )
    assert toml.load(path) == {
        "seed": 3,
        "search": True,
        "search_inputs": True,
        "output": tmp_path / "small",
        "state": ("hn=h",),
        "calibration": "module:name",
        "validation": tmp_path / "v.npz",
    }


# --- the same on every floor ---------------------------------------------------------------------


def test_choices_are_those_of_what_implements_them() -> None:
    from onnxgru import passes
    from onnxgru.calibration import observers
    from onnxgru.core import choices
    from onnxgru.settings import search
    from onnxgru.study import encoding

    assert tuple(observers._RANGES) == choices.OBSERVERS
    assert tuple(encoding._GROUPS) == search.SHARES
    assert [one for one in search.GENES if one != "bits"] == [
        encoding.OBSERVER[1:],
        encoding.GRANULARITY[1:],
        encoding.THRESHOLD[1:],
    ]
    from onnxgru.report.text import _RANGES

    assert tuple(_RANGES) == passes.RANGES


def test_defaults_are_the_same_on_every_floor() -> None:
    from onnxgru.core.scheme import LinearScheme, Scheme
    from onnxgru.passes.forms.form import Form
    from onnxgru.search import nsga
    from onnxgru.study.allocation import Allocation
    from onnxgru.study.encoding import Encoding
    from onnxgru.training import finetune

    usual = defaults(Config, declared(Config))
    floors = [Allocation, LinearScheme, Scheme.uniform, Encoding, Form, nsga.SearchSettings]
    for floor in [*floors, finetune.FinetuningSettings]:
        for name, parameter in inspect.signature(floor).parameters.items():
            if name in usual and name != "bits" and parameter.default is not parameter.empty:
                wanted = usual[name]
                if name == "widths":
                    wanted = tuple(range(2, MAXIMUM_BITS + 1))
                if name == "share":  # auto, for few layers
                    wanted = "none"
                assert parameter.default == wanted, (floor, name)


# --- documentation -------------------------------------------------------------------------------


def test_the_page_of_settings_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert page.endswith(manual.page(Config)), (
        "the tables of docs/settings.md must be what `python -m onnxgru.settings` prints"
    )


def test_the_example_of_the_page_is_a_file(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    text = page.split("```toml\n")[1].split("```")[0]
    assert tomllib.loads(text)
    (tmp_path / "settings.toml").write_text(text)
    Config(**toml.load(tmp_path / "settings.toml"))
