"""The verifier on pairs written by hand: the right map passes, and every wrong one does not.

The pairs are the textbook's: a patch network (convolution, pool, flatten, dense, dense) and the same layers as
convolutions, with kernels rearranged here by numpy.
"""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dense2conv.convert.compare import Verdict
from dense2conv.convert.conversion import convert
from dense2conv.convert.errors import FileError, MachineError, RequestError
from dense2conv.convert.model import Model
from dense2conv.convert.verification import verify

from .nets import Net, assert_map

EQUIVALENT, BORDER, DIFFERENT, INCONCLUSIVE = (
    Verdict.EQUIVALENT,
    Verdict.BORDER_EFFECT,
    Verdict.DIFFERENT,
    Verdict.INCONCLUSIVE,
)
FLOAT = TensorProto.FLOAT


@dataclass
class Graph:
    """A network while a test puts it together."""

    input_shape: list
    outputs: list = field(default_factory=lambda: ["y"])
    nodes: list = field(default_factory=list)
    tensors: dict = field(default_factory=dict)
    kinds: dict = field(default_factory=dict)
    kind: int = FLOAT
    metadata: object = None

    def add(self, op, inputs, output, **attributes):
        name = f"make_{output}"
        name += "_again" * any(node.name == name for node in self.nodes)
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))

    def model(self):
        large = {name: array for name, array in self.tensors.items() if array.nbytes >= 1024}
        initializers = []
        for name, array in self.tensors.items():
            if name in large:
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                initializers.append(TensorProto(name=name, data_type=kind, dims=array.shape))
            else:
                initializers.append(numpy_helper.from_array(array.copy(order="C"), name))
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("x", self.kind, self.input_shape)],
            [helper.make_tensor_value_info(o, self.kinds.get(o, self.kind), None) for o in self.outputs],
            initializers,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if self.metadata is not None:
            text = self.metadata if isinstance(self.metadata, str) else json.dumps(self.metadata)
            proto.metadata_props.add(key="dense2conv", value=text)
        return Model(proto, large, "network.onnx")


@dataclass
class Pair:
    """A patch network and its map. ``patch`` is the spatial size, S is 2, features before the flatten (C, *rest)."""

    reference: Graph
    candidate: Graph
    channels: int
    features: tuple

    def verify(self, **options):
        return verify(self.reference.model(), self.candidate.model(), **options)


def pair(rank=2, *, batch="N", channels_last=False, pads=0, kind="float32"):
    """conv 3 -> relu -> max pool 2 -> flatten -> dense 5 -> relu -> dense 4, and its map."""
    generator = np.random.default_rng(7)
    channels, hidden = 3, 6
    patch = (12, 10, 8)[:rank]
    features = tuple((p - 2 + 2 * pads) // 2 for p in patch)
    flattened = hidden * int(np.prod(features))

    def weight(*shape):
        return (generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(kind)

    shared = {"K": weight(hidden, channels, *(3,) * rank), "Kb": weight(hidden, 1)[:, 0]}
    w1 = weight(5, flattened)  # (out, in), as PyTorch stores it
    w2 = np.ascontiguousarray(weight(4, 5).T)  # (in, out), as Keras does
    b1, b2 = weight(5, 1)[:, 0], weight(4, 1)[:, 0]
    first, last = [0, rank + 1, *range(1, rank + 1)], [0, *range(2, rank + 2), 1]
    kernel = (*features, hidden) if channels_last else (hidden, *features)
    # (5, C, *features) or (5, *features, C) -> (5, C, *features)
    order = first if channels_last else list(range(rank + 2))
    k1 = w1.reshape(5, *kernel).transpose(order)
    k2 = w2.T.reshape(4, 5, *(1,) * rank)
    free = [f"size_{i}" for i in range(rank)]
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))

    def shape(spatial):
        return [batch, *spatial, channels] if channels_last else [batch, channels, *spatial]

    reference = Graph(shape(patch), kind=number, tensors={**shared, "W1": w1, "b1": b1, "W2": w2, "b2": b2})
    candidate = Graph(
        shape(free), kind=number, tensors={**shared, "W1/kernel": k1, "b1": b1, "W2/kernel": k2, "b2": b2}
    )
    for graph in (reference, candidate):
        if channels_last:
            graph.add("Transpose", ["x"], "x1", perm=first)
        graph.add("Conv", ["x1" if channels_last else "x", "K", "Kb"], "c", pads=[pads] * 2 * rank)
        graph.add("Relu", ["c"], "r")
        graph.add("MaxPool", ["r"], "p", kernel_shape=[2] * rank, strides=[2] * rank)
    if channels_last:
        reference.add("Transpose", ["p"], "p1", perm=last)
    reference.add("Flatten", ["p1" if channels_last else "p"], "f")
    reference.add("Gemm", ["f", "W1", "b1"], "h", transB=1)
    reference.add("Relu", ["h"], "hr")
    reference.add("MatMul", ["hr", "W2"], "m")
    reference.add("Add", ["m", "b2"], "y")
    candidate.add("Conv", ["p", "W1/kernel", "b1"], "h")
    candidate.add("Relu", ["h"], "hr")
    candidate.add("Conv", ["hr", "W2/kernel", "b2"], "m")
    if channels_last:
        candidate.add("Transpose", ["m"], "m1", perm=last)
    end = "m1" if channels_last else "m"
    # Where the pool left a rest of a patch, the map has positions of windows that are not whole: none here.
    if pads:  # (H + 2 - 2) // 2 - features + 1 positions are (H - P) // 2 + 1 already
        assert all(2 * f == p for f, p in zip(features, patch, strict=True))
    candidate.add("Identity", [end], "y")

    def rewrite(layer, source, source_shape, permutation, target):
        result = [source_shape[i] for i in permutation]
        if len(result) < rank + 2:
            result = [*result, *[1] * (rank + 2 - len(result))]
        return {
            "layer": layer,
            "source": source,
            "target": target,
            "rows": None,
            "axis": 0,
            "shape": source_shape,
            "permutation": permutation,
            "result": result,
        }

    candidate.metadata = {
        "version": 1,
        "method": "conv",
        "patch": list(patch),
        "stride": [2] * rank,
        "natural_stride": [2] * rank,
        "layout": "channels last" if channels_last else "channels first",
        "spatial_axes": list(range(1, rank + 1)) if channels_last else list(range(2, rank + 2)),
        "exactness": "border effect" if pads else "exact",
        "receptive_field": list(patch),
        "rewrites": [
            rewrite("make_h", "W1", [5, *kernel], order, "W1/kernel"),
            rewrite("make_m", "W2", [5, 4], [1, 0], "W2/kernel"),
        ],
    }
    return Pair(reference, candidate, channels, (hidden, *features))


