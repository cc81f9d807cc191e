"""Every layer of the ONNX standard's own test suite that a shape rule is for has the shape that its case expects.

Source: ``onnx.backend.test.case.node``: a model of one node, what goes in, what must come out. Only the modules of the
operators below are imported: each makes its cases when it is.
"""

import warnings
from collections import Counter
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from dense2conv.convert.errors import FileError
from dense2conv.convert.model import Model
from dense2conv.convert.shapes import network_of
from dense2conv.shapecalc.network import Network

# How many cases onnx 1.19 has of each operator; newer versions have no fewer.
CASES = {
    "ArgMax": 16,
    "ArgMin": 16,
    "AveragePool": 20,
    "Concat": 12,
    "Conv": 6,
    "ConvTranspose": 11,
    "DepthToSpace": 2,
    "Flatten": 9,
    "Gemm": 11,
    "GlobalAveragePool": 2,
    "GlobalMaxPool": 2,
    "LpPool": 8,
    "MatMul": 3,
    "MaxPool": 19,
    "Pad": 6,
    "ReduceL1": 9,
    "ReduceL2": 9,
    "ReduceLogSum": 5,
    "ReduceLogSumExp": 9,
    "ReduceMax": 10,
    "ReduceMean": 8,
    "ReduceMin": 10,
    "ReduceProd": 9,
    "ReduceSum": 12,
    "ReduceSumSquare": 9,
    "Reshape": 10,
    "Resize": 39,
    "Slice": 8,
    "SpaceToDepth": 2,
    "Split": 16,
    "Squeeze": 2,
    "Transpose": 7,
    "Unsqueeze": 7,
    "Upsample": 1,
}

# Operands behind the first that a network has as constants. Weights stay inputs, as the suite has them.
SETTINGS = {"Pad", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Unsqueeze", "Upsample"}

# Cases that are refused, and why. All of them are about tensors without elements, which no layer of a network has.
NO_SIZE = "sizes must be positive"
REFUSED = {
    **dict.fromkeys(
        (
            "test_reduce_l1_empty_set",
            "test_reduce_l2_empty_set",
            "test_reduce_log_sum_empty_set",
            "test_reduce_log_sum_exp_empty_set",
            "test_reduce_max_empty_set",
            "test_reduce_max_empty_set_bool",
            "test_reduce_min_empty_set",
            "test_reduce_prod_empty_set",
            "test_reduce_sum_empty_set",
            "test_reduce_sum_empty_set_non_reduced_axis_zero",
            "test_reduce_sum_square_empty_set",
        ),
        NO_SIZE,
    ),
    "test_reshape_allowzero_reordered": "a reshape of 12 elements to 0",  # a batch of 0 counts as a free one
    "test_split_zero_size_splits_opset13": "do not add up",
    "test_split_zero_size_splits_opset18": "do not add up",
}

# Cases without a rule: their shape comes from onnx's own inference, so that it agrees says little.
INFERRED = {
    "test_matmul_1d_1d",
    "test_matmul_1d_3d",
    "test_matmul_4d_1d",
    "test_resize_downsample_sizes_nearest_not_larger",
    "test_resize_downsample_sizes_nearest_not_smaller",
    "test_resize_tf_crop_and_resize_axes_2_3",
    "test_resize_tf_crop_and_resize_axes_3_2",
    "test_resize_upsample_scales_nearest_axes_2_3",
    "test_resize_upsample_scales_nearest_axes_3_2",
    "test_resize_upsample_sizes_nearest_axes_2_3",
    "test_resize_upsample_sizes_nearest_axes_3_2",
    "test_resize_upsample_sizes_nearest_not_larger",
    "test_resize_upsample_sizes_nearest_not_smaller",
}

# Cases to which the two runtimes give different shapes: none. The suite has no SAME with a dilation, none with a stride
# above the kernel, and its windows of ceil_mode that start in the pads are of operator set 22: onnx drops them too.


def _collected() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite's own overflows and logarithms of 0
        package = import_module("onnx.backend.test.case.node")
        operators = {name.lower() for name in CASES}
        for module in iter_modules(package.__path__):
            if module.name.replace("_", "") in operators:
                import_module(f"{package.__name__}.{module.name}")
    found = [case for case in package._NodeTestCases if len(case.model.graph.node) == 1]
    return {case.name: case for case in found if case.model.graph.node[0].op_type in CASES}


SUITE = _collected()


def _network(case: Any, runtime: str) -> tuple[Network, list[tuple[int, ...]]]:
    """The case as a network, and the shape of each of its outputs, as the suite says."""
    ((inputs, outputs),) = case.data_sets
    proto = ModelProto()
    proto.CopyFrom(case.model)
    node = proto.graph.node[0]
    for info, array in zip(proto.graph.input, inputs, strict=True):
        operand = info.name != node.input[0]
        if operand and (node.op_type in SETTINGS or node.op_type.startswith("Reduce")):
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), info.name))
    if node.op_type == "Split":  # a row has the shape of a node's first output only
        for place, name in enumerate(node.output):
            proto.graph.node.add(op_type="Identity", input=[name], output=[f"copy{place}"])
    return network_of(Model(proto), runtime=runtime), [np.asarray(array).shape for array in outputs]


def _sample(shape: tuple[int, ...], case: Any) -> tuple[int, ...]:
    """The shape of one sample: without the batch of the input, the first with a spatial axis if there is one."""
    arrays = [np.asarray(array) for array in case.data_sets[0][0]]
    read = next((array for array in arrays if array.ndim > 2), arrays[0])
    return (shape[1:] or (1,)) if shape and shape[0] == read.shape[0] else shape


@pytest.mark.parametrize("operator", CASES)
def test_no_case_has_got_lost(operator: str) -> None:
    counts = Counter(case.model.graph.node[0].op_type for case in SUITE.values())
    assert counts[operator] >= CASES[operator]


@pytest.mark.parametrize("runtime", ["onnx", "onnxruntime"])
@pytest.mark.parametrize("name", [name for name in SUITE if name not in REFUSED])
def test_shape(name: str, runtime: str) -> None:
    case = SUITE[name]
    network, shapes = _network(case, runtime)
    first, *copies = network.nodes
    assert first.output == _sample(shapes[0], case)
    assert [copy.output for copy in copies] == [_sample(shape, case) for shape in shapes if copies]
    inferred = "shape from onnx's inference" in first.notes
    assert inferred == (name in INFERRED)


@pytest.mark.parametrize("runtime", ["onnx", "onnxruntime"])
@pytest.mark.parametrize("name", [name for name in REFUSED if name in SUITE])
def test_refusal(name: str, runtime: str) -> None:
    with pytest.raises(FileError) as caught:
        _network(SUITE[name], runtime)
    assert REFUSED[name] in caught.value.message
