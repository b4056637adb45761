import re
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxgru.core import install
from onnxgru.core.errors import ModelError, OutputError, UsageError, VerificationError
from onnxgru.training import symbolic, trace
from onnxgru.training.export import export, export_module

pytestmark = pytest.mark.slow

torch = trace.import_torch("testing")


class Tagger(torch.nn.Module):
    """A GRU and a dense layer; `take` says which of the GRU's outputs it reads."""

    def __init__(self, take="all", **options):
        super().__init__()
        torch.manual_seed(0)
        self.gru = torch.nn.GRU(4, 5, **options)
        self.head = torch.nn.Linear(5 * (1 + self.gru.bidirectional), 3)
        self.take = take
        self.example_inputs = torch.zeros(2, 7, 4)

    def forward(self, frames, state=None):
        hidden, last = self.gru(frames, hx=state)
        if self.take == "last":
            return self.head(last[-1])
        if self.take == "state":
            return {"tags": self.head(hidden), "state": last}
        return self.head(hidden)


def small():
    return Tagger(batch_first=True)


def pair():
    return Tagger(take="last"), torch.zeros(7, 1, 4)


def without_inputs():
    tagger = Tagger(batch_first=True)
    tagger.example_inputs = None
    return tagger


def with_wrong_inputs():
    return Tagger(), "frames"


def broken():
    raise RuntimeError("no such dataset")


def no_module():
    return 3


def without_gru():
    return torch.nn.Linear(4, 3), torch.zeros(2, 4)