@dataclass
class Analysis:
    patch: tuple
    spatial_axes: tuple = (2, 3)
    channel_axis: int | None = 1
    exactness: str = "exact"
    border: tuple = ()
    overhang: tuple = (1, 1)  # of the pairs below that pad, by 1 in their first layer


def check(report, name):
    return next(c for c in report.checks if c.name == name)


# The right map.


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("batch", ["N", 1, 3])
def test_the_right_map(rank, channels_last, batch):
    report = pair(rank, channels_last=channels_last, batch=batch).verify()
    assert report.verdict is EQUIVALENT, report
    assert report.accepted
    assert [c.name for c in report.checks] == [
        "interface", "structure", "probes", "patch", "patch, offset", "patch, wide range", "windows", "levels",
        "adequacy", "providers",
    ]  # fmt: skip
    assert all(c.verdict in (EQUIVALENT, None) for c in report.checks)
    assert {c.name for c in report.checks if c.verdict is None} <= {"patch, offset", "patch, wide range"}
    assert report.stride == (2,) * rank
    counts = [(h - p) // 2 + 1 for h, p in zip(report.size, report.patch, strict=True)]
    assert counts == [4, 3, 3][:rank]
    assert check(report, "windows").figures["y"].count == np.prod(counts) * 4 * (2 if batch == "N" else batch)
    figures = check(report, "windows").figures["y"]
    assert figures.ratio < 1e-5
    assert 2.0**-24 * 64 * figures.scale < figures.allowed < 1e-4 * figures.scale
    assert figures.ulp_median <= figures.ulp_p99 < 1000
    assert check(report, "patch").figures["y"].count == 64 * 4


@pytest.mark.parametrize("channels_last", [False, True])
def test_without_metadata(channels_last):
    made = pair(channels_last=channels_last)
    made.candidate.metadata = None
    with pytest.raises(RequestError) as caught:
        made.verify()
    assert "--stride" in caught.value.hint
    report = made.verify(stride=(2, 2))
    assert report.verdict is EQUIVALENT
    structure = check(report, "structure")
    assert structure.verdict is None
    assert "metadata does not say" in structure.text


def test_float16():
    report = pair(kind="float16").verify()
    assert report.verdict is EQUIVALENT
    figures = check(report, "windows").figures["y"]
    assert 2.0**-11 * 16 <= figures.allowed / figures.scale < 5e-2


@pytest.mark.parametrize(
    ("inside", "tolerance", "unit"),
    [(FLOAT, 1e-4, 64 * 2.0**-24), (TensorProto.FLOAT16, 1e-2, 16 * 2.0**-11)],
)
@pytest.mark.parametrize("given", [FLOAT, TensorProto.DOUBLE])
def test_an_output_in_a_finer_type_than_the_network_computes_in(given, inside, tolerance, unit):
    """float64 at the end, or at both ends: the rounding is that of the type between them."""
    net = Net(kind=given)
    x = net("Cast", "x", to=inside)
    net.kind = inside
    x = net.flat(net("Tanh", net.conv(x, channels=2)))
    w = net.weight(3, 126)
    net.kind = given
    model = net.model(net("Cast", net("Gemm", x, w, transB=1), to=TensorProto.DOUBLE))
    conversion = assert_map(model, tolerance=tolerance)
    report = verify(model, conversion.map, analysis=conversion.analysis)
    assert report.verdict is EQUIVALENT
    for figures in check(report, "windows").figures.values():
        assert unit < figures.allowed / figures.scale < 20 * unit


def test_the_seed_decides_the_inputs():
    made = pair()
    first, again, other = (made.verify(seed=seed).to_json()["checks"] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_report_is_json():
    report = pair(1).verify()
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (value["verdict"], value["accepted"], value["patch"]) == ("equivalent", True, [12])
    assert value["checks"][3]["outputs"]["y"]["position"][0] in range(4)


# One thing wrong.


def one_weight(made):
    kernel = made.candidate.tensors["W1/kernel"] = made.candidate.tensors["W1/kernel"].copy()
    kernel[3, 2, 1, 1] += 0.5


def two_channels_swapped(made):
    kernel = made.candidate.tensors["W1/kernel"]
    made.candidate.tensors["W1/kernel"] = kernel[:, [1, 0, *range(2, kernel.shape[1])]]


def wrong_flatten_order(made):
    units, channels, height, width = made.candidate.tensors["W1/kernel"].shape
    weight = made.reference.tensors["W1"]
    # read as (5, H, W, C) though it was flattened as (5, C, H, W)
    kernel = weight.reshape(units, height, width, channels).transpose(0, 3, 1, 2)
    made.candidate.tensors["W1/kernel"] = kernel
    made.candidate.metadata["rewrites"][0] |= {
        "shape": [units, height, width, channels],
        "permutation": [0, 3, 1, 2],
    }


def rows_and_columns_swapped(made):
    """Consistent in itself, so that structure has nothing to say: (5, C, W, H) read as (5, C, H, W)."""
    units, channels, height, width = made.candidate.tensors["W1/kernel"].shape
    kernel = made.reference.tensors["W1"].reshape(units, channels, width, height).transpose(0, 1, 3, 2)
    made.candidate.tensors["W1/kernel"] = kernel
    made.candidate.metadata["rewrites"][0] |= {
        "shape": [units, channels, width, height],
        "permutation": [0, 1, 3, 2],
    }


def flipped_kernel(made):
    made.candidate.tensors["W1/kernel"] = made.candidate.tensors["W1/kernel"][:, :, ::-1, ::-1]


def dropped_bias(made):
    node = next(n for n in made.candidate.nodes if n.output[0] == "m")
    node.input.pop()
    del made.candidate.tensors["b2"]


def unused_bias(made):
    node = next(n for n in made.candidate.nodes if n.output[0] == "m")
    node.input.pop()


def changed_bias(made):
    made.candidate.tensors["b1"] = made.candidate.tensors["b1"] + np.float32(0.1)


def wrong_activation(made):
    next(n for n in made.candidate.nodes if n.output[0] == "hr").op_type = "Tanh"


MUTANTS = [
    one_weight,
    two_channels_swapped,
    wrong_flatten_order,
    rows_and_columns_swapped,
    flipped_kernel,
    dropped_bias,
    unused_bias,
    changed_bias,
    wrong_activation,
]
UNSEEN_BY_STRUCTURE = [wrong_flatten_order, rows_and_columns_swapped, wrong_activation]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_different_in_every_check(mutant):
    made = pair()
    mutant(made)
    report = made.verify()
    assert report.verdict is DIFFERENT
    assert not report.accepted
    assert check(report, "patch").verdict is DIFFERENT
    assert check(report, "windows").verdict is DIFFERENT
    seen = EQUIVALENT if mutant in UNSEEN_BY_STRUCTURE else DIFFERENT
    assert check(report, "structure").verdict is seen


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_different_without_metadata(mutant):
    made = pair()
    mutant(made)
    made.candidate.metadata = None
    assert made.verify(stride=(2, 2)).verdict is DIFFERENT


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_border_effect_hides_no_mutant(mutant):
    made = pair(pads=1)
    mutant(made)
    analysis = Analysis((12, 10), exactness="border effect", border=("make_c",))
    report = made.verify(analysis=analysis, accept_border=True)
    assert report.verdict is DIFFERENT
    assert not report.accepted


def test_a_tensor_that_nothing_uses_is_not_added_unseen():
    """No run can see it. One that the reference has too is no addition, if it is the same."""
    for name in ("surplus", "W1"):
        made = pair()
        made.candidate.tensors[name] = np.ones((5, 3), np.float32)
        report = made.verify()
        assert report.verdict is DIFFERENT
        assert repr(name) in check(report, "structure").text
        made.reference.tensors[name] = made.candidate.tensors[name] = made.reference.tensors.get(
            name, made.candidate.tensors[name]
        )
        assert made.verify().verdict is EQUIVALENT


@pytest.mark.parametrize("index", range(10))
def test_any_one_weight_out_of_tolerance_is_found_by_structure(index):
    made = pair()
    kernel = made.candidate.tensors["W1/kernel"] = np.array(made.candidate.tensors["W1/kernel"])
    place = np.random.default_rng(index).integers(kernel.size)
    kernel.flat[place] = np.nextafter(kernel.flat[place], np.float32(9))
    report = made.verify()
    assert check(report, "windows").verdict is EQUIVALENT  # one bit is within rounding
    assert report.verdict is DIFFERENT
    assert "'W1/kernel' of 'make_h' is not 'W1' rearranged" in check(report, "structure").text


def test_bits_count_not_values():
    made = pair()
    made.reference.tensors["b2"] = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
    made.candidate.tensors["b2"] = np.array([-0.0, 1.0, 2.0, 3.0], np.float32)
    report = made.verify()
    assert check(report, "structure").text == "tensor 'b2' is not what it is in the reference"
    assert report.verdict is DIFFERENT


def test_the_worst_position_is_named():
    made = pair()
    # A candidate that is wrong in one place: row 2, column 1, channel 3 of its map.
    bump = np.zeros((1, 4, 4, 3), np.float32)
    bump[0, 3, 2, 1] = 9
    made.candidate.tensors["bump"] = bump
    made.candidate.nodes[-1].output[0] = "right"
    made.candidate.add("Add", ["right", "bump"], "y")
    made.candidate.input_shape = ["N", 3, 19, 15]
    made.candidate.metadata = None
    report = made.verify(stride=(2, 2), analysis=Analysis((12, 10)))
    windows = check(report, "windows")
    assert report.verdict is DIFFERENT
    assert "worst at row 2, column 1, channel 3" in windows.text
    figures = windows.figures["y"]
    assert figures.candidate - figures.reference == pytest.approx(9, abs=1e-3)
    assert windows.places["y"].position == (2, 1)


# Strides, sizes, patches.


def test_a_patch_network_is_compared_as_it_is():
    """A translated or restored network has the reference's outputs, without positions."""
    made = pair()
    report = verify(made.reference.model(), made.reference.model())
    assert (report.verdict, check(report, "windows").verdict) == (EQUIVALENT, None)
    changed = pair()
    changed.reference.tensors["b1"] = changed.reference.tensors["b1"] + np.float32(0.1)
    assert verify(made.reference.model(), changed.reference.model()).verdict is DIFFERENT
    # What says that it is a map has positions, at the patch's size too.
    changed = pair()
    changed.reference.metadata = changed.candidate.metadata
    report = verify(made.reference.model(), changed.reference.model())
    assert check(report, "patch").verdict is DIFFERENT


def test_a_wrong_stride_gives_another_number_of_positions():
    report = pair().verify(stride=(3, 3))
    assert report.verdict is DIFFERENT
    assert "positions and channels are (4, 3, 4)" in check(report, "windows").text


def test_a_wrong_stride_that_gives_the_same_number():
    made = pair()
    made.candidate.metadata["stride"] = [2, 3]
    # W = 10 + 3 at stride 3 is 2 positions, as W = 13 at stride 2
    report = made.verify(size=(14, 13))
    assert report.verdict is DIFFERENT
    assert check(report, "windows").figures["y"].ratio > 1e-2


def test_a_map_not_cropped():
    """A patch of 13 leaves a pixel over; where the input leaves enough over, the map has a row too many."""
    made = pair()
    made.reference.input_shape[2] = 13
    made.candidate.metadata["patch"] = [13, 10]
    assert check(made.verify(size=(15, 14)), "windows").verdict is EQUIVALENT
    report = made.verify(size=(16, 14))
    assert report.verdict is DIFFERENT
    assert "positions" in check(report, "windows").text


def test_the_patch_never_comes_from_the_candidate():
    made = pair()
    made.candidate.metadata["patch"] = [14, 10]
    report = made.verify()
    assert report.verdict is DIFFERENT
    assert report.patch == (12, 10)
    assert "made for patch (14, 10), the reference reads (12, 10)" in check(report, "structure").text


def test_a_free_patch_is_asked_for():
    made = pair()
    made.reference.input_shape = ["N", 3, "H", "W"]
    with pytest.raises(RequestError) as caught:
        made.verify()
    assert "--patch" in caught.value.hint
    assert made.verify(patch=(12, 10)).verdict is EQUIVALENT
    assert made.verify(analysis=Analysis((12, 10))).verdict is EQUIVALENT


@pytest.mark.parametrize(
    "options",
    [
        {"patch": (12, 12)},
        {"patch": (12,)},
        {"stride": (2,)},
        {"stride": (0, 2)},
        {"size": (20,)},
        {"size": (11, 20)},
    ],
)
def test_requests_that_do_not_fit(options):
    with pytest.raises(RequestError):
        pair().verify(**options)


def test_a_size_of_ones_own_is_compared_everywhere():
    report = pair().verify(size=(31, 22))
    assert check(report, "windows").figures["y"].count == 10 * 7 * 4 * 2
    assert report.size == (31, 22)


def test_a_candidate_fixed_at_a_larger_size():
    made = pair()
    made.candidate.input_shape = ["N", 3, 17, 16]
    report = made.verify()
    assert report.verdict is EQUIVALENT
    assert report.size == (17, 16)
    assert check(report, "patch").verdict is None


def test_a_candidate_fixed_at_the_patch():
    made = pair()
    made.candidate.input_shape = ["N", 3, 12, 10]
    report = made.verify()
    assert report.verdict is EQUIVALENT
    assert check(report, "windows").verdict is None
    one_weight(made)
    assert made.verify().verdict is DIFFERENT


def test_a_candidate_fixed_below_the_patch():
    made = pair()
    made.candidate.input_shape = ["N", 3, 12, 9]
    report = made.verify()
    assert report.verdict is DIFFERENT
    assert "below the patch" in check(report, "windows").text


def test_a_stride_beyond_memory_is_the_machines():
    made = pair()
    made.candidate.metadata["stride"] = [2**38, 2**38]
    with pytest.raises(MachineError) as caught:
        made.verify()
    assert "--size" in caught.value.hint


# Interface.


def test_a_renamed_output():
    made = pair()
    made.candidate.outputs = ["z"]
    made.candidate.add("Identity", ["y"], "z")
    report = made.verify()
    assert report.verdict is DIFFERENT
    assert report.checks[0].text == "outputs are ['y'], the candidate's ['z']"


def test_a_missing_output():
    made = pair()
    made.reference.outputs = ["y", "h"]
    report = made.verify()
    assert report.verdict is DIFFERENT
    made.candidate.outputs = ["y", "h"]
    assert made.verify().verdict is EQUIVALENT
    made.candidate.outputs = ["h", "y"]
    assert made.verify().verdict is DIFFERENT


def test_a_second_output_that_is_wrong():
    made = pair()
    for graph, source in ((made.reference, "h"), (made.candidate, "hr")):
        graph.outputs = ["y", "also"]
        graph.add("Identity", [source], "also")
    report = made.verify()
    assert report.verdict is DIFFERENT
    assert check(report, "windows").figures["y"].verdict is EQUIVALENT
    assert "output 'also', worst at" in check(report, "windows").text


def test_an_output_of_another_type():
    made = pair()
    made.candidate.nodes[-1].output[0] = "single"
    made.candidate.add("Cast", ["single"], "y", to=TensorProto.DOUBLE)
    made.candidate.kinds["y"] = TensorProto.DOUBLE
    report = made.verify()
    assert report.verdict is DIFFERENT
    assert report.checks[0].text == "output 'y' is float32, the candidate's is float64"


def test_channels_on_the_wrong_axis():
    made = pair()
    made.candidate.nodes[-1].CopyFrom(
        helper.make_node("Transpose", ["m"], ["y"], perm=[0, 2, 3, 1])  # (N, *map, D)
    )
    report = made.verify()
    assert report.verdict is DIFFERENT
    assert "positions and channels are (4, 3, 4)" in check(report, "windows").text


def test_a_flatten_left_in_the_map_fails_on_a_larger_input():
    made = pair()
    made.candidate.nodes = list(made.reference.nodes)
    made.candidate.tensors = dict(made.reference.tensors)
    made.candidate.metadata = None
    report = made.verify(stride=(2, 2))
    assert report.verdict is DIFFERENT
    assert "the candidate fails on 2x3x" in check(report, "windows").text


def test_two_inputs_are_refused():
    made = pair()
    model = made.reference.model()
    model.proto.graph.input.append(helper.make_tensor_value_info("second", FLOAT, [1]))
    with pytest.raises(FileError, match="one input, not 2"):
        verify(model, model)


# Class indices and other shapes of an output.


def with_output(made, op, **attributes):
    """Both networks end with an operator along their channels."""
    for graph in (made.reference, made.candidate):
        graph.nodes[-1].output[0] = "logits"
        graph.add(op, ["logits"], "y", axis=1, **attributes)
    return made


@pytest.mark.parametrize("keepdims", [0, 1])
def test_class_indices(keepdims):
    made = with_output(pair(), "ArgMax", keepdims=keepdims)
    made.reference.kinds["y"] = made.candidate.kinds["y"] = TensorProto.INT64
    report = made.verify()
    assert report.verdict is EQUIVALENT, report
    assert check(report, "windows").figures["y"].allowed == 0
    two_channels_swapped(made)
    assert made.verify().verdict is DIFFERENT


def test_softmax_along_the_wrong_axis():
    made = with_output(pair(), "Softmax")
    assert made.verify().verdict is EQUIVALENT
    made.candidate.nodes[-1].attribute[0].i = -1
    assert made.verify().verdict is DIFFERENT


def test_a_pool_that_keeps_its_axes():
    """(N, C, 1, 1) of a patch is (N, C, *map), not (N, C, 1, 1, *map)."""
    reference, candidate = Graph(["N", 3, 6, 4]), Graph(["N", 3, "H", "W"])
    reference.add("GlobalAveragePool", ["x"], "y")
    candidate.add("AveragePool", ["x"], "y", kernel_shape=[6, 4])
    report = verify(reference.model(), candidate.model(), stride=(1, 1))
    assert report.verdict is EQUIVALENT
    assert check(report, "windows").figures["y"].count == 2 * 3 * 4 * 3
    # A global pool that was left as it is gives one position.
    candidate.nodes = list(reference.nodes)
    report = verify(reference.model(), candidate.model(), stride=(1, 1))
    assert report.verdict is DIFFERENT
    assert check(report, "patch").verdict is EQUIVALENT


def test_no_channel_axis():
    """(N, length) -> (N,): a moving average."""
    reference, candidate = Graph(["N", 5]), Graph(["N", "length"])
    reference.add("ReduceMean", ["x"], "y", axes=[1], keepdims=0)
    candidate.add("Unsqueeze", ["x", "one"], "u")
    candidate.add("AveragePool", ["u"], "a", kernel_shape=[5])
    candidate.add("Squeeze", ["a", "one"], "y")
    candidate.tensors["one"] = np.array([1])
    assert verify(reference.model(), candidate.model(), stride=(1,)).verdict is EQUIVALENT
    candidate.nodes[1].attribute[0].ints[0] = 4
    assert verify(reference.model(), candidate.model(), stride=(1,)).verdict is DIFFERENT


def test_a_batch_that_is_baked_in_behind_a_free_interface():
    made = pair()
    made.reference.nodes[3].CopyFrom(helper.make_node("Reshape", ["p", "one_row"], ["f"], name="make_f"))
    made.reference.tensors["one_row"] = np.array([1, -1])
    assert made.verify().verdict is EQUIVALENT
    one_weight(made)
    assert made.verify().verdict is DIFFERENT


# No information.


def test_nan_on_one_side():
    made = pair()
    made.candidate.tensors["b2"] = np.array([0, np.nan, 0, 0], np.float32)
    made.candidate.metadata = None
    assert made.verify(stride=(2, 2)).verdict is DIFFERENT


def test_nan_on_both_sides():
    made = pair()
    for graph in (made.reference, made.candidate):
        graph.tensors["b2"] = np.full(4, np.nan, np.float32)
    report = made.verify()
    assert report.verdict is INCONCLUSIVE
    assert not report.accepted
    assert "NaN" in check(report, "windows").text


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_a_dead_network(bias):
    """No unit ever wakes: the output is 0, or a constant."""
    made = pair()
    for graph in (made.reference, made.candidate):
        graph.tensors["b1"] = np.full(5, -1e6, np.float32)
        graph.tensors["b2"] = np.arange(4, dtype=np.float32) * np.float32(bias)
    report = made.verify()
    assert report.verdict is INCONCLUSIVE
    assert "the same whatever goes in" in check(report, "windows").text
    made.candidate.metadata = None
    flipped_kernel(made)
    assert made.verify(stride=(2, 2)).verdict is INCONCLUSIVE


def test_a_sleepy_network_is_woken():
    """A bias that keeps units asleep on inputs of the order of 1."""
    made = pair()
    for graph in (made.reference, made.candidate):
        graph.tensors["b1"] = np.full(5, -30, np.float32)
    assert made.verify().verdict is EQUIVALENT
    made.candidate.metadata = None
    flipped_kernel(made)
    assert made.verify(stride=(2, 2)).verdict is DIFFERENT


# Border effects.

PADDED = Analysis((12, 10), exactness="border effect", border=("make_c",))


def test_a_border_effect_is_measured():
    report = pair(pads=1).verify(analysis=PADDED)
    assert report.verdict is BORDER
    assert not report.accepted
    assert check(report, "patch").verdict is EQUIVALENT
    windows = check(report, "windows")
    assert windows.verdict is BORDER
    assert windows.figures["y"].ratio > 1e-2
    assert "pads inside: make_c" in windows.text
    assert pair(pads=1).verify(analysis=PADDED, accept_border=True).accepted


def test_the_candidates_word_is_no_excuse():
    """Its metadata says border effect; only the reference's own analysis counts."""
    assert pair(pads=1).verify().verdict is DIFFERENT
    assert pair(pads=1).verify(analysis=Analysis((12, 10))).verdict is DIFFERENT


def test_patches_have_no_border_effect():
    made = pair(pads=1)
    made.candidate.metadata["method"] = "patches"
    assert made.verify(analysis=PADDED).verdict is DIFFERENT


def test_a_border_effect_has_the_right_number_of_positions():
    assert pair(pads=1).verify(analysis=PADDED, stride=(4, 4)).verdict is DIFFERENT


def test_a_border_effect_needs_other_evidence():
    made = pair(pads=1)
    made.candidate.input_shape = ["N", 3, 20, 20]
    assert made.verify(analysis=PADDED).verdict is BORDER  # structure vouches
    made.candidate.metadata = None
    assert made.verify(analysis=PADDED, stride=(2, 2)).verdict is DIFFERENT


def behind(made, *nodes):
    """More nodes at the end of the candidate, from ``right``, its map, to ``y``."""
    made.candidate.nodes[-1].output[0] = "right"
    for op, inputs, output, attributes in nodes:
        made.candidate.add(op, inputs, output, **attributes)


def rows_in_reverse(made):
    numbers = {"from": -1, "to": -(2**40), "rows": 2, "step": -1}
    made.candidate.tensors |= {name: np.array([number]) for name, number in numbers.items()}
    behind(made, ("Slice", ["right", *numbers], "y", {}))


def columns_that_see_each_other(made):
    """As a Softmax over more than the classes: one column, as on the patch, hides it."""
    behind(
        made,
        ("ReduceMax", ["right"], "largest", {"axes": [3], "keepdims": 1}),
        ("Sub", ["right", "right"], "nothing", {}),
        ("Add", ["largest", "nothing"], "y", {}),
    )


def the_first_vector_everywhere(made):
    numbers = {"from": 0, "to": 1, "columns": 3}
    made.candidate.tensors |= {name: np.array([number]) for name, number in numbers.items()}
    behind(
        made,
        ("Slice", ["right", *numbers], "first", {}),
        ("Sub", ["right", "right"], "nothing", {}),
        ("Add", ["first", "nothing"], "y", {}),
    )


@pytest.mark.parametrize(
    "mutant", [rows_in_reverse, columns_that_see_each_other, the_first_vector_everywhere]
)
def test_a_border_effect_hides_nothing_that_one_position_hides(mutant):
    """Right on the patch, where there is one position, and wrong beside it, which is not the padding's doing."""
    made = pair(pads=1)
    assert made.verify(analysis=PADDED, accept_border=True).accepted
    mutant(made)
    report = made.verify(analysis=PADDED, accept_border=True)
    assert check(report, "patch").verdict is EQUIVALENT
    assert check(report, "structure").verdict is EQUIVALENT
    assert report.verdict is DIFFERENT
    assert "read no padding change with where the image begins" in check(report, "windows").text


# Metadata.


def split_rows(made):
    """W1 in two rewrites, of the first and the last input features, as behind a Concat of branches."""
    half = made.features[0] // 2
    size = int(np.prod(made.features[1:]))
    kernel = made.candidate.tensors.pop("W1/kernel")
    made.candidate.tensors |= {"first": kernel[:, :half], "last": kernel[:, half:]}
    index = next(i for i, n in enumerate(made.candidate.nodes) if n.output[0] == "h")
    made.candidate.nodes[index : index + 1] = [
        helper.make_node("Split", ["p"], ["p0", "p1"], axis=1),
        helper.make_node("Conv", ["p0", "first"], ["h0"]),
        helper.make_node("Conv", ["p1", "last", "b1"], ["h1"]),
        helper.make_node("Add", ["h0", "h1"], ["h"]),
    ]
    old = made.candidate.metadata["rewrites"][0]
    shape = [5, half, *made.features[1:]]
    made.candidate.metadata["rewrites"][:1] = [
        {**old, "target": name, "rows": rows, "axis": 1, "shape": shape, "result": shape}
        for name, rows in (("first", [0, half * size]), ("last", [half * size, 2 * half * size]))
    ]


def test_rows_of_a_weight():
    made = pair()
    split_rows(made)
    assert made.verify().verdict is EQUIVALENT
    rewrites = made.candidate.metadata["rewrites"]
    rewrites[0]["rows"], rewrites[1]["rows"] = rewrites[1]["rows"], rewrites[0]["rows"]
    report = made.verify()
    assert check(report, "structure").verdict is DIFFERENT
    assert report.verdict is DIFFERENT


def test_dropped_rows():
    made = pair()
    split_rows(made)
    del made.candidate.metadata["rewrites"][0]
    report = made.verify()
    assert "of tensor 'W1' of the reference, row 0 of" in check(report, "structure").text
    assert "'first' of the candidate comes from nothing" in check(report, "structure").text


def test_rows_that_do_not_exist():
    made = pair()
    split_rows(made)
    made.candidate.metadata["rewrites"][1]["rows"][1] += 1
    with pytest.raises(FileError, match=r"rows .* do not exist"):
        made.verify()


def test_a_weight_behind_a_transpose():
    """The source of a rewrite may be computed from constants; the tensor behind it is not dropped."""
    made = pair()
    made.reference.tensors["W1t"] = np.ascontiguousarray(made.reference.tensors.pop("W1").T)
    made.reference.nodes.insert(0, helper.make_node("Transpose", ["W1t"], ["W1"], perm=[1, 0]))
    assert made.verify().verdict is EQUIVALENT
    one_weight(made)
    assert check(made.verify(), "structure").verdict is DIFFERENT


@pytest.mark.parametrize("attribute", ["value", "value_floats"])
def test_a_bias_in_a_constant_node_that_was_dropped(attribute):
    made = pair()
    bias = made.reference.tensors.pop("b2")
    value = numpy_helper.from_array(bias) if attribute == "value" else bias.tolist()
    made.reference.nodes.insert(0, helper.make_node("Constant", [], ["b2"], **{attribute: value}))
    assert made.verify().verdict is EQUIVALENT
    dropped_bias(made)
    assert check(made.verify(), "structure").text == "tensor 'b2' of the reference is not in the candidate"


def test_a_tensor_from_nowhere():
    made = pair()
    made.candidate.tensors["gift"] = np.zeros((1, 4, 1, 1), np.float32)
    made.candidate.nodes[-1].output[0] = "right"
    made.candidate.add("Add", ["right", "gift"], "y")
    report = made.verify()
    assert check(report, "windows").verdict is EQUIVALENT  # it adds zeros
    assert report.verdict is DIFFERENT
    assert "'gift' of the candidate comes from nothing" in check(report, "structure").text


def test_dropouts_ratio_is_no_weight():
    made = pair()
    made.reference.tensors["ratio"] = np.array(0.5, np.float32)
    made.reference.nodes[-1].output[0] = "end"
    made.reference.add("Dropout", ["end", "ratio"], "y")
    assert made.verify().verdict is EQUIVALENT


def bias_times_nothing(net, x):
    return net("Gemm", net.flat(x), net.weight(3, 126), net.weight(3, fan=1), transB=1, beta=0.0)


def crop_by_pad(net, x):
    """A negative Pad, with the value that torch gives it all the same."""
    pads = net.integers(0, 0, -1, -1, 0, 0, 0, -1)
    return net.dense(net.flat(net("Pad", x, pads, net.tensor(0.5, np.float32))), inputs=72)


def pad_by_nothing(net, x):
    return net.dense(net.flat(net("Pad", x, net.integers(*[0] * 8), net.tensor(0.5, np.float32))), inputs=126)


def shape_in_floats(net, x):
    shape = net("Cast", net("Shape", x), to=TensorProto.FLOAT)
    count = net("Mul", net("Slice", shape, net.integers(1), net.integers(2)), net.tensor([42.0], np.float32))
    count = net("Cast", net("Floor", count), to=TensorProto.INT64)
    return net.dense(net("Reshape", x, net("Concat", net.integers(-1), count, axis=0)), inputs=126)


@pytest.mark.parametrize("build", [bias_times_nothing, crop_by_pad, pad_by_nothing, shape_in_floats])
def test_numbers_that_no_output_is_computed_with_are_no_weights(build):
    """They fall away with the rewrite, and the map is what the network gives on every crop all the same."""
    net = Net()
    model = net.model(build(net, net("Tanh", net.conv())))
    conversion = assert_map(model)
    report = verify(model, conversion.map, analysis=conversion.analysis)
    assert report.verdict is EQUIVALENT, check(report, "structure").text


def test_the_value_of_a_pad_is_a_number_of_the_network():
    net = Net()
    x = net("Pad", net.conv(), net.integers(*[0] * 6, 1, 1), net.tensor(0.5, np.float32, name="edge"))
    model = net.model(net.dense(net.flat(x), inputs=168))
    conversion = convert(model)
    for node in conversion.map.proto.graph.node:
        if node.op_type == "Pad":
            del node.input[2:]
    report = verify(model, conversion.map, analysis=conversion.analysis)
    assert "tensor 'edge' of the reference is not in the candidate" in check(report, "structure").text


def metadata(**changes):
    return {**pair().candidate.metadata, **changes}


def rewrite(**changes):
    value = metadata()
    value["rewrites"][0] |= changes
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("[]", "it is one JSON object"),
        ("[" * 100_000, "it is not JSON"),
        ('{"version": 1, "version": 1}', "a field must stand once"),
        ('{"version": NaN}', "NaN"),
        ("1" * 5000, "it is not JSON"),
        (metadata(version=2), "its version is 1, not 2"),
        (metadata(version=True), "its version is 1"),
        (metadata(method="magic"), "method is one of conv, patches"),
        (metadata(method=None), "method is of another type"),
        (metadata(layout="upside down"), "layout is one of"),
        (metadata(patch=[]), "patch has one positive number"),
        (metadata(patch=[12, -10]), "patch has one positive number"),
        (metadata(patch=[12.0, 10.0]), "patch is of another type"),
        (metadata(patch=[2**70, 10]), "patch is of another type"),
        (metadata(patch="12x10"), "patch is of another type"),
        (metadata(stride=[2]), "stride has 1 numbers for 2 spatial axes"),
        (metadata(stride=[0, 2]), "stride has one positive number"),
        (metadata(stride=[True, 2]), "stride is of another type"),
        (metadata(spatial_axes=[0, 1]), "different axes behind the batch"),
        (metadata(spatial_axes=[2, 2]), "different axes behind the batch"),
        (metadata(spatial_axes=[2, 9]), "different axes behind the batch"),
        (metadata(rewrites={}), "rewrites is of another type"),
        (metadata(rewrites=["W1"]), "each of its rewrites is one JSON object"),
        (rewrite(source=7), "source is of another type"),
        (rewrite(axis=2), "the axis of a rewrite is 0 or 1"),
        (rewrite(axis=True), "the axis of a rewrite is 0 or 1"),
        (rewrite(rows=[3, 3]), "start < stop"),
        (rewrite(rows=[-1, 3]), "start < stop"),
        (rewrite(rows=[1]), "start < stop"),
        (rewrite(rows="all"), "rows is of another type"),
        (rewrite(shape=[5, 5]), "rearrangement"),
        (rewrite(permutation=[0, 0, 1, 2]), "rearrangement"),
        (rewrite(shape=None), "rearrangement"),
        (rewrite(result=[-1]), "rearrangement"),
        (rewrite(source="nowhere"), "no constant of the reference"),
        (rewrite(source="x"), "no constant of the reference"),
    ],
)
def test_metadata_is_not_believed(value, reason):
    made = pair()
    made.candidate.metadata = value
    with pytest.raises(FileError, match=reason) as caught:
        made.verify()
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_metadata_twice():
    made = pair()
    model = made.candidate.model()
    model.proto.metadata_props.append(model.proto.metadata_props[0])
    with pytest.raises(FileError, match="must stand once"):
        verify(made.reference.model(), model)


