"""What a file is, from its content; which Keras wrote it; and what the user must add."""

import json
import os

import h5py
import numpy as np
import pytest

from dense2conv.convert.errors import FileError, RequestError
from dense2conv.convert.keras.network import Origin
from dense2conv.convert.keras.reading.files import open_file
from dense2conv.convert.keras.reading.provenance import version_of
from dense2conv.convert.strict_json import parse

from .files import legacy, model, objects, read, same, values

ARRAYS = [values(0, 4, 3), values(1, 3)]
CONFIG = model(("Dense", "fc"))
KERAS_1 = {"fc": {"fc_W": ARRAYS[0], "fc_b": ARRAYS[1]}}
KERAS_2 = {"fc": {"fc/kernel:0": ARRAYS[0], "fc/bias:0": ARRAYS[1]}}


def configured(tmp_path, **more):
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**CONFIG, **more}))
    return str(path)


@pytest.mark.parametrize("ending", [".h5", ".keras", ".onnx", ".txt"])
def test_the_name_says_nothing(tmp_path, ending):
    found, _ = read(legacy(tmp_path / f"a{ending}", CONFIG, KERAS_2))
    assert same(found["fc",], ARRAYS)


@pytest.mark.parametrize(
    ("version", "backend", "groups", "flip", "origin"),
    [
        ("1.2.2", None, KERAS_1, None, Origin((1, 2, 2), "theano")),
        (None, None, KERAS_1, None, Origin((1,), "theano")),
        ("1.2.2", None, KERAS_2, None, Origin((1, 2, 2), "tensorflow")),
        ("1.2.2", None, {"fc": {"W": ARRAYS[0], "b:0": ARRAYS[1]}}, True, Origin((1, 2, 2), "theano")),
        ("1.2.2", None, KERAS_1, False, Origin((1, 2, 2), "theano")),  # the file can tell
        ("2.3.1", "theano", KERAS_2, None, Origin((2, 3, 1), "theano")),
        ("2.1.0", None, KERAS_1, None, Origin((2, 1, 0), "")),
        ("3.15.1", "jax", KERAS_2, None, Origin((3, 15, 1), "jax")),
    ],
)
def test_where_a_file_came_from(tmp_path, version, backend, groups, flip, origin):
    path = legacy(tmp_path / "a.h5", CONFIG, groups, version=version, backend=backend)
    assert read(path, flip=flip)[1] == origin


def test_the_group_of_the_weights_may_say_what_the_root_does_not(tmp_path):
    path = legacy(tmp_path / "a.h5", CONFIG, KERAS_2, version=None, backend=None)
    with h5py.File(path, "a") as file:
        file["model_weights"].attrs.update(keras_version="2.2.4", backend="theano")
    assert read(path)[1] == Origin((2, 2, 4), "theano")


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        ({"fc": {"fc_W": ARRAYS[0], "fc_b:0": ARRAYS[1]}}, "some of its weights' names end in ':0'"),
        ({"fc": {}}, "its weights have no names"),
    ],
)
def test_a_keras_1_file_that_cannot_tell_asks(tmp_path, groups, found):
    path = legacy(tmp_path / "a.h5", CONFIG, groups, version="1.0.8", backend=None)
    with pytest.raises(RequestError, match=found) as refused:
        read(path)
    assert "--flip" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "version"),
    [("2.15.0", (2, 15, 0)), ("2.2.4-tf", (2, 2, 4)), ("3.0.0.dev1", (3, 0, 0)), ("", ()), ("nightly", ())],
)
def test_versions(text, version):
    assert version_of(text) == version


@pytest.mark.parametrize(
    ("said", "written", "origin"),
    [
        ({"keras_version": "1.2.2"}, (None, None), Origin((1, 2, 2), "tensorflow")),
        ({"keras_version": "2.3.1", "backend": "theano"}, ("2.3.1", "theano"), Origin((2, 3, 1), "theano")),
        ({}, ("2.3.1", "theano"), Origin((2, 3, 1), "theano")),
        (
            {"keras_version": "2.15.0", "backend": "tensorflow"},
            ("2.1.0", ""),
            Origin((2, 15, 0), "tensorflow"),
        ),
    ],
)
def test_weights_alone_and_their_configuration(tmp_path, said, written, origin):
    version, backend = written
    path = legacy(tmp_path / "a.h5", CONFIG, KERAS_2, version=version, backend=backend, root="")
    found, seen = read(path, configured(tmp_path, **said))
    assert same(found["fc",], ARRAYS)
    assert seen == origin


