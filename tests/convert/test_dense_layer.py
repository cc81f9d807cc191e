"""The proof of the kernel command: it holds for right kernels and fails for each kind of wrong one."""

import io

import numpy as np
import onnx
import onnxruntime
import pytest
from scipy import signal

from dense2conv.convert.dense_layer import DenseLayer, convolution, correlating, layout_of, prove, write_model
from dense2conv.convert.errors import NegativeAnswer, RequestError
from dense2conv.convert.kernel import dense_to_kernel
from dense2conv.convert.kernel_files import Rearranged

random = np.random.default_rng(0)


def layer_of(order="HWC", dtype=np.float32, units=6, weight_layout="KO"):
    patch = {"CHW": (3, 4, 5), "HWC": (4, 5, 3), "LC": (7, 3), "CL": (3, 7), "CDHW": (2, 3, 4, 2)}.get(
        order, (3, 4, 2, 2)
    )
    weight = random.standard_normal((int(np.prod(patch)), units)).astype(dtype)
    stored = weight if weight_layout == "KO" else np.ascontiguousarray(weight.T)
    return DenseLayer(stored, patch, order, weight_layout, random.standard_normal(units).astype(dtype))


def kernel_of(layer, layout="OIHW", flip=False):
    return dense_to_kernel(layer.weight, layer.patch, layer.order, layout, flip, layer.weight_layout)


