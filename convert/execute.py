"""A network run by ONNX Runtime, which is handed bytes and arrays and never a path.

A path would let a file name other files for the runtime to open, and a mapped weight would be read a second
time. So the skeleton goes over as bytes, its large weights marked as external, and each of those is
supplied from its numpy view with ``SessionOptions.add_external_initializers`` (in ONNX Runtime since 1.12).
The runtime copies each once, into memory that it plans; a view that is not contiguous is laid out first.
"""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .errors import Dense2ConvError, FileError, MachineError
from .mapped import release
from .model import Array, Model
from .providers import CUDA, missing, parse_provider, placed, records_assignment

THREADS = 2

# Shape inference reads small tensors (a reshape's target, a clip's bounds) and cannot read external ones.
_LARGEST_INLINE = 1 << 16  # bytes

# The element types that become an OrtValue from a numpy array; others travel inside the skeleton.
_NATIVE = frozenset("?bhilqBHILQefd")

_DTYPES: Mapping[str, str] = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(int8)": "int8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(uint8)": "uint8",
}


@dataclass(frozen=True)
class Value:
    """An input or output of a network: ``shape`` has ``None`` for a free axis; ``dtype`` is numpy's name."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Session:
    """One network, loaded into ONNX Runtime.

    ``inputs`` and ``outputs`` are as the runtime understood them; initializers are no inputs. ``provider``
    is as in ``parse_provider``; ``placement`` says which provider runs what, by the session's own word.
    ``allow_tf32`` lets CUDA round float32 products to 10 bits; ``optimized`` is ORT_ENABLE_ALL, else
    ORT_DISABLE_ALL: every node as the file has it.

    Raises ``FileError`` where the runtime does not load the network, ``MachineError`` where the provider or
    the memory is missing: a provider that was asked for is never replaced by another.
    """

    def __init__(
        self, model: Model, provider: str = "cpu", *, allow_tf32: bool = False, optimized: bool = True
    ) -> None:
        name, device = parse_provider(provider)
        runtime = _runtime()
        available = runtime.get_available_providers()
        if name not in available:
            raise missing(name, f"available: {', '.join(available)}")
        skeleton, self._weights = _for_runtime(model)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # fatal only; what matters is raised
        level = runtime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
        # Two sessions live side by side in a comparison: a waiting pool must not burn the other's cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        settings: dict[str, str] = {}
        if name == CUDA:
            _load_cuda(runtime)
            # TF32 rounds float32 products to 10 bits: that is another network.
            settings = {
                "device_id": str(device),
                "use_tf32": "1" if allow_tf32 else "0",
                "cudnn_conv_algo_search": "HEURISTIC",
            }
            if not records_assignment(runtime):
                options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        self._path = model.path
        try:
            if self._weights:
                values = [runtime.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
                options.add_external_initializers(list(self._weights), values)
            with warnings.catch_warnings():
                # A missing provider is a warning to the runtime; below, an error.
                warnings.simplefilter("ignore")
                self._session: Any = runtime.InferenceSession(
                    _serialized(skeleton), options, providers=[(name, settings)], enable_fallback=0
                )
        except Dense2ConvError:
            raise
        except Exception as error:
            raise _error(error, "ONNX Runtime does not load it", model.path, name) from error
        for array in self._weights.values():
            release(array)  # the runtime has its own copy
        self.placement = placed(self._session, skeleton, name, device, allow_tf32 and name == CUDA)
        self.inputs = tuple(map(_value, self._session.get_inputs()))
        self.outputs = tuple(map(_value, self._session.get_outputs()))
        for value in (*self.inputs, *self.outputs):
            if value.dtype not in _DTYPES.values():
                raise FileError(
                    f"inputs and outputs are tensors of numbers, but {value.name!r} is {value.dtype}",
                    file=model.path,
                )

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
        """The outputs by name, in the network's order.

        Raises ``FileError`` with the runtime's reason where it cannot run on these inputs, ``MachineError``
        where memory runs out.
        """
        try:
            results = self._session.run(None, dict(feeds))
        except Exception as error:
            raise _error(error, "ONNX Runtime cannot run it on this input", self._path, "") from error
        return {value.name: np.asarray(result) for value, result in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        """Give the runtime's memory back; the session cannot run any more."""
        self._session, self._weights = None, {}


def session(model: Model, provider: str = "cpu") -> Session:
    """Load a network into ONNX Runtime; see ``Session``."""
    return Session(model, provider)


def _runtime() -> Any:
    """ONNX Runtime, imported when first needed (0.1 s), and silent: it logs to stderr what it also raises.

    Raises ``MachineError`` where it is not there, or only in part: of two distributions in one folder, removing
    the one takes files of the other.
    """
    try:
        import onnxruntime

        onnxruntime.set_default_logger_severity(4)
    except (ImportError, AttributeError) as error:
        raise MachineError(
            f"ONNX Runtime is not installed, or not whole: {' '.join(str(error).split())}",
            hint="run `pip uninstall -y onnxruntime onnxruntime-gpu; pip install onnxruntime`",
        ) from error
    return onnxruntime


def _load_cuda(runtime: Any) -> None:
    """Load the CUDA libraries that pip installed (``onnxruntime-gpu[cuda,cudnn]``): nothing else looks for them there.

    What is missing the runtime prints, and the session's start then tells.
    """
    if hasattr(runtime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            runtime.preload_dlls()


def _value(argument: Any) -> Value:
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in argument.shape)
    return Value(argument.name, shape, _DTYPES.get(argument.type, argument.type))


