"""The gate by numbers: hundreds of wrong maps of real models are all found, and hundreds of right ones all pass.

The damages are made here and in ``convert.mutants``; what is right is decided by ONNX Runtime running both networks.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dense2conv.convert.compare import Verdict
from dense2conv.convert.conversion import Conversion, convert
from dense2conv.convert.errors import FileError
from dense2conv.convert.model import Model
from dense2conv.convert.mutants import mutants, with_array
from dense2conv.convert.networks import open_network
from dense2conv.convert.verification import verify

from .test_keras_references import EXACT as KERAS
from .test_references import EXACT as ONNX
from .test_references import FOLDER, MODELS, ORDERS

CONFIGS = {row["file"]: row.get("config") for row in MODELS.values()}
ORDINARY = [*ONNX[::6], *KERAS[::9]]


def converted(file: str) -> Conversion:
    from .test_keras_references import MODELS as KERAS_MODELS

    config = KERAS_MODELS[file].get("config") if file in KERAS_MODELS else None
    model = open_network(FOLDER / file, config=None if config is None else FOLDER / config)
    return convert(model, order=ORDERS.get(file))


def damages(candidate: Model, targets: list[str], seed: int) -> list[tuple[str, Model]]:
    """Each kind of ``convert.mutants`` once, and of some more weights, at random places."""
    found = list(mutants(candidate, targets))
    generator = np.random.default_rng(seed)
    tensors = candidate.initializers()
    for target in targets:
        array = candidate.array(tensors[target])
        if array.dtype.kind != "f" or array.size < 2:
            continue
        changed = array.copy()
        place = tuple(generator.integers(0, array.shape))
        changed[place] += 0.5 * np.abs(array).max()
        found.append((f"weight {place} of {target!r}", with_array(candidate, target, changed)))
    return found


def check_damages(file: str) -> int:
    conversion = converted(file)
    targets = [rewrite.target for rewrite in conversion.rewrites]
    count = 0
    for damage, wrong in damages(conversion.map, targets, 0):
        try:
            report = verify(conversion.source, wrong, analysis=conversion.analysis)
        except FileError:  # the runtime does not load it
            count += 1
            continue
        assert report.verdict is Verdict.DIFFERENT, f"{file}: {damage}: {report}"
        count += 1
    return count


@pytest.mark.parametrize("file", ORDINARY)
def test_every_damage_to_a_map_is_found(file: str) -> None:
    assert check_damages(file) >= 5


@pytest.mark.slow
def test_hundreds_of_damages_to_all_references_are_found() -> None:
    assert sum(check_damages(file) for file in [*ONNX, *KERAS]) >= 300


def without_metadata(model: Model) -> Model:
    """The same map from somebody else's tool: nothing says what became what."""
    proto = type(model.proto)()
    proto.CopyFrom(model.proto)
    del proto.metadata_props[:]
    return Model(proto, model.weights, model.path)


@pytest.mark.parametrize("file", ORDINARY)
def test_damages_are_found_by_running_alone(file: str) -> None:
    """Without metadata there is neither structure nor probes: the runs have to see it."""
    conversion = converted(file)
    candidate = without_metadata(conversion.map)
    targets = [rewrite.target for rewrite in conversion.rewrites]
    right = verify(conversion.source, candidate, analysis=conversion.analysis, stride=conversion.stride)
    assert right.verdict is Verdict.EQUIVALENT
    for damage, wrong in mutants(candidate, targets):
        try:
            report = verify(conversion.source, wrong, analysis=conversion.analysis, stride=conversion.stride)
        except FileError:
            continue
        assert report.verdict is Verdict.DIFFERENT, f"{file}: {damage}: {report}"


