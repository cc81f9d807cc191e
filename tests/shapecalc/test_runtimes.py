"""What PyTorch, Keras and ONNX Runtime make of a layer, as their documentation and published networks have it.

Every output is a literal: shapes that the documentation prints or that follow from the formula that it states, and
shapes of networks that everybody can look up. The PyTorch rows have been run once in PyTorch 2.13.
"""

import pytest

from dense2conv.shapecalc.chain import with_input
from dense2conv.shapecalc.errors import ShapeError

# Sources: torch.nn documentation, "Shape" and "Examples" of each layer; torchvision/models/NAME.py, with the sizes of
# the papers' tables.
PYTORCH = [
    # torch.nn.Conv2d, MaxPool2d, AvgPool2d, LPPool2d, ConvTranspose2d: "Examples"
    ("input 50x100x16, conv 3/2 33", (24, 49, 33)),
    ("input 50x100x16, conv 3x5 33 stride 2x1 pad 4x2", (28, 100, 33)),
    ("input 50x100x16, conv 3x5 33 stride 2x1 pad 4x2 dilation 3x1", (26, 100, 33)),
    ("input 50x32x16, maxpool 3/2", (24, 15, 16)),
    ("input 50x32x16, maxpool 3x2 stride 2x1", (24, 31, 16)),
    ("input 50x32x16, avgpool 3/2", (24, 15, 16)),
    ("input 50x32x16, lppool 3x2 stride 2x1", (24, 31, 16)),
    ("input 50x100x16, convtranspose 3/2 33", (101, 201, 33)),
    ("input 50x100x16, convtranspose 3x5 33 stride 2x1 pad 4x2", (93, 100, 33)),
    ("input 12x12x16, conv 3/2 16 pad 1", (6, 6, 16)),
    ("input 6x6x16, convtranspose 3/2 16 pad 1 size 12", (12, 12, 16)),
    ("input 6x6x16, convtranspose 3/2 16 pad 1 output_padding 1", (12, 12, 16)),
    # torch.nn.Conv1d, Conv3d, AdaptiveAvgPool2d: "Examples"
    ("input 50x16, conv 3/2 33", (24, 33)),
    ("input 10x50x100x16, conv 3x5x2 33 stride 2x1x1 pad 4x2x0", (8, 50, 99, 33)),
    ("input 8x9x64, adaptivepool 5x7", (5, 7, 64)),
    ("input 10x9x64, adaptivepool 7", (7, 7, 64)),
    # torch.nn.Conv2d: "padding='same' pads the input so the output has the shape as the input"
    ("input 10x10x1, conv 3 1 dilation 2 same", (10, 10, 1)),
    ("input 10x10x1, conv 4 1 same", (10, 10, 1)),
    # torch.nn.MaxPool2d: "Sliding windows that would start in the right padded region are ignored."
    ("input 4x4x1, maxpool 2/3 pad 1 ceil", (2, 2, 1)),
    ("input 5x5x1, maxpool 2/3 pad 1 ceil", (2, 2, 1)),
    ("input 6x6x1, maxpool 2/3 pad 1 ceil", (3, 3, 1)),
    # torchvision alexnet
    ("input 224x224x3, conv 11/4 64 pad 2", (55, 55, 64)),
    ("input 55x55x64, maxpool 3/2, conv 5 192 pad 2, maxpool 3/2", (13, 13, 192)),
    ("input 13x13x256, maxpool 3/2, adaptivepool 6", (6, 6, 256)),
    # torchvision vgg, resnet50
    ("input 224x224x3, conv 3 64 pad 1, maxpool 2", (112, 112, 64)),
    ("input 224x224x3, conv 7/2 64 pad 3", (112, 112, 64)),
    ("input 112x112x64, maxpool 3/2 pad 1", (56, 56, 64)),
    ("input 56x56x256, conv 1/2 512", (28, 28, 512)),
    ("input 56x56x128, conv 3/2 128 pad 1", (28, 28, 128)),
    # torchvision googlenet, squeezenet1_0: ceil_mode=True
    ("input 112x112x64, maxpool 3/2 ceil", (56, 56, 64)),
    ("input 56x56x192, maxpool 3/2 ceil", (28, 28, 192)),
    ("input 28x28x480, maxpool 3/2 ceil, maxpool 2 ceil", (7, 7, 480)),
    ("input 224x224x3, conv 7/2 96, maxpool 3/2 ceil", (54, 54, 96)),
    ("input 54x54x256, maxpool 3/2 ceil, maxpool 3/2 ceil", (13, 13, 256)),
    # torchvision inception_v3: 299 to 35
    ("input 299x299x3, conv 3/2 32, conv 3 32, conv 3 64 pad 1, maxpool 3/2", (73, 73, 64)),
    ("input 73x73x64, conv 1 80, conv 3 192, maxpool 3/2", (35, 35, 192)),
    # Radford, Metz and Chintala, 2015, figure 1 (DCGAN), as in pytorch/examples/dcgan: 1, 4, 8, 16
    ("input 1x1x100, convtranspose 4 512", (4, 4, 512)),
    ("input 4x4x512, convtranspose 4/2 256 pad 1, convtranspose 4/2 128 pad 1", (16, 16, 128)),
    # Ronneberger, Fischer and Brox, 2015, figure 1 (U-Net)
    ("input 572x572x1, conv 3 64, conv 3 64, maxpool 2", (284, 284, 64)),
    ("input 28x28x1024, convtranspose 2/2 512", (56, 56, 512)),
]  # fmt: skip

