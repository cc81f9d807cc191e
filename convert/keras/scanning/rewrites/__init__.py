"""What each Keras layer becomes in a map that is a Keras network again: the one table, a row a layer."""

from collections.abc import Mapping

from ...layers import LAYERS
from ...layers.views import dropped
from ..turn import Rule
from .dense import dense, locally_connected
from .merges import concatenate, merge
from .operators import OPERATORS
from .pointwise import activation, gone, noisy, normalized, pointwise, prelu, rescaling, softmax_layer
from .views import flatten, permute, reshape
from .windows import convolution, crop, global_pool, pool, zero_padding

REWRITES: Mapping[str, Rule] = {
    "Dense": dense,
    **{f"LocallyConnected{rank}D": locally_connected for rank in (1, 2)},
    **{f"Conv{rank}D": convolution for rank in (1, 2, 3)},
    **{f"{which}Conv{rank}D": convolution for which in ("Depthwise", "Separable") for rank in (1, 2)},
    **{f"{which}Pooling{rank}D": pool for which in ("Max", "Average") for rank in (1, 2, 3)},
    **{f"Global{which}Pooling{rank}D": global_pool for which in ("Max", "Average") for rank in (1, 2, 3)},
    **{f"ZeroPadding{rank}D": zero_padding for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": crop for rank in (1, 2, 3)},
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
    "Activation": activation,
    "Softmax": softmax_layer,
    **dict.fromkeys(("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU"), pointwise),
    "PReLU": prelu,
    "Rescaling": rescaling,
    **dict.fromkeys(("BatchNormalization", "LayerNormalization", "RMSNormalization", "Normalization"), normalized),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), merge),
    "Concatenate": concatenate,
    **{kind: gone for kind, rule in LAYERS.items() if rule is dropped},
    **dict.fromkeys(
        ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout",
         "GaussianNoise", "ActivityRegularization"), noisy,
    ),
    **OPERATORS,
}  # fmt: skip
