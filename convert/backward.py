"""The gradients of a dense layer and of the convolution that it becomes, as ONNX graphs.

The dense layer on rows ``x (R, K)`` with weight ``w (K, O)`` (or ``(O, K)``) and the loss's gradient ``dy (R, O)``::

    dx = dy w^T        dw = x^T dy        db = sum_r dy

The convolution on ``x (N, C, *H)`` with ``w (O, C, *k)``, strides s, dilations d, no pads, and ``dy (N, O, *p)``. On
each axis ``H = d (k - 1) + 1 + s (p - 1) + r``, of which the last r pixels are read by no window::

    dx = ConvTranspose(dy, w, strides=s, dilations=d, output_padding=r)
    dw = Conv(x', dy', strides=d, dilations=s)[.., :k]'       ' swaps the first two axes; the slice matters where r >= d
    db = ReduceSum(dy, all axes but O)

Measured against finite differences for s < k, s = k, s > k, and r > 0 (facts of the project: dX within 3e-7, float32).
ONNX Runtime has ConvTranspose and Conv for one, two and three axes, in float32 but not in float64 on the CPU;
``onnx.reference`` runs the same graphs in float64.
"""

from collections.abc import Sequence

from onnx import ModelProto, NodeProto, TensorProto, helper

OPSET, IR_VERSION = 17, 8  # any ONNX Runtime since 2022 loads it

INPUTS, OUTPUTS = ("x", "w", "dy"), ("dx", "dw", "db")


def dense_backward(transposed: bool = False, kind: int = TensorProto.FLOAT) -> ModelProto:
    """``x (R, K)``, ``w (K, O)`` (``transposed``: ``(O, K)``), ``dy (R, O)`` to ``dx``, ``dw`` like ``w``, ``db``."""
    product = ("dy", "x") if transposed else ("x", "dy")
    nodes = [
        helper.make_node("Gemm", ["dy", "w"], ["dx"], transB=int(not transposed)),
        helper.make_node("Gemm", list(product), ["dw"], transA=1),
        helper.make_node("ReduceSum", ["dy", "rows"], ["db"], keepdims=0),
    ]
    return _model(nodes, {"x": 2, "w": 2, "dy": 2}, {"rows": [0]}, kind)


def convolution_backward(
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    rest: Sequence[int],
    kind: int = TensorProto.FLOAT,
) -> ModelProto:
    """``x (N, C, *H)``, ``w (O, C, *k)``, ``dy (N, O, *p)`` to ``dx``, ``dw`` as ``w``, ``db (O,)``; see above."""
    rank = len(kernel)
    spatial = list(range(2, rank + 2))
    swap = [1, 0, *spatial]
    nodes = [
        helper.make_node(
            "ConvTranspose", ["dy", "w"], ["dx"], kernel_shape=list(kernel), strides=list(strides),
            dilations=list(dilations), output_padding=list(rest),
        ),
        helper.make_node("Transpose", ["x"], ["x_swapped"], perm=swap),
        helper.make_node("Transpose", ["dy"], ["dy_swapped"], perm=swap),
        helper.make_node(
            "Conv", ["x_swapped", "dy_swapped"], ["every_tap"], strides=list(dilations), dilations=list(strides)
        ),
        helper.make_node("Slice", ["every_tap", "starts", "ends", "spatial"], ["taps"]),
        helper.make_node("Transpose", ["taps"], ["dw"], perm=swap),
        helper.make_node("ReduceSum", ["dy", "all_but_units"], ["db"], keepdims=0),
    ]  # fmt: skip
    integers = {
        "starts": [0] * rank,
        "ends": list(kernel),
        "spatial": spatial,
        "all_but_units": [0, *spatial],
    }
    return _model(nodes, dict.fromkeys(INPUTS, rank + 2), integers, kind)


def _model(
    nodes: Sequence[NodeProto], ranks: dict[str, int], integers: dict[str, list[int]], kind: int
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "backward",
        [
            helper.make_tensor_value_info(name, kind, [f"{name}_{axis}" for axis in range(rank)])
            for name, rank in ranks.items()
        ],
        [helper.make_tensor_value_info(name, kind, None) for name in OUTPUTS],
        [
            helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
            for name, values in integers.items()
        ],
    )
    return helper.make_model(
        graph,
        producer_name="dense2conv",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
