"""Receptive fields and parameters of known networks are the published ones.

Fields: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019, the table
of networks in TF-Slim. Where onnx ships a network, its own graph is read; the others are written as text.
"""

from pathlib import Path

import onnx
import pytest

from dense2conv.convert.opening import open_model
from dense2conv.convert.shapes import network_of
from dense2conv.shapecalc.chain import with_input
from dense2conv.shapecalc.network import Network
from dense2conv.shapecalc.receptive import ReceptiveField

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"

# name: the last layer that slides in the trunk, its field, its jump. AlexNet and Inception v2: the article.
# VGG-19: VGG-16's 212, and one more 3x3 at jumps of 4, 8 and 16: 2*(4 + 8 + 16) = 56.
# DenseNet-121: 7 + 2*2 = 11, 6 layers at 4, a 2x2 pool, 12 at 8, a pool, 24 at 16, a pool, 16 at 32:
# 11 + 2*(6*4 + 12*8 + 24*16 + 16*32) + 4 + 8 + 16 = 2071.
FIELDS = {
    "light_bvlc_alexnet": ("MaxPool", 195, 32),
    "light_inception_v2": ("Concat", 699, 32),
    "light_vgg19": ("MaxPool", 212 + 56, 32),
    "light_densenet121": ("Conv", 2071, 32),
}

# name: (trained numbers, running statistics and the like). VGG-19, ResNet-50, DenseNet-121 and SqueezeNet 1.1: the
# torchvision models' own counts ("Table of all available classification weights"). DenseNet-121 is here as in Caffe:
# two statistics, and a scale and shift that do nothing, beside the trained scale and shift of each channel.
PARAMETERS = {
    "light_vgg19": (143_667_240, 0),
    "light_resnet50": (25_557_032, 2 * 26_560),
    "light_densenet121": (7_978_856, 2 * 83_648),
    "light_squeezenet": (1_235_496, 0),
}


def _light(name: str) -> Network:
    return network_of(open_model(FOLDER / f"{name}.onnx"))


def _resnet_v1_50() -> str:
    """TF-Slim's: the stride in the 3x3 convolution of the last unit of a block (slim/nets/resnet_v1.py)."""
    layers = ["input 224x224x3", "conv 7/2 64 pad 3", "x0: maxpool 3/2 same"]
    count = 0
    for units, width, last in ((3, 64, 2), (4, 128, 2), (6, 256, 2), (3, 512, 1)):
        for unit in range(units):
            stride = last if unit == units - 1 else 1
            skip = f"conv 1/{stride} {4 * width} from x{count}"
            layers += [f"conv 1 {width} from x{count}", f"conv 3/{stride} {width} pad 1"]
            layers += [f"y{count}: conv 1 {4 * width}", skip, f"x{count + 1}: add y{count}"]
            count += 1
    return ", ".join(layers)


def _vgg_16() -> str:
    layers = ["input 224x224x3"]
    for convolutions, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        layers += [f"conv 3 {width} pad 1"] * convolutions + ["maxpool 2"]
    return ", ".join(layers)


# text, field, jump, pads in front: the article's columns.
WRITTEN = {
    "vgg_16": (_vgg_16(), 212, 32, 90),
    "resnet_v1_50": (_resnet_v1_50(), 483, 32, 239),
}


@pytest.mark.parametrize("name", FIELDS)
def test_field_of_a_graph(name: str) -> None:
    kind, size, jump = FIELDS[name]
    network = _light(name)
    slides = [
        fields
        for node, fields in zip(network.nodes, network.fields, strict=True)
        if node.kind == kind and all(isinstance(f, ReceptiveField) for f in fields)
    ]
    assert [(f.size, f.jump) for f in slides[-1]] == [(size, jump)] * 2


@pytest.mark.parametrize("name", WRITTEN)
def test_field_of_a_text(name: str) -> None:
    text, size, jump, pads = WRITTEN[name]
    network = with_input(text, None)
    assert [(f.size, f.jump, f.start) for f in network.fields[-1]] == [(size, jump, -pads)] * 2


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    network = _light(name)
    trained, statistics = PARAMETERS[name]
    assert network.totals.parameters == trained + statistics
    assert sum(node.parameters for node in network.nodes) == network.totals.parameters  # nothing is shared
