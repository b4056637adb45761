"""Every error this project raises on purpose, and the exit code of each.

::

    OnnxgruError          1   anything below
    +-- UsageError        2   an option, configuration or argument is wrong
    |   +-- DivergedError 2   fine-tuning diverged with the settings given
    +-- ModelError        1   the model cannot be read or quantised
    +-- DataError         1   calibration, validation or hold-out data do not fit
    +-- SchemeError       1   a scheme or calibration file does not fit the model
    +-- OutputError       1   the output cannot be written, or would overwrite something
    +-- ClusterError      1   the Dask cluster cannot be reached, does not fit, or fails
    +-- OverflowProofError 1  an accumulator could overflow
    +-- VerificationError 1   a runtime disagrees with the oracle (a defect worth reporting)

    OnnxgruWarning            a warning of Python, where no listener receives events

A message is one sentence: where, what it must be, what it is, what to do.
"""


class OnnxgruError(Exception):
    """Base of all errors a user is meant to read; ``exit_code`` is the process's exit status."""

    exit_code = 1


class OnnxgruWarning(UserWarning):
    """A warning in one sentence; the work goes on."""


class UsageError(OnnxgruError):
    """The command line, configuration file or Python arguments are wrong."""

    exit_code = 2


class DivergedError(UsageError):
    """Fine-tuning diverged with the settings given."""


class ModelError(OnnxgruError):
    """The model file cannot be read, checked or quantised."""


class DataError(OnnxgruError):
    """Data arrays do not fit the model."""


class SchemeError(OnnxgruError):
    """A scheme or calibration file does not fit the model or its format."""


class OutputError(OnnxgruError):
    """The output folder or file cannot be written, or already exists."""


class ClusterError(OnnxgruError):
    """The workers that evaluate candidates, or their scheduler, cannot be used."""


class OverflowProofError(OnnxgruError):
    """The worst-case input of an operator does not fit its accumulator."""


class VerificationError(OnnxgruError):
    """A runtime's codes differ from the oracle's."""
