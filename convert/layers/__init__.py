"""ONNX operators as layers of shapecalc: the one table. A row is the whole cost of a new operator.

A rule takes the node with its operands and returns what its first output is and what that reads on each axis of the
network's input. What a rule does not say follows from the dimensions: an axis that operand and output both follow is
read position by position; one that only the operand follows is read whole.
"""

from collections.abc import Callable, Mapping

from ..operators import BROADCASTING, ELEMENTWISE
from .features import elementwise, gemm, matmul, normalization, reduced, same, softmax
from .node import Found, Node
from .views import concat, flatten, gather, reshape, slice_, split, squeeze, transpose, unsqueeze
from .windows import blocks, convolution, global_pool, pad, pool, resize, transposed

_REDUCTIONS = ("ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
               "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare")  # fmt: skip

RULES: Mapping[str, Callable[[Node], Found]] = {
    "AveragePool": pool("avgpool"),
    "Concat": concat,
    "Conv": convolution,
    "ConvTranspose": transposed,
    "DepthToSpace": blocks,
    "Flatten": flatten,
    "Gather": gather,
    "Gemm": gemm,
    **dict.fromkeys(("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"), global_pool),
    "LpPool": pool("lppool"),
    "MatMul": matmul,
    "MaxPool": pool("maxpool"),
    "Pad": pad,
    "Reshape": reshape,
    "Resize": resize,
    "Slice": slice_,
    "SpaceToDepth": blocks,
    "Split": split,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": resize,
    **dict.fromkeys(_REDUCTIONS, reduced),
    **dict.fromkeys(("Hardmax", "LogSoftmax", "Softmax"), softmax),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization",
                     "MeanVarianceNormalization"), normalization),
    **dict.fromkeys((*ELEMENTWISE, "BatchNormalization", "Dropout", "Identity", "LRN"), same),
    **dict.fromkeys(BROADCASTING, elementwise),
}  # fmt: skip
