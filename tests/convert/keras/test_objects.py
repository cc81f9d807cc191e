"""Files that name groups by class: .weights.h5, and the same in a .keras archive."""

import json

import h5py
import numpy as np
import pytest

from dense2conv.convert.errors import FileError
from dense2conv.convert.keras.reading.objects import snake_case

from .files import model, objects, read, same, values

A, B, C, D = ([values(10 * k, 2, 2), values(10 * k + 1, 2)] for k in range(4))
FOUR = [values(k, 3) for k in range(4)]
OTHER = [values(k, 3) for k in range(4, 8)]


def with_config(tmp_path, config):
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**config, "keras_version": "2.15.0"}))
    return str(path)


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("Conv2D", "conv2d"),
        ("Conv2DTranspose", "conv2d_transpose"),
        ("DepthwiseConv2D", "depthwise_conv2d"),
        ("SeparableConv1D", "separable_conv1d"),
        ("ReLU", "re_lu"),
        ("PReLU", "p_re_lu"),
        ("LeakyReLU", "leaky_re_lu"),
        ("InputLayer", "input_layer"),
        ("BatchNormalization", "batch_normalization"),
        ("GlobalAveragePooling2D", "global_average_pooling2d"),
        ("Functional", "functional"),
    ],
)
def test_class_names_as_keras_writes_them(name, snake):
    assert snake_case(name) == snake


NESTED = model(
    ("InputLayer", "in"),
    ("Dense", "z"),
    model(("Dense", "inner"), ("BatchNormalization", "norm"), name="first"),
    ("ReLU", "r"),
    ("Dense", "a"),
    model(("Dense", "inner"), ("BatchNormalization", "norm"), name="second"),
    kind="Functional",
)


def test_places_count_by_class_in_the_order_of_the_layers(tmp_path):
    path = objects(
        tmp_path / "a.weights.h5",
        {
            "layers/dense": A,
            "layers/dense_1": B,
            "layers/sequential/layers/dense": C,
            "layers/sequential/layers/batch_normalization": FOUR,
            "layers/sequential_1/layers/dense": D,
            "layers/sequential_1/layers/batch_normalization": OTHER,
        },
    )
    found, _ = read(path, with_config(tmp_path, NESTED))
    assert same(found["z",], A)
    assert same(found["a",], B)
    assert same(found["first", "inner"], C)
    assert same(found["second", "inner"], D)
    assert same(found["second", "norm"], OTHER)
    assert found["r",] == []


OLD = "_layer_checkpoint_dependencies"


@pytest.mark.parametrize(
    "places",
    [
        # Keras 2.14 skips what it has visited
        (
            f"{OLD}/dense",
            f"{OLD}/dense_1",
            f"{OLD}/sequential/{OLD}/dense",
            f"{OLD}/sequential_1/{OLD}/dense",
        ),
        # Keras 2.12 and 2.13 count a layer with weights twice
        (
            f"{OLD}/dense",
            f"{OLD}/dense_2",
            f"{OLD}/sequential/{OLD}/dense",
            f"{OLD}/sequential_2/{OLD}/dense",
        ),
    ],
    ids=["2.14", "2.12"],
)
def test_groups_of_keras_before_2_15(tmp_path, places):
    config = model(
        ("Dense", "z"),
        ("ReLU", "r"),
        model(("Dense", "inner"), name="first"),
        ("Dense", "a"),
        model(("Dense", "inner"), name="second"),
    )
    path = objects(tmp_path / "a.weights.h5", dict(zip(places, (A, B, C, D), strict=True)))
    found, _ = read(path, with_config(tmp_path, config))
    for layer, own in ((("z",), A), (("a",), B), (("first", "inner"), C), (("second", "inner"), D)):
        assert same(found[layer], own)


def test_a_wrapped_layer_lies_below_its_wrapper(tmp_path):
    config = model(("TimeDistributed", "td", {"layer": {"class_name": "Dense", "config": {"name": "fc"}}}))
    place = "layers/time_distributed/layer"
    path = objects(tmp_path / "a.weights.h5", {place: A}, {place: "fc"})
    assert same(read(path, with_config(tmp_path, config))[0]["td",], A)


def test_a_seed_of_a_random_layer_is_no_weight(tmp_path):
    config = model(("Dropout", "drop"), ("Dense", "fc"))
    seeds = [np.array([1, 2], np.uint32)]
    path = objects(tmp_path / "a.weights.h5", {"layers/dropout/seed_generator": seeds, "layers/dense": A})
    assert read(path, with_config(tmp_path, config))[0]["drop",] == []


def test_the_count_of_normalization_is_an_integer(tmp_path):
    path = objects(
        tmp_path / "a.weights.h5", {"layers/normalization": [values(0, 3), values(1, 3), np.int64(7)]}
    )
    found, _ = read(path, with_config(tmp_path, model(("Normalization", "norm", {"mean": None}))))
    assert [array.dtype.name for array in found["norm",]] == ["float32", "float32", "int64"]
    assert found["norm",][2].shape == ()
    assert found["norm",][2] == 7


def test_a_layer_of_another_name_is_refused(tmp_path):
    """Two layers of one class that changed places would otherwise change weights."""
    path = objects(
        tmp_path / "a.weights.h5", {"layers/dense": A, "layers/dense_1": B}, {"layers/dense": "two"}
    )
    config = with_config(tmp_path, model(("Dense", "one"), ("Dense", "two")))
    with pytest.raises(FileError, match="those of the layer 'two', but the configuration has 'one' there"):
        read(path, config)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"layers/dense": A}, "a Dense needs kernel, bias, but the file has no group 'layers/dense_1'"),
        (
            {"layers/dense": A, "layers/dense_1": B, "layers/dense_2": C},
            "weights at 'layers/dense_2/vars/0', but the configuration has no layer for them",
        ),
        (
            {"layers/dense": A, "layers/dense_1": B, "layers/conv2d": C},
            "weights at 'layers/conv2d/vars/0', but the configuration has no layer for them",
        ),
    ],
)
def test_layers_and_groups_belong_together(tmp_path, arrays, message):
    config = with_config(tmp_path, model(("Dense", "one"), ("Dense", "two")))
    with pytest.raises(FileError, match=message):
        read(objects(tmp_path / "a.weights.h5", arrays), config)


def test_variables_are_numbered_without_a_gap(tmp_path):
    path = objects(tmp_path / "a.weights.h5", {"layers/dense": A})
    with h5py.File(path, "a") as file:
        file.move("layers/dense/vars/1", "layers/dense/vars/2")
    with pytest.raises(FileError, match="numbered from 0, but 'layers/dense/vars/1' is missing"):
        read(path, with_config(tmp_path, model(("Dense", "one"))))


def test_weights_elsewhere_in_the_file_are_not_the_models(tmp_path):
    path = objects(tmp_path / "a.weights.h5", {"layers/dense": A, "optimizer": B})
    assert same(read(path, with_config(tmp_path, model(("Dense", "one"))))[0]["one",], A)
