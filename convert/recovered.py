"""A source's tensors from its map: every rewrite undone, every tensor that both have taken as the map has it.

A rewrite's source may be a form of a stored tensor: a weight behind Transpose, Reshape or Identity. What only moves
elements is undone on the way back, so that the stored tensor comes out; the map's numbers of what was computed
otherwise (behind Cast, or by arithmetic) can only be compared with what is computed from the tensors kept.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, TensorProto, numpy_helper

from .constants import Constants, attributes
from .errors import FileError
from .metadata import RewrittenTensor
from .model import Model
from .unchanged import same_bytes

Array = NDArray[Any]

# What moves no value to another place in row-major order: another shape undoes it.
_RESHAPES = frozenset(("Identity", "Reshape", "Squeeze", "Unsqueeze"))
_LONGEST = 1000  # nodes between a weight and its layer: a file may have a cycle of them


@dataclass(frozen=True)
class Recovered:
    """``stored``: a source's own tensors by name; ``computed``: values of which the map does not have every number.

    Those are computed by its nodes from constants, or have rows that nothing reads: what they come from must be kept.
    """

    stored: dict[str, Array]
    computed: dict[str, Array]


def stored_tensors(model: Model) -> dict[str, TensorProto]:
    """The initializers and the tensors of ``Constant`` nodes of the main graph, by the name of their value."""
    found = dict(model.initializers())
    for node in model.proto.graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and node.output:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.type == AttributeProto.TENSOR:
                    found[node.output[0]] = attribute.t
    return found


def array_of(model: Model, tensor: TensorProto, name: str) -> Array:
    """The values of a tensor of ``stored_tensors``."""
    if name in model.weights:
        return model.weights[name]
    array: Array = numpy_helper.to_array(tensor)
    return array


def recover(
    source: Model, made: Model, rewrites: Iterable[RewrittenTensor], *, numbers: bool = True
) -> Recovered:
    """Everything of ``source`` that its map ``made`` holds; of ``source`` only shapes and types are looked at.

    Without ``numbers`` only the names count: no weight is read, and what is put together from parts is zero.

    Raises ``FileError`` where a rewrite does not fit ``source``, and where the map has two versions of one tensor: a
    weight that two layers share, and that became two kernels which were trained apart.
    """
    ours, theirs = stored_tensors(source), stored_tensors(made)
    constants = _constants_of(source)
    producers = {output: node for node in source.proto.graph.node for output in node.output if output}
    found = Recovered({}, {})
    rewritten: set[str] = set()
    for name, array, layer, whole in _sources(list(rewrites), constants, made, theirs, numbers):
        rewritten.add(name)
        stored, back = _stored(name, array, producers, constants)
        known = whole and stored in ours
        if known and (ours[stored].data_type, tuple(ours[stored].dims)) == _type_of(back):
            _agree(found.stored, stored, back, layer, numbers)
        else:
            _agree(found.computed, name, array, layer, numbers)
    for name in ours.keys() & theirs.keys() - rewritten:
        mine, other = ours[name], theirs[name]
        if (mine.data_type, tuple(mine.dims)) == (other.data_type, tuple(other.dims)):
            _agree(found.stored, name, array_of(made, other, name), name, numbers)
    return found


def _constants_of(source: Model) -> Constants:
    constants = Constants(source)
    for name in (
        source.weights.keys() - source.initializers().keys()
    ):  # of Constant nodes without their numbers
        constants.set(name, source.weights[name])
    return constants


def of_the_patch(source: Model, rewrites: Iterable[RewrittenTensor]) -> set[str]:
    """The targets of what the source computes from the size of its patch: constants of the map, and no weights."""
    constants = _constants_of(source)
    return {rewrite.target for rewrite in rewrites if not _is_constant(constants, rewrite.source)}


def _is_constant(constants: Constants, name: str) -> bool:
    try:
        constants.type_of(name)
    except KeyError:
        return False
    return True


def _type_of(array: Array) -> tuple[int, tuple[int, ...]]:
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(array.dtype), array.shape


def _agree(tensors: dict[str, Array], name: str, array: Array, layer: str, numbers: bool = True) -> None:
    """Note a tensor, which must not be there already with other numbers."""
    if numbers and name in tensors and not same_bytes(tensors[name], array):
        raise FileError(
            f"the map holds two versions of {name!r}, which the patch network has once",
            layer=layer,
            hint="layers that share a weight must be trained as one: give both kernels the same values",
        )
    tensors[name] = array


def _sources(
    rewrites: list[RewrittenTensor],
    constants: Constants,
    made: Model,
    theirs: dict[str, TensorProto],
    numbers: bool,
) -> Iterator[tuple[str, Array, str, bool]]:
    """Each rewritten value of the source, put together from its parts in the map; its layer; whether it is whole."""
    parts: dict[tuple[str, int], list[tuple[RewrittenTensor, tuple[int, int]]]] = {}
    for rewrite in rewrites:
        if rewrite.target not in theirs:
            raise FileError(f"the map has lost the tensor {rewrite.target!r}", layer=rewrite.layer)
        if not _is_constant(constants, rewrite.source):  # see ``of_the_patch``: the source computes it again
            continue
        shape = constants.type_of(rewrite.source).shape
        if rewrite.rows is not None:
            parts.setdefault((rewrite.source, rewrite.axis), []).append((rewrite, rewrite.rows))
            continue
        yield rewrite.source, _undone(rewrite, shape, made, theirs), rewrite.layer, True
    for (source, axis), several in parts.items():
        kind = constants.type_of(source)
        if axis >= len(kind.shape) or any(rows[1] > kind.shape[axis] for _, rows in several):
            raise FileError(
                f"{source!r} has the shape {kind.shape}, without some of the rows that were rewritten",
                layer=several[0][0].layer,
            )
        seen = np.zeros(kind.shape[axis], bool)
        for _, rows in several:
            seen[slice(*rows)] = True
        complete = bool(seen.all())
        if numbers:
            start = np.zeros(kind.shape, kind.dtype) if complete else constants.value(source)
            joined = _joined(start, axis, several, made, theirs)
        else:
            joined = np.broadcast_to(np.zeros((), kind.dtype), kind.shape)
        yield source, joined, several[0][0].layer, complete


def _joined(
    start: Array,
    axis: int,
    several: list[tuple[RewrittenTensor, tuple[int, int]]],
    made: Model,
    theirs: dict[str, TensorProto],
) -> Array:
    """``start`` with the rows that the map has; rows that it has twice must be equal."""
    whole: Array = np.array(start)
    seen = np.zeros(whole.shape[axis], bool)
    for rewrite, rows in several:
        place = (slice(None),) * axis + (slice(*rows),)
        part = _undone(rewrite, whole[place].shape, made, theirs)
        twice = (slice(None),) * axis + (seen[slice(*rows)],)
        _agree({rewrite.source: whole[place][twice]}, rewrite.source, part[twice], rewrite.layer)
        whole[place] = part
        seen[slice(*rows)] = True
    return whole


def _undone(
    rewrite: RewrittenTensor, shape: tuple[int, ...], made: Model, theirs: dict[str, TensorProto]
) -> Array:
    target = array_of(made, theirs[rewrite.target], rewrite.target)
    if target.shape != rewrite.rearrangement.result or target.size != prod(shape):
        raise FileError(
            f"the tensor {rewrite.target!r} has the shape {target.shape}, not {rewrite.rearrangement.result}",
            layer=rewrite.layer,
        )
    return rewrite.rearrangement.invert(target, shape)


def _stored(
    name: str, array: Array, producers: dict[str, NodeProto], constants: Constants
) -> tuple[str, Array]:
    """Undo what only moves elements between a stored tensor and the value ``name``; that tensor's name and values."""
    for _ in range(_LONGEST):
        node = producers.get(name)
        if node is None or node.domain not in ("", "ai.onnx"):
            break
        if node.op_type == "Transpose":
            permutation = attributes(node).get("perm") or list(range(array.ndim))[::-1]
            array = array.transpose(sorted(range(len(permutation)), key=permutation.__getitem__))
        elif node.op_type in _RESHAPES:
            array = array.reshape(constants.type_of(node.input[0]).shape)
        else:
            break
        name = node.input[0]
    return name, array
