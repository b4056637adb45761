"""The recordings, and how a model is judged on them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnxgru.settings.declare import About, Settings, setting
from onnxgru.settings.kinds import DataSource, Function, Location, Text, Texts

if TYPE_CHECKING:
    from onnxgru.data.reading import Source


@dataclass(frozen=True, kw_only=True)
class Data(Settings):
    """The recordings, and how a model is judged on them."""

    about = About(
        "data",
        "data",
        "DATA is an .npz, .npy or .wav file, a folder of them, or package.module:name.",
    )

    # The journal's key has hashes of the recordings and of the calibration instead.
    calibration: "Source" = setting(
        None,
        DataSource(),
        "recordings that ranges are measured on",
        unset="<model>.calibration.npz",
        basic=True,
        keyed=False,
        example="calibration.npz",
    )
    validation: "Source" = setting(
        None,
        DataSource(),
        "recordings that schemes are judged and chosen by",
        unset="<model>.validation.npz",
        basic=True,
        keyed=False,
        example="validation.npz",
    )
    holdout: "Source" = setting(
        None,
        DataSource(),
        "recordings for the final figures; no choice depends on them",
        unset="<model>.holdout.npz",
        basic=True,
        keyed=False,
        example="holdout.npz",
    )
    calibration_file: Path | str | None = setting(
        None,
        Location(),
        "read ranges from a calibration.json instead of calibrating",
        keyed=False,
        example="calibration.json",
    )
    batch_axis: tuple[str, ...] = setting(
        (),
        Texts("a list of texts such as x=1", "INPUT=AXIS"),
        "axis of an input that holds the recordings, such as x=1, or x=none for an input that is "
        "given once",
        unset="found in the graph, or measured",
    )
    state: tuple[str, ...] = setting(
        (),
        Texts("a list of texts such as hn=h", "OUTPUT=INPUT"),
        "output that is this input of the next call, such as hn=h, or none",
        unset="found where names or shapes leave no doubt",
    )
    metric: str | Callable[..., float] = setting(
        "auto",
        Function(),
        "how quality is measured: accuracy, macro_f1, agreement, sqnr, si_sdr or "
        "package.module:function; auto: accuracy with class labels, else agreement or sqnr with "
        "the float model",
    )
    output_name: str | None = setting(
        None,
        Text("names of outputs, such as score,mask", "NAME", r"(?s).+"),
        "output of the model that is judged, or several: score,mask",
        unset="the one that labels fit, or all that a recurrent node reaches",
        example="score",
    )