@pytest.mark.parametrize("change", [{"shape": [5], "permutation": [0], "result": [5]}, {"target": "Kb"}])
def test_rewrites_that_do_not_fit_the_tensors(change):
    made = pair()
    made.candidate.metadata = rewrite(**change)
    report = made.verify()
    assert check(report, "structure").verdict is DIFFERENT
    assert report.verdict is DIFFERENT


def test_the_provider_is_passed_on():
    with pytest.raises(RequestError, match="cpu, cuda or cuda:N"):
        pair().verify(provider="abacus")


@pytest.mark.parametrize("cropped", [(1, 0), (3, 2), (2, 5)])
def test_a_crop_in_front_of_the_padded_layer_moves_where_the_padding_is(cropped):
    """The padding stands where the crop leaves off: vectors read it although they begin inside the image."""
    before, after = cropped
    net = Net(shape=(None, 2, 16, 15))
    ends = net.integers(-after or 1 << 62, -after or 1 << 62)
    x = net("Slice", net.conv(kernel=3), net.integers(before, before), ends, net.integers(2, 3))
    x = net("Relu", net.conv(x, kernel=3, pads=[1, 1, 1, 1]))
    model = net.model(net.dense(net.flat(x)))
    conversion = convert(model)
    report = verify(model, conversion.map, analysis=conversion.analysis)
    assert conversion.exactness == "border effect"
    assert report.verdict is BORDER, report
    wrong = conversion.map.proto.graph.node
    pads = next(a for node in wrong if node.op_type == "Conv" for a in node.attribute if a.name == "pads")
    pads.ints[:] = [2, 1, 0, 1]  # a row too far up, everywhere
    assert verify(model, conversion.map, analysis=conversion.analysis).verdict is DIFFERENT
