"""Every network that onnx ships as a topology is audited, converted and proven, with random weights.

The ``light_*`` files hold real topologies whose weights are one constant; a wrong rearrangement of those would not
show.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from dense2conv.convert.analysis import audit
from dense2conv.convert.conversion import convert
from dense2conv.convert.model import Model
from dense2conv.convert.opening import open_model
from dense2conv.convert.verification import verify

# name: S; what one vector of the map reads.
# Fields of the trunks are published: AlexNet 195, Inception v2 699, ResNet-50 427 (its strides stand in the 1x1
# convolutions), VGG-19 268 (Araujo, Norris and Sim, Distill 2019); the head adds (its size - 1) * 32.
NETWORKS = {
    "light_bvlc_alexnet": (32, 195 + 5 * 32),
    "light_densenet121": (32, None),
    "light_inception_v1": (32, None),
    "light_inception_v2": (32, 699 + 6 * 32),
    "light_resnet50": (32, 427 + 6 * 32),
    "light_shufflenet": (32, None),
    "light_squeezenet": (16, None),
    "light_vgg19": (32, 268 + 6 * 32),
    "light_zfnet512": (32, None),
}

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"

# How much a normalised branch adds, so that neither a softmax saturates nor a signal dies: outputs must vary.
_GAIN = {"light_inception_v2": 0.8, "light_resnet50": 0.5, "light_shufflenet": 0.2}


def random_network(name: str, seed: int = 0) -> Model:
    """Return a light network with random float32 weights instead of its ``ConstantOfShape`` nodes."""
    proto = onnx.load(FOLDER / f"{name}.onnx")
    graph = proto.graph
    rng = np.random.default_rng(seed)
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    filled = {n.output[0]: shapes[n.input[0]] for n in graph.node if n.op_type == "ConstantOfShape"}
    kept = [n for n in graph.node if n.op_type != "ConstantOfShape"]
    readers = {i: (n.op_type, k) for n in reversed(kept) for k, i in enumerate(n.input)}
    behind = {n.input[0]: readers[n.output[0]] for n in kept if n.op_type == "Unsqueeze"}
    readers |= behind  # a scale or shift of each channel, made (C, 1, 1)
    del graph.node[:]
    graph.node.extend(kept)
    weights = {}
    for output, shape in filled.items():
        weights[output] = _weight(rng, *readers[output], tuple(map(int, shape)), _GAIN.get(name, 1.0))
        graph.initializer.add(name=output, data_type=TensorProto.FLOAT, dims=weights[output].shape)
    return Model(proto, weights, f"{name}.onnx")


def _weight(
    rng: np.random.Generator, operator: str, operand: int, shape: tuple[int, ...], gain: float
) -> np.ndarray:
    """Return weights that keep a signal's size from layer to layer."""
    if operator == "BatchNormalization" and operand in (1, 4):  # scale and variance
        array = rng.uniform(0.5, 1.5, shape)
        return (array * (gain if operand == 1 else 1.0)).astype(np.float32)
    if operator == "Mul":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if operator in ("Conv", "Gemm") and operand == 1:
        fan_in = int(np.prod(shape[1:]))
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))
    return (rng.standard_normal(shape) * 0.1).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_real_topology_is_converted_and_proven(name: str) -> None:
    model = random_network(name)
    conversion = convert(model)
    analysis = conversion.analysis
    stride, field = NETWORKS[name]
    assert analysis.exactness == "border effect"  # all of them pad inside
    assert analysis.stride == (stride, stride)
    if field is not None:
        assert analysis.receptive_field == (field, field)
    left = {n.op_type for n in conversion.map.proto.graph.node}
    assert not left & {"Flatten", "Reshape", "Gemm", "MatMul", "GlobalAveragePool", "Shape"}
    report = verify(model, conversion.map, analysis=analysis, accept_border=True)
    verdicts = {check.name: check.verdict and check.verdict.value for check in report.checks}
    assert verdicts.pop("windows") == "border effect"
    # Of dense layers, if there are any.
    assert {verdicts.pop("probes", None), verdicts.pop("adequacy", None)} <= {"equivalent", None}
    assert {verdicts.pop(f"patch, {family}") for family in ("offset", "wide range")} <= {"equivalent", None}
    assert verdicts == dict.fromkeys(("interface", "structure", "patch", "levels", "providers"), "equivalent")
    assert report.size is not None
    assert min(report.size) > 224


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_as_onnx_ships_it_is_audited(name: str) -> None:
    analysis = audit(open_model(FOLDER / f"{name}.onnx"))
    assert (analysis.exactness, analysis.stride, analysis.patch) == (
        "border effect", (NETWORKS[name][0],) * 2, (224, 224)
    )  # fmt: skip
