"""Maps that are Keras files again. What real Keras makes of them is asked in tests/conformance/test_keras_maps_live.py;
here our reader opens them, and the frameworks' own answers in the references are the oracle.
"""

import json
import zipfile

import h5py
import numpy as np
import onnxruntime
import pytest

from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import FileError, NegativeAnswer, RequestError
from dense2conv.convert.keras import read_keras
from dense2conv.convert.keras.network import Call, Layer, Network, Origin, Tensor
from dense2conv.convert.keras.scanning import dialects, maps
from dense2conv.convert.keras.scanning.draft import Written
from dense2conv.convert.keras.scanning.layer_order import keras_order
from dense2conv.convert.keras.scanning.rewriting import rewritten
from dense2conv.convert.keras.scanning.writing import write_h5
from dense2conv.convert.keras.translation import options_of
from dense2conv.convert.networks import open_network
from dense2conv.convert.verification import verify
from dense2conv.convert.writing import write_model

from .files import REFERENCES, legacy, model, values

ROWS = {
    row["file"]: row
    for row in json.loads((REFERENCES / "MANIFEST.json").read_text())["models"]
    if row["file"].startswith("k") and "expected" not in row
}
EXACT = [name for name, row in ROWS.items() if not row["padded"]]
PADDED = [name for name, row in ROWS.items() if row["padded"]]
ENDINGS = (".h5", ".keras")


def mapped(source, out, *, config=None, prove=True, stride=None, **options):
    """Write the map of ``source`` to ``out``, proven; return its conversion and the report."""
    keras = {"config": config and str(config)}
    conversion = convert(open_network(source, config=config), stride=stride, order=options.pop("order", None))

    def proof(candidate):
        report = verify(
            conversion.source,
            candidate,
            stride=conversion.stride,
            patch=conversion.analysis.patch,
            analysis=conversion.analysis,
            accept_border=True,
        )
        if not report.accepted:
            raise NegativeAnswer(report.verdict.value)
        return report

    report = maps.write_keras_map(
        str(source), str(out), conversion, proof if prove else None, keras=keras, **options
    )
    return conversion, report


def reference(name, out, **options):
    row = ROWS[name]
    order = "HWC" if "dense_only" in name else None
    config = row.get("config")
    return mapped(REFERENCES / name, out, config=config and REFERENCES / config, order=order, **options)


def run(network, given, path):
    write_model(network, path, force=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: given})


def difference(found, expected):
    assert found.shape == expected.shape
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


def limit(name):
    return 1e-2 if "mixed" in name else 1e-5


def configuration(path):
    if str(path).endswith(".keras"):
        return json.loads(zipfile.ZipFile(path).read("config.json"))
    with h5py.File(path) as file:
        return json.loads(file.attrs["model_config"])


def test_all_references_are_here():
    assert (len(EXACT), len(PADDED)) == (37, 14)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", EXACT)
def test_an_exact_map_gives_what_keras_gives_for_every_crop(name, ending, tmp_path):
    out = tmp_path / f"map{ending}"
    _, report = reference(name, out)
    assert report.verdict.value == "equivalent"
    arrays = np.load(REFERENCES / ROWS[name]["npz"])
    (found,) = run(open_network(out), arrays["image_x"].astype(np.float32), tmp_path / "map.onnx")
    if ROWS[name]["layout"].startswith("NC"):
        found = np.moveaxis(found, 1, -1)
    assert difference(found, arrays["scan_y"]) < limit(name)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", PADDED)
