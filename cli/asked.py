"""What ``convert`` was asked for."""

from dataclasses import dataclass
from typing import Any

from .rules import DENSE


@dataclass(frozen=True)
class Asked:
    """The options of ``convert``, the same for each of its files. ``reported``: whether a report is written."""

    patch: tuple[int, ...] | None
    order: str | None
    keras: dict[str, Any]
    expected: str | None
    stride: Any
    method: str
    size: tuple[int, ...] | None
    batch: int | None
    rules: tuple[str, ...]
    matvec: str | None
    strict: bool
    dry_run: bool
    no_verify: bool
    provider: str
    force: bool
    reported: bool
    format: str

    @property
    def local(self) -> tuple[str, ...]:
        """The rules that keep the interface."""
        return tuple(rule for rule in self.rules if rule != DENSE)
