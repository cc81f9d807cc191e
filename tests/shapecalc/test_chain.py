"""Networks written as text: the worked cases, number for number, and each word that is not understood quoted."""

import pytest

from dense2conv.shapecalc.chain import input_value, parsed, with_input
from dense2conv.shapecalc.errors import ShapeError
from dense2conv.shapecalc.layers import Value
from dense2conv.shapecalc.readings import Beyond

FIRST_LAYERS = (
    "input 64x64x3, conv 4x4 8 same nobias, relu, maxpool 8x8/8 same, conv 2x2 16 same nobias, relu, "
    "maxpool 4x4/4 same, flatten, dense 6"
)

# kernel, stride, pads, output, neurons, parameters, field, jump
TABLE = [
    ((4, 4, 3), 1, (1, 2), (64, 64, 8), 32768, 384, 4, 1),
    ((), None, None, (64, 64, 8), 32768, 0, 4, 1),
    ((8, 8), 8, (0, 0), (8, 8, 8), 512, 0, 11, 8),
    ((2, 2, 8), 1, (0, 1), (8, 8, 16), 1024, 512, 19, 8),
    ((), None, None, (8, 8, 16), 1024, 0, 19, 8),
    ((4, 4), 4, (0, 0), (2, 2, 16), 64, 0, 43, 32),
    ((), None, None, (64,), 64, 0, "whole", None),
    ((), None, None, (6,), 6, 390, "whole", None),
]


def network(text, given=None, runtime="onnxruntime"):
    return with_input(text, None if given is None else input_value(given), runtime)


def refused(text, given="9x9x2"):
    with pytest.raises(ShapeError) as caught:
        network(text, given).fields  # noqa: B018
    return caught.value


@pytest.mark.parametrize("index", range(len(TABLE)))
def test_the_pixels_that_a_first_layer_sees(index):
    found = network(FIRST_LAYERS)
    node, fields = found.nodes[index], found.fields[index]
    kernel, stride, pads, output, neurons, parameters, field, jump = TABLE[index]
    assert (node.filter or node.kernel) == kernel
    assert node.stride == (() if stride is None else (stride, stride))
    assert node.padding == (() if pads is None else (pads, pads))
    assert (node.output, node.neurons, node.parameters) == (output, neurons, parameters)
    if field == "whole":
        assert fields == (Beyond.WHOLE, Beyond.WHOLE)
    else:
        assert [(f.size, f.jump) for f in fields] == [(field, jump)] * 2


@pytest.mark.parametrize(
    ("text", "output"),
    [("conv 4x4 8", (61, 61, 8)), ("conv 4x4 8 pad 1", (63, 63, 8)), ("conv 4x4 8 same", (64, 64, 8))],
)
def test_the_first_layer_with_other_pads(text, output):
    assert network(text, "64x64x3").nodes[0].output == output


def test_neurons_counted_from_1_see_pads_below_1_and_above_64():
    (field, _) = network(FIRST_LAYERS).fields[0]
    seen = {n: tuple(pixel + 1 for pixel in field.span(n - 1)) for n in (1, 2, 64)}
    assert seen == {1: (0, 3), 2: (1, 4), 64: (63, 66)}


@pytest.mark.parametrize(
    ("text", "output", "neurons"),
    [("conv 20x20/20 64", (5, 3, 64), 960), ("conv 20x20 64", (81, 41, 64), 81 * 41 * 64)],
)
def test_a_dense_layer_over_patches_is_a_strided_convolution(text, output, neurons):
    (node,) = network(text, "100x60x10").nodes
    assert (node.output, node.neurons, node.parameters) == (output, neurons, 256_064)


@pytest.mark.parametrize(
    ("padding", "output", "pads"),
    [("same", (100, 20), (1, 1)), ("valid", (98, 20), (0, 0)), ("causal", (100, 20), (2, 0))],
)
def test_a_convolution_of_a_series(padding, output, pads):
    (node,) = network(f"conv 3 20 {padding}", "100x10").nodes
    assert (node.output, node.parameters, node.padding) == (output, 620, (pads,))


