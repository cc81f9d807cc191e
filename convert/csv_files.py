"""Numbers in a ``.csv``: a step a line, a channel a cell, commas between them.

The text is parsed line by line into a temporary file of float64, which is mapped: memory stays as small as one line
and one buffer. A first line without any number in it is a header, and is passed over.
"""

import csv
import re
from array import array
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FileError
from .references import check_regular
from .scratch import spilled

Array = NDArray[Any]

_LONGEST_LINE = 1 << 24  # characters; no table of numbers comes near it
_BUFFER = 1 << 17  # numbers
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,15}\s*")  # up to 10**15: below 2**53 a float64 holds it exactly


def map_csv(path: str, *, classes: bool = False) -> Array:
    """The numbers of ``path``, (steps, columns), or (steps,) of one column; mapped, read-only, float64.

    With ``classes`` they are int64 where every cell is written as an integer. Raises ``FileError``, with the line,
    for a cell that is no number and a line of another length than the first; ``MachineError`` where there is no room
    for the temporary file.
    """
    check_regular(path)
    with Path(path).open(encoding="utf-8-sig", newline="") as text:
        table = _Table(text)
        with spilled(table.pieces()) as file:
            if not table.steps:
                raise FileError("there is no line of numbers")
            numbers: Any = np.memmap(file, np.float64, "r+", shape=(table.steps, table.columns))
    if classes and table.whole:
        numbers = _as_integers(numbers)
    found: Array = np.asarray(numbers[:, 0] if table.columns == 1 else numbers)
    found.flags.writeable = False
    return found


def _as_integers(numbers: Array) -> Array:
    """The float64 numbers as int64, in the same place: both have eight bytes."""
    integers = numbers.view(np.int64)
    rows = max(1, _BUFFER // numbers.shape[1])
    for start in range(0, len(numbers), rows):
        integers[start : start + rows] = numbers[start : start + rows]  # numpy copies what overlaps
    return integers


class _Table:
    """A table while it is parsed: ``pieces`` are its numbers as float64, and count what has been read."""

    def __init__(self, text: TextIOWrapper) -> None:
        self._text = text
        self.steps = 0
        self.columns = 0
        self.whole = True

    def pieces(self) -> Iterator[bytes]:
        numbers = array("d")
        for line, cells in self._rows():
            numbers.extend(_number(cell, line, column) for column, cell in enumerate(cells, 1))
            self.whole = self.whole and all(map(_WHOLE.fullmatch, cells))
            self.steps += 1
            if len(numbers) >= _BUFFER:
                yield numbers.tobytes()
                numbers = array("d")
        yield numbers.tobytes()

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The number of each line and its cells; without the header, and without empty lines."""
        reader = csv.reader(self._lines())
        try:
            for cells in reader:
                if not cells:
                    continue
                if not self.columns:
                    self.columns = len(cells)
                    if not any(map(_is_number, cells)):
                        continue
                if len(cells) != self.columns:
                    raise FileError(
                        f"line {reader.line_num} has {len(cells)} cells, but the first has {self.columns}"
                    )
                yield reader.line_num, cells
        except csv.Error as error:
            raise FileError(f"line {reader.line_num}: {error}") from error

    def _lines(self) -> Iterator[str]:
        while line := self._text.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                raise FileError(f"a line has {_LONGEST_LINE} characters or more")
            yield line


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, line: int, column: int) -> float:
    try:
        return float(cell)
    except ValueError:
        shown = f"{cell[:40]}..." if len(cell) > 40 else cell
        raise FileError(
            f"line {line}, cell {column}: {shown!r} is no number",
            hint="numbers have a point, commas stand between them, and a missing one is written nan",
        ) from None