# Sources: the docstrings in keras/src/layers/convolutional and pooling, "Example"; tf.nn.convolution, "padding".
KERAS = [
    ("input 10x10x128, conv 3 32", (8, 8, 32)),
    ("input 10x128, conv 3 32", (8, 32)),
    ("input 10x10x10x128, conv 3 32", (8, 8, 8, 32)),
    ("input 12x12x12, depthwise 3", (10, 10, 12)),
    ("input 28x28x3, conv 2 2 dilation 2", (26, 26, 2)),
    ("input 28x28x3, conv 2 2 same", (28, 28, 2)),
    ("input 3x3x1, maxpool 2/1", (2, 2, 1)),
    ("input 3x4x1, maxpool 2/2", (1, 2, 1)),
    ("input 3x3x1, maxpool 2/1 same", (3, 3, 1)),
    ("input 10x128, convtranspose 3/2 32", (21, 32)),
    ("input 10x8x128, convtranspose 2/2 32", (20, 16, 32)),
    ("input 10x8x12x128, convtranspose 2/2 32", (20, 16, 24, 32)),
    # keras/src/backend/common/backend_utils.py: n*s + max(k - s, 0) for valid, n*s for same
    ("input 4x1, convtranspose 3/2 1", (9, 1)),
    ("input 4x1, convtranspose 2/3 1", (12, 1)),
    ("input 4x1, convtranspose 5/2 1 same", (8, 1)),
    # tf.nn.convolution: ceil(n / s) for SAME, ceil((n - (k - 1)*d) / s) for VALID
    ("input 224x224x3, conv 3/2 32 same", (112, 112, 32)),
    ("input 13x1, conv 6/5 1", (2, 1)),
    ("input 13x1, conv 6/5 1 same", (3, 1)),
    ("input 7x1, conv 1/4 1 same", (2, 1)),
    ("input 5x1, avgpool 2/1 dilation 2 same", (5, 1)),
    # keras.layers.Conv1D: "causal" keeps the length
    ("input 10x1, conv 3 1 dilation 4 causal", (10, 1)),
]  # fmt: skip

# Pads before and after as TensorFlow's guide computes them: "Notes on padding", api_docs/python/tf/nn.
TENSORFLOW_PADS = [
    ("input 13x1, conv 6/5 1 same", (1, 2)),
    ("input 224x1, conv 3/2 1 same", (0, 1)),
    ("input 224x1, conv 7/2 1 same", (2, 3)),
    ("input 225x1, conv 7/2 1 same", (3, 3)),
    ("input 28x1, conv 4 1 same", (1, 2)),
    ("input 10x1, conv 3 1 dilation 4 causal", (8, 0)),
]

