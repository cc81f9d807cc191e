"""The files of real Keras: every array is where h5py finds it by its path, and every form of a model has the same."""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest

from dense2conv.convert.keras.reading.files import open_file
from dense2conv.convert.keras.reading.signatures import looks_like_keras
from dense2conv.convert.mapped import source

from .files import REFERENCES, network, read, same

ROWS = {
    row["file"]: row
    for row in json.loads((REFERENCES / "MANIFEST.json").read_text())["models"]
    if row["file"].startswith("k")
}


def config_of(name):
    return str(REFERENCES / ROWS[name]["config"]) if "config" in ROWS[name] else None


def test_every_kind_of_file_is_there():
    assert len(ROWS) == 56
    assert len(TWINS) > 10
    for prefix in ("k1_", "k23_", "k2_", "k3_"):
        assert any(name.startswith(prefix) for name in ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_the_file_says_which_keras_and_backend_wrote_it(name):
    row = ROWS[name]
    with open_file(str(REFERENCES / name), config_of(name)) as file:
        origin = file.origin
        assert file.path == str(REFERENCES / name)
    framework = row["framework"]
    assert origin.theano == ("theano" in framework)
    assert origin.major == int(row["version"][0])
    if not name.endswith((".keras", ".weights.h5")):
        assert origin.backend in framework
        assert ".".join(map(str, origin.version)) in (row["version"], "2.15.0")  # TF 2.15.1 has Keras 2.15.0


@pytest.mark.parametrize("name", ROWS)
def test_every_array_of_the_file_is_given_once_where_it_lies(name):
    """h5py alone walks the file; no array is left out, none is there twice, and none is copied."""
    path = REFERENCES / name
    if name.endswith(".keras"):
        path = io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5"))
    expected = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda place, item: (
                expected.update({place: item[()]})
                if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and "optimizer" not in place
                else None
            )
        )
    with open_file(str(REFERENCES / name), config_of(name)) as file:
        found = [item for own in file.arrays(network(file.config)).values() for item in own]
        arrays = [item.array() for item in found]
    assert sorted(item.name for item in found if item.dtype.kind == "f") == sorted(expected)
    for item, array in zip(found, arrays, strict=True):  # views outlive the open file
        assert array.shape == item.shape
        assert array.dtype == item.dtype
        if item.dtype.kind == "f":
            np.testing.assert_array_equal(array, expected[item.name])
            assert source(array) is not None


PLACES = [
    (
        "k1_same_bn_th.h5",
        ("batchnormalization_1",),
        [
            f"model_weights/batchnormalization_1/batchnormalization_1_{v}"
            for v in ("gamma", "beta", "running_mean", "running_std")
        ],
    ),
    ("k1_valid_th_w_only.h5", ("dense_2",), [f"dense_2/dense_2_{v}" for v in "Wb"]),
    (
        "k23_same_bn_last.h5",
        ("depthwise_conv2d_2",),
        [f"model_weights/depthwise_conv2d_2/depthwise_conv2d_2/{v}" for v in ("depthwise_kernel", "bias")],
    ),
    (
        "k2_func_branches_nested.h5",
        ("sub", "sbn"),
        [f"model_weights/sub/sbn/{v}:0" for v in ("gamma", "beta", "moving_mean", "moving_variance")],
    ),
    (
        "k3_func_branches_nested.h5",
        ("sub", "s1"),
        [f"model_weights/sub/sub/s1/{v}" for v in ("kernel", "bias")],
    ),
    (
        "k2_func_branches_nested.keras",
        ("sub", "sbn"),
        [f"layers/sequential/layers/batch_normalization/vars/{k}" for k in range(4)],
    ),
    ("k3_func_branches_nested.weights.h5", ("out",), ["layers/dense_1/vars/0", "layers/dense_1/vars/1"]),
    ("k2_valid_flat_w.weights.h5", None, ["layers/conv2d_1/vars/0", "layers/conv2d_1/vars/1"]),
]


@pytest.mark.parametrize(("name", "layer", "places"), PLACES)
def test_a_layer_has_the_arrays_at_these_paths(name, layer, places):
    found, _ = read(REFERENCES / name, config_of(name))
    if layer is None:  # the second convolution, whatever it is called
        layer = [path for path, own in found.items() if own and own[0].ndim == 4][1]
    path = REFERENCES / name
    if name.endswith(".keras"):
        path = io.BytesIO(zipfile.ZipFile(path).read("model.weights.h5"))
    with h5py.File(path) as file:
        assert same(found[layer], [file[place][()] for place in places])


TWINS = sorted(
    (name, f"{stem}{ending}")
    for name in ROWS
    for stem in [name.removesuffix(".h5")]
    for ending in (".keras", ".weights.h5")
    if name.endswith(".h5") and f"{stem}{ending}" in ROWS
)


@pytest.mark.parametrize(("name", "other"), TWINS)
def test_groups_by_name_and_groups_by_class_hold_the_same_model(name, other):
    """Keras wrote one model in both forms, so a layer that is given another's arrays would be seen."""
    first, _ = read(REFERENCES / name)
    second, _ = read(REFERENCES / other, config_of(other))
    assert list(first) == list(second)
    for layer, arrays in first.items():
        floats = [array for array in second[layer] if array.dtype.kind == "f"]
        assert same(arrays, floats), layer


@pytest.mark.parametrize("name", ROWS)
def test_the_first_bytes_tell(name):
    with (REFERENCES / name).open("rb") as file:
        assert looks_like_keras(file.read(512))


def test_other_files_are_not_taken_for_keras():
    assert not looks_like_keras((REFERENCES / "t01_valid_ts.onnx").read_bytes())
    assert not looks_like_keras(b"")
    assert looks_like_keras(b"\0" * 2048 + b"\x89HDF\r\n\x1a\n")
    assert not looks_like_keras(b"\0" * 2049 + b"\x89HDF\r\n\x1a\n")
