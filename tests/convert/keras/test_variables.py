"""What variables each class of layer has: the literal order of Keras's own ``build`` (2.15 and 3.12)."""

import pytest

from dense2conv.convert.keras.network import Layer
from dense2conv.convert.keras.reading.variables import VARIABLES, variables

STATISTICS = ["moving_mean", "moving_variance"]
CASES = [
    ("Dense", {}, ["kernel", "bias"]),
    ("Dense", {"use_bias": False}, ["kernel"]),
    ("EinsumDense", {"bias_axes": None}, ["kernel"]),
    ("EinsumDense", {"bias_axes": "d"}, ["kernel", "bias"]),
    *((f"Conv{n}D{t}", {"use_bias": True}, ["kernel", "bias"]) for n in (1, 2, 3) for t in ("", "Transpose")),
    ("DepthwiseConv1D", {}, ["depthwise_kernel", "bias"]),
    ("DepthwiseConv2D", {"use_bias": False}, ["depthwise_kernel"]),
    ("SeparableConv1D", {}, ["depthwise_kernel", "pointwise_kernel", "bias"]),
    ("SeparableConv2D", {"use_bias": False}, ["depthwise_kernel", "pointwise_kernel"]),
    ("LocallyConnected1D", {}, ["kernel", "bias"]),
    ("LocallyConnected2D", {}, ["kernel", "bias"]),
    ("BatchNormalization", {}, ["gamma", "beta", *STATISTICS]),
    ("BatchNormalization", {"scale": False}, ["beta", *STATISTICS]),
    ("BatchNormalization", {"center": False}, ["gamma", *STATISTICS]),
    ("SyncBatchNormalization", {"scale": False, "center": False}, STATISTICS),
    ("LayerNormalization", {}, ["gamma", "beta"]),
    ("LayerNormalization", {"rms_scaling": True, "scale": False}, ["gamma"]),
    ("GroupNormalization", {"scale": False}, ["beta"]),
    ("RMSNormalization", {}, ["scale"]),
    ("UnitNormalization", {}, []),
    ("Normalization", {"mean": None, "variance": None}, ["mean", "variance", "count"]),
    ("Normalization", {"mean": [0.5], "variance": [1.0]}, []),
    ("PReLU", {}, ["alpha"]),
    ("ReLU", {}, []),
]


@pytest.mark.parametrize(("kind", "config", "names"), CASES)
def test_the_variables_of_a_class(kind, config, names):
    found = variables(Layer(kind, "layer", config))
    assert [variable.name for variable in found] == names
    others = {"moving_mean", "moving_variance", "mean", "variance", "count"}
    assert [variable.trainable for variable in found] == [name not in others for name in names]


def test_every_row_has_a_case():
    assert set(VARIABLES) <= {kind for kind, _, _ in CASES}


def test_a_frozen_layer_has_no_trainable_ones_in_the_same_order():
    found = variables(Layer("BatchNormalization", "bn", {"trainable": False}))
    assert [variable.name for variable in found] == ["gamma", "beta", *STATISTICS]
    assert not any(variable.trainable for variable in found)


def test_a_wrapper_has_those_of_what_it_wraps():
    wrapped = Layer("Conv1D", "conv", {"use_bias": False})
    assert [v.name for v in variables(Layer("TimeDistributed", "td", wrapped=wrapped))] == ["kernel"]
    frozen = Layer("TimeDistributed", "td", {"trainable": False}, wrapped=wrapped)
    assert not variables(frozen)[0].trainable
