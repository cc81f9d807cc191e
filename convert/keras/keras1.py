"""Keras 1's classes and arguments, in the words of Keras 2.

The names are those of Keras 2's own table of old names (keras/legacy/interfaces.py, 2.0 to 2.3). Two layers do not say
their ``dim_ordering`` in their configuration (padding, upsampling): they get ``data_format`` None, and the
translation takes that of the model's other layers.
"""

from collections.abc import Mapping
from typing import Any

from ..errors import FileError

# Keras 1's class: Keras 2's.
CLASSES = {
    **{f"Convolution{rank}D": f"Conv{rank}D" for rank in (1, 2, 3)},
    **{f"AtrousConvolution{rank}D": f"Conv{rank}D" for rank in (1, 2)},
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
    "TimeDistributedDense": "Dense",
}

# Keras 1's argument: Keras 2's. Those of kernels and lengths are put together below.
ARGUMENTS = {
    "nb_filter": "filters",
    "subsample": "strides",
    "stride": "strides",
    "border_mode": "padding",
    "dim_ordering": "data_format",
    "bias": "use_bias",
    "output_dim": "units",
    "pool_length": "pool_size",
    "atrous_rate": "dilation_rate",
    "subsample_length": "strides",
    "filter_length": "kernel_size",
    "concat_axis": "axis",
    "p": "rate",
}
_KERNELS = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
_FORMATS = {"th": "channels_first", "tf": "channels_last"}
_MERGES = {
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "concat": "Concatenate",
    "dot": "Dot",
}


def modern(kind: str, config: Mapping[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    """A Keras 1 layer's class and arguments as Keras 2 has them. Raises ``FileError`` for what Keras 2 has not."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        result[ARGUMENTS.get(key, key)] = _FORMATS.get(value, value) if key == "dim_ordering" else value
    for sizes in _KERNELS:
        if sizes[0] in config:
            result["kernel_size"] = [config[size] for size in sizes]
    if kind == "Merge":
        mode = config.get("mode")
        if mode not in _MERGES:
            raise FileError(
                f"Merge is known with {', '.join(_MERGES)}, but this one has mode {mode!r}", layer=name
            )
        kind = _MERGES[mode]
        result = {"name": name, "axis": config.get("concat_axis", -1), "axes": config.get("dot_axes", -1)}
    if kind == "BatchNormalization" and config.get("mode", 0) == 1:
        raise FileError(
            "BatchNormalization of mode 1 normalises each sample by itself: not supported", layer=name
        )
    if kind.startswith("UpSampling") and "length" in config:
        result["size"] = config["length"]
    return CLASSES.get(kind, kind), result
