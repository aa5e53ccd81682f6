"""The errors gibbsian raises on purpose.

    GibbsianError
    ├── ArgumentError (also a ValueError)      an argument breaks its rule
    ├── DataError (also a ValueError)          a text or file cannot be used
    ├── CheckpointError                        a saved state is missing, damaged or of another run
    ├── UnsupportedModelError                  a model whose attention cannot be replaced
    └── BackendUnavailableError                the backend asked for cannot run this call

Each message is one line: the argument, the rule, the value found, the way out.
"""


class GibbsianError(Exception):
    """Base of every error raised on purpose; a command line prints it without a traceback."""


class ArgumentError(GibbsianError, ValueError):
    """An argument is out of its range, or does not fit the others."""


class DataError(GibbsianError, ValueError):
    """A text or file is missing, empty, or not what was asked for."""


class CheckpointError(GibbsianError):
    """A saved state is missing, damaged, or belongs to another configuration."""


class UnsupportedModelError(GibbsianError):
    """The attention of this model cannot be replaced or read."""


class BackendUnavailableError(GibbsianError):
    """The backend that was asked for cannot run this call; the message gives every reason."""