HERE = "tests.training.test_export"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sizes(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def grus(path):
    return [node for node in onnx.load(path).graph.node if node.op_type == "GRU"]


def test_by_name_with_dynamic_batch(tmp_path, capfd):
    result = export(f"{HERE}:small", tmp_path / "model.onnx")
    model = onnx.load(result.path)
    assert sizes(model.graph.input[0]) == ["batch", 7, 4]
    assert sizes(model.graph.output[0]) == ["batch", 7, 3]
    assert [value.name for value in model.graph.input] == ["frames"]
    assert [value.name for value in model.graph.output] == ["output"]
    assert model.opset_import[0].version == 18
    assert result.operators == ("GRU",) and len(grus(result.path)) == 1
    assert 0 < result.difference <= 1e-5
    assert (result.dynamic_batch, result.dynamic_time) == (True, False)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert capfd.readouterr() == ("", "")


def test_the_graph_holds_no_path_of_this_machine(tmp_path):
    export(f"{HERE}:small", tmp_path / "model.onnx")
    assert b"site-packages" not in (tmp_path / "model.onnx").read_bytes()
    assert b"test_export" not in (tmp_path / "model.onnx").read_bytes()


def test_the_module_is_left_as_it_was(tmp_path):
    tagger = Tagger(batch_first=True)
    before = dict(tagger.state_dict())
    attributes = set(vars(tagger.gru)), set(tagger.gru._buffers)
    export_module(tagger, (torch.zeros(1, 7, 4),), tmp_path / "model.onnx")
    assert (set(vars(tagger.gru)), set(tagger.gru._buffers)) == attributes
    assert list(tagger.state_dict()) == list(before)
    output = tagger(torch.ones(1, 3, 4))  # a real tensor, not one of the tracer's
    assert bool(torch.isfinite(output).all())


def test_time_major_pair_finds_its_batch_axis(tmp_path):
    result = export(f"{HERE}:pair", tmp_path / "model.onnx")
    assert sizes(onnx.load(result.path).graph.input[0]) == [7, "batch", 4]


@pytest.mark.parametrize("batch_first", [True, False])
def test_any_length_two_layers_both_directions(tmp_path, batch_first):
    tagger = Tagger(batch_first=batch_first, bidirectional=True, num_layers=2)
    result = export_module(
        tagger,
        (torch.zeros(6, 6, 4),),
        tmp_path / "model.onnx",
        dynamic_time=True,
        output_names=["tags"],
    )
    assert result.operators == ("GRU", "GRU")
    assert result.dynamic_time
    expected = ["batch", "time", 4] if batch_first else ["time", "batch", 4]
    assert sizes(onnx.load(result.path).graph.input[0]) == expected
    session = onnxruntime.InferenceSession(result.path, providers=["CPUExecutionProvider"])
    values = np.random.default_rng(0).normal(size=(11, 13, 4)).astype(np.float32)
    (ours,) = session.run(["tags"], {"frames": values})
    with torch.no_grad():
        theirs = tagger(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_state_in_and_out_without_bias(tmp_path):
    tagger = Tagger(take="state", batch_first=True, bias=False)
    inputs = (torch.zeros(1, 1, 4), torch.zeros(1, 1, 5))
    path = tmp_path / "model.onnx"
    result = export_module(tagger, inputs, path, output_names=["tags", "next"])
    model = onnx.load(path)
    assert [sizes(value) for value in model.graph.input] == [["batch", 1, 4], [1, "batch", 5]]
    (node,) = grus(path)
    assert list(node.input[3:]) == ["", "", "state"]
    assert result.dynamic_batch


def test_a_module_of_one_batch_size_gets_a_fixed_batch(tmp_path):
    class Fixed(Tagger):
        def forward(self, frames):
            return super().forward(frames.reshape(2, 7, 4))

    result = export_module(
        Fixed(batch_first=True), (torch.zeros(2, 7, 4),), tmp_path / "model.onnx"
    )
    assert not result.dynamic_batch
    assert sizes(onnx.load(result.path).graph.input[0]) == [2, 7, 4]


def test_an_unbatched_gru_has_neither_batch_nor_time_to_free(tmp_path):
    tagger = Tagger()
    result = export_module(tagger, (torch.zeros(7, 4),), tmp_path / "model.onnx")
    assert (result.dynamic_batch, result.operators) == (False, ("GRU",))
    with pytest.raises(ModelError, match="dynamic time needs an input with batch and time axes"):
        export_module(tagger, (torch.zeros(7, 4),), tmp_path / "b.onnx", dynamic_time=True)


def test_weights(tmp_path):
    torch.manual_seed(1)
    trained = {key: torch.randn_like(value) for key, value in small().state_dict().items()}
    outputs = []
    for name, stored in (("plain", trained), ("nested", {"epoch": 3, "state_dict": trained})):
        torch.save(stored, tmp_path / f"{name}.pt")
        path = tmp_path / f"{name}.onnx"
        export(f"{HERE}:small", path, weights=tmp_path / f"{name}.pt")
        outputs.append(path.read_bytes())
    assert outputs[0] == outputs[1]
    arrays = {
        item.name: onnx.numpy_helper.to_array(item)
        for item in onnx.load(tmp_path / "plain.onnx").graph.initializer
    }
    reset, update, new = trained["gru.weight_ih_l0"].numpy().reshape(3, 5, 4)
    np.testing.assert_array_equal(arrays["gru.W_l0"][0], np.concatenate([update, reset, new]))


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", ["LSTM", "RNN", "relu"])
def test_other_layers_of_torch(tmp_path, kind, directions):
    """Two layers, given first values, what is emitted and all last values."""
    torch.manual_seed(0)
    options = {"batch_first": True, "num_layers": 2, "bidirectional": directions == 2}
    if kind == "relu":
        kind, options["nonlinearity"] = "RNN", "relu"
    state = torch.zeros(2 * directions, 1, 5)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = getattr(torch.nn, kind)(4, 5, **options)

        def forward(self, x, h, c=None):
            return self.layer(x, h if c is None else (h, c))

    inputs = (torch.zeros(1, 7, 4), state, *[state] * (kind == "LSTM"))
    result = export_module(Net(), inputs, tmp_path / "m.onnx", dynamic_time=True)
    assert result.operators == (kind, kind) and result.dynamic_batch
    names = [node.name for node in onnx.load(result.path).graph.node if node.op_type == kind]
    assert names == ["layer.0", "layer.1"]


def test_a_projection_is_refused(tmp_path):
    layer = torch.nn.LSTM(4, 5, proj_size=2)
    with pytest.raises(ModelError, match="proj_size has no ONNX operator"):
        export_module(layer, (torch.zeros(7, 2, 4),), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir()) and "forward" not in vars(layer)


class Trap:
    called = False

    def __reduce__(self):
        return (setattr, (Trap, "called", True))


def test_weights_that_do_not_fit(tmp_path):
    def refused(*words):
        with pytest.raises(ModelError) as caught:
            export(f"{HERE}:small", tmp_path / "model.onnx", weights=tmp_path / "w.pt")
        for word in (str(tmp_path / "w.pt"), *words):
            assert word in str(caught.value), str(caught.value)
        assert not (tmp_path / "model.onnx").exists()

    refused("no such file", "torch.save")
    torch.save({"gru": Trap()}, tmp_path / "w.pt")
    refused("tensors only", "not loaded")
    assert not Trap.called
    (tmp_path / "w.pt").write_bytes(b"")
    refused("truncated or corrupt")
    state = small().state_dict()
    torch.save(state, tmp_path / "w.pt")
    (tmp_path / "w.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:500])
    refused("corrupt")
    torch.save(torch.zeros(3), tmp_path / "w.pt")
    refused("holds a Tensor")
    torch.save({"extra": torch.zeros(1), "head.bias": state["head.bias"]}, tmp_path / "w.pt")
    refused("missing: gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0 and 2 more", "extra")
    torch.save(state | {"head.bias": torch.zeros(9)}, tmp_path / "w.pt")
    refused("head.bias (9,) for (3,)")


@pytest.mark.parametrize(
    ("factory", "error", "words"),
    [
        ("broken", ModelError, ["RuntimeError: no such dataset"]),
        ("no_module", ModelError, ["nn.Module", "returned a int"]),
        ("without_gru", ModelError, ["torch.nn.GRU", "has none"]),
        ("without_inputs", UsageError, ["example_inputs", "--input-shape"]),
        ("with_wrong_inputs", ModelError, ["example inputs must be a tensor"]),
        ("absent", UsageError, ["has no 'absent'", "small"]),
    ],
)
def test_factories_that_fail(tmp_path, factory, error, words):
    with pytest.raises(error) as caught:
        export(f"{HERE}:{factory}", tmp_path / "model.onnx")
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert not list(tmp_path.iterdir())


def test_input_shape(tmp_path):
    path = tmp_path / "model.onnx"
    export(f"{HERE}:without_inputs", path, shape=(1, 6, 4))
    assert sizes(onnx.load(path).graph.input[0]) == ["batch", 6, 4]
    with pytest.raises(UsageError, match=r"1,28,28, got \(1, 0, 4\)"):
        export(f"{HERE}:without_inputs", path, shape=(1, 0, 4))
    with pytest.raises(ModelError, match=r"shape \(1, 6, 9\)"):
        export(f"{HERE}:without_inputs", path, shape=(1, 6, 9))


def test_a_disturbance_is_noticed_and_nothing_written(tmp_path, monkeypatch):
    """A graph that is off by 1e-4 in a weight must not pass."""
    original = symbolic._weights

    def disturbed(*arguments):
        weights = original(*arguments)
        weights["W"] = weights["W"] + 1e-4
        return weights

    monkeypatch.setattr(symbolic, "_weights", disturbed)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")
    with pytest.raises(VerificationError, match=r"within 1e-05.*differ by \d.*nothing was written"):
        export(f"{HERE}:small", path)
    assert path.read_bytes() == b"older"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_a_wrong_reset_is_refused(tmp_path, monkeypatch):
    original = torch.onnx.ops.symbolic_multi_out

    def wrong(name, arguments, attrs, **options):
        return original(name, arguments, attrs=attrs | {"linear_before_reset": 0}, **options)

    monkeypatch.setattr(torch.onnx.ops, "symbolic_multi_out", wrong)
    with pytest.raises(ModelError, match="linear_before_reset=1"):
        export(f"{HERE}:small", tmp_path / "model.onnx")


def test_options_that_do_not_fit(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    with pytest.raises(UsageError, match="18 or above, got 17"):
        export(f"{HERE}:small", path, opset=17)
    with pytest.raises(UsageError, match="each of 1 outputs, got a, b"):
        export(f"{HERE}:small", path, output_names=["a", "b"])
    with pytest.raises(OutputError, match="absent"):
        export(f"{HERE}:small", tmp_path / "absent" / "model.onnx")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match=re.escape(install.hint("torch"))):
        export(f"{HERE}:small", path)
    assert not path.exists()


class HandsThrough(Tagger):
    """Its second input is an output, and an inner module has a name of the first."""

    def forward(self, frames, kept, *more):
        hidden, _ = self.gru(frames)
        return hidden, kept, *more


def test_inputs_that_are_handed_through_keep_their_names(tmp_path):
    """torch calls them kept_orig and more_0_orig."""
    inputs = torch.zeros(2, 7, 4), torch.tensor([3, 4]), torch.tensor([5, 6])
    export_module(HandsThrough(batch_first=True), inputs, str(tmp_path / "m.onnx"))
    model = onnx.load(tmp_path / "m.onnx")
    names = [value.name for value in model.graph.input]
    assert names[:2] == ["frames", "kept"]
    assert [value.name for value in model.graph.output] == ["output_0", "output_1", "output_2"]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = dict(zip(names, (value.numpy() for value in inputs), strict=True))
    assert session.run(["output_1"], feeds)[0].tolist() == [3, 4]


class Bound(Tagger):
    """Its steps are counted in a place that tracing does not see."""

    def forward(self, frames):
        hidden, _ = self.gru(frames)
        if not torch.compiler.is_compiling() and frames.shape[1] > 9:
            raise ValueError("at most 9 frames")
        return self.head(hidden)


class Choosy(Tagger):
    """Another computation for another length."""

    def forward(self, frames):
        hidden, _ = self.gru(frames)
        return self.head(hidden) if frames.shape[1] == 7 else hidden


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (
            Bound,
            r"must take any number of time steps .* does not take 10 .*leave out --dynamic-time",
        ),
        (
            Choosy,
            r"shape \(3, 10, 4\), it does not .*; torch fixed 7 time steps, so leave out --dyn",
        ),
    ],
)
def test_modules_of_one_length_say_what_to_do(tmp_path, kind, sentence):
    with pytest.raises(ModelError, match=sentence):
        export_module(
            kind(batch_first=True), (torch.zeros(2, 7, 4),), tmp_path / "m.onnx", dynamic_time=True
        )
    assert not list(tmp_path.iterdir())
