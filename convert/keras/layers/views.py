"""Layers that only regroup axes, or do nothing at inference. Keras regroups in its own order of the axes, row-major."""

from math import prod

from ..emit import Value
from ..step import Step


def dropped(step: Step) -> Value:
    """What acts in training only: Dropout, noise, augmentation."""
    return step.input


def flatten(step: Step) -> Value:
    """Flatten: ``(N, *rest)`` -> ``(N, D)``. With ``data_format`` channels_first the channels go to the end first."""
    value = step.input
    known = [size for size in value.shape[1:] if size is not None]
    if len(known) < value.rank - 1:
        raise step.refusal(
            f"the input's size must be known, but {value.rank - 1 - len(known)} axes are free",
            "give the model a fixed input size, and save it again",
        )
    name = step.graph.own(value)
    if (
        step.argument("data_format", None) == "channels_first"
        and value.rank > 2
        and step.options.origin.major > 1
    ):
        # (N, C, *space) -> (N, *space, C)
        name = step.emit("Transpose", [name], "channels_last", perm=[0, *range(2, value.rank), 1])
    if value.rank == 1:
        return step.graph.made(
            (value.shape[0], 1), step.emit("Reshape", [name, step.graph.integers([-1, 1])])
        )
    return step.graph.made((value.shape[0], prod(known)), step.emit("Flatten", [name], axis=1))


def reshape(step: Step) -> Value:
    """Reshape to ``target_shape``, without the batch; one entry may be -1."""
    target = step.argument("target_shape")
    if not isinstance(target, (list, tuple)) or not all(isinstance(n, int) for n in target):
        raise step.refusal(f"target_shape must be integers, but it is {target!r}")
    return reshaped(step, step.input, list(target))


def reshaped(step: Step, value: Value, target: list[int], suffix: str = "") -> Value:
    """``value`` as ``(N, *target)``; one entry of ``target`` may be -1."""
    known = [size for size in value.shape[1:] if size is not None]
    if len(known) < value.rank - 1:
        raise step.refusal(
            "the input's size must be known for a reshape, but it is free",
            "give the model a fixed input size, and save it again",
        )
    rest = prod(n for n in target if n != -1)
    if target.count(-1) > 1 or any(n < -1 for n in target) or not rest or prod(known) % rest:
        raise step.refusal(f"{prod(known)} elements do not reshape to {target}")
    target = [prod(known) // rest if n == -1 else n for n in target]
    if prod(target) != prod(known):
        raise step.refusal(f"{prod(known)} elements do not reshape to {target}")
    # The batch is what is left over, so that it stays free.
    made = step.emit("Reshape", [step.graph.own(value), step.graph.integers([-1, *target])], suffix)
    return step.graph.made((value.shape[0], *target), made)


def permute(step: Step) -> Value:
    """Permute: ``dims`` counts the axes behind the batch from 1."""
    dims = list(step.argument("dims"))
    value = step.input
    if sorted(dims) != list(range(1, value.rank)):
        raise step.refusal(f"dims must be 1 to {value.rank - 1} in some order, but they are {dims}")
    made = step.emit("Transpose", [step.graph.own(value)], perm=[0, *dims])
    return step.graph.made([value.shape[i] for i in (0, *dims)], made)


def repeat_vector(step: Step) -> Value:
    """RepeatVector: ``(N, D)`` -> ``(N, n, D)``."""
    value, times = step.input, step.integer("n")
    if value.rank != 2:
        raise step.refusal(f"a vector is repeated, but this is a tensor with {value.rank} axes")
    rows = step.emit("Unsqueeze", [step.graph.own(value), step.graph.integers([1])], "rows")
    made = step.emit("Tile", [rows, step.graph.integers([1, times, 1])])
    return step.graph.made((value.shape[0], times, value.shape[1]), made)
