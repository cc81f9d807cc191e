"""Legacy files: groups by the layers' names, a nested model in one group, and the oldest files by number."""

import json

import h5py
import numpy as np
import pytest

from dense2conv.convert.errors import FileError, RequestError

from .files import legacy, model, read, same, values, write_names

CONV = ("Conv2D", "conv")
DENSE = ("Dense", "fc")
KERNEL, BIAS = values(0, 3, 3, 1, 4), values(1, 4)
WEIGHT, OFFSET = values(2, 16, 2), values(3, 2)


def flat():
    config = model(CONV, ("Flatten", "flat"), DENSE)
    groups = {
        "conv": {"conv/kernel:0": KERNEL, "conv/bias:0": BIAS},
        "flat": {},
        "fc": {"fc_1/kernel:0": WEIGHT, "fc_1/bias:0": OFFSET},
    }
    return config, groups


@pytest.mark.parametrize("kind", ["S", "O"])
def test_the_group_and_the_order_of_its_names_count_not_the_prefix(tmp_path, kind):
    """Keras renames what is built twice: the group fc holds fc_1/kernel:0 (seen in a published file)."""
    config, groups = flat()
    found, origin = read(legacy(tmp_path / "a.h5", config, groups, kind=kind))
    assert same(found["conv",], [KERNEL, BIAS])
    assert same(found["fc",], [WEIGHT, OFFSET])
    assert found["flat",] == []
    assert (origin.version, origin.backend) == ((2, 15, 0), "tensorflow")


def test_version_and_backend_may_be_bytes(tmp_path):
    config, groups = flat()
    path = legacy(tmp_path / "a.h5", config, groups, version=np.bytes_(b"2.2.4-tf"), backend=b"theano")
    _, origin = read(path)
    assert (origin.version, origin.backend) == ((2, 2, 4), "theano")


def test_long_lists_of_names_are_in_pieces(tmp_path):
    """HDF5_OBJECT_HEADER_LIMIT: layer_names0, layer_names1 instead of layer_names; weight_names as well."""
    names = [f"layer_{k}" for k in range(5)]
    config = model(*(("Dense", name) for name in names))
    path = tmp_path / "a.h5"
    arrays = {name: [values(k, 3, 3), values(k, 3)] for k, name in enumerate(names)}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"
        top = file.create_group("model_weights")
        write_names(top, "layer_names0", names[:3])
        write_names(top, "layer_names1", names[3:])
        for name, (kernel, bias) in arrays.items():
            group = top.create_group(name)
            write_names(group, "weight_names0", ["k"])
            write_names(group, "weight_names1", ["b"])
            group["k"], group["b"] = kernel, bias
    found, _ = read(path)
    assert all(same(found[name,], own) for name, own in arrays.items())


# A nested model whose weights have no telling names: convolution, normalisation, convolution.
INNER = [
    ("Conv1D", "c1", {"use_bias": False}),
    ("BatchNormalization", "bn"),
    ("Conv1D", "c2", {"use_bias": True}),
]
C1, GAMMA, BETA, MEAN, VAR, C2, B2 = (values(10 + k, k + 1) for k in range(7))
OWN = {("sub", "c1"): [C1], ("sub", "bn"): [GAMMA, BETA, MEAN, VAR], ("sub", "c2"): [C2, B2]}


def frozen(*names):
    return [
        (kind, name, {**(more[0] if more else {}), "trainable": name not in names})
        for kind, name, *more in INNER
    ]


NORMAL = [C1, GAMMA, BETA, C2, B2, MEAN, VAR]
PARTLY = [GAMMA, BETA, C2, B2, C1, MEAN, VAR]
ALL = [C1, GAMMA, BETA, MEAN, VAR, C2, B2]


@pytest.mark.parametrize(
    ("layers", "saved"),
    [
        (frozen(), NORMAL),  # trainable weights first, so the moving statistics last
        (frozen("c1", "bn", "c2"), ALL),  # frozen: layer by layer
        (frozen("c1"), PARTLY),  # a frozen layer moves to the others
        (frozen("bn"), [C1, C2, B2, GAMMA, BETA, MEAN, VAR]),
    ],
)
@pytest.mark.parametrize("version", ["2.15.0", "3.15.1"])
def test_a_nested_model_is_dealt_out_in_the_order_that_freezing_gives(tmp_path, layers, saved, version):
    config = model(model(*layers, name="sub"), ("Dense", "fc"))
    groups = {"sub": {f"w{k}:0": array for k, array in enumerate(saved)}, "fc": {"k": WEIGHT, "b": OFFSET}}
    found, _ = read(legacy(tmp_path / "a.h5", config, groups, version=version))
    for layer, own in OWN.items():
        assert same(found[layer], own), layer


