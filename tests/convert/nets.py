"""Small networks for the tests, and the oracle that every map is held against.

The oracle is brute force: plain ONNX Runtime runs the original network on every crop of a larger input, and the
vectors are put side by side. Nothing of it is the library's own code.
"""

from itertools import product
from math import prod

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dense2conv.convert.conversion import convert
from dense2conv.convert.model import Model

FLOAT, FLOAT16, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64
LARGE = 1024  # bytes; initializers from this size on live beside the proto, as in a model that was opened
SAMPLES = 2  # images a run, where the batch is free
IR_OF = {
    7: 3,
    8: 3,
    9: 4,
    10: 5,
    11: 6,
    12: 7,
    13: 7,
    14: 7,
    15: 8,
    16: 8,
    17: 8,
    18: 8,
    19: 9,
    20: 9,
    21: 10,
    22: 10,
}

# Nothing of these may be left in a map that is a convolution.
GONE = {
    "Flatten",
    "Reshape",
    "Gemm",
    "MatMul",
    "Shape",
    "Size",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
}


class Net:
    """A network while a test puts it together: ``y = net("Relu", net.conv("x"))``.

    ``shape``: the input's, ``None`` or a string for a free size. Weights are random, by ``seed``.
    """

    def __init__(self, shape=(None, 2, 9, 8), *, opset=17, ir=None, seed=1, kind=FLOAT, listed=False):
        self.shape, self.opset, self.kind, self.listed = shape, opset, kind, listed
        self.ir = IR_OF[opset] if ir is None else ir
        self.nodes, self.tensors, self.inputs = [], {}, []
        self.random = np.random.default_rng(seed)
        self.count = 0

    def __call__(self, op, *inputs, outputs=1, name=None, domain="", **attributes):
        """Append a node; its output's name, or a list of ``outputs`` names."""
        self.count += 1
        made = [f"{op.lower()}{self.count}" + f"_{i}" * (outputs > 1) for i in range(outputs)]
        label = name or f"the_{op.lower()}{self.count}"
        self.nodes.append(helper.make_node(op, list(inputs), made, name=label, domain=domain, **attributes))
        return made[0] if outputs == 1 else made

    def tensor(self, values, dtype=None, name=None):
        """Add an initializer and return its name."""
        array = np.asarray(values, dtype=dtype)
        self.count += 1
        name = name or f"w{self.count}"
        self.tensors[name] = array
        return name

    def integers(self, *values):
        return self.tensor(values, np.int64)

    def weight(self, *shape, fan=None, offset=0.0):
        """Add a random float initializer, scaled so that values neither grow nor vanish."""
        dtype = helper.tensor_dtype_to_np_dtype(self.kind)
        scale = np.sqrt(1.0 / (fan or max(prod(shape[1:]), 1)))
        return self.tensor((self.random.standard_normal(shape) * scale + offset).astype(dtype))

    def axes(self, op, x, axes, since=13, **attributes):
        """Append an operator whose ``axes`` became an input at operator set ``since``."""
        if self.opset >= since:
            return self(op, x, self.integers(*axes), **attributes)
        return self(op, x, axes=list(axes), **attributes)

    def shape_of(self, name):
        """The shape of a value as onnx's own inference has it (``None`` where it is free)."""
        if name == "x":
            return [d if isinstance(d, int) else None for d in self.shape]
        if name in self.tensors:
            return list(self.tensors[name].shape)
        proto = self.proto([name], check=False)
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
        infos = {v.name: v for v in (*graph.value_info, *graph.input, *graph.output)}
        dims = infos[name].type.tensor_type.shape.dim
        return [d.dim_value if d.HasField("dim_value") else None for d in dims]

    def conv(self, x="x", out=3, kernel=3, bias=True, channels=None, group=1, **attributes):
        """Append Conv with a random kernel."""
        shape = self.shape_of(x)
        rank = len(shape) - 2
        sizes = [kernel] * rank if isinstance(kernel, int) else list(kernel)
        weight = self.weight(out, (channels or shape[1]) // group, *sizes)
        extra = [self.weight(out, fan=1)] if bias else []
        if group > 1:
            attributes["group"] = group
        return self("Conv", x, weight, *extra, **attributes)

    def dense(self, x, out=4, inputs=None):
        """Append Gemm with transB, as torch writes it."""
        inputs = inputs or self.shape_of(x)[-1]
        return self("Gemm", x, self.weight(out, inputs), self.weight(out, fan=1), transB=1)

    def flat(self, x):
        """Append Flatten, in the spelling that every operator set has."""
        return self("Flatten", x)

    def proto(self, outputs, check=True):
        dims = ["batch" if d is None else d for d in self.shape]
        inputs = [helper.make_tensor_value_info("x", self.kind, dims), *self.inputs]
        if self.ir < 4 or self.listed:
            inputs += [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                for n, a in self.tensors.items()
            ]
        graph = helper.make_graph(
            self.nodes,
            "network",
            inputs,
            [onnx.ValueInfoProto(name=o) for o in outputs],
            [
                numpy_helper.from_array(np.ascontiguousarray(a).reshape(a.shape), n)
                for n, a in self.tensors.items()
            ],
        )
        domains = sorted({n.domain for n in self.nodes} - {""})
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in domains)]
        proto = helper.make_model(graph, opset_imports=imports, ir_version=self.ir)
        if check:
            inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
            known = {v.name: v for v in (*inferred.value_info, *inferred.output, *inferred.input)}
            del graph.output[:]
            proto.graph.ClearField("output")
            for name in outputs:
                info = known.get(name, onnx.ValueInfoProto(name=name))
                if not info.HasField("type"):
                    info.type.tensor_type.elem_type = FLOAT
                proto.graph.output.append(info)
        return proto

    def model(self, *outputs):
        """The network, in the form in which a file is opened."""
        proto = self.proto(list(outputs))
        weights = {}
        for tensor in proto.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.nbytes >= LARGE:
                array.flags.writeable = False
                weights[tensor.name] = array
                tensor.ClearField("raw_data")
        return Model(proto, weights)


