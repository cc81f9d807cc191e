"""What is installed is what is here: the package list, the wheel, the console script, the sdist."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import dense2conv

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("cli", "convert", "shapecalc")


def packages_here():
    """Package name by folder, for each folder with a .py file."""
    folders = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    names = {}
    for folder in folders:
        relative = folder.relative_to(ROOT).as_posix()
        names[relative] = (
            "dense2conv" if relative == "cli/_root" else "dense2conv." + relative.replace("/", ".")
        )
    return names


def test_each_folder_is_in_the_list_of_packages():
    tool = PROJECT["tool"]["setuptools"]
    assert sorted(tool["packages"]) == sorted(packages_here().values())
    assert {folder: name for name, folder in tool["package-dir"].items()} == packages_here()


def test_the_lower_bounds_are_those_that_are_tested():
    """Each run-time dependency has one lower bound, and the constraints file pins exactly that version."""
    bounds = dict(requirement.split(">=") for requirement in PROJECT["project"]["dependencies"])
    lines = (ROOT / ".ci" / "lower-bounds.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert {name: pins.get(name) for name in bounds} == bounds


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """A copy of the checkout: building leaves files behind."""
    copy = tmp_path_factory.mktemp("packaging") / "tree"
    junk = shutil.ignore_patterns(
        ".git", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".venv", ".hypothesis"
    )
    shutil.copytree(ROOT, copy, ignore=junk)
    return copy


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tree):
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tree / "dist"), str(tree))
    (path,) = (tree / "dist").glob("*.whl")
    return path


@pytest.mark.packaging
def test_the_wheel_has_every_module_and_nothing_else(wheel):
    expected = {
        f"{name.replace('.', '/')}/{path.name}"
        for folder, name in packages_here().items()
        for path in (ROOT / folder).glob("*.py")
    } | {"dense2conv/py.typed", "dense2conv/cli/report.schema.json"}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected


@pytest.mark.packaging
def test_the_installed_wheel_runs(wheel, tmp_path):
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(site), str(wheel))
    options = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(site)}}
    assert run(str(site / "bin" / "dense2conv"), "-V", **options) == f"dense2conv {dense2conv.__version__}\n"
    assert "kernel" in run(sys.executable, "-m", "dense2conv", "--help", **options)
    script = "import dense2conv, dense2conv.convert.ops, dense2conv.cli.kernel; print(dense2conv.__file__)"
    assert Path(run(sys.executable, "-c", script, **options).strip()).is_relative_to(site)


@pytest.mark.packaging
def test_the_sdist_can_be_tested(tree):
    """Fixtures, tests and the modules are in it."""
    pytest.importorskip("build")
    run(sys.executable, "-m", "build", "--sdist", "-o", str(tree / "dist"), str(tree))
    (path,) = (tree / "dist").glob("*.tar.gz")
    with tarfile.open(path) as archive:
        found = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for folder in (*FOLDERS, "tests", "fixtures"):
        here = {
            file.relative_to(tree).as_posix()
            for file in (tree / folder).rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }
        assert here <= found, folder
