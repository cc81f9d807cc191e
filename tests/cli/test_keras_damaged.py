"""Damaged Keras files: one line, status 3 (or an answer), and the process lives, whatever the HDF5 library does.

HDF5 carries no checksum: a changed byte may be read without an error. What must not happen is a crash of the command, a
traceback, or a line that says it is a bug.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dense2conv import cli
from dense2conv.cli.guard import deadline, guarded

FOLDER = Path(__file__).parents[2] / "fixtures" / "references"
SEEDS = ("k3_gap.keras", "k2_gap.h5", "k1_conv1d.h5", "k3_func_branches_nested.weights.h5")


@pytest.fixture(scope="module", autouse=True)
def _everything_is_imported() -> None:
    """Once, here, and not in each of many children."""
    assert cli.run(["shapes", str(FOLDER / "k3_gap.keras")]) == 0


def command(path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The status of ``shapes`` in a guarded child, as the command line runs it, and what it said on stderr."""
    config = ["--config", str(FOLDER / name.replace(".weights.h5", ".json"))] if ".weights." in name else []

    def action() -> int:
        with deadline(20):
            return cli.run(["shapes", str(path), *config])

    status = guarded(action)
    return status, capfd.readouterr().err


def bytes_changed(data: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Copies with one byte set to 127 or 255, or a few to anything."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        changed = bytearray(data)
        for _ in range(1 if number % 2 else 4):
            place = int(generator.integers(len(data) if number % 3 else min(len(data), 6000)))
            changed[place] = int(generator.choice([127, 255, generator.integers(256)]))
        yield f"seed {seed}, mutant {number}", bytes(changed)


def check(
    name: str, mutants: Iterator[tuple[str, bytes]], folder: Path, capfd: pytest.CaptureFixture[str]
) -> Counter[int]:
    statuses: Counter[int] = Counter()
    for what, data in mutants:
        path = folder / name
        path.write_bytes(data)
        status, said = command(path, name, capfd)
        assert status in (0, 2, 3), f"{what}: status {status}: {said}"
        assert "Traceback" not in said, f"{what}: {said}"
        assert status == 0 or said.startswith("dense2conv: "), f"{what}: {said}"
        statuses[status] += 1
    return statuses


@pytest.mark.parametrize("name", SEEDS)
def test_a_changed_byte_is_an_answer_or_one_line(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = (FOLDER / name).read_bytes()
    statuses = check(name, bytes_changed(data, 40, 1), tmp_path, capfd)
    assert statuses[3]
    assert bool(statuses[0]) is not name.endswith(".keras")  # a zip has checksums


@pytest.mark.parametrize("name", SEEDS)
def test_a_truncated_file_is_one_line(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = (FOLDER / name).read_bytes()
    places = [0, 1, 4, 8, 100, 800, len(data) // 2, len(data) - 1]
    for place in places:
        path = tmp_path / name
        path.write_bytes(data[:place])
        status, said = command(path, name, capfd)
        assert (status, said.startswith("dense2conv: ")) == (3, True), f"{place}: {status} {said}"


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_many_changed_bytes(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check(name, bytes_changed((FOLDER / name).read_bytes(), 1000, 2), tmp_path, capfd)


@pytest.mark.slow
def test_every_header_byte(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The sweep that found bytes with which the HDF5 library itself crashes."""
    name = "k2_gap.h5"
    data = (FOLDER / name).read_bytes()

    def mutants() -> Iterator[tuple[str, bytes]]:
        for place in range(0, 3200):
            changed = bytearray(data)
            changed[place] = 255 if place % 2 else 127
            yield f"byte {place} = {changed[place]}", bytes(changed)

    check(name, mutants(), tmp_path, capfd)