@pytest.mark.parametrize(("hop", "windows"), [(1, 29_901), (100, 300)])
def test_a_dense_layer_on_windows_of_a_series(hop, windows):
    assert network(f"conv 100/{hop} 5", "30000x10").nodes[0].output == (windows, 5)


def test_words_stand_in_any_order():
    written = ["conv 3x5 8 same stride 2 dilation 1 nobias", "conv nobias dilation 1 3x5/2 same filters 8",
               "conv same kernel 3x5 stride 2 nobias filters 8 dilation 1"]  # fmt: skip
    layers = [parsed(text)[1][0].layer for text in written]
    assert layers[0].kernel == (3, 5)
    assert layers[0].stride == (2,)
    assert all(layer == layers[0] for layer in layers)


def test_comments_lines_and_an_input():
    text = "# what it is\ninput 9x9x2\n\nconv 3x3 4 # first\nrelu, maxpool 2,\n"
    given, statements = parsed(text)
    assert given == Value(2, (9, 9))
    assert [s.text for s in statements] == ["conv 3x3 4", "relu", "maxpool 2"]
    assert [n.name for n in network(text).nodes] == ["conv1", "relu1", "maxpool1"]


def test_branches_by_label_and_by_number():
    text = "conv 3x3 4 same, left: conv 1x1 4, conv 5x5 4 same from conv1, add left, concat input conv1"
    found = network(text, "9x9x2")
    assert [node.sources for node in found.nodes] == [(-1,), (0,), (0,), (2, 1), (3, -1, 0)]
    assert found.nodes[4].output == (9, 9, 4 + 2 + 4)
    assert [f[0].size for f in found.fields] == [3, 3, 7, 7, 7]


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("conv 3x2 4", (3, 2, 8)),
        ("conv 3 4 groups 2", (3, 3, 4)),
        ("depthwise 3", (3, 3, 1)),
        ("maxpool 3", ()),
    ],
)
def test_one_filter_has_the_channels_that_it_reads(text, shape):
    assert network(text, "9x9x8").nodes[0].filter == shape


@pytest.mark.parametrize("text", ["add relu1", "add from relu1", "ADD FROM relu1", "s: add relu1"])
def test_what_a_sum_reads(text):
    assert network(f"relu, tanh, {text}", "9x9x2").nodes[-1].sources == (1, 0)


def test_a_sum_of_three_may_say_from_in_between():
    assert network("relu, tanh, add relu1 from input", "9x9x2").nodes[-1].sources == (1, 0, -1)


def test_branches_with_different_jumps_are_named():
    error = refused("one: conv 3x3/2 2 same, two: conv 3x3 2 same pad 0 from input", "9x9x2")
    assert error.message == "in 'two: conv 3x3 2 same pad 0 from input': padding is said twice"
    text = (
        "a: maxpool 2x2, b: adaptivepool 4x4 from input, c: upsample 2 from b, d: maxpool 2x2 from c, add a"
    )
    error = refused(text, "9x9x2")
    assert error.layer == "add1"
    assert error.message == (
        "branches that meet must have the same jump, but d has one of 9/4 pixels and a one of 2"
    )


@pytest.mark.parametrize(
    "text", ["reshape 81x2, relu", "reshape 3x3x9x2, maxpool 3", "reshape 2x81, flatten, dense 3"]
)
def test_a_value_with_another_number_of_axes_has_no_place_in_the_input(text):
    found = network(text, "9x9x2")
    for index, node in enumerate(found.nodes):
        assert node.sizes == (1, 1) or len(node.output) == 3
        assert found.fields[index] == (Beyond.WHOLE, Beyond.WHOLE)
        assert found.pixels(index, (0, 0)) == (frozenset(range(9)),) * 2
    assert found.neurons((3, 8)) == [(frozenset({0}),) * 2] * len(found.nodes)


