"""Bad input: what the command line says to it, its exit code, and that nothing is left behind.

One table: a command, the exit code, and words that its message must have. `refuse` runs it in a
folder that must be the same afterwards.
"""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onnxgru.cli import main
from tests import badfiles
from tests.badfiles import DIGITS
from tests.journeys import unfolded

pytestmark = pytest.mark.slow


def listing(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, with its contents."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


def sentence(err: str) -> str:
    """The one message on stderr, checked for its form."""
    assert "Traceback" not in err
    assert all(len(line) <= 80 or " " not in line.strip() for line in err.splitlines()), err
    told = unfolded(err).splitlines()
    messages = [line for line in told if line.startswith("onnxgru: ")]
    others = [line for line in told if not line.startswith("onnxgru: ")]
    assert len(messages) == 1, err
    assert all(line.startswith("warning: ") or line.endswith(" ...") for line in others), err
    message = messages[0]
    assert "defect of onnxgru" not in message, message
    assert message == message.rstrip(" .\n")
    assert 20 < len(message) < 700, message
    return message


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """The folder that every case runs in."""
    place = tmp_path_factory.mktemp("bad") / "place"
    place.mkdir()
    badfiles.fill(place)
    return place


@pytest.fixture
def refuse(place, capsys, monkeypatch):
    """Run a command that must fail, and get its message."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = listing(place.parent)

    def run(command: str, code: int) -> str:
        capsys.readouterr()
        try:
            found = main(command.split())
            after = listing(place.parent)
        finally:
            shutil.rmtree(place / "out", ignore_errors=True)
        out, err = capsys.readouterr()
        message = sentence(err)
        assert (found, out) == (code, "")
        assert after == before
        return message

    return run


# --- the table -----------------------------------------------------------------------------------

DATA = "quantize small.onnx -o out --calibration x.npz --validation"
SCHEME = "quantize small.onnx -o out --calibration x.npz --scheme"
USED = "quantize small.onnx --calibration x.npz"
SEARCH = f"{USED} --search --population 4 --generations 1 --resume -o searched"

CASES = [
    # not a model
    ("inspect text.onnx", 1, "text.onnx: is not an ONNX"),
    ("quantize text.onnx", 1, "text.onnx: is not an ONNX"),
    ("quantize picture.onnx", 1, "picture.onnx: is not an ONNX"),
    ("quantize empty.onnx", 1, "empty.onnx: is not an ONNX"),
    ("quantize zip.onnx", 1, "zip.onnx: is not an ONNX"),
    ("quantize zip.pkl", 1, "zip.pkl: is a PyTorch model|onnxgru export module:factory|--weights"),
    ("inspect weights.pth", 1, "weights.pth: is a PyTorch model|onnxgru export module:factory"),
    ("quantize net.tflite", 1, "net.tflite: is a TensorFlow Lite model|--tflite net.tflite"),
    ("inspect net.h5", 1, "net.h5: is a Keras model|tf2onnx.convert --keras net.h5"),
    ("quantize net.keras", 1, "net.keras: is a Keras model|tf2onnx.convert --keras net.keras"),
    ("quantize saved", 1, "saved: cannot be read|tf2onnx.convert --saved-model saved --output"),
    ("quantize nowhere.onnx", 1, "nowhere.onnx: cannot be read (No such file|give the path"),
    ("inspect nowhere.onnx", 1, "nowhere.onnx: cannot be read (No such file"),
    ("quantize folder.onnx", 1, "folder.onnx: cannot be read (Is a directory"),
    ("inspect done", 1, "done: cannot be read (Is a directory|such as done/integer.onnx"),
    # a model that cannot be quantised
    (
        "quantize mlp.onnx",
        1,
        "mlp.onnx: holds no GRU, LSTM or RNN|must have such a node, or a cell in the body of",
    ),
    (
        "quantize lstm.onnx",
        1,
        "lstm.onnx: holds no GRU, LSTM or RNN|it: DynamicQuantizeLSTM of domain com.microsoft is",
    ),
    ("quantize attribute.onnx", 1, "attribute.onnx: |surprise"),
    ("quantize activation.onnx", 1, "activation.onnx: |gru: its activation 'Sine'"),
    ("quantize weight_input.onnx", 1, "weight_input.onnx: |its W (W) is not constant"),
    ("quantize weight_computed.onnx", 1, "weight_computed.onnx: |its W (W) is not constant"),
    ("quantize external.onnx", 1, "external.onnx: its external data|weights.bin|beside the model"),
    ("quantize outside.onnx", 1, "outside.onnx: its external data|../secret.bin"),
    ("inspect outside.onnx", 1, "outside.onnx: its external data|../secret.bin"),
    ("quantize conditional.onnx", 1, "conditional.onnx: |in a subgraph of If node 'branch'"),
    ("quantize wrong_w.onnx", 1, "wrong_w.onnx: |W|[1, 17, 4]"),
    ("quantize wrong_r.onnx", 1, "wrong_r.onnx: |R|[1, 18, 5]"),
    ("quantize wrong_b.onnx", 1, "wrong_b.onnx: |B|[1, 35]"),
    ("quantize nan.onnx", 1, "nan.onnx: |gru: its W holds NaN"),
    # data
    (f"{DATA} axes.npz", 1, "axes.npz: array 'X' must have 3 axes|it has 2 (8, 4)"),
    (f"{DATA} features.npz", 1, "features.npz: array 'X' must have size 4 on axis 2|it has 3"),
    (f"{DATA} names.npz", 1, "names.npz: must hold an array for input 'X'|holds: input, other"),
    (f"{DATA} extra.npz", 1, "extra.npz: has no use for Z|wants: X"),
    (f"{DATA} texts.npz", 1, "texts.npz: array 'X' must be float32, it is <U8"),
    (f"{DATA} nan.npz", 1, "nan.npz: array 'X' must be finite, 1 of 160|(1, 2, 3)"),
    (f"{DATA} infinite.npz", 1, "infinite.npz: array 'X' must be finite"),
    (f"{DATA} empty.npz", 1, "empty.npz: array 'X' must hold at least one sequence|(5, 0, 4)"),
    (f"{DATA} nothing.npz", 1, "nothing.npz: |'X'|nothing"),
    (f"{DATA} objects.npz", 1, "objects.npz: must hold plain arrays|pickled"),
    (f"{DATA} objects.npy", 1, "objects.npy: must hold plain arrays|pickled"),
    (f"{DATA} void.npz", 1, "void.npz: must be a NumPy .npz file, it is empty"),
    (f"{DATA} pickled.npy", 1, "pickled.npy: must hold plain arrays|pickled"),
    (f"{DATA} cut.npz", 1, "cut.npz: must be a whole .npz file"),
    (f"{DATA} data.csv", 1, "data.csv: data must be an .npz or .npy file"),
    (f"{DATA} data.pt", 1, "data.pt: data must be an .npz or .npy file"),
    (f"{DATA} bare", 1, "bare: a data folder must hold .npz or .npy"),
    (f"{DATA} nowhere.npz", 1, "nowhere.npz: no such file"),
    (f"{DATA} labels_short.npz", 1, "labels_short.npz: array 'labels'|8 sequences|(5,)"),
    (
        "quantize digits.onnx -o out --validation digits.npz",
        1,
        "digits.npz: output 'probabilities': labels (8,) must hold at least one class",
    ),
    (
        f"{DATA} labels_negative.npz --metric accuracy",
        1,
        "labels_negative.npz: output 'Y': labels must be",
    ),
    (f"{DATA} labels_float.npz --metric accuracy", 2, "metric accuracy|whole-number|float64"),
    (f"{DATA} x.npz --metric accuracy", 2, "metric accuracy|none"),
    (f"{DATA} recordings:raises", 1, "recordings:raises|RuntimeError: no microphone"),
    (f"{DATA} recordings:later", 1, "recordings:later, batch 1|the tape tore"),
    (f"{DATA} recordings:number", 1, "recordings:number|iterable"),
    (f"{DATA} recordings:constant", 2, "recordings:constant: must be callable"),
    (f"{DATA} recordings:missing", 2, "recordings:missing|has no 'missing'|raises"),
    (f"{DATA} nomodule:data", 2, "nomodule:data|ModuleNotFoundError"),
    # metrics
    (f"{DATA} x.npz --metric foo", 2, "metric 'foo'|accuracy|sqnr"),
    (f"{DATA} x.npz --metric nomodule:fn", 2, "nomodule:fn|ModuleNotFoundError"),
    (f"{DATA} x.npz --metric recordings:text", 1, "recordings:text|one number|'good'"),
    (f"{DATA} x.npz --metric recordings:broken", 1, "recordings:broken|ZeroDivisionError"),
    # schemes
    (f"{SCHEME} nowhere.json", 1, "nowhere.json: cannot be read"),
    (f"{SCHEME} folder.onnx", 1, "folder.onnx: cannot be read (Is a directory"),
    (f"{SCHEME} s_names.json", 1, "s_names.json: the model has no entry '/x/sum'"),
    (f"{SCHEME} s_missing.json", 1, "s_missing.json: operators lacks /gru/forward/reset.sum"),
    (f"{SCHEME} s_shapes.json", 1, "s_shapes.json: /gru/forward/reset.hidden|[5, 5]|[6, 6]"),
    (f"{SCHEME} s_bits_1.json", 1, "s_bits_1.json: /gru/forward/reset.sum|2|8|got 1"),
    (f"{SCHEME} s_bits_9.json", 1, "s_bits_9.json: /gru/forward/reset.sum|2|8|got 9"),
    (f"{SCHEME} s_bits_x.json", 1, "s_bits_x.json: /gru/forward/reset.sum|2|8|got 'x'"),
    (f"{SCHEME} s_bits_true.json", 1, "s_bits_true.json: /gru/forward/reset.sum|2|8|got True"),
    (f"{SCHEME} s_key.json", 1, "s_key.json: /gru/forward/reset.sum has no setting 'bitz'|bits"),
    (f"{SCHEME} s_observer.json", 1, "s_observer.json: |observer|minmax|'foo'"),
    (f"{SCHEME} s_observer_list.json", 1, "s_observer_list.json: |observer|minmax"),
    (f"{SCHEME} s_granularity.json", 1, "s_granularity.json: |granularity|channel"),
    (f"{SCHEME} s_shape_text.json", 1, "s_shape_text.json: |shape|['6', 'x', '6']"),
    (f"{SCHEME} s_version.json", 1, "s_version.json: |onnxgru.scheme/1|onnxgru.scheme/9"),
    (f"{SCHEME} s_extra.json", 1, "s_extra.json: |operatorz"),
    (f"{SCHEME} s_list.json", 1, 's_list.json: must have an object "operators"|list'),
    (f"{SCHEME} s_text.json", 1, "s_text.json: must be JSON"),
    (f"{SCHEME} s_array.json", 1, "s_array.json: must be a JSON object"),
    (f"{SCHEME} s_binary.json", 1, "s_binary.json: must be JSON"),
    (f"{SCHEME} s_deep.json", 1, "s_deep.json: must be JSON"),
    (
        "quantize other.onnx -o out --calibration x.npz --scheme done/scheme.json",
        1,
        "done/scheme.json: |another model",
    ),
    (
        "quantize two.onnx -o out --calibration x.npz --scheme done/scheme.json",
        1,
        "done/scheme.json: |the model has no entry '/gru/",
    ),
    # calibration files
    (f"{USED} -o out --calibration-file nowhere.json", 1, "nowhere.json: cannot be read"),
    (f"{USED} -o out --calibration-file done/scheme.json", 1, "scheme.json: |calibration/1"),
    (f"{USED} -o out --calibration-file c_range.json", 1, "c_range.json: |reset.sum|range|'x'"),
    (f"{USED} -o out --calibration-file c_turned.json", 1, "c_turned.json: |reset.sum|[3, -3]"),
    (f"{USED} -o out --calibration-file c_missing.json", 1, "c_missing.json: |reset.sum"),
    (f"{USED} -o out --calibration-file c_counts.json", 1, "c_counts.json: |reset.sum|histogram"),
    (f"{USED} -o out --calibration-file c_extra.json", 1, "c_extra.json: |reset.sum|'ranges'"),
    (
        "quantize two.onnx -o out --calibration x.npz --calibration-file done/calibration.json",
        1,
        "done/calibration.json: must have every operator|calibrate again",
    ),
    # output
    (f"{USED} -o secret.txt", 1, "secret.txt: the output must be a folder"),
    (f"{USED} -o secret.txt/out", 1, "secret.txt/out: |parent|-o"),
    (f"{USED} -o nowhere/out", 1, "nowhere/out: its parent folder does not exist"),
    (f"{USED} -o /proc/out", 1, "/proc/out: cannot be written|-o"),
    (f"{USED} -o done", 1, "done: the output folder exists|--resume|--force"),
    (f"{USED} -o done --force --calibration nan.npz", 1, "nan.npz: "),
    (f"{USED} -o done --search --resume", 1, "done: there is no journal.jsonl to resume"),
    (f"{USED} -o out --search --resume", 1, "out: there is no journal.jsonl to resume"),
    (f"{USED} -o searched --search --resume --force", 2, "resume and force exclude each other"),
    (f"{USED} -o searched --resume", 2, "resume continues a search"),
    (SEARCH.replace("small", "other"), 1, "journal.jsonl: cannot resume|had model |; calibration "),
    (f"{SEARCH} --seed 1", 1, "cannot resume: |had seed 0, and this one has 1; repeat what it had"),
    (f"{SEARCH} --genome coupled", 1, "cannot resume: |genome split, and this one has coupled"),
    (f"{SEARCH} --validation recordings:later", 1, "recordings:later"),
    # the command line
    ("quantise small.onnx", 2, "there is no command 'quantise', did you mean 'quantize'"),
    ("help", 2, "there is no command 'help'; there are quantize, pick"),
    ("quantize small.onnx --serach", 2, "quantize: unrecognized|--serach, did you mean --search"),
    ("quantize small.onnx --max-bytes 7k", 2, "--max-bytes 7k, it belongs to onnxgru pick; see"),
    ("quantize small.onnx --bit 4", 2, "unrecognized arguments: --bit 4, did you mean --bits"),
    ("quantize", 2, "model|see onnxgru quantize --help"),
    ("quantize small.onnx --bots 8", 2, "--bots"),
    ("quantize small.onnx --bits", 2, "--bits|expected one argument"),
    ("quantize small.onnx --bits nine", 2, "--bits|int|'nine'"),
    ("quantize small.onnx --bits 9", 2, "bits must be a whole number from 2 to 8, got 9"),
    ("quantize small.onnx --bits 1", 2, "bits must be a whole number from 2 to 8, got 1"),
    ("quantize small.onnx --input-bits 0", 2, "input_bits|from 2 to 8, or 16, got 0"),
    ("quantize small.onnx --accumulator-bits 64", 2, "accumulator_bits|from 8 to 32, got 64"),
    (
        "quantize small.onnx --search --accumulator-bits 8",
        1,
        "too narrow for every width|2 to 8 bi",
    ),
    ("quantize small.onnx --search --max-drop -1", 2, "max_drop|at least 0, got -1"),
    ("quantize small.onnx --search --max-drop nan", 2, "max_drop|at least 0, got nan"),
    ("quantize small.onnx --search --population 3", 2, "population|at least 4, got 3"),
    ("quantize small.onnx --search --generations 0", 2, "generations|at least 1, got 0"),
    ("quantize small.onnx --seed -1", 2, "seed|at least 0, got -1"),
    ("quantize small.onnx --jobs 0", 2, "jobs|at least 1, got 0"),
    ("quantize small.onnx --verify 0", 2, "verify|at least 1, got 0"),
    ("quantize small.onnx --observer foo", 2, "observer|minmax, percentile, mse, entropy|'foo'"),
    ("quantize small.onnx --recurrence foo", 2, "recurrence|scan, step, unrolled|'foo'"),
    ("quantize small.onnx --genome foo", 2, "genome|split, coupled|'foo'"),
    ("quantize small.onnx --granularity foo", 2, "granularity|tensor, gate, channel|'foo'"),
    ("quantize small.onnx --rounding foo", 2, "rounding|nearest, gptq|'foo'"),
    ("quantize small.onnx --ranges foo", 2, "ranges|plain, saturating, aligned|'foo'"),
    ("quantize small.onnx --bias-correction 1", 2, "unrecognized arguments|1"),
    ("quantize small.onnx --objectives error,foo", 2, "objective|flash, weights|'foo'"),
    ("quantize small.onnx --format foo", 2, "--format|text|json|'foo'"),
    ("quantize small.onnx --scheme done/scheme.json --search", 2, "scheme and search exclude"),
    ("quantize small.onnx --bits 4 --search", 2, "bits and search exclude each other"),
    ("quantize small.onnx --bits 4 --scheme done/scheme.json", 2, "bits and scheme exclude"),
    (f"{SCHEME} done/scheme.json --observer minmax", 2, "a scheme says its own observer"),
    (f"{SCHEME} done/scheme.json --input-bits 7", 2, "a scheme says its own input_bits"),
    ("quantize small.onnx --steps 5", 2, "steps|unrolled"),
    ("quantize small.onnx --float-state", 2, "float_state|step"),
    ("quantize small.onnx --config nowhere.toml", 2, "nowhere.toml: |No such file"),
    ("quantize small.onnx --config folder.onnx", 2, "folder.onnx: |Is a directory"),
    ("quantize small.onnx --config syntax.toml", 2, "syntax.toml: |must be TOML|line 1"),
    ("quantize small.onnx --config key.toml", 2, "key.toml: there is no setting 'bitz'|'bits'"),
    ("quantize small.onnx --config type.toml", 2, "type.toml: bits|from 2 to 8|'four'"),
    ("quantize small.onnx --config flag.toml", 2, "flag.toml: search|true or false|got 1"),
    ("quantize small.onnx --config pattern.toml", 2, "pattern.toml: include|list|'gru'"),
    ("quantize small.onnx --config path.toml", 2, "path.toml: output|path|got 3"),
    ("quantize small.onnx --config choice.toml", 2, "choice.toml: observer|minmax|'foo'"),
    # which nodes, which form
    (
        f"{USED} -o out --include conv*",
        2,
        "--include 'conv*' must match a recurrent layer|has gru",
    ),
    (
        f"{USED} -o out --exclude conv",
        2,
        "--exclude 'conv' must match a recurrent layer|has gru",
    ),
    (f"{USED} -o out --exclude gru", 1, "small.onnx: holds no GRU, LSTM or RNN|--exclude"),
    (
        "quantize backward.onnx -o out --calibration x.npz --recurrence step",
        1,
        "gru runs backwards|no step form|--recurrence scan",
    ),
    (
        "quantize lengths.onnx -o out --calibration lengths.npz --recurrence step",
        1,
        "gru|sequence_lens|step|--recurrence scan",
    ),
    (f"{USED} -o out --recurrence unrolled", 1, "unrolled|--steps"),
    # verify
    ("verify done --seconds -1", 2, "--seconds must be a number above 0, got -1"),
    ("verify done --seconds nan", 2, "--seconds must be a number above 0, got nan"),
    # evaluate
    ("evaluate small.onnx", 2, "--data"),
    ("evaluate small.onnx --data nowhere.npz", 1, "nowhere.npz: no such file"),
    ("evaluate nowhere.onnx --data x.npz", 1, "nowhere.onnx: cannot be read"),
    ("evaluate small.onnx other.onnx --data x.npz", 1, "other.onnx: its output must have"),
    ("evaluate small.onnx --data features.npz", 1, "features.npz: array 'X'"),
    (
        "evaluate small.onnx lengths.onnx --data x.npz",
        1,
        "lengths.onnx: reads lengths, which",
    ),
    (
        "evaluate small.onnx step/integer.onnx --data x.npz",
        1,
        "step/integer.onnx: |lacks|--recurrence",
    ),
    ("evaluate small.onnx --data x.npz --metric foo", 2, "metric 'foo'"),
    ("evaluate small.onnx --data x.npz --metric recordings:broken", 1, "recordings:broken"),
    # pick
    ("pick done --index 0", 1, "done: must be the folder of a finished search|front.json"),
    ("pick nowhere --index 0", 1, "nowhere: must be the folder of a finished search"),
    ("pick secret.txt --index 0", 1, "secret.txt: must be the folder of a finished search"),
    ("pick searched", 2, "exactly one of --index, --max-bytes and --max-drop, got 0"),
    ("pick searched --index 0 --max-drop 1", 2, "exactly one|got 2"),
    ("pick searched --index 99", 2, "--index must be from 0 to|got 99"),
    ("pick searched --index -1", 2, "--index must be from 0 to|got -1"),
    ("pick searched --max-bytes 10", 2, "--max-bytes 10: the smallest member|flash bytes"),
    ("pick searched --max-bytes big", 2, "--max-bytes|20k|'big'"),
    ("pick searched --max-bytes 0", 2, "--max-bytes|20k|'0'"),
    ("pick searched --max-bytes 6,13", 2, "--max-bytes|20k|'6,13'"),
    ("pick searched --index 0 -o done", 1, "done: the output folder exists|--force"),
    ("pick searched --index 0 -o searched", 1, "searched: the output folder exists|--force"),
    (
        "finetune done --training-data x.npz -o searched",
        1,
        "searched: the output folder exists|--force",
    ),
    ("finetune done --training-data x.npz --resume", 1, "done/finetuned: there is no|to resume"),
    ("pick searched --max-bytes nan", 2, "--max-bytes|20k|'nan'"),
    ("pick searched --max-drop -100", 2, "--max-drop must be a number of at least 0, got -100"),
    ("pick searched --max-drop nan", 2, "--max-drop must be a number of at least 0, got nan"),
    ("pick searched --index 0 --model other.onnx", 2, "other.onnx: must be the model that was"),
    ("pick searched --index 0 --model nowhere.onnx", 1, "nowhere.onnx: cannot be read"),
    # export
    ("export nomodule:net -o out.onnx --input-shape 1,5,4", 2, "nomodule:net|ModuleNotFoundError"),
    ("export recordings:nothing -o out.onnx --input-shape 1,5,4", 2, "recordings:nothing|has no"),
    ("export recordings:number -o out.onnx --input-shape 1,5,4", 1, "recordings:number|nn.Module"),
    ("export recordings:raises -o out.onnx --input-shape 1,5,4", 1, "recordings:raises|no micro"),
    ("export recordings -o out.onnx", 2, "'recordings'|package.module:name"),
    ("export recordings:number -o out.onnx --input-shape 1,x", 2, "--input-shape|1,28,28"),
    ("export recordings:number", 2, "--output"),
]


@pytest.mark.parametrize(("command", "code", "words"), CASES, ids=[case[0] for case in CASES])
def test_bad_input_is_refused_in_one_sentence(refuse, command, code, words):
    message = refuse(command, code)
    for word in words.split("|"):
        assert word in message, message


@pytest.mark.parametrize("part", [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.999])
def test_truncated_models_are_refused(refuse, place, part):
    content = DIGITS.read_bytes()
    cut = place.parent / "cut.onnx"
    try:
        cut.write_bytes(content[: int(part * len(content))])
        for command in ("inspect", "quantize"):
            before = listing(place.parent)
            with pytest.raises(SystemExit) as ended:
                sys.exit(main([command, str(cut), "-q"]))
            assert ended.value.code == 1
            assert listing(place.parent) == before
    finally:
        cut.unlink()


def fields_of(content: bytes) -> list[int]:
    """Where the top-level fields of a message end: cuts there leave valid protobuf."""
    ends, position = [], 0

    def number(position: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = content[position]
            value |= (byte & 127) << shift
            position, shift = position + 1, shift + 7
            if byte < 128:
                return value, position

    while position < len(content):
        tag, position = number(position)
        value, position = number(position)
        if tag & 7 == 2:
            position += value
        ends.append(position)
    return ends


def test_truncation_between_fields_is_refused(place, capsys, monkeypatch):
    """Every prefix that protobuf takes for a whole message, but for the last: no operator set."""
    monkeypatch.chdir(place)
    content = (place / "small.onnx").read_bytes()
    ends = fields_of(content)
    assert ends[-1] == len(content) and len(ends) >= 3
    cut = place.parent / "cut.onnx"
    try:
        for end in ends[:-1]:
            cut.write_bytes(content[:end])
            assert main(["inspect", str(cut)]) == 1
            out, err = capsys.readouterr()
            assert out == "" and "cut.onnx: is not a" in sentence(err)
    finally:
        cut.unlink()


# --- what only a process of its own shows --------------------------------------------------------


def process(
    place: Path, command: str, stdout: object = subprocess.PIPE, limit: int | None = None
) -> subprocess.CompletedProcess:
    """The command line in a process; `limit` is the largest file it may write, in bytes."""

    def prepare() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-B", "-m", "onnxgru", *command.split()],
        cwd=place,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=prepare,
        timeout=60,
    )


def test_process_ends_with_the_exit_code(place):
    for command, code in (("inspect text.onnx", 1), ("quantize --bits", 2), ("inspect -q", 2)):
        ran = process(place, command)
        assert (ran.returncode, ran.stdout) == (code, "")
        sentence(ran.stderr)


@pytest.mark.parametrize("output", ["out", "done --force"])
def test_full_disk_leaves_everything_as_it_was(place, output):
    before = listing(place.parent)
    ran = process(place, f"{USED} -o {output}", limit=4000)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"{output.split()[0]}: cannot be written" in sentence(ran.stderr)
    assert listing(place.parent) == before


def test_full_disk_during_a_search_keeps_the_journal(place):
    try:
        command = f"{USED} -o full --search --population 4 --generations 2"
        ran = process(place, command, limit=2500)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert "resume" in sentence(ran.stderr)
        assert [path.name for path in (place / "full").iterdir()] == ["journal.jsonl"]
        assert process(place, f"{command} --resume").returncode == 0
    finally:
        shutil.rmtree(place / "full", ignore_errors=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", ["text", "json"])
def test_full_standard_output_is_reported(place, form):
    with Path("/dev/full").open("w") as full:
        ran = process(place, f"inspect small.onnx --format {form}", stdout=full)
    assert ran.returncode == 1
    assert "standard output: cannot be written to" in sentence(ran.stderr)


@pytest.mark.parametrize("form", ["text", "json"])
def test_closed_standard_output_is_silent(place, form):
    read, write = os.pipe()
    os.close(read)
    ran = process(place, f"inspect small.onnx --format {form}", stdout=write)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (1, "")


def test_export_without_torch_says_what_to_install(refuse, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    message = refuse("export recordings:number -o out.onnx --input-shape 1,5,4", 2)
    assert 'pip install -c constraints.txt -e ".[torch]"' in message


def test_sequence_of_defects_is_one_sentence(refuse, monkeypatch):
    """What nobody foresaw is named a defect, in one line; --verbose shows the traceback."""

    def fail(_path: Path, *, head: bool) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("onnxgru.session.inspection.inspect", fail)
    with pytest.raises(ZeroDivisionError):
        main(["inspect", "small.onnx", "--verbose"])
    with pytest.raises(AssertionError, match="defect of onnxgru: ZeroDivisionError: first line se"):
        refuse("inspect small.onnx", 1)
