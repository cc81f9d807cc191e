"""One tensor: how many bytes each data type takes, and whether the data is what the dims ask for.

A tensor's shape says how much data it has: ``elements = product(dims)``, in ``raw_data`` or an external file
``ceil(elements * bits / 8)`` bytes, in a typed field ``ceil(elements * entries / packed)`` numbers.
Everything else is refused here, because readers differ about it: too little data, too much, or data in two
places.
"""

from math import prod
from typing import NamedTuple

import numpy as np
from onnx import TensorProto, helper

from .errors import FileError


class DataType(NamedTuple):
    """How one ``TensorProto.DataType`` is stored."""

    name: str
    bits: int  # an element in raw_data; 0: raw_data is not allowed
    field: str  # the typed field
    entries: int = 1  # numbers of the typed field for ``packed`` elements
    packed: int = 1


# onnx.proto, TensorProto.DataType and the comments on its data fields. Numbers instead of names, because an
# older onnx has no name for the newest.
DATA_TYPES = {
    1: DataType("FLOAT", 32, "float_data"),
    2: DataType("UINT8", 8, "int32_data"),
    3: DataType("INT8", 8, "int32_data"),
    4: DataType("UINT16", 16, "int32_data"),
    5: DataType("INT16", 16, "int32_data"),
    6: DataType("INT32", 32, "int32_data"),
    7: DataType("INT64", 64, "int64_data"),
    8: DataType("STRING", 0, "string_data"),
    9: DataType("BOOL", 8, "int32_data"),
    10: DataType("FLOAT16", 16, "int32_data"),
    11: DataType("DOUBLE", 64, "double_data"),
    12: DataType("UINT32", 32, "uint64_data"),
    13: DataType("UINT64", 64, "uint64_data"),
    14: DataType("COMPLEX64", 64, "float_data", entries=2),
    15: DataType("COMPLEX128", 128, "double_data", entries=2),
    16: DataType("BFLOAT16", 16, "int32_data"),
    17: DataType("FLOAT8E4M3FN", 8, "int32_data"),
    18: DataType("FLOAT8E4M3FNUZ", 8, "int32_data"),
    19: DataType("FLOAT8E5M2", 8, "int32_data"),
    20: DataType("FLOAT8E5M2FNUZ", 8, "int32_data"),
    21: DataType("UINT4", 4, "int32_data", packed=2),
    22: DataType("INT4", 4, "int32_data", packed=2),
    23: DataType("FLOAT4E2M1", 4, "int32_data", packed=2),
    24: DataType("FLOAT8E8M0", 8, "int32_data"),
    25: DataType("UINT2", 2, "int32_data", packed=4),
    26: DataType("INT2", 2, "int32_data", packed=4),
    27: DataType("FLOAT6E2M3", 6, "int32_data"),
    28: DataType("FLOAT6E3M2", 6, "int32_data"),
}
TYPED_FIELDS = sorted({row.field for row in DATA_TYPES.values()})

MAX_RANK = 32  # numpy 1.26's limit
MAX_BYTES = 2**63 - 1


def view_type(data_type: int) -> np.dtype[np.generic] | None:
    """The numpy type whose elements lie in memory as they do in ``raw_data``; None where there is none.

    There is none for strings and for types of less than a byte, and an older onnx has none for bfloat16 and
    float8.
    """
    row = DATA_TYPES[data_type]
    try:
        dtype: np.dtype[np.generic] = helper.tensor_dtype_to_np_dtype(data_type)
    except (KeyError, ValueError, TypeError):
        return None
    return dtype if row.bits and dtype.itemsize * 8 == row.bits else None


def data_size(tensor: TensorProto, where: str) -> int:
    """The bytes of ``raw_data`` that a tensor's dims and data type ask for (0 for strings).

    Raises FileError where the type is unknown, a dimension negative, or the size over 2**63 - 1.
    """
    row = DATA_TYPES.get(tensor.data_type)
    if row is None:
        raise FileError(f"{where}: data type {tensor.data_type} is not known")
    dims = list(tensor.dims)
    if min(dims, default=0) < 0:
        raise FileError(f"{where}: a dimension must not be negative, but dims are {dims}")
    if len(dims) > MAX_RANK:
        raise FileError(f"{where}: at most {MAX_RANK} dimensions are supported, but it has {len(dims)}")
    # Zeros are left out of this product: numpy refuses such a shape too, although it holds nothing.
    if prod(filter(None, dims)) * max(row.bits, 8) // 8 > MAX_BYTES:
        raise FileError(f"{where}: dims {dims} overflow 64 bits")
    return int(prod(dims) * row.bits + 7) // 8


def check_data(tensor: TensorProto, where: str, outside: int | None = None) -> int:
    """Refuse a tensor whose data is not what its dims ask for, in one place; the size of raw_data in bytes.

    ``outside`` is the length of its raw_data where that is kept outside the proto. External data is one of the
    places; whether it is sound is not judged here.
    """
    size = data_size(tensor, where)
    places = {name: length for name in TYPED_FIELDS if (length := len(getattr(tensor, name)))}
    if tensor.HasField("raw_data"):
        places["raw_data"] = len(tensor.raw_data)
    if outside is not None:
        places["raw_data outside the graph"] = outside
    if is_external(tensor):
        places["external data"] = size
    if tensor.HasField("segment"):
        raise FileError(f"{where}: tensors in segments are not supported")
    if len(places) > 1:
        raise FileError(f"{where}: data must be in one place, but it has {' and '.join(places)}")
    for place, length in places.items():
        _check_amount(tensor, where, place, length, size)
    if not places and prod(tensor.dims):
        raise FileError(
            f"{where}: it has no data, but dims {list(tensor.dims)} ask for {prod(tensor.dims)} elements"
        )
    return size


def _check_amount(tensor: TensorProto, where: str, place: str, length: int, size: int) -> None:
    """Refuse data in the wrong field for its type, or of another length than its dims ask for."""
    row, dims = DATA_TYPES[tensor.data_type], list(tensor.dims)
    if place not in TYPED_FIELDS:
        if not row.bits:
            raise FileError(f"{where}: strings must be in string_data, but they are in {place}")
        if length != size:
            raise FileError(f"{where}: raw_data has {length} of {size} bytes that dims {dims} ask for")
        return
    needed = -(-prod(dims) * row.entries // row.packed)
    if place != row.field:
        raise FileError(f"{where}: data of type {row.name} must be in {row.field}, but it is in {place}")
    if length != needed:
        raise FileError(f"{where}: {place} has {length} of {needed} numbers that dims {dims} ask for")


def is_external(tensor: TensorProto) -> bool:
    """Whether the tensor says that its data is in another file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)