def _for_runtime(model: Model) -> tuple[ModelProto, dict[str, Array]]:
    """A copy of the skeleton whose small weights are inside, and the large ones by name, contiguous.

    Raises ``FileError`` for an initializer that still refers to a file; opening refuses such tensors
    elsewhere.
    """
    skeleton = ModelProto()
    skeleton.CopyFrom(model.proto)
    graph = skeleton.graph
    used = set(_names_used(graph)) | {output.name for output in graph.output}
    large: dict[str, Array] = {}
    # Weights that are listed as inputs too (always, before version 4) are defaults, not something to feed.
    defaults = set(model.initializers())
    skeleton.ir_version = max(skeleton.ir_version, 4)
    for index in reversed(range(len(graph.input))):
        if graph.input[index].name in defaults:
            del graph.input[index]
    for index in reversed(range(len(graph.initializer))):
        tensor = graph.initializer[index]
        if tensor.name not in used:
            # The runtime drops what no node reads before it looks for supplied weights, and then misses them.
            del graph.initializer[index]
        elif tensor.name in model.weights:
            array = _checked(tensor, model.weights[tensor.name], model.path)
            if array.nbytes <= _LARGEST_INLINE or array.dtype.char not in _NATIVE:
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
            else:
                large[tensor.name] = array
                bare = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
                tensor.CopyFrom(bare)
        elif tensor.data_location == TensorProto.EXTERNAL:
            raise FileError(
                f"weight {tensor.name!r} was not mapped when the file was opened", file=model.path
            )
    for tensor in graph.initializer:
        if tensor.name in large:
            # Never opened: the array takes its place. An attempt to open it would fail, and so be seen.
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="supplied-by-dense2conv")
    return skeleton, large


def _checked(tensor: TensorProto, array: Array, path: str) -> Array:
    """The weight, contiguous; the runtime reads as many bytes as the declaration says, so both must agree."""
    declared = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if tuple(tensor.dims) != array.shape or declared != array.dtype:
        raise FileError(
            f"weight {tensor.name!r} is declared {declared.name} {tuple(tensor.dims)} "
            f"but holds {array.dtype.name} {array.shape}",
            file=path,
        )
    return np.ascontiguousarray(array).reshape(array.shape)  # reshape: numpy gives a scalar an axis


def _names_used(graph: GraphProto) -> Iterator[str]:
    """Every value name that a node reads, in this graph and in those of its nodes."""
    for node in graph.node:
        yield from node.input
        for inner in _graphs(node):
            yield from _names_used(inner)
            yield from (output.name for output in inner.output)


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _serialized(skeleton: ModelProto) -> bytes:
    """The bytes of a skeleton; a protobuf message ends at 2 GiB."""
    try:
        return bytes(skeleton.SerializeToString())
    except Exception as error:
        raise MachineError(
            "ONNX Runtime takes a graph of at most 2 GiB, and more than that is inside this one's nodes"
        ) from error


_NO_MEMORY = re.compile(
    r"bad[ _]?alloc|failed to allocate|out of memory|cannot allocate|CUDA failure 2\b", re.I
)
_NO_DEVICE = re.compile(
    r"\bCUDA failure|\bCUDNN failure|\bCUBLAS failure|invalid device (?:ordinal|id)\b", re.I
)
_NO_FALLBACK = re.compile(r"fallback to (?:the )?CPU EP has been explicitly disabled", re.I)


def _error(error: Exception, rule: str, path: str, provider: str) -> Dense2ConvError:
    """The library's error for one of the runtime's."""
    raw, text = str(error), _reason(str(error))
    if isinstance(error, MemoryError) or _NO_MEMORY.search(raw):
        return MachineError(f"ONNX Runtime ran out of memory: {text}", file=path)
    if _NO_FALLBACK.search(raw):
        return MachineError(
            f"{provider} did not start, or cannot run all of it: this ONNX Runtime does not say which",
            hint="install a newer onnxruntime-gpu, or leave --provider out to run on the CPU",
            file=path,
        )
    if _NO_DEVICE.search(raw):
        return MachineError(f"{provider or 'CUDA'} failed: {text}", file=path)
    return FileError(f"{rule}: {text}", file=path)


def _reason(text: str) -> str:
    r"""One line of what the runtime says: without error codes, source positions and stack.

    >>> _reason("[ONNXRuntimeError] : 1 : FAIL : graph.cc:43 Resolve Node (a) is broken.\nStacktrace:\n#1")
    'Node (a) is broken.'
    """
    text = re.split(r"\n?\s*Stack ?trace:?", text, maxsplit=1, flags=re.IGNORECASE)[0]
    # "[ONNXRuntimeError] : 1 : FAIL : ", then a position: "graph.cc:43 Function " or "/x.cc:43 T ns::f(args) ".
    text = re.sub(r"^.*?\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text, flags=re.DOTALL)
    text = re.sub(
        r"\S+\.(?:cc|cpp|h|cu):\d+ (?:[\w~<>*& ]*::[\w:~<>*&, ]*\([^()]*\)(?: const)? |\w+ )?", "", text
    )
    return " ".join(text.split()) or "no reason given"
