"""What a map holds of the network it was made from, so that ``restore`` can give that network again.

One JSON text in the file's metadata, under the key ``dense2conv.source``: the source's graph, deflated, without the
numbers that the map has itself (``from_map`` names them), and what the map's own graph was when it was written. Weights
may be trained; a node, a name, a shape or a constant that is no weight of the source may not change.

Tensors of the source that are not in the map (nothing read them, or something was computed from them) are kept in
the skeleton, up to ``MOST_KEPT`` bytes; where there are more, the text says so in place of the skeleton.
"""

import base64
import binascii
import hashlib
import json
import zlib
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto

from .errors import FileError
from .metadata import KEY, RewrittenTensor
from .model import LARGE, Model
from .recovered import array_of, of_the_patch, recover, stored_tensors
from .tensors import TYPED_FIELDS, is_external, view_type

SOURCE_KEY = f"{KEY}.source"
VERSION = 1
MOST_KEPT = 1 << 22  # bytes of tensors that the map does not have
_LARGEST = 1 << 28  # bytes of a skeleton; a graph of a million nodes is below
_LARGEST_TEXT = 1 << 27
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})


class Skeleton(NamedTuple):
    """A source without the tensors ``from_map``; ``structure`` and ``nodes`` are its map's, as it was written."""

    model: Model
    from_map: frozenset[str]
    structure: str
    nodes: int


def keep_source(source: Model, made: Model, rewrites: list[RewrittenTensor]) -> None:
    """Put the skeleton of ``source`` into the metadata of its map ``made``."""
    text = _text(source, made, rewrites)
    kept = [p for p in made.proto.metadata_props if p.key != SOURCE_KEY]
    copies = [StringStringEntryProto(key=p.key, value=p.value) for p in kept]
    del made.proto.metadata_props[:]
    made.proto.metadata_props.add(key=SOURCE_KEY, value=text)
    made.proto.metadata_props.extend(copies)


def _text(source: Model, made: Model, rewrites: list[RewrittenTensor]) -> str:
    try:
        there = set(recover(source, made, rewrites, numbers=False).stored)
        targets = {rewrite.target for rewrite in rewrites} - of_the_patch(source, rewrites)
    except FileError as error:  # a map that cannot be restored is a map all the same
        return _json({"version": VERSION, "reason": error.message})
    skeleton = ModelProto()
    skeleton.CopyFrom(source.proto)
    copy = Model(skeleton, source.weights)
    kept, from_map = 0, set()
    for name, tensor in stored_tensors(copy).items():
        large = source.weights[name].nbytes if name in source.weights else tensor.ByteSize()
        viewed = view_type(tensor.data_type) is not None
        if name in there and viewed and (tensor.data_type in FLOATS or large >= LARGE):
            from_map.add(name)
            for field in ("raw_data", *TYPED_FIELDS):
                tensor.ClearField(field)
            continue
        kept += large
        if kept > MOST_KEPT:
            reason = (
                f"the map lacks the tensor {name!r}, and more than {MOST_KEPT} bytes are not kept beside it"
            )
            return _json({"version": VERSION, "reason": reason})
        if name in source.weights:
            tensor.raw_data = source.weights[name].tobytes()
    packed = zlib.compress(skeleton.SerializeToString(deterministic=True), 9)
    return _json(
        {
            "version": VERSION,
            "structure": structure_of(made, from_map | targets),
            "nodes": len(made.proto.graph.node),
            "from_map": sorted(from_map),
            "skeleton": base64.b64encode(packed).decode("ascii"),
        }
    )


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def structure_of(made: Model, weights: set[str]) -> str:
    """A digest of a map without the numbers of ``weights``: nodes in any order, constants, interface, operator sets."""
    proto, digest = made.proto, hashlib.sha256(usedforsecurity=False)
    parts = [f"{o.domain or 'ai.onnx'}:{o.version}".encode() for o in proto.opset_import]
    parts += [b"function" + f.SerializeToString(deterministic=True) for f in proto.functions]
    parts += [b"node" + _node(node) for node in proto.graph.node]
    for kind, values in (("input", proto.graph.input), ("output", proto.graph.output)):
        parts += [f"{kind} {i}".encode() + _interface(value) for i, value in enumerate(values)]
    for name, tensor in made.initializers().items():
        head = f"tensor {name} {tensor.data_type} {list(tensor.dims)}".encode()
        trained = name in weights and tensor.data_type in FLOATS
        parts.append(head if trained else head + array_of(made, tensor, name).tobytes())
    for part in sorted(parts):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _node(node: NodeProto) -> bytes:
    """What a node does: its name and its documentation are not part of it, nor is the order of its attributes."""
    bare = NodeProto(op_type=node.op_type, domain="" if node.domain == "ai.onnx" else node.domain)
    bare.input.extend(node.input)
    bare.output.extend(node.output)
    for attribute in sorted(node.attribute, key=lambda a: str(a.name)):
        copy = AttributeProto()
        copy.CopyFrom(attribute)
        copy.ClearField("doc_string")
        bare.attribute.append(copy)
    encoded: bytes = bare.SerializeToString(deterministic=True)
    return encoded


