"""Layers together: where Transposes stand, shared layers and models, free and fixed sizes, half precision, Keras 1."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from dense2conv.convert.keras.architecture import read_network
from dense2conv.convert.keras.network import Origin
from dense2conv.convert.keras.translation import translate
from dense2conv.convert.shapes import network_of

from .running import K1, K2, K3, draw, execute, model_of, run, same

Layers = Sequence[tuple[str, Mapping[str, Any], Any]]


def node(*names: str) -> list[Any]:
    return [[name, 0, 0, {}] for name in names]


def build(
    layers: Layers, shapes: Any, arrays: Mapping[str, Sequence[np.ndarray]], version: tuple[int, ...] = K2
) -> Any:
    stored = {(name,): [(f"{name}_{i}", a) for i, a in enumerate(of)] for name, of in arrays.items()}
    return translate(read_network(model_of(layers, shapes), Origin(version)), stored, Origin(version))


def operators(model: Any) -> Counter[str]:
    return Counter(n.op_type for n in model.proto.graph.node)


POOL = {"pool_size": [1, 1], "padding": "valid"}


def test_a_chain_of_spatial_layers_has_a_transpose_at_each_end() -> None:
    """Also with an activation, a skip and a pad in it; what broadcasts is moved, and not what it broadcasts to."""
    layers: Layers = [
        ("MaxPooling2D", POOL, [node("x0")]),
        ("ZeroPadding2D", {"padding": 1}, [node("l0")]),
        ("Cropping2D", {"cropping": 1}, [node("l1")]),
        ("PReLU", {"shared_axes": [1, 2]}, [node("l2")]),
        ("Add", {}, [node("l0", "l3")]),
        ("Concatenate", {"axis": -1}, [node("l4", "l0")]),
        ("UpSampling2D", {"size": 2}, [node("l5")]),
        ("Flatten", {}, [node("l6")]),
    ]
    x, alpha = draw(2, 4, 3, 2), draw(1, 1, 2)
    model = build(layers, [(4, 3, 2)], {"l3": [alpha]})
    assert operators(model)["Transpose"] == 2
    joined = np.concatenate([x + np.where(x > 0, x, alpha * x), x], -1).repeat(2, 1).repeat(2, 2)
    same(execute(model, [x]), joined.reshape(2, -1))


def test_a_gate_is_moved_and_not_the_map() -> None:
    """Squeeze and excite: (N, 1, 1, C) times (N, C, H, W)."""
    layers: Layers = [
        ("MaxPooling2D", POOL, [node("x0")]),
        ("GlobalAveragePooling2D", {}, [node("l0")]),
        ("Reshape", {"target_shape": [1, 1, 2]}, [node("l1")]),
        ("Multiply", {}, [node("l0", "l2")]),
        ("MaxPooling2D", POOL, [node("l3")]),
    ]
    x = draw(2, 4, 3, 2)
    model = build(layers, [(4, 3, 2)], {})
    assert operators(model)["Transpose"] == 3
    same(execute(model, [x]), x * x.mean((1, 2), keepdims=True))


def test_channels_first_needs_no_transpose() -> None:
    pool = {**POOL, "data_format": "channels_first"}
    layers: Layers = [
        ("MaxPooling2D", pool, [node("x0")]),
        ("BatchNormalization", {"axis": 1, "scale": False, "center": False}, [node("l0")]),
        ("MaxPooling2D", pool, [node("l1")]),
    ]
    model = build(layers, [(2, 4, 3)], {"l1": [draw(2), np.abs(draw(2))]})
    assert operators(model) == {"MaxPool": 2, "BatchNormalization": 1}


def test_a_shared_layer_meets_values_of_two_forms() -> None:
    """The same slopes, once as (H, W, C) and once as (C, H, W)."""
    layers: Layers = [
        ("MaxPooling2D", POOL, [node("x0")]),
        ("PReLU", {}, [node("x0"), node("l0")]),
        ("Subtract", {}, [[["l1", 0, 0, {}], ["l1", 1, 0, {}]]]),
    ]
    x, alpha = draw(2, 3, 3, 3), draw(3, 3, 3)
    model = build(layers, [(3, 3, 3)], {"l1": [alpha]})
    assert np.abs(execute(model, [x])).max() == 0


def test_a_shared_layer_is_stored_once() -> None:
    layers: Layers = [
        ("Dense", {"units": 64}, [node("x0"), node("x1")]),
        ("Subtract", {}, [[["l0", 0, 0, {}], ["l0", 1, 0, {}]]]),
    ]
    x, y, kernel, bias = draw(2, 40), draw(2, 40), draw(40, 64), draw(64)
    model = build(layers, [(40,), (40,)], {"l0": [kernel, bias]})
    assert len(model.proto.graph.initializer) == 2
    same(execute(model, [x, y]), (x - y).astype(np.float64) @ kernel)


def test_a_nested_model_called_twice() -> None:
    """Keras 2 counts its calls from 1; its layers' nodes must have names of their own."""
    inner = model_of([("Dense", {"units": 3, "activation": "relu"}, [node("x0")])], [(4,)])
    described = model_of([("Subtract", {}, [[["m", 1, 0, {}], ["m", 2, 0, {}]]])], [(4,), (4,)])
    nested = {"class_name": "Functional", "name": "m", "config": {**inner["config"], "name": "m"},
              "inbound_nodes": [node("x0"), node("x1")]}  # fmt: skip
    described["config"]["layers"].insert(2, nested)
    kernel, bias = draw(4, 3), draw(3)
    network = read_network(described, Origin(K2))
    model = translate(network, {("m", "l0"): [("k", kernel), ("b", bias)]}, Origin(K2))
    x, y = draw(2, 4), draw(2, 4)
    expected = np.maximum(x @ kernel + bias, 0) - np.maximum(y @ kernel + bias, 0)
    same(execute(model, [x, y]), expected)


