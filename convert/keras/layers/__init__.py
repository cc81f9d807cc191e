"""Which ONNX nodes each Keras layer becomes: the one table. A row is the whole cost of a new layer."""

from collections.abc import Mapping

from ..step import Rule
from .activations import activation, function, prelu
from .convolutions import convolution, depthwise, separable, transposed
from .dense import dense, einsum_dense
from .local import locally_connected
from .merges import concatenate, dot, merge
from .normalization import batch_normalization
from .operations import OPERATIONS, operation
from .padding import crop, zero_padding
from .pooling import global_pool, pool
from .resizing import center_crop, resize, upsample
from .scaling import normalization, rescaling
from .statistics import group_normalization, layer_normalization, unit_normalization
from .tensorflow import tensorflow_function
from .views import dropped, flatten, permute, repeat_vector, reshape
from .wrappers import time_distributed

_LAYERS: Mapping[str, Rule] = {
    **{f"Conv{rank}D": convolution for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": transposed for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": depthwise for rank in (1, 2)},
    **{f"SeparableConv{rank}D": separable for rank in (1, 2)},
    **{f"LocallyConnected{rank}D": locally_connected for rank in (1, 2)},
    **{f"{which}Pooling{rank}D": pool for which in ("Max", "Average") for rank in (1, 2, 3)},
    **{f"Global{which}Pooling{rank}D": global_pool for which in ("Max", "Average") for rank in (1, 2, 3)},
    "Dense": dense,
    "EinsumDense": einsum_dense,
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
    "RepeatVector": repeat_vector,
    "BatchNormalization": batch_normalization,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layer_normalization),
    "GroupNormalization": group_normalization,
    "UnitNormalization": unit_normalization,
    "Normalization": normalization,
    "Rescaling": rescaling,
    "Activation": activation,
    **dict.fromkeys(("ReLU", "LeakyReLU", "ThresholdedReLU", "ELU", "Softmax"), function),
    "PReLU": prelu,
    **{f"ZeroPadding{rank}D": zero_padding for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": crop for rank in (1, 2, 3)},
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), merge),
    **{f"UpSampling{rank}D": upsample for rank in (1, 2, 3)},
    "Resizing": resize,
    "CenterCrop": center_crop,
    "Concatenate": concatenate,
    "Dot": dot,
    **dict.fromkeys(
        ("Identity", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout",
         "GaussianDropout", "GaussianNoise", "ActivityRegularization", "RandomBrightness", "RandomContrast",
         "RandomFlip", "RandomHeight", "RandomHue", "RandomRotation", "RandomSaturation", "RandomSharpness",
         "RandomShear", "RandomTranslation", "RandomWidth", "RandomZoom"), dropped,
    ),
}  # fmt: skip

LAYERS: Mapping[str, Rule] = {
    **_LAYERS,
    "TimeDistributed": time_distributed(_LAYERS),
    **{f"ops.{name}": operation for name in OPERATIONS},
    **dict.fromkeys(("TFOpLambda", "SlicingOpLambda"), tensorflow_function),
}

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
