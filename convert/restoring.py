"""The way back: from a map, perhaps with trained weights, to the patch network that it was made from.

The graph is the source's own, as the map's metadata has it; the numbers are the map's. A kernel becomes the dense
weight again by its rearrangement undone; biases and everything else that was not rewritten come by their names.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from .constants import Constants, NotComputed
from .errors import FileError
from .metadata import KEY, Metadata, read_metadata
from .model import LARGE, Model
from .recovered import Recovered, of_the_patch, recover, stored_tensors
from .skeleton import Skeleton, read_skeleton, structure_of
from .structure import check_structure
from .tensors import check_data
from .unchanged import same_bytes

Array = NDArray[Any]


@dataclass(frozen=True)
class Restored:
    """The patch network, and how it came about.

    ``metadata`` is the map's, ``order`` the axes of the network's input as convert understood them. ``tensors`` were
    taken from the map; ``folded`` are values that the source computed from other tensors, and that are tensors of
    their own now, because training moved them.
    """

    model: Model
    metadata: Metadata
    order: str
    tensors: tuple[str, ...]
    folded: tuple[str, ...]


def restore(made: Model) -> Restored:
    """The patch network of the map ``made``, whose weights may be others than when it was written.

    Raises ``FileError`` for what is no map, for a map whose graph is another than dense2conv wrote, and where one
    tensor of the source has become two.
    """
    metadata = read_metadata(made.proto, made.path)
    if metadata is None:
        raise FileError(
            "this is no map: dense2conv's metadata is not in it",
            file=made.path,
            hint="restore takes what convert wrote; a program that writes the file again must keep its metadata",
        )
    skeleton = read_skeleton(made)
    try:
        targets = {rewrite.target for rewrite in metadata.rewrites}
        weights = skeleton.from_map | (targets - of_the_patch(skeleton.model, metadata.rewrites))
        _check_structure_of(made, set(weights), skeleton)
        found = recover(skeleton.model, made, metadata.rewrites)
        model = _filled(skeleton.model, skeleton.from_map, found)
        model.path, model.files = made.path, made.files
        folded = _folded(model, found)
    except FileError as error:
        error.file = error.file or made.path
        raise
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
    ) as error:  # numpy, of a graph that was edited
        raise FileError(
            f"the graph in the map's metadata is not sound: {' '.join(str(error).split())}",
            file=made.path,
            hint="the file was edited or damaged since dense2conv wrote it; convert again",
        ) from error
    return Restored(model, metadata, _order(made), tuple(sorted(skeleton.from_map)), folded)


def _check_structure_of(made: Model, weights: set[str], skeleton: Skeleton) -> None:
    """Refuse a map whose graph is another than when it was written."""
    if structure_of(made, weights) == skeleton.structure:
        return
    count = len(made.proto.graph.node)
    what = "a node, a name, a shape or a constant that is no weight is another"
    if count != skeleton.nodes:
        what = f"it has {count} nodes, and had {skeleton.nodes}"
    raise FileError(
        f"the map's graph is not the one that dense2conv wrote: {what}",
        hint="restore takes a map with other weights, and the same graph",
    )


def _order(made: Model) -> str:
    """The order that convert was told, or found; the metadata is sound already."""
    text = next(p.value for p in made.proto.metadata_props if p.key == KEY)
    return str(json.loads(text).get("order", ""))


def _filled(skeleton: Model, from_map: frozenset[str], found: Recovered) -> Model:
    """The skeleton with its tensors back."""
    proto = ModelProto()
    proto.CopyFrom(skeleton.proto)
    model = Model(proto)
    initializers = model.initializers()
    for name, tensor in stored_tensors(model).items():
        if name not in from_map:
            continue
        if name not in found.stored:
            raise FileError(f"the map has lost the tensor {name!r}")
        _put(model, tensor, found.stored[name], outside=name in initializers)
    check_structure(proto)
    for tensor in proto.graph.initializer:
        array = model.weights.get(tensor.name)
        check_data(tensor, f"initializer {tensor.name!r}", None if array is None else array.nbytes)
    return model


def _put(model: Model, tensor: TensorProto, array: Array, *, outside: bool) -> None:
    """Give a tensor its numbers: as a view beside the graph where they are many, and may lie there."""
    if outside and array.nbytes >= LARGE:
        model.weights[tensor.name] = array
    else:
        # little-endian, row-major
        tensor.raw_data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _folded(model: Model, found: Recovered) -> tuple[str, ...]:
    """Make each value a tensor that training has moved away from what the network computes; their names."""
    moved = []
    for name, array in found.computed.items():
        try:
            same = same_bytes(Constants(model).value(name), array)
        except (KeyError, NotComputed):
            same = False
        if not same:
            moved.append(name)
            _fold(model, name, array)
    return tuple(sorted(moved))


def _fold(model: Model, name: str, array: Array) -> None:
    graph = model.proto.graph
    tensors = stored_tensors(model)
    initializers = model.initializers()
    if name in tensors:
        tensor = tensors[name]
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    else:
        producer = next(node for node in graph.node if name in node.output)
        if len(producer.output) > 1:
            raise FileError(
                f"training moved {name!r}, which the patch network computes together with other values",
                layer=producer.name,
            )
        graph.node.remove(producer)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = graph.initializer.add(name=name, data_type=kind, dims=array.shape)
        if model.proto.ir_version < 4:  # until then every initializer is listed as an input, too
            graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
    _put(model, tensor, np.ascontiguousarray(array), outside=name in initializers or name not in tensors)
