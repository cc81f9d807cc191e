"""What a layer is refused for: one line that names it, with the rule and the numbers. Nothing of the file is run."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from dense2conv.convert.errors import FileError
from dense2conv.convert.keras.architecture import read_network
from dense2conv.convert.keras.layers import LAYERS, REFUSED
from dense2conv.convert.keras.network import Origin

from .running import K3, draw, model_of, run

CONV = {"filters": 6, "kernel_size": [3, 3]}

# Class, configuration, shape of the input, arrays, message.
FAULTS: list[tuple[str, Mapping[str, Any], Sequence[int], Sequence[Any], str]] = [
    ("Conv2D", CONV, (8, 8, 3), [draw(3, 3, 3, 5), draw(6)], "its kernel must be 3x3x3x6, but 'array_0' is 3x3x3x5"),
    ("Conv2D", CONV, (8, 8, 3), [draw(3, 3, 3, 6), draw(5)], "its bias must be 6, but 'array_1' is 5"),
    ("Conv2D", CONV, (8, 8, 3), [draw(3, 3, 3, 6)], "the file must hold its bias 6, but has no more arrays of it"),
    ("Conv2D", {**CONV, "use_bias": False}, (8, 8, 3), [draw(3, 3, 3, 6), draw(6)],
     "Conv2D has no use for 1 of its arrays: array_1"),
    ("Conv2D", {**CONV, "groups": 2}, (8, 8, 3), [], "groups must divide channels and filters, but 2 does not: 3, 6"),
    ("Conv2D", {"filters": 6}, (8, 8, 3), [], "Conv2D must say its kernel_size, but it does not"),
    ("Conv2D", {**CONV, "filters": -1}, (8, 8, 3), [], "filters must be a positive integer, but it is -1"),
    ("Conv2D", {**CONV, "padding": "reflect"}, (8, 8, 3), [draw(3, 3, 3, 6)],
     "padding must be valid, same, causal, full, but it is 'reflect'"),
    ("Conv2D", CONV, (2, 2, 3), [draw(3, 3, 3, 6)], None),
    ("Conv2DTranspose", {**CONV, "output_padding": 1}, (8, 8, 3), [],
     "output_padding must be below the stride [1, 1], but it is [1, 1]"),
    ("SeparableConv2D", CONV, (8, 8, 3), [draw(3, 3, 3, 1), draw(1, 1, 3, 5)],
     "its pointwise_kernel must be 1x1x3x6, but 'array_1' is 1x1x3x5"),
    ("LocallyConnected2D", CONV, (8, 8, 3), [draw(36, 26, 6)], "its kernel must be 36x27x6, but 'array_0' is 36x26x6"),
    ("Dense", {"units": 4}, (5,), [draw(4, 5)], "its kernel must be 5x4, but 'array_0' is 4x5"),
    ("Dense", {"units": 4, "activation": "mine"}, (5,), [draw(5, 4), draw(4)], "the activation 'mine' is not known"),
    ("Activation", {"activation": "threshold"}, (5,), [],
     "threshold must say its threshold and default_value, but it does not"),
    ("Activation", {"activation": "glu"}, (5,), [], "glu halves axis 1, but it has 5 elements"),
    ("BatchNormalization", {"axis": [1, 2]}, (4, 5), [], "one axis is normalised, but these are [1, 2]"),
    ("BatchNormalization", {}, (4, 5), [draw(5), draw(5), draw(5), draw(4)],
     "its moving_variance must be 5, but 'array_3' is 4"),
    ("BatchNormalization", {"axis": 0}, (4, 5), [], "an axis must not be the batch"),
    ("LayerNormalization", {"axis": 3}, (4, 5), [], "axis 3 of a tensor with 3 axes"),
    ("GroupNormalization", {"groups": 2}, (4, 5), [], "groups must divide the channels, but 2 does not divide 5"),
    ("Rescaling", {"scale": [1.0, 2.0]}, (4, 5), [], "scale of shape [2] does not fit [None, 4, 5]"),
    ("Rescaling", {"scale": "a"}, (4, 5), [], "scale must be numbers, but it is 'a'"),
    ("Normalization", {"axis": -1}, (4, 5), [draw(4), draw(4)], "its mean must be 5, but 'array_0' is 4"),
    ("PReLU", {"shared_axes": [1]}, (4, 5), [draw(4, 5)], "its alpha must be 1x5, but 'array_0' is 4x5"),
    ("Reshape", {"target_shape": [7, -1]}, (4, 5), [], "20 elements do not reshape to [7, -1]"),
    ("Permute", {"dims": [1, 1]}, (4, 5), [], "dims must be 1 to 2 in some order, but they are [1, 1]"),
    ("Cropping1D", {"cropping": [2, 2]}, (4, 5), [], "nothing is left: [(2, 2)] is cut from [4]"),
    ("ZeroPadding2D", {"padding": [1, 2, 3]}, (4, 5, 2), [],
     "2 pairs of numbers, at least 0, are needed, but these are [1, 2, 3]"),
    ("UpSampling2D", {"interpolation": "bicubic"}, (4, 5, 2), [],
     "interpolation must be nearest or bilinear, but it is 'bicubic'"),
    ("CenterCrop", {"height": 5, "width": 2}, (4, 5, 2), [],
     "a smaller image, [4, 5], is resized to [5, 2]: not supported"),
    ("EinsumDense", {"equation": "ab,cd", "output_shape": 3}, (4,), [], "the equation 'ab,cd' is not supported"),
    ("RepeatVector", {"n": 2}, (4, 5), [], "a vector is repeated, but this is a tensor with 3 axes"),
    ("Add", {}, (4, 5), [], "Add joins tensors, but this call reads 1"),
    ("Unheard", {}, (4, 5), [], "the layer Unheard is not supported: it is not known"),
    ("Lambda", {"function": ["4wEAAAA=", None, None]}, (4, 5), [],
     "the layer Lambda is not supported: its function is Python code, which is never run"),
    ("LSTM", {"units": 3}, (4, 5), [],
     "the layer LSTM is not supported: it runs along a sequence step by step, which no patch classifier needs"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "config", "shape", "arrays", "message"), FAULTS)
def test_a_fault_is_one_line_that_names_the_layer(
    kind: Any, config: Any, shape: Any, arrays: Any, message: Any
) -> None:
    with pytest.raises(FileError) as caught:
        run(kind, config, [draw(2, *shape)], arrays)
    assert caught.value.layer == "l0"
    assert "\n" not in caught.value.message + caught.value.hint
    assert message is None or caught.value.message == message


def test_what_is_refused_by_name_is_no_row() -> None:
    assert not set(REFUSED) & set(LAYERS)


def test_several_inputs_where_a_layer_reads_one() -> None:
    with pytest.raises(FileError, match="Flatten reads one tensor, but this call reads 2"):
        run("Flatten", {}, [draw(2, 3, 4), draw(2, 3, 4)])


def test_an_argument_of_a_call_that_nothing_reads() -> None:
    with pytest.raises(FileError, match=r"a call with training=True is not supported"):
        run("Dropout", {"rate": 0.5}, [draw(2, 3)], keywords={"training": True})
    x = draw(2, 3)
    assert np.array_equal(run("Dropout", {"rate": 0.5}, [x], version=K3, keywords={"training": False}), x)


@pytest.mark.parametrize(
    ("kind", "module"), [("System", "os"), ("Conv2D", "mine.layers"), ("Functional", "subprocess")]
)
def test_a_foreign_module_is_never_imported(kind: str, module: str) -> None:
    described = model_of([(kind, {}, [[["x0", 0, 0, {}]]])], [(3,)])
    described["config"]["layers"][-1]["module"] = module
    before = set(sys.modules)
    with pytest.raises(FileError):
        read_network(described, Origin(K3))
    assert set(sys.modules) == before


def test_no_framework_is_imported() -> None:
    """A translation in a process of its own loads none of them."""
    program = (
        "import sys, numpy as np\n"
        "from dense2conv.convert.keras.architecture import read_network\n"
        "from dense2conv.convert.keras.network import Origin\n"
        "from dense2conv.convert.keras.translation import translate\n"
        "config = {'class_name': 'Sequential', 'config': [{'class_name': 'Lambda', 'module': 'keras.layers',\n"
        "    'config': {'name': 'l', 'batch_input_shape': [None, 3]}}]}\n"
        "try:\n"
        "    translate(read_network(config, Origin((3, 15))), {}, Origin((3, 15)))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error.layer)\n"
        "print({'keras', 'tensorflow', 'torch', 'jax', 'theano'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "FileError l\nset()\n"