@pytest.mark.parametrize(("padding", "stride"), [("valid", 2), ("same", 1), ("same", 2)])
def test_free_sizes(padding: str, stride: int) -> None:
    """The pads of SAME are those of each size."""
    config = {"pool_size": [3], "strides": [stride], "padding": padding}
    model = build([("MaxPooling1D", config, [node("x0")])], [(None, 2)], {})
    for size in (7, 8, 9, 10):
        x = draw(2, size, 2)
        fixed = build([("MaxPooling1D", config, [node("x0")])], [(size, 2)], {})
        assert np.array_equal(execute(model, [x]), execute(fixed, [x]))


def test_axes_of_different_tensors_have_different_names() -> None:
    """ONNX Runtime may take two axes of one name for equally long, and their buffers for the same."""
    model = build([("MaxPooling1D", {"pool_size": [2], "padding": "valid"}, [node("x0")])], [(None, 2)], {})
    graph = model.proto.graph
    names = [
        dim.dim_param for value in (*graph.input, *graph.output) for dim in value.type.tensor_type.shape.dim
    ]
    assert names == ["batch", "axis_1", "", "batch", "l0_axis_1", ""]


def test_shapes_of_a_model_whose_second_input_is_moved() -> None:
    layers: Layers = [
        ("MaxPooling2D", POOL, [node("x1")]),
        ("Add", {}, [node("x0", "l0")]),
    ]
    nodes = network_of(build(layers, [(4, 3, 2), (4, 3, 2)], {})).nodes
    assert [found.name for found in nodes] == ["l0", "l1"]


def test_a_fixed_batch_stays() -> None:
    described = model_of([("Flatten", {}, [node("x0")])], [(3, 2)])
    described["config"]["layers"][0]["config"]["batch_input_shape"] = [4, 3, 2]
    model = translate(read_network(described, Origin(K2)), {}, Origin(K2))
    shapes = [
        [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.proto.graph.input, *model.proto.graph.output)
    ]
    assert shapes == [[4, 3, 2], [4, 6]]


def test_half_precision_where_all_is_stored_so() -> None:
    kernel, bias = draw(4, 3).astype(np.float16), draw(3).astype(np.float16)
    layers: Layers = [
        ("Dense", {"units": 3}, [node("x0")]),
        ("Rescaling", {"scale": 0.5, "offset": 1}, [node("l0")]),
    ]
    model = build(layers, [(4,)], {"l0": [kernel, bias]})
    assert {t.data_type for t in model.proto.graph.initializer} == {onnx.TensorProto.FLOAT16}
    x = draw(2, 4).astype(np.float16)
    expected = (x.astype(np.float64) @ kernel + bias) / 2 + 1
    assert np.abs(execute(model, [x]) - expected).max() < 1e-2


def test_one_axis_is_channels_last_beside_channels_first() -> None:
    """Keras 1 has no dim_ordering in one dimension, whatever its other layers say."""
    layers: Layers = [
        ("MaxPooling2D", {"pool_size": [1, 1], "border_mode": "valid", "dim_ordering": "th"}, [node("x0")]),
        ("Reshape", {"target_shape": [6, 2]}, [node("l0")]),
        ("MaxPooling1D", {"pool_length": 2, "stride": 2, "border_mode": "valid"}, [node("l1")]),
    ]
    x = draw(2, 2, 2, 3)
    same(execute(build(layers, [(2, 2, 3)], {}, K1), [x]), x.reshape(2, 3, 2, 2).max(2))