@pytest.mark.parametrize("weight_layout", ["KO", "OK"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("layout", ["OIHW", "HWIO"])
@pytest.mark.parametrize("order", ["CHW", "HWC", "CL", "LC", "CDHW", "DHWC"])
def test_a_right_kernel_is_proven(order, layout, flip, weight_layout):
    layer = layer_of(order, weight_layout=weight_layout)
    for stride in ([1] * len(layer.spatial), [2] * len(layer.spatial), layer.spatial):
        figures = prove(layer, kernel_of(layer, layout, flip), layout, flip=flip, stride=stride)
        assert figures.ratio < 1e-5
        assert figures.count == int(np.prod([3, 2, 4][: len(stride)])) * layer.units


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_types_are_proven_in_float32(dtype):
    layer = layer_of(dtype=dtype)
    assert prove(layer, kernel_of(layer), "OIHW", flip=False, stride=(1, 1)).ratio < 1e-4


def one_weight(kernel):
    kernel[0, 0, 0, 0] = np.nextafter(kernel[0, 0, 0, 0], np.float32(9))


def swap_channels(kernel):
    kernel[:, [0, 1]] = kernel[:, [1, 0]]


def flip_rows(kernel):
    kernel[:] = kernel[:, :, ::-1]


@pytest.mark.parametrize("damage", [one_weight, swap_channels, flip_rows])
def test_a_damaged_kernel_is_not_the_weight(damage):
    layer = layer_of()
    kernel = kernel_of(layer).copy()
    damage(kernel)
    with pytest.raises(NegativeAnswer, match="is not the dense weight"):
        prove(layer, kernel, "OIHW", flip=False, stride=(1, 1))


# With the bit comparison out of the way, the run in ONNX Runtime must find each fault by itself.


@pytest.mark.parametrize(
    ("order", "flip"),
    [("CHW", False), ("HWC", True)],
    ids=["wrong order", "wrong flip"],
)
def test_the_run_alone_finds_a_wrong_order_or_flip(monkeypatch, order, flip):
    monkeypatch.setattr("dense2conv.convert.dense_layer.same_bytes", lambda *_: True)
    layer = DenseLayer(random.standard_normal((64, 3)).astype(np.float32), (4, 4, 4), "HWC")
    wrong = dense_to_kernel(layer.weight, layer.patch, order, "OIHW", flip)
    prove(layer, kernel_of(layer), "OIHW", flip=False, stride=(2, 2))
    with pytest.raises(NegativeAnswer, match="not proven"):
        prove(layer, wrong, "OIHW", flip=False, stride=(2, 2))


@pytest.mark.parametrize("damage", [swap_channels, flip_rows])
def test_the_run_alone_finds_a_damaged_kernel(monkeypatch, damage):
    monkeypatch.setattr("dense2conv.convert.dense_layer.same_bytes", lambda *_: True)
    layer = layer_of()
    kernel = kernel_of(layer).copy()
    damage(kernel)
    with pytest.raises(NegativeAnswer, match="not proven"):
        prove(layer, kernel, "OIHW", flip=False, stride=(1, 1))


def test_the_run_finds_a_dropped_bias_and_a_wrong_stride(monkeypatch):
    layer = layer_of()
    right = convolution
    monkeypatch.setattr("dense2conv.convert.dense_layer.convolution", lambda k, _, s: right(k, None, s))
    with pytest.raises(NegativeAnswer, match="not proven"):
        prove(layer, kernel_of(layer), "OIHW", flip=False, stride=(1, 1))
    monkeypatch.setattr("dense2conv.convert.dense_layer.convolution", lambda k, b, _: right(k, b, [1, 2]))
    with pytest.raises(NegativeAnswer, match="not proven"):
        prove(layer, kernel_of(layer), "OIHW", flip=False, stride=(1, 1))


@pytest.mark.parametrize("units_at_once", [1, 2, 4])
def test_a_large_weight_is_proven_in_parts(monkeypatch, units_at_once):
    """The last of six units is as well looked at as the first, its bias too, and nothing is taken twice."""
    monkeypatch.setattr("dense2conv.convert.dense_layer._BLOCK", units_at_once * 60 * 4)
    monkeypatch.setattr("dense2conv.convert.dense_layer.same_bytes", lambda *_: True)
    layer = layer_of()
    assert prove(layer, kernel_of(layer), "OIHW", flip=False, stride=(1, 1)).count == 6 * 6
    for unit in range(6):
        kernel = kernel_of(layer).copy()
        kernel[unit] = kernel[unit, :, ::-1]
        with pytest.raises(NegativeAnswer, match="not proven"):
            prove(layer, kernel, "OIHW", flip=False, stride=(1, 1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_prove_nothing_are_no_proof(value):
    layer = layer_of()
    layer.weight[3, 2] = value
    with pytest.raises(NegativeAnswer, match="NaN or infinite"):
        prove(layer, kernel_of(layer), "OIHW", flip=False, stride=(1, 1))


def test_a_weight_of_zeros_is_no_proof():
    layer = DenseLayer(np.zeros((60, 3), np.float32), (4, 5, 3), "HWC")
    with pytest.raises(NegativeAnswer, match="whatever goes in"):
        prove(layer, kernel_of(layer), "OIHW", flip=False, stride=(1, 1))


def test_case_1_on_a_large_image(tmp_path):
    """WORKED-CASES 1: a 100 x 60 x 10 image gives 5 x 3 x 64 at stride 20 and 81 x 41 x 64 at stride 1."""
    weight = random.standard_normal((4000, 64)).astype(np.float32)
    bias = random.standard_normal(64).astype(np.float32)
    layer = DenseLayer(weight, (20, 20, 10), "HWC", bias=bias)
    image = random.standard_normal((2, 10, 100, 60)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(image.transpose(0, 2, 3, 1), (20, 20), (1, 2))
    for stride, rows, columns in ((20, 5, 3), (1, 81, 41)):
        path = tmp_path / f"{stride}.onnx"
        with path.open("wb") as file:
            write_model(convolution(kernel_of(layer), bias, (stride, stride)), file)
        onnx.checker.check_model(onnx.load(path), full_check=True)
        (found,) = onnxruntime.InferenceSession(path).run(None, {"patch": image})
        assert found.shape == (2, 64, rows, columns)
        assert found[0].size == {20: 960, 1: 81 * 41 * 64}[stride]
        assert sum(tensor.size for tensor in (kernel_of(layer), bias)) == 256_064
        for row, column in ((0, 0), (rows - 1, columns - 1), (rows // 2, 1)):
            window = windows[:, row * stride, column * stride]  # (2, C, H, W) with the windows' axes last
            flat = window.transpose(0, 2, 3, 1).reshape(2, 4000).astype(np.float64)
            expected = flat @ weight + bias
            assert np.abs(found[:, :, row, column] - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_flipped_kernel_is_for_scipy():
    layer = DenseLayer(random.standard_normal((60, 2)).astype(np.float32), (4, 5, 3), "HWC")
    kernel = kernel_of(layer, "HWIO", flip=True)
    image = random.standard_normal((9, 8, 3))
    for unit in range(2):
        channels = [signal.convolve(image[:, :, c], kernel[:, :, c, unit], mode="valid") for c in range(3)]
        assert np.allclose(sum(channels)[2, 1], image[2:6, 1:6].reshape(-1) @ layer.weight[:, unit])
    assert np.array_equal(correlating(kernel, "HWIO", True), kernel_of(layer))


def test_the_weight_s_layout_is_the_axis_that_fits():
    assert layout_of((60, 3), 60) == "KO"
    assert layout_of((3, 60), 60) == "OK"
    for shape, message in (((60, 60), "both are"), ((3, 4), "none is"), ((60,), "2 axes, not 1")):
        with pytest.raises(RequestError, match=message):
            layout_of(shape, 60)


@pytest.mark.parametrize("kernel_type", [np.float16, np.float32])
def test_a_bias_is_written_as_it_is_or_refused(kernel_type):
    """One third is no float16 and no float32, and a million is beyond float16; 0.25 and NaN are in every type."""
    kernel = np.ones((2, 1, 2, 2), kernel_type)
    model = convolution(kernel, np.array([0.25, np.nan], np.float64), (1, 1))
    written = onnx.numpy_helper.to_array(model.proto.graph.initializer[1])
    assert written.dtype == kernel_type
    assert written[0] == 0.25
    assert np.isnan(written[1])
    for bias in (np.array([0.25, 1 / 3]), np.array([0.25, 1e6 / 3])):
        with pytest.raises(RequestError, match=r"does not hold its float64 values"):
            convolution(kernel, bias, (1, 1))


def test_what_does_not_fit_is_refused():
    with pytest.raises(RequestError, match=r"a bias has one value a unit: \(3,\), not \(4,\)"):
        DenseLayer(np.zeros((60, 3)), (4, 5, 3), "HWC", bias=np.zeros(4))
    with pytest.raises(RequestError, match="no convolution in float64"):
        convolution(np.zeros((3, 3, 4, 5)), None, (1, 1))
    with pytest.raises(RequestError, match=r"one value or more, not the shape \(60, 0\)"):
        DenseLayer(np.zeros((60, 0)), (4, 5, 3), "HWC")
    layer = layer_of()
    for options, message in (
        ({"flip": True, "dense": False}, "flip"),
        ({"flip": False, "dense": True}, "no network"),
    ):
        rearranged = Rearranged("w", layer, {"OIHW": kernel_of(layer), "KO": layer.weight}, **options)
        with pytest.raises(RequestError, match=message):
            rearranged.writers({"a.onnx": "KO" if options["dense"] else "OIHW"}, (1, 1))


def test_a_kernel_of_several_bands_is_written_whole():
    """A rearranged kernel of more than 8 MiB: it was once written with its last band in every place."""
    weight = np.random.default_rng(0).standard_normal((2000, 1500)).astype(np.float32)
    kernel = dense_to_kernel(weight, (20, 20, 5), "HWC")
    assert kernel.nbytes > 1 << 23
    assert not kernel.flags.c_contiguous
    file = io.BytesIO()
    write_model(convolution(kernel, None, (1, 1)), file)
    (tensor,) = onnx.load_from_string(file.getvalue()).graph.initializer
    assert np.array_equal(onnx.numpy_helper.to_array(tensor), kernel)
