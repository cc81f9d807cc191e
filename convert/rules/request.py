"""What a caller asks of the rules."""

from dataclasses import dataclass

FASTEST = "fastest"


@dataclass(frozen=True)
class Request:
    """``matvec``: a form of ``forms``, or ``fastest``; ``batch``: how many samples a free batch is timed with."""

    matvec: str = "matmul"
    batch: int | None = None