KERAS1: list[tuple[str, dict[str, Any], Sequence[Any], Any, Any]] = [
    ("UpSampling1D", {"length": 3}, [(4, 2)], (), lambda x: x.repeat(3, 1)),
    ("ZeroPadding2D", {"padding": {"top_pad": 1, "right_pad": 2}}, [(3, 4, 2)], (),
     lambda x: np.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0)))),
    ("ZeroPadding2D", {"padding": [1, 0, 2, 1]}, [(3, 4, 2)], (),
     lambda x: np.pad(x, ((0, 0), (1, 0), (2, 1), (0, 0)))),
    ("ZeroPadding2D", {"padding": [1, 2]}, [(3, 4, 2)], (), lambda x: np.pad(x, ((0, 0), (1, 1), (2, 2), (0, 0)))),
    ("ZeroPadding1D", {"padding": {"left_pad": 1, "right_pad": 2}}, [(3, 2)], (),
     lambda x: np.pad(x, ((0, 0), (1, 2), (0, 0)))),
    ("Merge", {"mode": "sum"}, [(3,), (3,)], (), lambda x, y: x + y),
    ("Merge", {"mode": "mul"}, [(3,), (3,)], (), lambda x, y: x * y),
    ("Merge", {"mode": "ave"}, [(3,), (3,)], (), lambda x, y: (x + y) / 2),
    ("Merge", {"mode": "max"}, [(3,), (3,)], (), np.maximum),
    ("Merge", {"mode": "concat", "concat_axis": 1}, [(3, 2), (4, 2)], (), lambda x, y: np.concatenate([x, y], 1)),
    ("Merge", {"mode": "dot", "dot_axes": 2}, [(3, 2), (4, 2)], (), lambda x, y: np.einsum("nac,nbc->nab", x, y)),
    ("TimeDistributedDense", {"output_dim": 2}, [(3, 4)], [draw(4, 2), draw(2)], lambda x, k, b: x @ k + b),
    ("GaussianNoise", {"sigma": 0.5}, [(3,)], (), lambda x: x),
    ("PReLU", {"shared_axes": [None]}, [(3, 2)], [draw(3, 2)], lambda x, a: np.where(x > 0, x, a * x)),
    ("GlobalAveragePooling2D", {"dim_ordering": "th"}, [(2, 3, 4)], (), lambda x: x.mean((2, 3))),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "config", "shapes", "arrays", "expected"), KERAS1)
def test_spellings_of_keras_1(kind: str, config: Any, shapes: Any, arrays: Any, expected: Any) -> None:
    values = [draw(2, *shape) for shape in shapes]
    same(run(kind, config, values, arrays, K1), expected(*(v.astype(np.float64) for v in values), *arrays))


def test_a_wrapped_kernel_of_theano_is_turned_and_flipped() -> None:
    """(out, in, rows, columns) of a true convolution, in a TimeDistributed."""
    x, stored, bias = draw(2, 3, 2, 5, 4), draw(6, 2, 3, 2), draw(6)
    inner = {"class_name": "Convolution2D",
             "config": {"name": "c", "nb_filter": 6, "nb_row": 3, "nb_col": 2, "border_mode": "valid",
                        "subsample": [1, 1], "dim_ordering": "th"}}  # fmt: skip
    expected = np.zeros((2, 3, 6, 3, 3))
    for i, j in itertools.product(range(3), range(3)):
        part = x[..., i : i + 3, j : j + 2].astype(np.float64)
        expected[..., i, j] = np.einsum("ntchw,ochw->nto", part, stored[:, :, ::-1, ::-1]) + bias
    config = {"layer": inner}
    same(run("TimeDistributed", config, [x], [stored, bias], K1, backend="theano"), expected)


@pytest.mark.parametrize("ordering", ["th", "tf"])
def test_separable_convolution_of_keras_1(ordering: str) -> None:
    """keras/layers/convolutional.py, 1.2: th stores (M, C, rows, columns) and (out, C * M, 1, 1)."""
    x, depth, point, bias = draw(2, 5, 4, 3), draw(2, 2, 3, 2), draw(1, 1, 6, 4), draw(4)
    config = {"nb_filter": 4, "nb_row": 2, "nb_col": 2, "border_mode": "valid", "subsample": [1, 1],
              "depth_multiplier": 2, "dim_ordering": ordering}  # fmt: skip
    expected = np.zeros((2, 4, 3, 6))
    for i, j in itertools.product(range(4), range(3)):
        part = np.einsum("nhwc,hwcm->ncm", x[:, i : i + 2, j : j + 2].astype(np.float64), depth)
        expected[:, i, j] = part.reshape(2, 6)
    expected = expected @ point[0, 0] + bias
    if ordering == "tf":
        same(run("SeparableConvolution2D", config, [x], [depth, point, bias], K1), expected)
        return
    stored = [depth.transpose(3, 2, 0, 1), point.transpose(3, 2, 0, 1), bias]
    found = run("SeparableConvolution2D", config, [np.moveaxis(x, -1, 1)], stored, K1)
    same(found, np.moveaxis(expected, -1, 1))


def test_a_function_of_keras_3_in_a_file_that_names_no_module() -> None:
    """Cast is a function with a dtype, SpatialDropout a layer that does not say whether it is trainable."""
    x = draw(2, 3, 4)
    history = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None, 3, 4], "dtype": "float32", "keras_history": ["x0", 0, 0]},
    }
    for kind, config in (
        ("Cast", {"dtype": "float32"}),
        ("SpatialDropout1D", {"rate": 0.5, "dtype": "float32"}),
    ):
        described = model_of([], [(3, 4)])
        described["config"]["layers"].append(
            {
                "class_name": kind,
                "name": "l",
                "config": {"name": "l", **config},
                "inbound_nodes": [{"args": [history], "kwargs": {}}],
            }
        )
        described["config"]["output_layers"] = [["l", 0, 0]]
        model = translate(read_network(described, Origin(K3)), {}, Origin(K3))
        assert np.array_equal(execute(model, [x]), x)