@pytest.mark.parametrize(
    ("version", "saved"), [("2.15.0", NORMAL), ("3.15.1", ALL)], ids=["Keras 2", "Keras 3"]
)
def test_a_frozen_model_with_layers_thawed_again(tmp_path, version, saved):
    """Keras 2: trainable + other of its layers; Keras 3: ``weights`` as they come."""
    config = model(model(*frozen(), name="sub", trainable=False))
    groups = {"sub": {f"w{k}:0": array for k, array in enumerate(saved)}}
    found, _ = read(legacy(tmp_path / "a.h5", config, groups, version=version))
    for layer, own in OWN.items():
        assert same(found[layer], own), layer


@pytest.mark.parametrize(
    ("version", "saved"),
    [("2.15.0", [WEIGHT, OFFSET, KERNEL, BIAS]), ("3.15.1", [KERNEL, BIAS, WEIGHT, OFFSET])],
    ids=["Keras 2", "Keras 3"],
)
def test_a_frozen_model_with_thawed_layers_inside_another(tmp_path, version, saved):
    """Keras 2 asks the frozen model, which has no trainable weights; Keras 3 asks the variables."""
    inner = model(("Dense", "fc"), name="one", trainable=False)
    config = model(model(inner, ("Dense", "other"), name="sub"))
    groups = {"sub": {f"w{k}:0": array for k, array in enumerate(saved)}}
    found, _ = read(legacy(tmp_path / "a.h5", config, groups, version=version))
    assert same(found["sub", "one", "fc"], [KERNEL, BIAS])
    assert same(found["sub", "other"], [WEIGHT, OFFSET])


def test_names_settle_what_the_flags_of_a_nested_model_do_not_say(tmp_path):
    """The configuration says nothing of freezing, but the file was saved frozen."""
    names = [
        "c1/kernel",
        "bn/gamma",
        "bn/beta",
        "bn/moving_mean",
        "bn/moving_variance",
        "c2/kernel",
        "c2/bias",
    ]
    for prefix, end in (("", ":0"), ("sub/", ""), ("outer/sub/", "")):
        config = model(model(*INNER, name="sub"))
        saved = {f"{prefix}{name}{end}": array for name, array in zip(names, ALL, strict=True)}
        found, _ = read(legacy(tmp_path / "a.h5", config, {"sub": saved}))
        for layer, own in OWN.items():
            assert same(found[layer], own), layer


def test_keras_1_names_settle_it_too(tmp_path):
    config = model(model(("Conv1D", "c_1"), ("Dense", "c_1_1"), name="sub"))
    saved = {"c_1_1_W": WEIGHT, "c_1_1_b": OFFSET, "c_1_W": KERNEL, "c_1_b": BIAS}
    found, _ = read(legacy(tmp_path / "a.h5", config, {"sub": saved}, version="1.2.2", backend=None))
    assert same(found["sub", "c_1"], [KERNEL, BIAS])
    assert same(found["sub", "c_1_1"], [WEIGHT, OFFSET])


def test_equal_names_at_several_levels_leave_it_to_the_order(tmp_path):
    first = model(("Dense", "fc"), name="one")
    second = model(model(("Dense", "fc"), name="deep"), ("BatchNormalization", "bn"), name="two")
    config = model(model(first, second, name="sub"))
    arrays = [values(k, k + 1) for k in range(8)]
    names = ["fc/kernel:0", "fc/bias:0", "fc_1/kernel:0", "fc_1/bias:0", "gamma:0", "beta:0", "m:0", "v:0"]
    found, _ = read(legacy(tmp_path / "a.h5", config, {"sub": dict(zip(names, arrays, strict=True))}))
    assert same(found["sub", "one", "fc"], arrays[:2])
    assert same(found["sub", "two", "deep", "fc"], arrays[2:4])
    assert same(found["sub", "two", "bn"], arrays[4:])


def test_an_order_that_the_names_contradict_is_refused(tmp_path):
    config = model(model(("Dense", "fc"), ("Dense", "other"), name="sub"))
    names = ["x/kernel:0", "y/kernel:0", "x/bias:0", "y/bias:0"]
    path = legacy(tmp_path / "a.h5", config, {"sub": {name: values(0, 2) for name in names}})
    with pytest.raises(FileError, match=r"bias of 'fc' is next, but the file has 'y/kernel:0'") as refused:
        read(path)
    assert refused.value.layer == "sub"


def test_a_wrapper_has_the_weights_of_what_it_wraps(tmp_path):
    wrapper = {"class_name": "Dense", "config": {"name": "fc", "use_bias": False}}
    config = model(model(("TimeDistributed", "td", {"layer": wrapper}), ("Dense", "d"), name="sub"))
    saved = {"td/fc/kernel": KERNEL, "d/kernel": WEIGHT, "d/bias": OFFSET}
    found, _ = read(legacy(tmp_path / "a.h5", config, {"sub": saved}, version="3.15.1"))
    assert same(found["sub", "td"], [KERNEL])
    assert same(found["sub", "d"], [WEIGHT, OFFSET])


