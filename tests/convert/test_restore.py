"""The way back: convert then restore gives the source, bit for bit; a trained map gives the trained network."""

import base64
import json
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import Dense2ConvError, FileError
from dense2conv.convert.kernel import dense_to_kernel
from dense2conv.convert.model import Model
from dense2conv.convert.opening import open_model
from dense2conv.convert.restoring import restore
from dense2conv.convert.skeleton import MOST_KEPT, SOURCE_KEY
from dense2conv.convert.writing import write_model

from .nets import Net, noise, run, serialised
from .test_fuzz import Maker

ROUNDS = 200
REFERENCES = Path(__file__).parents[2] / "fixtures/references"


def tensors_of(data):
    """Every stored tensor of a serialised model, by the name of its value, as onnx reads it."""
    graph = ModelProto.FromString(data).graph
    found = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = numpy_helper.to_array(attribute.t)
    return found


def bare(data):
    """A serialised model without the numbers of its initializers, and however they are stored."""
    proto = ModelProto.FromString(data)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t)))
    return proto.SerializeToString(deterministic=True)


def differences(source, restored):
    """What is not as in the source: names of tensors, and whether the graph is another."""
    ours, theirs = tensors_of(source), tensors_of(restored)
    wrong = sorted(ours.keys() ^ theirs.keys())
    for name in ours.keys() & theirs.keys():
        one, other = ours[name], theirs[name]
        if one.shape != other.shape or one.dtype != other.dtype or one.tobytes() != other.tobytes():
            wrong.append(name)
    return wrong + (["the graph"] if bare(source) != bare(restored) else [])


def through_files(model, folder, name="map.onnx"):
    """The model as it is when it has been written and opened again."""
    path = folder / name
    write_model(model, path, force=True)
    return open_model(path)