def test_a_padded_map_is_right_on_the_patch_and_is_the_onnx_map_elsewhere(name, ending, tmp_path):
    """The ONNX map keeps the pads of the patch in nodes of its own, so it is an oracle for those of Keras's layers."""
    out = tmp_path / f"map{ending}"
    conversion, report = reference(name, out)
    assert report.verdict.value == "border effect"
    arrays = np.load(REFERENCES / ROWS[name]["npz"])
    plain = open_network(out)
    (found,) = run(plain, arrays["patch_x"].astype(np.float32), tmp_path / "map.onnx")
    assert difference(found.reshape(arrays["patch_y"].shape), arrays["patch_y"]) < limit(name)
    image = arrays["image_x"].astype(np.float32)
    (found,) = run(plain, image, tmp_path / "map.onnx")
    (expected,) = run(conversion.map, image, tmp_path / "onnx_map.onnx")
    assert difference(found, expected) < limit(name)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_nothing_that_needs_the_patch_is_left(name, tmp_path):
    out = tmp_path / "map.keras"
    reference(name, out, prove=False)
    layers = configuration(out)["config"]["layers"]
    kinds = {layer["class_name"] for layer in layers}
    assert not kinds & {"Flatten", "Reshape", "Dense", "RepeatVector", "Sequential", "Functional"}
    assert not any(kind.startswith("Global") for kind in kinds)
    shape = layers[0]["config"]["batch_shape"]
    assert shape.count(None) == 1 + len(ROWS[name]["patch"])


def test_what_need_not_change_does_not(tmp_path):
    """Names, arguments and arrays of the layers in front of the head are the file's own, bit for bit."""
    reference("k2_same_bn.h5", tmp_path / "map.h5", prove=False)
    before = {
        layer["config"]["name"]: layer
        for layer in configuration(REFERENCES / "k2_same_bn.h5")["config"]["layers"]
    }
    after = {
        layer["config"]["name"]: layer for layer in configuration(tmp_path / "map.h5")["config"]["layers"]
    }
    changed = {
        name for name in before.keys() & after.keys() if before[name]["config"] != after[name]["config"]
    }
    kept = before.keys() & after.keys() - changed
    assert {before[name]["class_name"] for name in kept} >= {"Conv2D", "BatchNormalization", "Activation"}
    # The dense layers, and the one convolution whose stride makes its SAME depend on the size.
    assert {before[name]["class_name"] for name in changed} == {
        "InputLayer",
        "Dense",
        "Conv2D",
    }
    with h5py.File(REFERENCES / "k2_same_bn.h5") as old, h5py.File(tmp_path / "map.h5") as new:
        for name in kept - {"input_13"}:
            for weight in old[f"model_weights/{name}"].attrs["weight_names"]:
                place = f"model_weights/{name}/{weight if isinstance(weight, str) else weight.decode()}"
                assert np.array_equal(old[place], new[place])


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_map_is_the_same_file(ending, tmp_path):
    for number in range(2):
        reference("k3_valid_flat.keras", tmp_path / f"{number}{ending}", prove=False)
    assert (tmp_path / f"0{ending}").read_bytes() == (tmp_path / f"1{ending}").read_bytes()


@pytest.mark.parametrize("name", [name for name in ROWS if "func" in name or "ops" in name])
def test_layers_are_listed_as_keras_lists_them(name):
    """The files of Functional models have Keras's own order; weights are dealt by it."""
    config = ROWS[name].get("config")
    network = read_keras(str(REFERENCES / name), config=config and str(REFERENCES / config)).network
    assert len(network.layers) > 5
    assert [layer.name for layer in keras_order(network)] == [layer.name for layer in network.layers]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", [name for name in ROWS if "func" in name])
def test_a_map_lists_its_layers_so_too(name, ending, tmp_path):
    """Keras would deal the arrays of a branch to the layers of another one."""
    reference(name, tmp_path / f"map{ending}", prove=False)
    network = read_keras(str(tmp_path / f"map{ending}")).network
    assert [layer.name for layer in network.layers] == [layer.name for layer in keras_order(network)]


def test_a_larger_stride_is_that_of_the_head(tmp_path):
    _, report = reference("k3_valid_flat.keras", tmp_path / "map.keras", stride=(8, 4))
    assert report.verdict.value == "equivalent"
    arrays = np.load(REFERENCES / "k3_valid_flat.npz")
    (found,) = run(open_network(tmp_path / "map.keras"), arrays["image_x"], tmp_path / "map.onnx")
    assert difference(found, arrays["scan_y"][:, ::2]) < 1e-5


