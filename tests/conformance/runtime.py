"""ONNX Runtime as an oracle: plain, on one thread, without optimisations, silent; and what older ones did otherwise."""

import numpy as np
import onnxruntime
from onnx import ModelProto

VERSION = tuple(map(int, onnxruntime.__version__.split(".")[:2]))

# Measured, release by release from 1.19 to 1.32. The table follows the newest.
DROPS = VERSION >= (1, 21)  # a last window of ceil_mode that starts in the pads behind the input
LEAVES_OUT_EVENLY = VERSION >= (1, 22)  # Conv, SAME_UPPER, a stride above the kernel: elements on both sides
CHECKS_TRANSPOSED = VERSION >= (1, 28)  # output padding, and an output from which the convolution leads back
CHECKS_SAME = VERSION >= (1, 30)  # MaxPool and the old AveragePool refuse SAME with fewer than no pads


def run(proto: ModelProto, images: np.ndarray) -> list[np.ndarray] | None:
    """The outputs for the input ``x``; None where ONNX Runtime refuses to load or to run the graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = proto.SerializeToString()
    try:
        return onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"]).run(None, {"x": images})
    except Exception:
        return None
