"""A convolution's weights set from a tensor: as a constant, as an input of the graph, or from a value of the graph.

One kernel for all samples is the Conv's second input. A kernel for each sample is not something a Conv has: its group
is static and its weights are one tensor. So N samples are folded into the groups (ONNX, Conv: group g reads channels
``g*C/G .. (g+1)*C/G - 1`` only)::

    data    (N, C, H, W)         reshape   (1, N*C, H, W)
    kernel  (N, O, C/g, kH, kW)  reshape   (N*O, C/g, kH, kW)
    Conv, group N*g              (1, N*O, H', W')
    reshape                      (N, O, H', W')

What nothing reads any more goes; everything else of the file stays as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from .constants import opset_of
from .errors import FileError, RequestError
from .execute import session
from .kernel_places import check_readers, find_node
from .kernel_readings import Place, Reading, reading
from .kernel_wiring import Wiring, place_of, pruned
from .model import Model
from .nodes import label

Array = NDArray[Any]

FREE_SLICE = 10  # from this operator set on, Slice has steps
FREE_SIZES = 5  # from this one on, Reshape takes its target as an input


@dataclass(frozen=True)
class Wanted:
    """How a tensor is to be read: see ``kernel_readings``; ``batch``: one kernel a sample, for so many samples.

    ``bias``: ``"keep"``, ``"zero"``, or the values.
    """

    layout: str
    kind: str = "full"
    flip: bool = False
    bias: str | Array = "keep"
    batch: int | None = None


@dataclass(frozen=True)
class Setting:
    """The network with its new kernel, and what was done: ``source`` names where the kernel comes from.

    ``rounded``: the tensor's type, where it is not the network's.
    """

    model: Model
    place: Place
    reading: Reading
    source: str
    rounded: str = ""


def set_kernel(model: Model, node: str, kernel: Array, wanted: Wanted, *, dynamic: bool = False) -> Setting:
    """Set the kernel of the Conv ``node`` (its name, the end of it, or its number) to the values of ``kernel``.

    ``dynamic`` makes it an input of the graph, with ``kernel`` as its default. With ``wanted.batch`` the first axis of
    ``kernel`` is the sample. Raises ``FileError`` where something does not fit, with the shapes side by side.
    """
    wiring, place = _begun(model, node, wanted)
    found = _read(place, kernel.shape, wanted)
    dtype = wiring.dtype(place.name)
    array = _as(kernel, dtype, place.name)
    name = wiring.weight_name()
    if dynamic:
        wiring.add(name, np.ascontiguousarray(array))
        wiring.input(name, array.shape, default=True)
        value = _arranged(wiring, name, found)
    else:
        wiring.add(name, found.rearrangement.apply(array))
        value = name
    return _set(
        wiring, place, found, wanted, value, name, "" if array.dtype == kernel.dtype else str(kernel.dtype)
    )


def feed_kernel(model: Model, node: str, shape: Sequence[int] | None, wanted: Wanted) -> Setting:
    """Make the kernel of the Conv ``node`` an input of the graph without a default.

    ``shape``: the tensor's, without the samples' axis; None: the shape that the kernel has now, in the layout wanted.
    """
    wiring, place = _begun(model, node, wanted)
    sizes = tuple(shape) if shape is not None else wiring.present(place, wanted.kind, wanted.layout)
    sizes = sizes if wanted.batch is None else (wanted.batch, *sizes)
    found = _read(place, sizes, wanted)
    name = wiring.fresh(f"{place.name}/kernel")
    wiring.input(name, sizes, default=False)
    return _set(wiring, place, found, wanted, _arranged(wiring, name, found), name)


def connect_kernel(model: Model, node: str, value: str, wanted: Wanted) -> Setting:
    """Take the kernel of the Conv ``node`` from the graph's own ``value``, which the network computes at run time.

    Its first axis may be the batch: with ``wanted.batch`` it is, else it must be 1 when the network runs. Raises
    ``FileError`` for a value that is not there, whose sizes are not known, or that depends on the Conv itself.
    """
    wiring, place = _begun(model, node, wanted)
    known = shape = wiring.known(value)
    rank = place.rank + (1 if wanted.layout in ("HWC", "CHW") else 2)
    if wanted.batch is not None:
        if shape and shape[0] is None:
            shape = (wanted.batch, *shape[1:])
    elif len(shape) == rank + 1 and shape[0] in (None, 1):
        shape = shape[1:]
    sizes = tuple(size for size in shape if size is not None)
    if len(sizes) != len(shape):
        shown = "x".join("?" if size is None else str(size) for size in known)
        raise FileError(
            f"a kernel's sizes must be known, but the value {value!r} is {shown}",
            layer=place.name,
            hint="fix the network's input size first, so that onnx's shape inference knows them",
        )
    found = _read(place, sizes, wanted)
    return _set(wiring, place, found, wanted, _arranged(wiring, value, found, reshape=True), value)


def _begun(model: Model, node: str, wanted: Wanted) -> tuple[Wiring, Place]:
    found = find_node(model, node)
    wiring = Wiring(model, found)
    place = place_of(wiring)
    if wanted.batch is not None:
        if wanted.batch < 1:
            raise RequestError(f"a batch is 1 or more, not {wanted.batch}")
        if opset_of(model.proto) < FREE_SIZES:
            raise FileError("operator set 5 or newer is needed to fold samples into groups", layer=place.name)
        wiring.fix_batch(wanted.batch)
    return wiring, place


def _read(place: Place, shape: Sequence[int], wanted: Wanted) -> Reading:
    if wanted.batch is None:
        return reading(place, shape, wanted.kind, wanted.layout, wanted.flip)
    if not shape or shape[0] != wanted.batch:
        raise FileError(
            f"with a kernel a sample the tensor's first axis is the sample: {wanted.batch} of them, but the tensor is "
            f"{'x'.join(map(str, shape)) or 'a single number'}",
            layer=place.name,
        )
    return reading(place, shape[1:], wanted.kind, wanted.layout, wanted.flip).batched(wanted.batch)


def _as(array: Array, dtype: "np.dtype[Any]", name: str) -> Array:
    """The values in the network's type; ``FileError`` where one of them becomes infinite."""
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if not np.array_equal(np.isfinite(converted), np.isfinite(array)):
        raise FileError(f"the network computes in {dtype}, which does not hold the tensor's {array.dtype} values",
                        layer=name)  # fmt: skip
    return converted