def test_an_output_keeps_its_name_when_another_layer_must_give_it(tmp_path):
    """A network that is convolutions to its end has no head whose stride could be larger: a layer is added."""
    source = patch_network(
        tmp_path / "patch.h5", (6, 6, 2), conv("conv"), conv("out", kernel_size=[5, 5]),
        arrays={"conv": [values(0, 2, 2, 2, 3)], "out": [values(1, 5, 5, 3, 3)]},
    )  # fmt: skip
    _, report = mapped(source, tmp_path / "map.keras", stride=(3, 2))
    assert report.verdict.value == "equivalent"
    layers = [layer["name"] for layer in configuration(tmp_path / "map.keras")["config"]["layers"]]
    assert layers == ["image", "conv", "out_1", "out_stride", "out"]


def test_a_size_and_a_batch_are_fixed_on_request(tmp_path):
    conversion = convert(open_network(REFERENCES / "k2_gap.h5"), size=(30, 28), batch=2)
    out = str(tmp_path / "map.h5")
    maps.write_keras_map(
        str(REFERENCES / "k2_gap.h5"), out, conversion, None, keras={}, size=(30, 28), batch=2
    )
    assert configuration(out)["config"]["layers"][0]["config"]["batch_input_shape"] == [2, 30, 28, 2]


# Networks of a few layers, written by hand as Keras 2 writes them.


def patch_network(path, shape, *layers, arrays=()):
    """A Sequential network; each of ``layers`` is (class, name, arguments), ``arrays`` its weights by layer."""
    groups = {name: {} for _, name, _ in layers}
    for name, weights in dict(arrays).items():
        groups[name] = {f"{name}/{i}:0": weight for i, weight in enumerate(weights)}
    given = ("InputLayer", "image", {"batch_input_shape": [None, *shape]})
    return legacy(path, model(given, *layers), groups)


FLAT = ("Flatten", "flat", {})


def conv(name, **more):
    return ("Conv2D", name, {"filters": 3, "kernel_size": [2, 2], "use_bias": False, **more})


def dense(name, units, **more):
    return ("Dense", name, {"units": units, "use_bias": False, **more})