@pytest.mark.parametrize("runtime", ["onnx", "pytorch", "tensorflow"])
def test_the_runtime_decides(runtime):
    text = "maxpool 2 stride 1 dilation 2 same"
    if runtime == "pytorch":
        with pytest.raises(
            ShapeError, match=r"^maxpool1: PyTorch's pools take their pads as a number, not as SAME$"
        ):
            network(text, "9x9x2", runtime)
    else:
        assert network(text, "9x9x2", runtime).nodes[0].output == (9, 9, 2)
    (node,) = network(text, "9x9x2").nodes
    assert node.output == (8, 8, 2)
    assert "onnx: 9 outputs, with 1 pads before" in node.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("relu, cnov 3x3 8", "in 'cnov 3x3 8': there is no layer 'cnov', did you mean conv"),
        ("conv 3x3 8 sane", "in 'conv 3x3 8 sane': 'sane' is not understood"),
        ("conv 3x3x 8", "in 'conv 3x3x 8': '3x3x' is no number, and no sizes such as 3x5"),
        ("conv 3x3/-1 8", "in 'conv 3x3/-1 8': '-1' is no number, and no sizes such as 3x5"),
        ("conv 3x3 8x8", "in 'conv 3x3 8x8': units is one number, not '8x8'"),
        ("conv 3x3 8 stride", "in 'conv 3x3 8 stride': a number must follow 'stride'"),
        ("conv 3x3/2 8 stride 2", "in 'conv 3x3/2 8 stride 2': stride is said twice"),
        ("conv 3x3 8 pad a:b", "in 'conv 3x3 8 pad a:b': 'a:b' is no pads: 1 (both sides), 0:1 (before:after), "
                               "1x0:1 (an axis each)"),
        ("relu same", "in 'relu same': 'same' means nothing to relu"),
        ("conv 3x3 8 ceil", "in 'conv 3x3 8 ceil': 'ceil' means nothing to conv"),
        ("flatten, dense 8/2", "in 'dense 8/2': '/2' means nothing to dense"),
        ("maxpool 3 nobias", "in 'maxpool 3 nobias': 'nobias' means nothing to maxpool"),
        ("maxpool 3 filters 8", "in 'maxpool 3 filters 8': 'filters' means nothing to maxpool"),
        ("crop 1 edge", "in 'crop 1 edge': 'edge' means nothing to crop"),
        ("a:", "in 'a:': a layer needs a kind behind its label"),
        ("relu, add", "in 'add': add needs the labels of the layers that it reads too"),
        ("relu, add relu2", "in 'add relu2': no layer before it is called 'relu2'"),
        ("relu from relu1", "in 'relu from relu1': no layer before it is called 'relu1'"),
        ("a: relu, a: tanh", "in 'a: tanh': two layers are called 'a'"),
        ("input: relu", "in 'input: relu': two layers are called 'input'"),
        ("", "there is no layer in the text"),
        ("# nothing", "there is no layer in the text"),
        ("input 9x9x3, relu", "the input is said twice, and not alike"),
        ("input 9x0x3, relu", "an input is written as 64x64x3 (rows x columns x channels), not '9x0x3'"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_quoted(text, message):
    error = refused(text)
    assert error.message == message
    assert error.hint or "written as" in message


@pytest.mark.parametrize(
    ("text", "layer", "message"),
    [
        ("relu, stem: conv 11x11 8", "stem", "a kernel must not be larger than the padded input, but 11 > 9 + 0 + 0"),
        ("relu, conv 3x3/0 8", "conv1", "kernel, stride and dilation must be at least 1, got 3, 0 and 1"),
        ("flatten, dense 3, conv 2 1", "conv1", "conv slides over spatial axes, but its input is flat: 3 numbers"),
        ("pad 1 linear", "pad1", "pad is constant, reflect, edge or wrap, not 'linear'"),
        ("upsample 2 edge", "upsample1", "upsample is nearest or linear, not 'edge'"),
        ("pad 9 reflect", "pad1", "a reflect pad must be smaller than what it mirrors, but 9 and 9 meet 9 elements"),
    ],
)  # fmt: skip
def test_what_cannot_be_names_its_layer(text, layer, message):
    error = refused(text)
    assert (error.layer, error.message, str(error)) == (layer, message, f"{layer}: {message}")


def test_an_input_is_needed():
    with pytest.raises(ShapeError, match=r"^a chain of layers needs its input$") as caught:
        network("relu")
    assert caught.value.hint == "say --input 64x64x3, or begin with: input 64x64x3"