def serialised(model):
    """The bytes of a model with all its weights inside."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for tensor in proto.graph.initializer:
        if tensor.name in model.weights:
            array = model.weights[tensor.name]
            assert list(array.shape) == list(tensor.dims)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
    return proto.SerializeToString()


def session(data):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if "is under development" in str(
            error
        ):  # the oldest runtimes that are supported end at operator set 21
            pytest.skip(f"ONNX Runtime {onnxruntime.__version__} does not load this operator set yet")
        raise


def run(data, image):
    """The outputs of a serialised model, by name, in plain ONNX Runtime."""
    runtime = data if isinstance(data, onnxruntime.InferenceSession) else session(data)
    names = [o.name for o in runtime.get_outputs()]
    first = {i.name for i in runtime.get_inputs()} & {"x"}
    assert first == {"x"}
    return dict(zip(names, runtime.run(names, {"x": image}), strict=True))


def scan(model, image, patch, stride, axes):
    """The original network on every crop of ``image``: by output ``(N, *map, D)``, D all features in their order."""
    runtime = session(serialised(model))
    batch = model.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    counts = [(image.shape[a] - p) // s + 1 for a, p, s in zip(axes, patch, stride, strict=True)]
    crops = []
    for place in product(*map(range, counts)):
        window = [slice(None)] * image.ndim
        for a, i, p, s in zip(axes, place, patch, stride, strict=True):
            window[a] = slice(i * s, i * s + p)
        crops.append(image[tuple(window)])
    if batch:
        parts = [run(runtime, crop) for crop in crops]
        found = {k: np.concatenate([p[k].reshape(image.shape[0], -1) for p in parts]) for k in parts[0]}
    else:
        found = run(runtime, np.concatenate(crops))
    result = {}
    for name, vectors in found.items():
        # (positions * N, ...) -> (positions, N, D) -> (N, *map, D)
        grid = vectors.reshape(*counts, image.shape[0], -1)
        result[name] = np.moveaxis(grid, len(counts), 0)
    return result


def noise(model, size, axes, seed=5):
    """A random input of ``size`` on the spatial ``axes``."""
    tensor = model.proto.graph.input[0].type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else SAMPLES for d in tensor.shape.dim]
    for axis, pixels in zip(axes, size, strict=True):
        shape[axis] = pixels
    values = np.random.default_rng(seed).standard_normal(shape)
    kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return (values * (20 if kind.kind in "iu" else 1)).astype(kind)


def uneven(patch, stride, steps=(3, 2, 1)):
    """An input with room for another number of positions on each axis, and pixels left over behind the last."""
    return [
        p + s * n + (s - 1) // (1 + i) for i, (p, s, n) in enumerate(zip(patch, stride, steps, strict=False))
    ]


def difference(found, expected):
    """The largest difference over the largest absolute value."""
    assert found.shape == expected.shape, f"{found.shape} is not {expected.shape}"
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    assert np.isfinite(expected).all()
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))


def on_the_map(found, last, rank):
    """A map ``(N, *features, *map)`` or, channels last, ``(N, *map, *features)`` as ``(N, *map, D)``."""
    if not last:
        positions = range(found.ndim - rank, found.ndim)
        found = found.transpose(0, *positions, *range(1, found.ndim - rank))
    return found.reshape(*found.shape[: rank + 1], -1)


def assert_sound(data, *, gone=GONE):
    """The file is valid ONNX with all shapes and types inferred as declared, and free of ``gone``."""
    proto = ModelProto.FromString(data)
    onnx.checker.check_model(proto, full_check=True)
    assert not gone & {n.op_type for n in proto.graph.node}
    return proto


def assert_map(
    model,
    *,
    axes=None,
    patch=None,
    tolerance=1e-5,
    natural=None,
    exactness="exact",
    last=None,
    size=None,
    **how,
):
    """Convert ``model`` and hold its map against brute force at every position of a larger, uneven input.

    ``axes``: the input's spatial axes (default: all from the third on). ``natural``: the network's own stride, if the
    case is about it. Returns the conversion.
    """
    rank = len(model.proto.graph.input[0].type.tensor_type.shape.dim)
    axes = tuple(range(2, rank)) if axes is None else tuple(axes)
    last = bool(axes and axes[-1] != rank - 1) if last is None else last
    shape = [d.dim_value for d in model.proto.graph.input[0].type.tensor_type.shape.dim]
    window = tuple(patch or (shape[a] for a in axes))
    conversion = convert(model, patch=patch, size=size, **how)
    assert conversion.exactness == exactness
    assert conversion.analysis.patch == window
    if natural is not None:
        assert conversion.analysis.stride == tuple(natural)
    data = serialised(conversion.map)
    assert_sound(data, gone=GONE if conversion.method == "conv" else set())
    stride = conversion.stride
    pixels = list(size) if size is not None else uneven(window, stride)
    image = noise(model, pixels, axes)
    if how.get("batch"):
        image = np.resize(image, (how["batch"], *image.shape[1:]))
    expected = scan(model, image, window, stride, axes)
    runtime = session(data)
    found = run(runtime, image)
    assert list(found) == [o.name for o in model.proto.graph.output]
    for name, array in found.items():
        laid = on_the_map(array, last, len(axes))
        assert expected[name].min() != expected[name].max(), (
            "the network is dead: nothing could be wrong with its map"
        )
        assert difference(laid, expected[name]) < tolerance, name
        assert laid.dtype == expected[name].dtype
    declared = {o.name: o.shape for o in runtime.get_outputs()}
    for name, dims in declared.items():  # what the file says of its outputs is what comes out
        assert len(dims) == found[name].ndim
        assert all(d == n for d, n in zip(dims, found[name].shape, strict=True) if isinstance(d, int))
        if size is not None:
            assert all(isinstance(d, int) for d in dims[1:])
    return conversion


def left(conversion):
    """The operators of a map, in order."""
    return [n.op_type for n in conversion.map.proto.graph.node]
