"""Files in, graphs rewritten, files out, both graphs run.

What a program needs is here; a name's module is imported when the name is first used, so that a command pays only for
what it does.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .analysis import Analysis, audit
    from .compare import Verdict
    from .conversion import Conversion, convert
    from .errors import Dense2ConvError, FileError, MachineError, NegativeAnswer, RequestError
    from .evidence import Report
    from .model import Model
    from .opening import open_model
    from .rules.rewriting import Rewriting, apply_rules
    from .scanning import scan
    from .verification import verify
    from .writing import write_model

__all__ = [
    "Analysis",
    "Conversion",
    "Dense2ConvError",
    "FileError",
    "MachineError",
    "Model",
    "NegativeAnswer",
    "Report",
    "RequestError",
    "Rewriting",
    "Verdict",
    "apply_rules",
    "audit",
    "convert",
    "open_model",
    "scan",
    "verify",
    "write_model",
]

_MODULES = {
    "Analysis": "analysis",
    "Conversion": "conversion",
    "Dense2ConvError": "errors",
    "FileError": "errors",
    "MachineError": "errors",
    "Model": "model",
    "NegativeAnswer": "errors",
    "Report": "evidence",
    "RequestError": "errors",
    "Rewriting": "rules.rewriting",
    "Verdict": "compare",
    "apply_rules": "rules.rewriting",
    "audit": "analysis",
    "convert": "conversion",
    "open_model": "opening",
    "scan": "scanning",
    "verify": "verification",
    "write_model": "writing",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
