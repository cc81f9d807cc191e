"""What can go wrong, as the library says it; the command line turns each class into one exit status.

A message states the rule, then the numbers. ``layer`` and ``file`` say where, ``hint`` says what to do.
"""


class Dense2ConvError(Exception):
    """Base of every error that dense2conv raises on purpose.

    ``message`` is one line; ``file`` and ``layer`` (a node's name) may be filled in by a caller that knows them.
    """

    def __init__(self, message: str, *, hint: str = "", layer: str = "", file: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.layer = layer
        self.file = file


class NegativeAnswer(Dense2ConvError):  # noqa: N818 - it is an answer, not a fault
    """The honest answer is no: not exact under ``--strict``, nothing to convert, the proof failed (status 1)."""


class RequestError(Dense2ConvError):
    """The request itself is wrong or incomplete: an option's value, an output that exists (status 2)."""


class FileError(Dense2ConvError):
    """The file is broken, unsafe or not supported (status 3)."""


class MachineError(Dense2ConvError):
    """The machine cannot do it: provider missing, memory, disk (status 4)."""