def _interface(value: ValueInfoProto) -> bytes:
    """Name and element type; sizes may be fixed or freed."""
    return f"{value.name} {value.type.tensor_type.elem_type}".encode()


def read_skeleton(made: Model) -> Skeleton:
    """What the map ``made`` holds of its source. Raises ``FileError`` where that is nothing, or not sound."""
    texts = [p.value for p in made.proto.metadata_props if p.key == SOURCE_KEY]
    if len(texts) != 1:
        raise FileError(
            "the map does not say what it was made from"
            if not texts
            else f"{SOURCE_KEY!r} stands more than once",
            file=made.path,
            hint="only a map that this version of dense2conv wrote can be restored: convert the patch network again",
        )
    try:
        return _skeleton(texts[0])
    except FileError as error:
        error.file = error.file or made.path
        raise


def _skeleton(text: str) -> Skeleton:
    if len(text) > _LARGEST_TEXT:
        raise _unsound(f"it has {len(text)} characters, {_LARGEST_TEXT} at most")
    try:
        value = json.loads(text)
        version = value["version"]
        if version != VERSION:
            raise _unsound(f"its version is {VERSION}, not {version!r}")
        if "reason" in value:
            raise FileError(f"this map cannot be restored: {str(value['reason'])[:500]}",
                            hint="train the patch network, and convert it again")  # fmt: skip
        names, structure, nodes = value["from_map"], value["structure"], value["nodes"]
        packed = base64.b64decode(value["skeleton"], validate=True)
        unpacked = zlib.decompressobj()
        data = unpacked.decompress(packed, _LARGEST)
        if not unpacked.eof:
            raise _unsound(f"its graph is cut off, or larger than {_LARGEST} bytes")
        proto = ModelProto.FromString(data)
    except (
        ValueError,
        TypeError,
        KeyError,
        RecursionError,
        zlib.error,
        binascii.Error,
        DecodeError,
    ) as error:
        raise _unsound(f"it cannot be read ({type(error).__name__})") from error
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise _unsound("from_map is a list of names")
    if not isinstance(structure, str) or type(nodes) is not int:
        raise _unsound("structure is a text, nodes is a number")
    return Skeleton(_emptied(proto, frozenset(names)), frozenset(names), structure, nodes)


def _emptied(proto: ModelProto, from_map: frozenset[str]) -> Model:
    """The skeleton as a model: tensors that the map has are one zero everywhere, in no memory."""
    from onnx import helper

    model = Model(proto)
    tensors = stored_tensors(model)
    if not from_map <= tensors.keys():
        raise _unsound("it names tensors that its graph does not have")
    for name, tensor in tensors.items():
        if is_external(tensor):
            raise _unsound(f"its tensor {name!r} has external data")
        if name in from_map:
            if min(tensor.dims, default=0) < 0:
                raise _unsound(f"its tensor {name!r} has the sizes {list(tensor.dims)}")
            try:
                dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
                model.weights[name] = np.broadcast_to(np.zeros((), dtype), tuple(tensor.dims))
            except (KeyError, ValueError) as error:
                raise _unsound(
                    f"its tensor {name!r} is of type {tensor.data_type}, {list(tensor.dims)}"
                ) from error
    return model


def _unsound(reason: str) -> FileError:
    return FileError(
        f"the metadata {SOURCE_KEY!r} is not a map's: {reason}",
        hint="the file was edited or damaged since dense2conv wrote it; convert again",
    )