def opened(proto):
    """A small model in memory, as opened."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    return Model(copy)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_random_networks(seed, tmp_path):
    """Graph and tensors come back bit for bit, and so do the outputs in ONNX Runtime; by both methods."""
    maker = Maker(seed)
    model = maker.make()
    how = {"method": "patches", "stride": "patch", "size": maker.patch} if seed % 4 == 3 else {}
    made = through_files(convert(model, **how).map, tmp_path)
    back = through_files(restore(made).model, tmp_path, "back.onnx")
    source, found = serialised(model), serialised(back)
    assert differences(source, found) == []
    image = noise(model, maker.patch, maker.axes)
    expected, got = run(source, image), run(found, image)
    assert list(expected) == list(got)
    assert all(expected[name].tobytes() == got[name].tobytes() for name in expected)


@pytest.mark.parametrize("seed", range(0, ROUNDS, 5))
def test_trained_networks(seed, tmp_path):
    """The map of a network with other weights, as training would leave the map of this one."""
    first = Maker(seed).make()
    made = convert(first).map
    trained = Maker(seed).make()
    random = np.random.default_rng(seed)
    shared = {}
    for tensor in trained.proto.graph.initializer:
        array = trained.array(tensor)
        if array.dtype.kind == "f":
            new = (array * random.uniform(0.5, 2, array.shape)).astype(array.dtype)
            if tensor.name in trained.weights:
                trained.weights[tensor.name] = new
            else:
                tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
    other = convert(trained).map
    weights = dict(other.weights)
    shared = {t.name: t for t in other.proto.graph.initializer}
    for tensor in made.proto.graph.initializer:
        if made.array(tensor).dtype.kind == "f":
            if tensor.name in made.weights:
                made.weights[tensor.name] = weights[tensor.name]
            else:
                tensor.CopyFrom(shared[tensor.name])
    back = restore(through_files(made, tmp_path))
    assert back.folded == ()
    wrong = differences(serialised(trained), serialised(back.model))
    # What the map does not have cannot have been trained: it is as it was.
    dead = {name for name in wrong if name not in back.tensors}
    assert set(wrong) == dead
    untouched = tensors_of(serialised(first))
    assert all(tensors_of(serialised(back.model))[n].tobytes() == untouched[n].tobytes() for n in dead)


def cases():
    return sorted(path.name for path in REFERENCES.glob("*") if path.suffix in (".onnx", ".h5", ".keras"))


@pytest.mark.parametrize("name", cases())
def test_the_references(name, tmp_path):
    """Every file that another program wrote and that is exact by one of the methods."""
    from dense2conv.convert.networks import open_network

    try:
        model = open_network(REFERENCES / name)
    except Dense2ConvError as error:
        pytest.skip(str(error))
    conversion = None
    for order, method in product((None, "CHW"), ("exact", "patches")):
        try:
            stride = "patch" if method == "patches" else None
            conversion = conversion or convert(model, method=method, stride=stride, order=order)
        except Dense2ConvError as error:
            reason = str(error)
    if conversion is None:
        pytest.skip(reason)
    made = through_files(conversion.map, tmp_path)
    back = through_files(restore(made).model, tmp_path, "back.onnx")
    assert differences(serialised(model), serialised(back)) == []


def small():
    net = Net((None, 2, 7, 6))
    y = net("Relu", net.conv("x", 3))
    y = net("Relu", net.dense(net.flat(y), 8))
    return net, net.model(net.dense(y, 4))


@pytest.fixture
def made():
    model = small()[1]
    return model, opened(ModelProto.FromString(serialised(convert(model).map)))


@pytest.mark.parametrize("damage", ["value", "swap", "missing", "node"])
def test_the_check_finds_a_wrong_network(damage, made):
    model, _ = made
    source = serialised(model)
    proto = ModelProto.FromString(source)
    tensor = proto.graph.initializer[2]
    array = numpy_helper.to_array(tensor).copy()
    if damage == "value":
        array.reshape(-1)[7] = np.nextafter(array.reshape(-1)[7], 9, dtype=np.float32)
    elif damage == "swap":
        array = array[::-1]
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
    name = tensor.name
    if damage == "missing":
        del proto.graph.initializer[2]
    if damage == "node":
        proto.graph.node[1].op_type = "Tanh"
    found = differences(source, proto.SerializeToString())
    wanted = {"value": {name}, "swap": {name}, "missing": {name, "the graph"}, "node": {"the graph"}}
    assert set(found) == wanted[damage]
    assert differences(source, source) == []


def test_a_trained_kernel_is_the_dense_weight_by_hand(made):
    """Without this project's rearrangement of it: the kernel's numbers at each place of the flattened patch."""
    candidate = made[1]
    for tensor in candidate.proto.graph.initializer:
        if len(tensor.dims) == 4 and tensor.dims[0] == 8:
            kernel = np.random.default_rng(1).standard_normal(tuple(tensor.dims)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(kernel, tensor.name))
    weight = next(a for a in tensors_of(serialised(restore(candidate).model)).values() if a.shape == (8, 60))
    c, h, w = kernel.shape[1:]
    for k in range(60):
        assert np.array_equal(weight[:, k], kernel[:, k // (h * w), k // w % h, k % w])
    assert np.array_equal(dense_to_kernel(weight, (c, h, w), "CHW", weight_layout="OK"), kernel)


def rename(proto):
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "renamed"


def another_operator(proto):
    proto.graph.node[1].op_type = "Sigmoid"


def another_attribute(proto):
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("auto_pad", "VALID"))


def another_node(proto):
    last = proto.graph.node.add(op_type="Identity", input=[proto.graph.output[0].name], output=["more"])
    assert last.output[0] == "more"


def another_shape(proto):
    tensor = next(t for t in proto.graph.initializer if len(t.dims) == 1)
    tensor.CopyFrom(numpy_helper.from_array(np.zeros(11, np.float32), tensor.name))


def another_opset(proto):
    proto.opset_import[0].version += 1


def another_tensor(proto):
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float32), "more"))


@pytest.mark.parametrize(
    "edit",
    [rename, another_operator, another_attribute, another_node, another_shape, another_opset, another_tensor],
    ids=lambda edit: edit.__name__,
)
def test_a_map_with_another_graph_is_refused(edit, made):
    edit(made[1].proto)
    with pytest.raises(FileError, match="the map's graph is not the one that dense2conv wrote"):
        restore(made[1])


def test_what_training_tools_change_is_no_other_graph(made):
    """Names of nodes, documentation, the order of initializers and attributes, sizes of the interface."""
    model, candidate = made
    proto = candidate.proto
    for node in proto.graph.node:
        node.name, node.doc_string = f"{node.name}_1", "trained"
        attributes = list(node.attribute)[::-1]
        copies = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in attributes]
        del node.attribute[:]
        node.attribute.extend(copies)
    tensors = [onnx.TensorProto.FromString(t.SerializeToString()) for t in proto.graph.initializer][::-1]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(tensors)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    proto.producer_name = "a trainer"
    assert differences(serialised(model), serialised(restore(candidate).model)) == []


def test_a_weight_that_two_layers_share():
    """Trained apart, the two kernels are no network of one weight."""
    net = Net((None, 1, 6, 6))
    x = net.conv("x", 2)
    weight = net.weight(5, 32)
    one = net("Gemm", net.flat(x), weight, transB=1)
    two = net("Gemm", net.flat(net("Transpose", x, perm=[0, 2, 3, 1])), weight, transB=1)
    model = net.model(net("Add", one, two))
    candidate = opened(ModelProto.FromString(serialised(convert(model).map)))
    assert differences(serialised(model), serialised(restore(candidate).model)) == []
    kernels = [t for t in candidate.proto.graph.initializer if tuple(t.dims) == (5, 2, 4, 4)]
    assert len(kernels) == 2
    kernels[0].CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(kernels[0]), kernels[0].name))
    with pytest.raises(FileError, match=f"the map holds two versions of '{weight}'"):
        restore(candidate)


def test_parts_of_one_weight(tmp_path):
    """Behind a Concat each branch has its rows; where they overlap with others they must agree."""
    net = Net((None, 1, 6, 6))
    left, right = net.conv("x", 2), net.conv("x", 3)
    y = net("Concat", net.flat(left), net.flat(right), axis=1)
    weight = net.weight(5, 80)
    model = net.model(net("Gemm", y, weight, transB=1))
    conversion = convert(model)
    assert [r.rows for r in conversion.rewrites] == [(0, 32), (32, 80)]
    made = through_files(conversion.map, tmp_path)
    assert differences(serialised(model), serialised(restore(made).model)) == []
    target = conversion.rewrites[1].target
    for tensor in made.proto.graph.initializer:
        if tensor.name == target:
            made.weights.pop(target, None)
            tensor.CopyFrom(numpy_helper.from_array(np.full(tuple(tensor.dims), 7, np.float32), target))
    found = tensors_of(serialised(restore(made).model))[weight]
    assert (found[:, 32:] == 7).all()
    assert np.array_equal(found[:, :32], net.tensors[weight][:, :32])


@pytest.mark.parametrize("form", ["Transpose", "Identity", "Cast", "Mul"])
def test_a_weight_that_the_network_computes(form):
    """What only moves it is undone; else the value becomes a tensor of its own, where training moved it."""
    net = Net((None, 1, 6, 6))
    x = net.flat(net.conv("x", 2))
    stored = net.tensor(
        np.random.default_rng(0).standard_normal((6, 32)), np.float64 if form == "Cast" else np.float32
    )
    if form == "Cast":
        weight = net("Transpose", net("Cast", stored, to=1), perm=[1, 0])
    elif form == "Mul":
        weight = net("Transpose", net("Mul", stored, net.tensor(2.0, np.float32)), perm=[1, 0])
    else:
        weight = net("Transpose", stored, perm=[1, 0])
        weight = net("Identity", weight) if form == "Identity" else weight
    model = net.model(net("MatMul", x, weight))
    candidate = opened(ModelProto.FromString(serialised(convert(model).map)))
    assert differences(serialised(model), serialised(restore(candidate).model)) == []
    for tensor in candidate.proto.graph.initializer:
        if tuple(tensor.dims)[:1] == (6,) and len(tensor.dims) == 4:
            tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), tensor.name))
    back = restore(candidate)
    assert bool(back.folded) == (form in ("Cast", "Mul"))
    image = np.random.default_rng(3).standard_normal((2, 1, 6, 6)).astype(np.float32)
    (name,) = [o.name for o in model.proto.graph.output]
    before, after = run(serialised(model), image)[name], run(serialised(back.model), image)[name]
    assert np.allclose(after, 2 * before, rtol=1e-5, atol=1e-6)


def test_numbers_computed_from_the_size_of_the_patch():
    """They are constants of the map, and no weights: the source computes them again, and training may not move them."""
    net = Net((None, 2, 9, 8))
    height = net("Gather", net("Shape", "x"), net.integers(2), axis=0)
    x = net("Div", "x", net("Cast", height, to=1))
    model = net.model(net.dense(net.flat(net("Relu", net.conv(x, channels=2))), inputs=126))
    candidate = opened(ModelProto.FromString(serialised(convert(model).map)))
    assert differences(serialised(model), serialised(restore(candidate).model)) == []
    (number,) = [
        t for t in candidate.proto.graph.initializer if numpy_helper.to_array(t).tolist() in ([9.0], 9.0)
    ]
    number.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(number) + 1, number.name))
    with pytest.raises(FileError, match="a constant that is no weight is another"):
        restore(candidate)


def test_a_large_tensor_that_the_map_lacks_is_said():
    net = Net((None, 1, 6, 6))
    net.tensor(np.zeros(MOST_KEPT // 4 + 1), np.float32, name="dead")
    model = net.model(net.dense(net.flat(net.conv("x", 2)), 3))
    with pytest.raises(FileError, match="cannot be restored: the map lacks the tensor 'dead'"):
        restore(convert(model).map)


def edited(candidate, change):
    for prop in candidate.proto.metadata_props:
        if prop.key == SOURCE_KEY:
            value = json.loads(prop.value)
            change(value)
            prop.value = json.dumps(value)
    return candidate


def packed(data):
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.update(version=2), "its version is 1, not 2"),
        (lambda v: v.pop("skeleton"), "it cannot be read"),
        (lambda v: v.update(skeleton="%%%"), "it cannot be read"),
        (lambda v: v.update(skeleton=v["skeleton"][: len(v["skeleton"]) // 8 * 4]), "cut off"),
        (lambda v: v.update(skeleton=packed(b"\xff" * 50)), "it cannot be read"),
        (lambda v: v.update(skeleton=packed(b"")), "tensors that its graph does not have"),
        (lambda v: v.update(skeleton=packed(bytes((1 << 28) + 1))), "larger than"),
        (lambda v: v.update(from_map=3), "from_map is a list of names"),
        (lambda v: v.update(from_map=[]), "not the one that dense2conv wrote"),
        (lambda v: v.update(nodes="3"), "nodes is a number"),
        (lambda v: v.update(structure="0"), "not the one that dense2conv wrote"),
        (lambda v: v["from_map"].append("more"), "tensors that its graph does not have"),
    ],
)
def test_metadata_that_is_not_sound(change, words, made):
    with pytest.raises(FileError, match=words):
        restore(edited(made[1], change))


@pytest.mark.parametrize("name", ["t02_dynamo_view_dyn", "t04_view_nofold_opset11", "t20_crop_concat"])
def test_a_damaged_skeleton_is_refused_or_read(name):
    """Any bytes in it: what is raised is an error of this project, never a crash."""
    candidate = convert(open_model(REFERENCES / f"{name}.onnx")).map
    (text,) = [p.value for p in candidate.proto.metadata_props if p.key == SOURCE_KEY]
    data = zlib.decompress(base64.b64decode(json.loads(text)["skeleton"]))
    written = candidate.proto.SerializeToString()
    refused = 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        damaged = bytearray(data)
        for place in random.integers(0, len(data), random.integers(1, 5)):
            damaged[place] = random.choice([random.integers(256), damaged[place] ^ 1])
        edit = {"skeleton": packed(bytes(damaged))}
        copy = Model(ModelProto.FromString(written), candidate.weights)
        try:
            restore(edited(copy, lambda value, edit=edit: value.update(edit)))
        except Dense2ConvError:
            refused += 1
    assert refused > 20


def test_numbers_that_do_not_fit_the_graph():
    """A transposition of another rank, in the skeleton of a weight that is computed."""
    net = Net((None, 1, 6, 6))
    x = net.flat(net.conv("x", 2))
    weight = net("Transpose", net.tensor(np.ones((6, 32)), np.float32), perm=[1, 0])
    candidate = convert(net.model(net("MatMul", x, weight))).map

    def change(value):
        proto = ModelProto.FromString(zlib.decompress(base64.b64decode(value["skeleton"])))
        node = next(n for n in proto.graph.node if n.op_type == "Transpose")
        node.attribute[0].ints.append(2)
        value["skeleton"] = packed(proto.SerializeToString())

    with pytest.raises(FileError, match="the graph in the map's metadata is not sound"):
        restore(edited(candidate, change))


def test_what_is_no_map(made):
    with pytest.raises(FileError, match="this is no map"):
        restore(made[0])
    kept = [p for p in made[1].proto.metadata_props if p.key != SOURCE_KEY]
    copies = [onnx.StringStringEntryProto(key=p.key, value=p.value) for p in kept]
    del made[1].proto.metadata_props[:]
    made[1].proto.metadata_props.extend(copies)
    with pytest.raises(FileError, match="does not say what it was made from"):
        restore(made[1])
