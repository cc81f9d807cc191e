"""The house rules that a machine can hold. Each checker is first shown to find what it is for."""

import ast
import doctest
import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("cli", "convert", "shapecalc")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

# What a folder may import, beside itself and the standard library. Arrows run one way.
# fmt: off
ALLOWED = {
    "cli": {"click", "convert", "dense2conv", "matplotlib", "numpy", "rich", "shapecalc"},
    "convert": {
        "google", "h5py", "ml_dtypes", "numpy", "onnx", "onnxruntime", "shapecalc",
        "PIL", "dask", "distributed", "tifffile", "zarr",
    },
    "shapecalc": set(),
}
# fmt: on

# The library neither prints nor ends the process.
FORBIDDEN_CALLS = {"print", "exit", "quit", "input", "breakpoint", "sys.exit", "os._exit", "os.abort"}
FORBIDDEN_NAMES = {"sys.stdout", "sys.stderr"}


def imports(source, package):
    """The top-level names that a module of ``package`` (``("convert", "ops")``) imports; relative ones resolved."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            path = [*base, *(node.module or "").split(".")] if node.module else list(base)
            found |= {path[0]} if path else {alias.name for alias in node.names}
    return found


def wrong_imports(source, package):
    own = package[0]
    return (
        imports(source, package)
        - ALLOWED[own]
        - {own, "__future__", "__version__"}
        - set(sys.stdlib_module_names)
    )


def wrong_calls(source):
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in FORBIDDEN_CALLS:
            found.add(ast.unparse(node.func))
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in FORBIDDEN_NAMES:
            found.add(ast.unparse(node))
        elif isinstance(node, ast.Name) and node.id == "SystemExit":
            found.add(node.id)
    return found


@pytest.mark.parametrize(
    ("source", "package", "found"),
    [
        ("from ..cli import guard", ("convert",), {"cli"}),
        ("from ...cli.guard import guarded", ("convert", "ops"), {"cli"}),
        ("from .. import cli", ("convert",), {"cli"}),
        ("def f():\n    from ..cli import guard", ("convert",), {"cli"}),
        ("import numpy", ("shapecalc",), {"numpy"}),
        ("from ..convert.errors import FileError", ("shapecalc",), {"convert"}),
        ("import torch", ("convert",), {"torch"}),
        ("from ..shapecalc import window\nfrom .errors import FileError\nimport os", ("convert",), set()),
    ],
)
def test_the_import_checker_finds(source, package, found):
    assert wrong_imports(source, package) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("print(1)", {"print"}),
        ("import sys\nsys.exit(1)", {"sys.exit"}),
        ("raise SystemExit", {"SystemExit"}),
        ("sys.stderr.write('x')", {"sys.stderr"}),
        ("pprint(1)", set()),
    ],
)
def test_the_call_checker_finds(source, found):
    assert wrong_calls(source) == found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_keeps_the_rules(path):
    source = path.read_text()
    package = path.relative_to(ROOT).parent.parts
    assert ast.get_docstring(ast.parse(source)), "a module says what it is"
    if package != ("cli", "_root"):
        assert wrong_imports(source, package) == set()
    if package[0] != "cli":
        assert wrong_calls(source) == set()


def test_tests_import_the_package_as_a_user_does():
    """``import cli`` works by accident from the repository root."""
    for path in (ROOT / "tests").rglob("*.py"):
        assert not imports(path.read_text(), ("tests",)) & set(FOLDERS), path


def test_every_doctest_of_the_package():
    attempted = 0
    for path in MODULES:  # an editable install maps the folders: pkgutil would not find them
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "_root" in parts:
            continue
        name = ".".join(("dense2conv", *parts)).removesuffix(".__init__")
        result = doctest.testmod(importlib.import_module(name))
        assert result.failed == 0, name
        attempted += result.attempted
    assert attempted > 10