REFUSED = [
    ("pytorch", "input 8x1, conv 3 1 pad 0:1", "both sides alike, but 0 and 1 are asked for"),
    ("pytorch", "input 8x1, convtranspose 3 1 pad 0:1", "both sides alike, but 0 and 1 are asked for"),
    ("pytorch", "input 8x1, conv 3/2 1 same", "with stride 1 only, but the stride is 2"),
    ("pytorch", "input 8x1, conv 4 1 same_lower", "SAME_LOWER asks for 2 before and 1 after"),
    ("pytorch", "input 8x1, maxpool 3 same", "pads as a number, not as SAME"),
    ("pytorch", "input 8x1, convtranspose 3/2 1 same", "pads as numbers, not as SAME"),
    ("pytorch", "input 8x1, maxpool 3 pad 2", "at most half the kernel, but 2 meet 3"),
    ("pytorch", "input 8x1, maxpool 2 dilation 2 pad 2", "at most half the kernel, but 2 meet 3"),
    ("pytorch", "input 8x1, convtranspose 3/2 1 output_padding 2", "but 2 meets 2 and 1"),
    ("onnxruntime", "input 8x1, conv 3 1 dilation 2 same", "no SAME with a dilation, but it is 2"),
    ("onnxruntime", "input 8x1, avgpool 2 pad 0:2", "smaller than the kernel, but 0 and 2 meet 2"),
    ("onnxruntime", "input 20x1, maxpool 1/3 same", "it wants -1 pads for kernel 1 on 20 elements"),
    ("onnxruntime", "input 4x1, convtranspose 3/2 1 output_padding 2", "but 2 meets 2 and 1"),
    ("onnxruntime", "input 4x1, convtranspose 3/2 1 size 20", "leads back to 4 elements, but from 20 it leads to 9"),
    ("tensorflow", "input 8x1, conv 3 1 same_lower", "SAME puts the odd pad after"),
    ("tensorflow", "input 8x1, conv 3/3 1 dilation 2", "not both, but they are 3 and 2"),
    ("tensorflow", "input 8x1, avgpool 3 pad 1", "SAME only, but 1 and 1 are asked for"),
    ("tensorflow", "input 8x1, maxpool 3/2 ceil", "do not round up"),
    *(
        (runtime, text, message)
        for runtime in ("onnxruntime", "onnx", "pytorch", "tensorflow")
        for text, message in (
            ("input 3x1, conv 5 1", "larger than the padded input, but 5 > 3 + 0 + 0"),
            ("input 3x1, maxpool 3/1 dilation 2", "but 2*(3 - 1) + 1 = 5 > 3 + 0 + 0"),
            ("input 3x1, conv 2/0 1", "must be at least 1, got 2, 0 and 1"),
            ("input 3x2, conv 2 3 groups 2", "2 does not divide 2 and 3"),
            ("input 1x1, convtranspose 2 1 pad 1", "pads of 1 and 1 leave 0 of 2"),
            ("input 2x1, pad 2 reflect", "2 and 2 meet 2"),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "output"), PYTORCH)
def test_pytorch(text: str, output: tuple[int, ...]) -> None:
    assert with_input(text, None, "pytorch").nodes[-1].output == output


@pytest.mark.parametrize(("text", "output"), KERAS)
def test_keras(text: str, output: tuple[int, ...]) -> None:
    assert with_input(text, None, "tensorflow").nodes[-1].output == output


@pytest.mark.parametrize(("text", "pads"), TENSORFLOW_PADS)
def test_tensorflow_pads(text: str, pads: tuple[int, int]) -> None:
    assert with_input(text, None, "tensorflow").nodes[0].padding == (pads,)


@pytest.mark.parametrize(("runtime", "text", "message"), REFUSED)
def test_refusal(runtime: str, text: str, message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        with_input(text, None, runtime)
    assert message in caught.value.message
