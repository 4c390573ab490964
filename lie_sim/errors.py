"""Exceptions that callers may want to catch by name.

Wrong arguments raise the built-in ``ValueError`` or ``TypeError``; the classes below are for
failures that a program can meet at run time with correct arguments.
"""


class LieSimError(Exception):
    """Base class of every exception that lie_sim defines."""


class CheckpointError(LieSimError):
    """A model or checkpoint file is truncated, altered, of another version, or of another architecture."""


class ConfigError(LieSimError):
    """A configuration file or option has an unknown key, a wrong type or an impossible value."""


class ConvergenceError(LieSimError):
    """An iteration did not reach its tolerance; the message says where and by how much."""


class DataError(LieSimError):
    """A dataset file is missing, damaged, or does not hold what its manifest declares."""


class MissingPackageError(LieSimError, ImportError):
    """Something needs an optional package that is not installed; the message says how to install it."""


class NonFiniteError(LieSimError):
    """A loss, an energy or a force became NaN or infinite; the message says where and what to do."""


class ReversalError(LieSimError):
    """Stepping back did not return to the start, so gradients from it would be wrong; the message says by how much."""


class ServerError(LieSimError):
    """A server of a model cannot be reached, or does not answer as one; the message says what to do."""


class StepSizeError(LieSimError):
    """A step-size control asked for an impossible step, or for far too many; the message says where."""


class TrainingInterrupted(LieSimError):  # noqa: N818 - an interruption is no error
    """Training stopped on Ctrl-C after writing a checkpoint; the message tells how to resume."""


class UncertaintyError(LieSimError):
    """A prediction is less certain than its calibration allows; the message names the structure and the atom."""


class WireError(LieSimError):
    """What came over the network is not a request or an answer of lie_sim; the message says where."""
