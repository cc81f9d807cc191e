"""Which ONNX nodes each Keras layer becomes: the one table. A row is the whole cost of a new layer."""

from collections.abc import Mapping

from ..step import Rule
from .activations import activation, function
from .convolutions import convolution, depthwise
from .dense import dense
from .merges import concatenate, merge
from .normalization import batch_normalization
from .padding import crop, zero_padding
from .pooling import global_pool, pool
from .views import dropped, flatten, permute, reshape

LAYERS: Mapping[str, Rule] = {
    **{f"Conv{rank}D": convolution for rank in (1, 2, 3)},
    "DepthwiseConv2D": depthwise,
    **{f"{which}Pooling{rank}D": pool for which in ("Max", "Average") for rank in (1, 2, 3)},
    **{f"Global{which}Pooling{rank}D": global_pool for which in ("Max", "Average") for rank in (1, 2, 3)},
    "Dense": dense,
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
    "BatchNormalization": batch_normalization,
    "Activation": activation,
    **dict.fromkeys(("ReLU", "LeakyReLU", "ELU", "Softmax"), function),
    **{f"ZeroPadding{rank}D": zero_padding for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": crop for rank in (1, 2, 3)},
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), merge),
    "Concatenate": concatenate,
    **dict.fromkeys(
        ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout",
         "GaussianNoise", "ActivityRegularization"), dropped,
    ),
}  # fmt: skip

# Why a layer that people do use is not among them.
_RECURRENT = "it runs along a sequence step by step, which no patch classifier needs"
_CODE = "its function is Python code, which is never run"
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("RNN", "SimpleRNN", "LSTM", "GRU", "CuDNNLSTM", "CuDNNGRU", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D",
         "ConvLSTM3D", "StackedRNNCells"), _RECURRENT,
    ),
    "Embedding": "it looks words up, which no patch classifier needs",
    "Masking": "it hides steps from the layers behind it",
    "Lambda": _CODE,
    "__lambda__": _CODE,
}  # fmt: skip