@pytest.mark.parametrize("size", [9, 10, 11, 12])
@pytest.mark.parametrize("kind", ["MaxPooling2D", "AveragePooling2D"])
@pytest.mark.parametrize(("pool", "stride"), [(2, 2), (3, 2), (3, 1), (2, 3), (4, 3)])
def test_pads_of_pools_stay_what_they_are_on_the_patch(size, kind, pool, stride, tmp_path):
    """Pads are no elements: neither the maximum nor the mean may see zeros where the patch network pads."""
    out = -(-(size - 1) // stride)
    source = patch_network(
        tmp_path / "patch.h5",
        (size, size, 2),
        conv("conv"),
        (kind, "pool", {"pool_size": [pool, pool], "strides": [stride, stride], "padding": "same"}),
        FLAT,
        dense("out", 2),
        arrays={"conv": [values(0, 2, 2, 2, 3) - 1], "out": [values(1, out * out * 3, 2)]},
    )
    conversion, report = mapped(source, tmp_path / "map.keras")
    assert report.accepted
    image = values(2, 2, size + 2 * stride + 1, size + 3 * stride, 2)
    (expected,) = run(conversion.map, image, tmp_path / "onnx_map.onnx")
    (found,) = run(open_network(tmp_path / "map.keras"), image, tmp_path / "map.onnx")
    assert difference(found, expected) < 1e-5


def test_pixels_that_no_window_reads_give_no_positions(tmp_path):
    """9 pixels in windows of 2 leave one out: a map without a crop would have a position more at 10."""
    source = patch_network(
        tmp_path / "patch.h5",
        (9, 9, 1),
        ("MaxPooling2D", "pool", {"pool_size": [2, 2]}),
        conv("conv", filters=1),
        FLAT,
        dense("out", 2),
        arrays={"conv": [values(0, 2, 2, 1, 1)], "out": [values(1, 9, 2)]},
    )
    mapped(source, tmp_path / "map.h5")
    plain = open_network(tmp_path / "map.h5")
    for size, positions in ((9, 1), (10, 1), (11, 2), (12, 2), (13, 3)):
        (found,) = run(plain, values(2, 1, size, 9, 1), tmp_path / "map.onnx")
        assert found.shape == (1, positions, 1, 2)


def functional(path, layers, output, groups):
    """A Functional network; each of ``layers`` is (class, name, arguments, [inputs of a call, ..])."""
    listed = [
        {
            "class_name": kind,
            "name": name,
            "config": {"name": name, **config},
            "inbound_nodes": [[[read, node, 0, {}] for read, node in call] for call in calls],
        }
        for kind, name, config, calls in layers
    ]
    config = {
        "class_name": "Functional",
        "config": {
            "name": "net",
            "layers": listed,
            "input_layers": [[layers[0][1], 0, 0]],
            "output_layers": [[output, 0, 0]],
        },
    }
    return legacy(path, config, {name: groups.get(name, {}) for _, name, _, _ in layers})


IMAGE = ("InputLayer", "image", {"batch_input_shape": [None, 6, 6, 2]}, [])


def test_a_dense_layer_that_reads_two_orders_becomes_two_convolutions(tmp_path):
    """Shared in the patch network; in the map each order of the axes has a kernel of its own."""
    weights = values(0, 72, 3)
    source = functional(
        tmp_path / "patch.h5",
        [
            IMAGE,
            ("Flatten", "rows", {}, [[("image", 0)]]),
            ("Permute", "turned", {"dims": [2, 1, 3]}, [[("image", 0)]]),
            ("Flatten", "columns", {}, [[("turned", 0)]]),
            ("Dense", "shared", {"units": 3, "use_bias": False}, [[("rows", 0)], [("columns", 0)], [("rows", 0)]]),
            ("Add", "sum", {}, [[("shared", 0), ("shared", 1), ("shared", 2)]]),
        ],
        "sum",
        {"shared": {"shared/kernel:0": weights}},
    )  # fmt: skip
    mapped(source, tmp_path / "map.keras", order="HWC")
    layers = configuration(tmp_path / "map.keras")["config"]["layers"]
    convolutions = {
        layer["name"]: len(layer["inbound_nodes"]) for layer in layers if layer["class_name"] == "Conv2D"
    }
    assert convolutions == {"shared": 2, "shared_1": 1}
    image = values(1, 1, 8, 7, 2)
    (found,) = run(open_network(tmp_path / "map.keras"), image, tmp_path / "map.onnx")
    for row, column in ((0, 0), (2, 1)):
        crop = image[0, row : row + 6, column : column + 6].astype(np.float64)
        expected = 2 * crop.reshape(-1) @ weights + crop.transpose(1, 0, 2).reshape(-1) @ weights
        assert np.allclose(found[0, row, column], expected, atol=1e-4)


def test_flattened_branches_of_one_size_are_joined_along_their_channels(tmp_path):
    weights = values(0, 72 + 36, 3)
    source = functional(
        tmp_path / "patch.h5",
        [
            IMAGE,
            ("Conv2D", "conv", {"filters": 1, "kernel_size": [1, 1], "use_bias": False}, [[("image", 0)]]),
            ("Flatten", "one", {}, [[("image", 0)]]),
            ("Flatten", "two", {}, [[("conv", 0)]]),
            ("Concatenate", "both", {"axis": -1}, [[("one", 0), ("two", 0)]]),
            ("Dense", "out", {"units": 3, "use_bias": False}, [[("both", 0)]]),
        ],
        "out",
        {"out": {"out/kernel:0": weights}, "conv": {"conv/kernel:0": values(1, 1, 1, 2, 1)}},
    )
    _, report = mapped(source, tmp_path / "map.h5")
    assert report.verdict.value == "equivalent"


def alpha(*shape):
    return {"slopes": [values(5, *shape)]}


REFUSALS = {
    "a slope for each position": (
        [conv("conv"), ("PReLU", "slopes", {}), FLAT, dense("out", 2)],
        {"conv": [values(0, 2, 2, 2, 3)], **alpha(5, 5, 3), "out": [values(1, 75, 2)]},
        "slopes", "PReLU has a slope for each position of the patch",
    ),
    "statistics of each position": (
        [conv("conv"), FLAT, ("BatchNormalization", "norm", {"scale": False, "center": False}), dense("out", 2)],
        {"conv": [values(0, 2, 2, 2, 3)], "norm": [values(1, 75), values(2, 75) ** 2], "out": [values(1, 75, 2)]},
        "norm", "BatchNormalization along axis 1 mixes positions of the patch",
    ),
    "a mean of each position": (
        [conv("conv"), FLAT, ("LayerNormalization", "norm", {"scale": False, "center": False}), dense("out", 2)],
        {"conv": [values(0, 2, 2, 2, 3)], "out": [values(1, 75, 2)]},
        "norm", "LayerNormalization along axis 1 mixes positions of the patch",
    ),
    "a softmax over the patch": (
        [conv("conv"), FLAT, ("Activation", "soft", {"activation": "softmax"}), dense("out", 2)],
        {"conv": [values(0, 2, 2, 2, 3)], "out": [values(1, 75, 2)]},
        "soft", "Activation along axis 1 mixes positions of the patch",
    ),
    "several positions": (
        [conv("conv"), ("Dropout", "out", {"rate": 0.5})],
        {"conv": [values(0, 2, 2, 2, 3)]},
        "out", "it gives 5x5 positions for one patch, not one",
    ),
    "elements out of order": (
        [conv("conv", kernel_size=[6, 6]), ("Reshape", "split", {"target_shape": [3, 1]}), FLAT, dense("six", 6),
         ("Reshape", "pairs", {"target_shape": [2, 3]}), ("Permute", "turned", {"dims": [2, 1]}),
         ("Flatten", "out", {})],
        {"conv": [values(0, 6, 6, 2, 3)], "six": [values(1, 3, 6)]},
        "out", "it gives its elements in another order",
    ),
    "a layer without a counterpart": (
        [conv("conv"), ("UpSampling2D", "up", {}), FLAT, dense("out", 2)],
        {"conv": [values(0, 2, 2, 2, 3)], "out": [values(1, 300, 2)]},
        "up", "the layer UpSampling2D is not supported",
    ),
    "channels elsewhere": (
        [conv("conv", data_format="channels_first", filters=2), FLAT, dense("out", 2)],
        {"conv": [values(0, 2, 2, 6, 2)], "out": [values(1, 10, 2)]},
        "conv", "Conv2D is channels_first, but its input has the channels elsewhere",
    ),
    "axes regrouped": (
        [conv("conv"), ("Reshape", "steps", {"target_shape": [5, 15]}),
         ("Conv1D", "along", {"filters": 2, "kernel_size": [5], "use_bias": False}), FLAT],
        {"conv": [values(0, 2, 2, 2, 3)], "along": [values(1, 5, 15, 2)]},
        "along", "Conv1D reads a feature map 5x5x3 regrouped as 5x15",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_a_map_in_keras_cannot_hold_is_refused_by_name(case, tmp_path):
    """Without the audit, which refuses some of them earlier: what it lets through must not pass here."""
    layers, arrays, layer, message = REFUSALS[case]
    read = read_keras(patch_network(tmp_path / "patch.h5", (6, 6, 2), *layers, arrays=arrays))
    options = options_of(read.network, read.origin, None, {})
    with pytest.raises(FileError, match=f"a map in Keras: {message}") as refused:
        rewritten(read.network, read.arrays, options, shape=(6, 6, 2), spatial_axes=(1, 2), stride=(1, 1))
    assert refused.value.layer == layer
    assert refused.value.hint


def test_what_the_audit_refuses_is_refused_in_its_words(tmp_path):
    layers, arrays, *_ = REFUSALS["a slope for each position"]
    source = patch_network(tmp_path / "patch.h5", (6, 6, 2), *layers, arrays=arrays)
    with pytest.raises(FileError, match="not convertible as a convolution: PReLU"):
        mapped(source, tmp_path / "map.keras")
    assert not (tmp_path / "map.keras").exists()


def test_branches_of_other_sizes_are_refused_with_both(tmp_path):
    source = functional(
        tmp_path / "patch.h5",
        [
            IMAGE,
            ("Flatten", "flat", {}, [[("image", 0)]]),
            ("GlobalMaxPooling2D", "pool", {}, [[("image", 0)]]),
            ("Concatenate", "both", {"axis": -1}, [[("flat", 0), ("pool", 0)]]),
            ("Dense", "out", {"units": 3, "use_bias": False}, [[("both", 0)]]),
        ],
        "out",
        {"out": {"out/kernel:0": values(0, 74, 3)}},
    )
    message = "joins a feature map of 6x6 positions every 1x1 pixels with one of 1x1"
    with pytest.raises(FileError, match=message) as refused:
        mapped(source, tmp_path / "map.keras")
    assert refused.value.layer == "both"


def test_a_dropout_that_was_left_at_its_default_does_not_say_where_the_channels_are(tmp_path):
    first = {"data_format": "channels_first"}
    source = patch_network(
        tmp_path / "patch.h5",
        (2, 6, 7),
        ("SpatialDropout2D", "drop", {"rate": 0.5, "data_format": "channels_last"}),
        ("Rescaling", "scale", {"scale": 0.5, "offset": 0.0}),
        conv("conv", **first),
        ("Flatten", "flat", {"data_format": "channels_last"}),
        dense("out", 2),
        arrays={"conv": [values(0, 2, 2, 2, 3)], "out": [values(1, 90, 2)]},
    )
    conversion, report = mapped(source, tmp_path / "map.keras")
    assert (conversion.analysis.order, report.verdict.value) == ("CHW", "equivalent")


def test_only_a_keras_file_becomes_one(tmp_path):
    source = REFERENCES / "t08_conv1d.onnx"
    with pytest.raises(RequestError, match="only where the network was one"):
        mapped(source, tmp_path / "map.keras")


def test_patches_are_for_onnx(tmp_path):
    conversion = convert(open_network(REFERENCES / "k2_gap.h5"), method="patches")
    with pytest.raises(RequestError, match="no --method patches"):
        maps.write_keras_map(
            str(REFERENCES / "k2_gap.h5"), str(tmp_path / "map.h5"), conversion, None, keras={}
        )


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_wrong_weight_is_found_and_the_old_file_stays(ending, tmp_path, monkeypatch):
    """The checker must be able to fail: the kernels of the written map are turned around."""
    out = tmp_path / f"map{ending}"
    out.write_bytes(b"old")

    def turned(*arguments, **options):
        written = rewritten(*arguments, **options)
        arrays = {path: [np.flip(array) for array in own] for path, own in written.arrays.items()}
        return Written(written.network, arrays, written.shapes)

    monkeypatch.setattr(maps, "rewritten", turned)
    with pytest.raises(NegativeAnswer, match="different"):
        reference("k3_valid_flat.keras", out, force=True)
    assert out.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_long_lists_of_names_are_cut_as_keras_cuts_them(tmp_path):
    """HDF5 keeps an attribute in 64 KiB, which 300 names of 250 characters do not fit into."""
    layers = [Layer("ReLU", f"{'n' * 247}{number:03}") for number in range(300)]
    given = Layer("InputLayer", "image", {"batch_shape": [None, 4]})
    calls = [Call(given), *(Call(layer, (Tensor(number),)) for number, layer in enumerate(layers))]
    network = Network("net", (given, *layers), tuple(calls), (Tensor(0),), (Tensor(300),))
    written = Written(network, {(layer.name,): () for layer in network.layers}, ((4,),) * 301)
    config = dialects.configuration(written, Origin((2,)), dialects.KERAS2)
    with (tmp_path / "map.h5").open("w+b") as file:
        write_h5(file, config, written, dialects.KERAS2)
    with h5py.File(tmp_path / "map.h5") as file:
        attributes = file["model_weights"].attrs
        assert "layer_names" not in attributes
        assert [len(attributes[f"layer_names{number}"]) for number in (0, 1)] == [258, 43]
    read = read_keras(str(tmp_path / "map.h5"))
    assert [layer.name for layer in read.network.layers] == [layer.name for layer in network.layers]


def called(functions, shape=(6, 6, 2)):
    """A convolution, functions of TensorFlow one behind the other, as Keras 2 writes their calls, and a dense layer."""
    listed = [
        {"class_name": "InputLayer", "name": "image", "config": {"batch_input_shape": [None, *shape]},
         "inbound_nodes": []},
        {"class_name": "Conv2D", "name": "conv", "inbound_nodes": [[["image", 0, 0, {}]]],
         "config": {"filters": 3, "kernel_size": [2, 2], "use_bias": False}},
    ]  # fmt: skip
    for number, (function, call) in enumerate(functions):
        previous = listed[-1]["name"]
        call = (
            [previous, 0, 0, call]
            if isinstance(call, dict)
            else ["_CONSTANT_VALUE", -1, call, {"y": [previous, 0, 0]}]
        )
        listed.append({"class_name": "TFOpLambda", "name": f"f{number}", "config": {"function": function},
                       "inbound_nodes": [call]})  # fmt: skip
    listed.append({"class_name": "Dense", "name": "out", "inbound_nodes": [[[listed[-1]["name"], 0, 0, {}]]],
                   "config": {"units": 2, "use_bias": False}})  # fmt: skip
    config = {
        "name": "net",
        "layers": listed,
        "input_layers": [["image", 0, 0]],
        "output_layers": [["out", 0, 0]],
    }
    groups = {layer["name"]: {} for layer in listed}
    groups["conv"] = {"conv/kernel:0": values(0, 2, 2, shape[-1], 3)}
    return config, groups


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("functions", "size"),
    [
        (
            [("math.multiply", {"y": 2.0}), ("math.subtract", {"y": 0.5}), ("reshape", {"shape": [-1, 75]})],
            75,
        ),
        ([("math.subtract", 1.0), ("nn.relu", {}), ("math.reduce_mean", {"axis": [1, 2]})], 3),
        ([("nn.relu6", {}), ("math.reduce_max", {"axis": [2, 1]}), ("math.truediv", {"y": 4.0})], 3),
        ([("nn.silu", {}), ("transpose", {"perm": [0, 3, 1, 2]}), ("reshape", {"shape": [-1, 75]})], 75),
    ],
)
def test_functions_become_layers(functions, size, ending, tmp_path):
    config, groups = called(functions)
    groups["out"] = {"out/kernel:0": values(1, size, 2)}
    source = legacy(tmp_path / "patch.h5", {"class_name": "Functional", "config": config}, groups)
    _, report = mapped(source, tmp_path / f"map{ending}")
    assert report.verdict.value == "equivalent"
    kinds = {layer["class_name"] for layer in configuration(tmp_path / f"map{ending}")["config"]["layers"]}
    assert not any("Lambda" in kind for kind in kinds)


@pytest.mark.parametrize(
    ("function", "call", "message"),
    [
        ("math.truediv", 1.0, "of these operands has no layer"),
        ("math.pow", {"y": 2.0}, "the function 'math.pow' is not supported"),
        ("math.reduce_mean", {"axis": [1]}, "must be over all rows and columns, but it is over"),
    ],
)
def test_functions_without_a_layer_are_refused_by_name(function, call, message, tmp_path):
    config, groups = called([(function, call)])
    groups["out"] = {"out/kernel:0": values(1, 3, 2)}
    read = read_keras(legacy(tmp_path / "patch.h5", {"class_name": "Functional", "config": config}, groups))
    options = options_of(read.network, read.origin, None, {})
    with pytest.raises(FileError, match=message) as refused:
        rewritten(read.network, read.arrays, options, shape=(6, 6, 2), spatial_axes=(1, 2), stride=(1, 1))
    assert refused.value.layer == "f0"
