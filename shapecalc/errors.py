"""What shapecalc refuses: a rule that a layer breaks, with its numbers."""


class ShapeError(ValueError):
    """A layer that cannot be, or that a runtime refuses to run.

    ``message`` states the rule and then the numbers; ``hint`` says what to do; ``layer`` names the layer, once it is
    known.
    """

    def __init__(self, message: str, *, hint: str = "", layer: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.layer = layer

    def __str__(self) -> str:
        return f"{self.layer}: {self.message}" if self.layer else self.message
