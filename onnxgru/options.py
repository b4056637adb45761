"""Groups of flags that commands share: data, quantisation, search, fine-tuning."""

import argparse
from typing import Any

INSTALL = "see Install in README: the [{extra}] extra"

OUTPUT_NAME = (
    "model output that is judged, or several: score,mask (default: the one that labels fit, or all "
    "that a GRU reaches)"
)
SEED = "seed of everything random (default 0)"
CONFIG = "read settings from a TOML file; flags override it"
OUTPUT = "folder for the results (default {default})"


def add(group: Any, *names: str, **settings: Any) -> None:
    """Add a flag that is left out of the namespace unless given, so that it overrides a file."""
    group.add_argument(*names, default=argparse.SUPPRESS, **settings)


DATA = "{what}: an .npz, .npy or .wav file, a folder of them, or package.module:name"


def add_data(parser: argparse.ArgumentParser, *roles: str) -> None:
    """Add what names data, for some roles, and the metric."""
    data = parser.add_argument_group(
        "data", "Found beside the model as <model>.<role>.npz where left out."
    )
    whats = {
        "calibration": "recordings that ranges are measured on",
        "validation": "recordings that accuracy is judged on, and schemes are chosen by",
        "holdout": "recordings that nothing is chosen by, for an honest last figure",
    }
    for role in roles:
        text = DATA.format(what=whats[role]) if role == "calibration" else whats[role]
        add(data, f"--{role}", metavar="DATA", help=text)
    add(
        data,
        "--calibration-file",
        metavar="JSON",
        help="read ranges from a calibration.json instead of calibrating",
    )
    add(
        data,
        "--batch-axis",
        action="append",
        metavar="INPUT=AXIS",
        help="axis that holds the recordings, or INPUT=none for an input that is given once "
        "(default: found in the graph, or measured)",
    )
    add(
        data,
        "--state",
        action="append",
        metavar="OUTPUT=INPUT",
        help="output that is this input of the next call, such as hn=h, or none (default: found "
        "where names or shapes leave no doubt)",
    )
    add(
        data,
        "--metric",
        help="accuracy, macro_f1, agreement, sqnr, si_sdr or package.module:function; auto "
        "(default): accuracy with class labels, else agreement or sqnr with the float model",
    )
    add(data, "--output-name", metavar="NAME", help=OUTPUT_NAME)


def add_how(parser: argparse.ArgumentParser) -> None:
    """Add how a scheme becomes integers."""
    how = parser.add_argument_group("quantisation")
    add(how, "--granularity", help="what shares a weight scale: channel (default), gate or tensor")
    add(
        how,
        "--observer",
        help="how ranges are chosen: mse (default), minmax, percentile or entropy",
    )
    add(
        how,
        "--ranges",
        help="saturating: ignore range where sigmoid and tanh are flat; aligned: also share the "
        "state's scale (for long sequences); plain: neither; auto (default): aligned where calls "
        "hand states on, else saturating",
    )
    add(how, "--rounding", help="how weights are rounded: gptq (default) or nearest")
    add(
        how,
        "--bias-correction",
        action="store_true",
        help="correct biases for the mean error of rounded weights (off by default)",
    )
    add(how, "--input-bits", type=int, metavar="N", help="bits of a layer's input (default 8)")
    add(
        how,
        "--accumulator-bits",
        type=int,
        metavar="N",
        help="refuse schemes that need wider accumulators (default 32)",
    )
    add(
        how,
        "--include",
        action="append",
        metavar="NODE",
        help="quantise only GRU nodes with this name or pattern; repeatable (default all)",
    )
    add(
        how,
        "--exclude",
        action="append",
        metavar="NODE",
        help="leave GRU nodes with this name or pattern in float; repeatable (default none)",
    )


def add_tuning(group: Any) -> None:
    """Add how a scheme is fine-tuned."""
    add(group, "--epochs", type=int, metavar="N", help="passes over the training data (default 10)")
    add(
        group,
        "--teacher-epochs",
        type=int,
        metavar="N",
        help="how many of --epochs train an 8-bit teacher first (default 0)",
    )
    add(group, "--batch-size", type=int, metavar="N", help="sequences per step (default 64)")
    add(group, "--learning-rate", type=float, metavar="X", help="of the first step (default 0.001)")
    add(
        group,
        "--distillation",
        type=float,
        metavar="X",
        help="share of the teacher's outputs in the loss, 0 to 1 (default 0.5)",
    )
    add(group, "--learned-scales", help="which scales are trained: weights (default), all or none")
    add(
        group,
        "--averaging",
        type=float,
        metavar="X",
        help="decay of a running average of the weights, such as 0.998 (default 0: no average)",
    )


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add how widths are searched."""
    search = parser.add_argument_group("search")
    add(
        search,
        "--population",
        type=int,
        metavar="N",
        help="schemes per generation (default 40)",
    )
    add(search, "--generations", type=int, metavar="N", help="generations (default 20)")
    add(search, "--seed", type=int, metavar="N", help=SEED)
    add(
        search,
        "--jobs",
        type=int,
        metavar="N",
        help="candidates evaluated at a time (default: one per core)",
    )
    add(search, "--device", help="what evaluates candidates: cpu (default), cuda or cuda:N")
    add(
        search,
        "--scheduler",
        metavar="ADDRESS",
        help="evaluate on the workers of a Dask scheduler, tcp://host:port (default: here)",
    )
    add(
        search,
        "--genome",
        help="split (default): widths of weights and outputs apart; coupled: tied",
    )
    add(
        search,
        "--search-inputs",
        action="store_true",
        help="also search the width of each layer's input (off by default)",
    )
    add(search, "--widths", metavar="2-8", help="widths to search, also as 2,4,8 (default 2-8)")
    add(
        search,
        "--genes",
        help="what is searched: bits (default), with observer and granularity if wanted, such as "
        "bits,observer",
    )
    add(
        search,
        "--share",
        help="which operators have a width in common: none (default), layer, kind or gate",
    )
    add(
        search,
        "--objectives",
        help="what is minimised: error,flash (default); also weights, bitops, cost:TABLE.toml",
    )
    add(search, "--strategy", help="explore-exploit (default) or plain NSGA-II")
    add(
        search,
        "--max-drop",
        type=float,
        metavar="X",
        help="the member chosen is the smallest at most X below the best figure on validation "
        "(default 0.5 points, 3 dB against the float model, 0.5 dB against targets)",
    )