def random_pair(seed: int) -> tuple[Model, int]:
    """A network of a convolution (or none), a flatten and dense layers, by seed; and the K of its first dense layer."""
    generator = np.random.default_rng(seed)
    kind: Any = np.float16 if seed % 11 == 5 else np.float32
    rank = int(generator.integers(1, 4))
    sizes = generator.integers(3, {1: 40, 2: 12, 3: 6}[rank], rank)
    channels, filters = int(generator.integers(1, 5)), int(generator.integers(1, 7))
    if seed % 10 == 0:  # as large as VGG's first
        rank, sizes, channels, filters = 2, np.array([9, 9]), 3, 512
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    gain = 10 ** float(generator.uniform(-1, 1))
    nodes, tensors = [], {}

    def weight(name: str, *shape: int, fan: int) -> str:
        tensors[name] = (gain * generator.standard_normal(shape) / np.sqrt(fan)).astype(kind)
        return name

    features = tuple(int(n) - 2 for n in sizes)
    nodes.append(helper.make_node("Conv", ["x", weight("K", filters, channels, *[3] * rank, fan=channels * 3**rank),
                                           weight("Kb", filters, fan=1)], ["c"]))  # fmt: skip
    nodes.append(helper.make_node(("Relu", "Tanh", "Sigmoid")[seed % 3], ["c"], ["r"]))
    nodes.append(helper.make_node("Flatten", ["r"], ["f"]))
    size = filters * int(np.prod(features))
    units = int(generator.integers(2, 9))
    nodes.append(helper.make_node("Gemm", ["f", weight("W", units, size, fan=size), weight("b", units, fan=1)],
                                  ["h"], transB=1))  # fmt: skip
    nodes.append(helper.make_node(("Softmax", "Identity")[seed % 2], ["h"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("x", number, ["N", channels, *map(int, sizes)])],
        [helper.make_tensor_value_info("y", number, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items() if array.nbytes < 1024]
        + [
            TensorProto(name=n, data_type=number, dims=a.shape)
            for n, a in tensors.items()
            if a.nbytes >= 1024
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Model(proto, {name: array for name, array in tensors.items() if array.nbytes >= 1024}), size


def check_honest(seed: int) -> Verdict:
    model, size = random_pair(seed)
    conversion = convert(model)
    generator = np.random.default_rng(seed)
    shape = [6, *[d.dim_value for d in model.proto.graph.input[0].type.tensor_type.shape.dim][1:]]
    given = (generator.standard_normal(shape) + (0, 100, -1000)[seed % 3]).astype(np.float32)
    data = (
        given if seed % 2 else None
    )  # offsets saturate many of these networks, and then the data says nothing
    report = verify(model, conversion.map, analysis=conversion.analysis, data=data, seed=seed)
    assert report.verdict is not Verdict.DIFFERENT, f"seed {seed}, K {size}: {report}"
    return report.verdict


@pytest.mark.parametrize("seed", range(25))
def test_a_right_map_of_a_random_network_is_never_different(seed: int) -> None:
    check_honest(seed)


@pytest.mark.slow
def test_hundreds_of_right_maps_are_never_different() -> None:
    verdicts = [check_honest(seed) for seed in range(25, 350)]
    assert verdicts.count(Verdict.EQUIVALENT) > 0.7 * len(verdicts)  # the others: the data said nothing


# What other tools let pass (NaN against NaN, broadcasting, fewer outputs, a constant input ...): each is caught here.


def changed_output(model: Model, nodes: list[Any], name: str = "y", drop: bool = False) -> Model:
    """The network ``x -> y`` with ``nodes`` behind its output."""
    proto = type(model.proto)()
    proto.CopyFrom(model.proto)
    for node in proto.graph.node:
        node.output[:] = ["inner" if output == "y" else output for output in node.output]
    proto.graph.node.extend(nodes)
    proto.graph.output[0].name = name
    if drop:
        del proto.graph.output[1:]
    return Model(proto, dict(model.weights))


def node(operator: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(operator, list(inputs), ["y"], **attributes)


def constant(name: str, value: Any) -> Any:
    return helper.make_node(
        "Constant", [], [name], value=numpy_helper.from_array(np.asarray(value, np.float32))
    )


FALSE_PASSES: dict[str, tuple[list[Any], str]] = {
    "NaN on both sides": ([constant("n", np.nan), node("Add", "inner", "n")], "inconclusive"),
    "infinity on both sides": ([constant("n", np.inf), node("Add", "inner", "n")], "inconclusive"),
    "a constant": ([constant("n", 0.0), node("Mul", "inner", "n")], "inconclusive"),
    "a dead ReLU": ([constant("n", -1e9), helper.make_node("Add", ["inner", "n"], ["d"]), node("Relu", "d")],
                    "inconclusive"),
    "a softmax of one class": (
        [helper.make_node("ReduceMean", ["inner"], ["d"], axes=[1], keepdims=1), node("Softmax", "d", axis=1)],
        "inconclusive",
    ),
    "a saturated sigmoid": (
        [constant("n", 1e6), helper.make_node("Abs", ["inner"], ["a"]), helper.make_node("Add", ["a", "n"], ["d"]),
         node("Sigmoid", "d")], "inconclusive",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FALSE_PASSES)
def test_what_proves_nothing_is_no_pass(case: str) -> None:
    model, _ = random_pair(1)
    nodes, verdict = FALSE_PASSES[case]
    both = changed_output(model, nodes), changed_output(model, nodes)
    assert verify(*both).verdict == verdict


def test_small_outputs_are_not_right_outputs() -> None:
    model, _ = random_pair(1)
    small = changed_output(model, [constant("n", 1e-9), node("Mul", "inner", "n")])
    wrong = changed_output(model, [constant("n", -1e-9), node("Mul", "inner", "n")])
    assert verify(small, small).verdict is Verdict.EQUIVALENT
    assert verify(small, wrong).verdict is Verdict.DIFFERENT


def test_a_softmax_hides_nothing_that_is_in_front_of_it() -> None:
    """``softmax(z + 1000)`` is ``softmax(z)``."""
    model, _ = random_pair(1)
    plain = changed_output(model, [node("Softmax", "inner", axis=1)])
    moved = changed_output(
        model,
        [constant("n", 1000.0), helper.make_node("Add", ["inner", "n"], ["d"]), node("Softmax", "d", axis=1)],
    )
    report = verify(plain, moved)
    assert report.verdict is Verdict.DIFFERENT
    assert "y before Softmax" in str(report)


def test_renamed_outputs_are_not_matched_by_their_order() -> None:
    model, _ = random_pair(1)
    renamed = changed_output(model, [helper.make_node("Identity", ["inner"], ["z"])], name="z")
    report = verify(model, renamed)
    assert (report.verdict, report.checks[0].name) == (Verdict.DIFFERENT, "interface")


def test_another_element_type_is_not_converted() -> None:
    model, _ = random_pair(1)
    double = changed_output(model, [node("Cast", "inner", to=TensorProto.DOUBLE)])
    double.proto.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    assert verify(model, double).verdict is Verdict.DIFFERENT


def test_another_shape_is_not_broadcast() -> None:
    model, _ = random_pair(1)
    one = changed_output(model, [node("ReduceMean", "inner", axes=[1], keepdims=1)])
    assert verify(model, one).verdict is Verdict.DIFFERENT


def test_one_bad_element_among_many_is_not_averaged_away() -> None:
    model, _ = random_pair(1)
    kernel = next(name for name in model.initializers() if name == "W")
    array = model.array(model.initializers()[kernel]).copy()
    array[-1, -1] += 0.5
    assert verify(model, with_array(model, kernel, array)).verdict is Verdict.DIFFERENT


def test_the_data_has_to_fit() -> None:
    model, _ = random_pair(1)
    shape = [d.dim_value for d in model.proto.graph.input[0].type.tensor_type.shape.dim][1:]
    right = np.zeros([3, *shape], np.float32)
    for wrong in (right[0], right[:, :, :-1], right.astype(np.complex64), right[:0]):
        with pytest.raises(FileError, match="data"):
            verify(model, model, data=wrong)
    noise = np.random.default_rng(0).standard_normal(right.shape).astype(np.float32)
    assert "data" in [check.name for check in verify(model, model, data=noise).checks]


def test_tolerances_of_the_caller() -> None:
    model, _ = random_pair(1)
    kernel = model.array(model.initializers()["W"])
    near = with_array(model, "W", kernel * np.float32(1 + 1e-4))
    assert verify(model, near).verdict is Verdict.DIFFERENT
    assert verify(model, near, rtol=1e-2, atol=1e-2).verdict is Verdict.EQUIVALENT
    assert verify(model, near, rtol=1e-9).verdict is Verdict.DIFFERENT


def test_the_first_layer_that_differs_is_named() -> None:
    model, _ = random_pair(4)
    for name, layer in (("K", "c"), ("W", "h")):
        wrong = with_array(model, name, -model.array(model.initializers()[name]))
        text = str(verify(model, wrong))
        assert f"the first layer with another value is '{layer}'" in text


def test_units_that_stay_quiet_are_named() -> None:
    model, _ = random_pair(3)
    bias = with_array(model, "Kb", np.full_like(model.array(model.initializers()["Kb"]), -1e4))
    conversion = convert(bias)
    report = verify(bias, conversion.map, analysis=conversion.analysis)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert any(check.name == "adequacy" and check.verdict is Verdict.INCONCLUSIVE for check in report.checks)


def test_the_self_test_finds_all_and_says_so_or_is_inconclusive() -> None:
    for seed in (1, 3, 5):
        model, _ = random_pair(seed)
        conversion = convert(model)
        report = verify(model, conversion.map, analysis=conversion.analysis, self_test=True)
        assert report.verdict is Verdict.EQUIVALENT
        assert "each of them found" in next(c.text for c in report.checks if c.name == "self-test")
    blind = without_metadata(conversion.map)
    loose = verify(
        model, blind, analysis=conversion.analysis, stride=conversion.stride, self_test=True, atol=1e9
    )
    assert loose.verdict is Verdict.INCONCLUSIVE
    assert "not found" in next(c.text for c in loose.checks if c.name == "self-test")


def test_the_caller_is_told_what_is_at_work() -> None:
    model, _ = random_pair(1)
    conversion = convert(model)
    told: list[str] = []
    report = verify(model, conversion.map, analysis=conversion.analysis, progress=told.append)
    assert {"structure", "probes", "patch", "windows", "levels", "adequacy"} <= set(told)
    assert {check.name.split(",")[0] for check in report.checks} <= {*told, "interface", "providers"}


def test_both_kinds_of_files_are_among_the_references() -> None:
    assert {Path(file).suffix for file in ORDINARY} >= {".onnx", ".h5"}