def _arranged(wiring: Wiring, value: str, found: Reading, *, reshape: bool = False) -> str:
    """Append what brings a value to the kernel's layout at run time; the name of the result."""
    one = found.rearrangement
    if (
        reshape
    ):  # an axis of one sample goes, and other sizes than those that were known are refused by the runtime
        value = wiring.emit("Reshape", [value, wiring.integers(one.shape)])
    if one.permutation != tuple(range(len(one.permutation))):
        value = wiring.emit("Transpose", [value], perm=list(one.permutation))
    if one.flip:
        if opset_of(wiring.model.proto) < FREE_SLICE:
            raise FileError(f"operator set {FREE_SLICE} or newer is needed to flip a kernel at run time",
                            layer=label(wiring.node))  # fmt: skip
        count = len(one.flip)
        least = np.iinfo(np.int64).min
        parts = ([-1] * count, [least] * count, list(one.flip), [-1] * count)  # starts, ends, axes, steps
        value = wiring.emit("Slice", [value, *map(wiring.integers, parts)])
    if tuple(one.shape[axis] for axis in one.permutation) != one.result:
        value = wiring.emit("Reshape", [value, wiring.integers(one.result)])
    return value


def _set(
    wiring: Wiring, place: Place, found: Reading, wanted: Wanted, kernel: str, source: str, rounded: str = ""
) -> Setting:
    """Put the kernel into the Conv, fold the samples if asked for, and check that the runtime takes it."""
    node = wiring.node
    batch = wanted.batch or 1
    bias = _bias(wiring, place, found.filters // batch, wanted)
    data, output = node.input[0], node.output[0]
    kept = [a for a in node.attribute if a.name not in ("group", "kernel_shape")]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.append(helper.make_attribute("kernel_shape", list(found.spatial)))
    if found.group != 1:
        node.attribute.append(helper.make_attribute("group", found.group))
    spatial = [0] * place.rank  # Reshape: 0 takes the input's size
    if wanted.batch is not None:
        data = wiring.emit("Reshape", [data, wiring.integers([1, batch * place.channels, *spatial])])
        node.output[0] = wiring.fresh(f"{output}/folded")
    del node.input[:]
    node.input.extend([data, kernel, *([bias] if bias else [])])
    if wanted.batch is not None:
        wiring.emit_behind(
            "Reshape", [node.output[0], wiring.integers([batch, found.filters // batch, *spatial])], output
        )
    model = pruned(wiring)
    check_readers(model)
    session(model).close()  # raises FileError with the runtime's reason, where what reads the output cannot
    return Setting(model, place, found, source, rounded)


def _bias(wiring: Wiring, place: Place, filters: int, wanted: Wanted) -> str:
    """The name of the bias for ``filters``, once a sample; empty where there is none."""
    node, batch = wiring.node, wanted.batch or 1
    present = node.input[2] if len(node.input) > 2 else ""
    if isinstance(wanted.bias, str):
        if wanted.bias == "zero" or not present:
            return ""
        if not wiring.constants.known(present):
            shape = wiring.known(present)
            if batch > 1 or shape != (filters,):
                raise FileError(
                    f"the bias must be constant where the filters change or are folded, but {present!r} is computed "
                    "by the network",
                    layer=place.name,
                    hint="pass --bias zero or a file",
                )
            return present
        values: Array = wiring.constants.value(present)
        if values.shape != (filters,):
            raise FileError(
                f"a bias has one value a filter: {filters}, but the convolution's own has {values.size}",
                layer=place.name,
                hint="pass --bias zero, or --bias FILE with one value a filter",
            )
        if batch == 1:
            return str(present)
    else:
        values = wanted.bias
        if values.shape != (filters,):
            raise FileError(
                f"a bias has one value a filter: {filters}, but the one given is "
                f"{'x'.join(map(str, values.shape)) or 'a single number'}",
                layer=place.name,
            )
        values = _as(values, wiring.dtype(place.name), place.name)
    name = wiring.fresh(f"{place.name}/bias")
    wiring.add(name, np.tile(values, batch))
    return name