@pytest.mark.parametrize(
    ("said", "written", "message"),
    [
        ({"keras_version": "2.3.1"}, (None, None), "written by Keras 1, but the configuration by Keras 2"),
        ({"keras_version": "1.2.2"}, ("2.3.1", None), "written by Keras 2, but the configuration by Keras 1"),
        ({"backend": "tensorflow"}, ("2.3.1", "theano"), "trained on theano, but .* written on tensorflow"),
    ],
)
def test_weights_and_a_configuration_of_another_keras(tmp_path, said, written, message):
    """Another layout of kernels, or flipped ones: shapes alone would not always show it."""
    path = legacy(tmp_path / "a.h5", CONFIG, KERAS_2, version=written[0], backend=written[1], root="")
    with pytest.raises(FileError, match=message):
        read(path, configured(tmp_path, **said))


def test_a_configuration_of_keras_3_has_a_module_instead_of_a_version(tmp_path):
    path = objects(tmp_path / "a.weights.h5", {"layers/dense": ARRAYS})
    assert read(path, configured(tmp_path, module="keras"))[1] == Origin((3,), "")
    assert read(path, configured(tmp_path))[1] == Origin((), "")


@pytest.mark.parametrize("kind", ["legacy", "objects", "numbered"])
def test_weights_alone_need_a_configuration(tmp_path, kind):
    path = tmp_path / "a.h5"
    if kind == "legacy":
        legacy(path, CONFIG, KERAS_2, root="")
    elif kind == "objects":
        objects(path, {"layers/dense": ARRAYS})
    else:
        with h5py.File(path, "w") as file:
            file.attrs["nb_layers"] = 1
    with pytest.raises(RequestError, match="does not say what the network is") as refused:
        read(path)
    assert "--config model.json" in refused.value.hint


def test_a_whole_model_takes_no_configuration(tmp_path):
    path = legacy(tmp_path / "a.h5", CONFIG, KERAS_2)
    with pytest.raises(RequestError, match="the file of a whole model has its own configuration"):
        read(path, configured(tmp_path))


def test_a_configuration_that_cannot_be_read_is_named(tmp_path):
    path = objects(tmp_path / "a.weights.h5", {"layers/dense": ARRAYS})
    with pytest.raises(RequestError, match="No such file") as missing:
        read(path, str(tmp_path / "no.json"))
    assert missing.value.file == str(tmp_path / "no.json")
    with pytest.raises(FileError, match="the configuration is not JSON") as wrong:
        read(path, path)
    assert wrong.value.file == path


def other_hdf5(path):
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(3)


def no_weights(path):
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(CONFIG)


def no_configuration(path):
    legacy(path, [], {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_hdf5, "an HDF5 file, but not one of Keras: .* it holds 'images'"),
        (no_weights, "in the group 'model_weights', but this one has none"),
        (no_configuration, "model_config must be a JSON object, but it is list"),
        (lambda path: path.write_bytes(b"text"), "neither HDF5 nor a zip archive"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (
            lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100),
            "not an HDF5 file, or a damaged one",
        ),
        (os.mkfifo, "a regular file is needed"),
    ],
)
def test_what_is_no_keras_file(tmp_path, make, message):
    path = tmp_path / "a.h5"
    make(path)
    with pytest.raises(FileError, match=message) as refused:
        read(path)
    assert refused.value.file == str(path)


def test_what_goes_wrong_in_the_block_is_not_blamed_on_the_file(tmp_path):
    path = legacy(tmp_path / "a.h5", CONFIG, KERAS_2)
    with pytest.raises(ZeroDivisionError), open_file(path):
        1 / 0  # noqa: B018


def test_every_truncation_of_a_model_is_one_of_our_errors(tmp_path):
    path = tmp_path / "a.h5"
    legacy(path, CONFIG, KERAS_2)
    data = path.read_bytes()
    for length in range(8, len(data), 89):
        path.write_bytes(data[:length])
        with pytest.raises(FileError):
            read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "has the key 'a' twice"),
        ('{"x": {"rate": NaN}}', "not finite, which is no JSON, at 'rate'"),
        ('{"x": {"rate": [1, [-Infinity]]}}', "not finite, which is no JSON, at 'rate'"),
        ('{"x": 1e999}', "not finite, which is no JSON, at 'x'"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ('{"x": ' + "9" * 5000 + "}", "is not JSON"),
        (r'{"name": "\ud83d"}', "half a character, which is no UTF-8, at 'name'"),
        (r'{"x": {"\udc00": 1}}', "half a character"),
        ("[1]", "must be a JSON object, but it is list"),
        ("", "is not JSON"),
        (b'{"a": "\xff"}', "is not JSON: 'utf-8' codec"),
        ('{"a": "' + "x" * (1 << 26) + '"}', "has at most 67108864 bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_json_that_readers_may_understand_differently(text, message):
    with pytest.raises(FileError, match=message) as refused:
        parse(text, "the configuration")
    assert len(refused.value.message) < 200