def test_a_keras_1_merge_has_a_group_for_each_merged_layer(tmp_path):
    config = model(
        model(("Dense", "dense_4"), name="left"),
        model(("Dense", "dense_5"), name="right"),
        ("Dense", "dense_6"),
    )
    arrays = {
        f"dense_{k}": {f"dense_{k}_W": values(k, 2, 2), f"dense_{k}_b": values(k, 2)} for k in (4, 5, 6)
    }
    found, origin = read(legacy(tmp_path / "a.h5", config, arrays, version="1.2.2", backend=None))
    assert origin.theano
    for layer in found:
        assert same(found[layer], list(arrays[layer[-1]].values()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda groups: groups.pop("fc"), "a Dense needs kernel, bias, but the file has no group 'fc'"),
        (
            lambda groups: groups.update(other={"other/kernel:0": KERNEL}),
            "1 weights of a layer 'other', but the configuration has no such layer",
        ),
    ],
)
def test_layers_and_groups_belong_together(tmp_path, change, message):
    config, groups = flat()
    change(groups)
    with pytest.raises(FileError, match=message) as refused:
        read(legacy(tmp_path / "a.h5", config, groups))
    assert refused.value.file == str(tmp_path / "a.h5")


def test_an_empty_group_needs_no_layer(tmp_path):
    config, groups = flat()
    read(legacy(tmp_path / "a.h5", config, {**groups, "top_level_model_weights": {}}))


def test_a_nested_model_with_too_few_weights_is_refused(tmp_path):
    config = model(model(*INNER, name="sub"))
    path = legacy(tmp_path / "a.h5", config, {"sub": {f"w{k}": C1 for k in range(6)}})
    with pytest.raises(FileError, match="have 7 weights, but the file has 6 for them"):
        read(path)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda top: top["fc"].attrs.__delitem__("weight_names"), "'/model_weights/fc' has none"),
        (lambda top: top.attrs.__delitem__("layer_names"), "'/model_weights' has none"),
        (lambda top: top.__delitem__("flat"), "layer_names lists 'flat', but the file has no such group"),
        (
            lambda top: top["fc"].__delitem__("fc_1"),
            "'model_weights/fc/fc_1/kernel:0', but has no such dataset",
        ),
        (lambda top: write_names(top, "layer_names", ["fc", "fc"]), "layer_names lists 'fc' twice"),
        (lambda top: top.attrs.__setitem__("layer_names", np.arange(3)), "must be text, but it is int64"),
        (lambda top: top.attrs.__setitem__("layer_names", np.bytes_(b"\xff")), "is not UTF-8"),
    ],
)
def test_what_the_file_lists_must_be_there(tmp_path, break_it, message):
    config, groups = flat()
    path = legacy(tmp_path / "a.h5", config, groups)
    with h5py.File(path, "a") as file:
        break_it(file["model_weights"])
    with pytest.raises(FileError, match=message):
        read(path)


def numbered(path, weights, missing=None):
    with h5py.File(path, "w") as file:
        file.attrs["nb_layers"] = len(weights)
        for k, own in enumerate(weights):
            group = file.create_group(f"layer_{k}")
            group.attrs["nb_params"] = len(own) if missing != k else len(own) + 1
            for p, array in enumerate(own):
                group[f"param_{p}"] = array
    return str(path)


@pytest.fixture
def config_file(tmp_path):
    config, _ = flat()
    config["config"]["layers"].insert(0, {"class_name": "InputLayer", "config": {"name": "in"}})
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config))
    return str(path)


@pytest.mark.parametrize("with_input", [True, False])
def test_the_oldest_files_number_their_layers(tmp_path, config_file, with_input):
    weights = [[KERNEL, BIAS], [], [WEIGHT, OFFSET]]
    path = numbered(tmp_path / "old.h5", [[], *weights] if with_input else weights)
    found, origin = read(path, config_file, flip=False)
    assert same(found["conv",], [KERNEL, BIAS])
    assert same(found["fc",], [WEIGHT, OFFSET])
    assert (origin.version, origin.backend) == ((1,), "tensorflow")
    assert read(path, config_file, flip=True)[1].theano


def test_the_oldest_files_do_not_say_whose_kernels_they_hold(tmp_path, config_file):
    path = numbered(tmp_path / "old.h5", [[KERNEL, BIAS], [], [WEIGHT, OFFSET]])
    with pytest.raises(RequestError, match="its weights have no names") as refused:
        read(path, config_file)
    assert "--flip" in refused.value.hint
    assert "--no-flip" in refused.value.hint


@pytest.mark.parametrize(
    ("weights", "missing", "message"),
    [
        ([[KERNEL, BIAS]], None, "the weights of 1 layers, but the configuration has 3"),
        ([[KERNEL, BIAS], [], [WEIGHT, OFFSET]], 2, "'layer_2' declares 3 weights, but has 2"),
        (
            [[KERNEL, BIAS], [], []],
            None,
            "a Dense needs kernel, bias, but the file has no weights in 'layer_2'",
        ),
    ],
)
def test_the_oldest_files_are_checked_by_count(tmp_path, config_file, weights, missing, message):
    with pytest.raises(FileError, match=message):
        read(numbered(tmp_path / "old.h5", weights, missing), config_file, flip=True)
