"""How each ONNX operator behaves under a scan: the one table. A row is the whole cost of a new operator.

``pointwise``: every position alike, stays. ``windowed``: slides, stays, with frozen pads. ``view``: regroups
axes, goes. ``dense``: becomes a convolution. ``whole patch``: a pool over it becomes a window. ``features``:
moves to the channel axis. ``refused``: cannot be a convolution, for the reason given. An operator without a
row is not understood, and refused by its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ..operators import BROADCASTING, ELEMENTWISE
from ..step import Refusal, Result, Rule, Step
from .cropping import gather, pad, slice_
from .dense import gemm, matmul
from .features import concat, extremum, layer_normalization, softmax, split, top_k
from .pointwise import batch_normalization, broadcasting, dropped, elementwise
from .reductions import REDUCTIONS, global_pool, reduce
from .taps import gather_nd
from .views import flatten, reshape, squeeze, transpose, unsqueeze
from .windows import convolution, lrn, pool


@dataclass(frozen=True)
class Operator:
    """A row: how the operator behaves under a scan, and the rule that rewrites it."""

    behaviour: str
    rule: Rule


# What the report says of a node whose rule has nothing to add.
KEPT: Mapping[str, str] = {
    "pointwise": "treats every position alike",
    "windowed": "slides over an input of any size as it is",
    "view": "regroups axes",
    "dense": "becomes a convolution",
    "whole patch": "reads one position a patch already",
    "features": "works along the channel axis of the map",
}


def _refused(reason: str) -> Operator:
    def rule(_: Step) -> Result:
        raise Refusal(reason)

    return Operator(f"refused: {reason}", rule)


_CONTROL = "control flow around the network is not followed"
_STATISTICS = "it normalises with statistics of the whole patch"
_RECURRENT = "it runs along the patch step by step, so each output depends on where the patch begins"
_UPSAMPLED = "upsampling in front of the head is not supported"

OPERATORS: Mapping[str, Operator] = {
    **{name: Operator("pointwise", elementwise) for name in ELEMENTWISE},
    **{name: Operator("pointwise", broadcasting) for name in BROADCASTING},
    "BatchNormalization": Operator("pointwise", batch_normalization),
    "Dropout": Operator("view", dropped),
    "Identity": Operator("view", dropped),
    "Flatten": Operator("view", flatten),
    "Reshape": Operator("view", reshape),
    "Squeeze": Operator("view", squeeze),
    "Transpose": Operator("view", transpose),
    "Unsqueeze": Operator("view", unsqueeze),
    "Gemm": Operator("dense", gemm),
    "MatMul": Operator("dense", matmul),
    "AveragePool": Operator("windowed", pool),
    "Conv": Operator("windowed", convolution),
    "Gather": Operator("windowed", gather),
    "GatherND": Operator("windowed", gather_nd),
    "LpPool": Operator("windowed", pool),
    "MaxPool": Operator("windowed", pool),
    "Pad": Operator("windowed", pad),
    "Slice": Operator("windowed", slice_),
    **{name: Operator("whole patch", global_pool if name.startswith("Global") else reduce) for name in REDUCTIONS},
    "ArgMax": Operator("features", extremum),
    "ArgMin": Operator("features", extremum),
    "Concat": Operator("features", concat),
    "Hardmax": Operator("features", softmax),
    "LRN": Operator("features", lrn),
    "LayerNormalization": Operator("features", layer_normalization),
    "LogSoftmax": Operator("features", softmax),
    "Softmax": Operator("features", softmax),
    "Split": Operator("features", split),
    "TopK": Operator("features", top_k),
    **{name: _refused(_STATISTICS) for name in
       ("GroupNormalization", "InstanceNormalization", "LpNormalization", "MeanVarianceNormalization")},
    **{name: _refused(_RECURRENT) for name in ("CumSum", "GRU", "LSTM", "RNN")},
    **{name: _refused(_CONTROL) for name in ("If", "Loop", "Scan")},
    **{name: _refused(_UPSAMPLED) for name in ("ConvTranspose", "DepthToSpace", "MaxUnpool", "Resize", "Upsample")},
    "Attention": _refused("attention mixes the positions of the patch"),
    "Einsum": _refused("Einsum is not followed"),
    "Expand": _refused("it repeats values to a size that was computed for the patch"),
    "SpaceToDepth": _refused("it cuts rows or columns into parts"),
}  # fmt: skip
