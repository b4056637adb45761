"""Cost tables, bit operations and objectives: figures by hand, and every refusal read."""

from pathlib import Path

import pytest

from onnxgru.core.errors import UsageError
from onnxgru.core.network import LinearOperator
from onnxgru.core.program import IntegerProgram
from onnxgru.core.scheme import LinearScheme, OutputScheme, Scheme
from onnxgru.cost import objectives
from onnxgru.cost.account import account
from onnxgru.cost.tables import CostTable
from tests import grus
from tests.pipeline import pipeline

EXAMPLES = Path(__file__).parents[2] / "docs" / "costs"
I, H = 4, 6  # noqa: E741 - the letters of the ONNX operator specification
GOOD = """
unit = "cycles"
[linear]
"8x8" = 8.0
"4x8" = 4.0
[add]
8 = 2
[mul]
8 = 3.0
[lookup]
8 = 5.0
4 = 0.5
"""


@pytest.fixture(scope="module")
def made():
    case = grus.Case(I=I, H=H)
    return pipeline(grus.model(case), grus.feeds(case))


def program(made, bits: int, weight_bits: int) -> IntegerProgram:
    """Outputs at one width, weights at another, inputs at 8."""
    operators: dict[str, OutputScheme] = {
        o.name: OutputScheme(bits)
        if not isinstance(o, LinearOperator)
        else LinearScheme(bits, "mse", weight_bits, "channel", o.weight.shape)
        for layer in made.layers
        for o in layer.operators
    }
    return made.lower(Scheme({layer.name: OutputScheme(8) for layer in made.layers}, operators))


def table(folder: Path, text: str) -> Path:
    path = folder / "table.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("bits", "weight_bits"), [(8, 8), (5, 3), (2, 4)])
def test_bitops_are_macs_by_both_widths(made, bits, weight_bits):
    inputs, hidden = 3 * H * I, 3 * H * H  # the state has the outputs' width, the input 8 bits
    expected = weight_bits * (inputs * 8 + hidden * bits)
    assert account(program(made, bits, weight_bits)).bitops == expected


def test_macs_are_the_weights(made):
    assert account(program(made, 8, 8)).macs == 3 * H * (I + H)


def test_cost_counts_every_operator_at_the_next_wider_row(made, tmp_path):
    cost = CostTable.load(table(tmp_path, GOOD))
    macs, adds, muls, lookups = 3 * H * (I + H), 4 * H, 3 * H, 4 * H
    wide = 8.0 * macs + 2 * adds + 3 * muls + 5 * lookups
    assert cost(program(made, 8, 8)) == wide
    assert cost(program(made, 5, 5)) == wide  # 5 bits are between two rows
    assert cost(program(made, 4, 3)) == 4.0 * macs + 2 * adds + 3 * muls + 0.5 * lookups


def test_operands_of_16_bits_cost_two_of_8_or_what_a_row_says(tmp_path):
    plain = CostTable.load(table(tmp_path, GOOD)).rows
    assert (plain["linear"][8, 16], plain["add"][0, 16]) == (16.0, 4.0)
    assert (plain["linear"][16, 8], plain["linear"][16, 16]) == (16.0, 32.0)
    rows = GOOD.replace("[add]\n", "[add]\n16 = 7.0\n")
    assert CostTable.load(table(tmp_path, rows)).rows["add"][0, 16] == 7.0


def test_examples(made):
    byte = CostTable.load(EXAMPLES / "byte_mcu.toml")
    engine = CostTable.load(EXAMPLES / "subbyte_engine.toml")
    uniform = {bits: program(made, bits, bits) for bits in (2, 3, 4, 8)}
    assert byte(uniform[2]) == byte(uniform[8]) > 0
    assert engine(uniform[2]) < engine(uniform[4]) < engine(uniform[8])
    assert engine(uniform[3]) > engine(uniform[2])
    assert engine.rows["linear"][3, 8] == engine.rows["linear"][4, 8]


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('"8x8" = 8.0', "", ["[linear] lacks the row", '"8x8"']),
        ('"4x8" = 4.0', '"4x4" = 4.0', ["[linear] lacks the row", '"4x8"']),
        ("8 = 5.0", "", ["[lookup] lacks the row", '"8"']),
        ("[mul]\n8 = 3.0", "", ["[mul] is missing", "one element"]),
        ("8 = 2", "8 = -2", ["[add] 8", "at least 0", "-2"]),
        ("8 = 2", "8 = nan", ["[add] 8", "at least 0", "nan"]),
        ("8 = 2", "8 = true", ["[add] 8", "number", "True"]),
        ("8 = 2", "9 = 2", ["row of [add]", "2 to 8", "'9'"]),
        ('"4x8" = 4.0', '"4" = 4.0', ["row of [linear]", "weights x operand", "'4'"]),
        ('"cycles"', "3", ["unit must be a text", "3"]),
        ("[mul]", "[nul]", ["[mul]", "nothing else", "'nul'"]),
        ("unit =", "unit", ["must be TOML", "correct the file"]),
    ],
)
def test_wrong_tables_are_refused(tmp_path, old, new, parts):
    assert old in GOOD
    path = table(tmp_path, GOOD.replace(old, new))
    with pytest.raises(UsageError) as caught:
        CostTable.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert [part for part in parts if part not in str(caught.value)] == []


def test_missing_table_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere.toml: the cost table cannot be read"):
        objectives.sizes(f"error,cost:{tmp_path / 'nowhere.toml'}")


def test_objectives_measure_in_their_order(made, tmp_path):
    path = table(tmp_path, GOOD)
    one = program(made, 8, 4)
    figures = account(one)
    sizes = objectives.sizes(f"error, cost:{path}, flash")
    assert [size.key for size in sizes] == ["cost", "flash_bytes"]
    assert sizes[0].title == "cost, cycles a step"
    assert [s.measure(one) for s in sizes] == [CostTable.load(path)(one), figures.flash_bytes]
    (weights,), (bitops,) = objectives.sizes("error,weights"), objectives.sizes("error,bitops")
    assert (weights.measure(one), bitops.measure(one)) == (figures.weight_bits, figures.bitops)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("error,speed", "'speed'"),
        ("error,cost:", "'cost:'"),
        ("flash,error", "must be error and one or two sizes"),
        ("error", "must be error and one or two sizes"),
        ("", "got ''"),
        ("error,flash,bitops,weights", "one or two sizes"),
        ("error,flash,flash", "different ones"),
        ("error,cost:a,cost:b", "different ones"),
    ],
)
def test_wrong_objectives_are_refused(text, part):
    with pytest.raises(UsageError) as caught:
        objectives.parse(text)
    assert part in str(caught.value)
