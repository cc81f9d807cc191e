"""Random layers of rank 1 to 3: the layer table has the shape that ONNX Runtime gives, and refuses what it refuses.

The oracle is a run. One difference is allowed, and no other: where a pool's kernel is larger than the padded input,
ONNX Runtime's division rounds towards zero, and it gives an empty axis or a made-up position; the table refuses.
"""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dense2conv.convert.errors import FileError
from dense2conv.convert.model import Model
from dense2conv.convert.shapes import network_of
from dense2conv.shapecalc.network import Network
from dense2conv.shapecalc.window import Window

from .runtime import CHECKS_SAME, CHECKS_TRANSPOSED, DROPS, LEAVES_OUT_EVENLY, run

LARGEST = 4000  # elements on the spatial axes of an input or an output, so that a run takes no time
TOO_LARGE = "a kernel must not be larger than the padded input"

# The operator sets whose kernels differ, and from which on a pool has a dilation.
OPSETS = (11, 18, 19, 21, 22)
DILATES_SINCE = {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}
ROUNDS_UP_SINCE = {"MaxPool": 10, "AveragePool": 10, "LpPool": 18}

# What older versions of ONNX Runtime take.
REFUSED_SINCE = {
    "takes an output from which the convolution leads back": CHECKS_TRANSPOSED,
    "output padding must be below": CHECKS_TRANSPOSED,
    "take no SAME where the stride": CHECKS_SAME,
}


@dataclass(frozen=True)
class Case:
    """One layer and its input; ``weight`` is the shape of a convolution's kernel."""

    operator: str
    opset: int
    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    channels: int = 1
    weight: tuple[int, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def proto(self, batch: int = 1) -> Any:
        shape = (batch, self.channels, *self.sizes)
        names, weights = ["x"], []
        attributes = dict(self.attributes)
        if self.weight:
            names.append("w")
            weights.append(numpy_helper.from_array(np.ones(self.weight, np.float32), "w"))
        else:
            attributes["kernel_shape"] = list(self.kernel)
        graph = helper.make_graph(
            [helper.make_node(self.operator, names, ["y"], name="layer", **attributes)],
            "layer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            weights,
        )
        ir = 10 if self.opset > 20 else 8
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir)

    def network(self, batch: int = 1) -> Network:
        return network_of(Model(self.proto(batch)))


def _numbers(random: Random, rank: int, low: int, high: int) -> list[int]:
    return [random.randint(low, high) for _ in range(rank)]


def _sizes(random: Random, rank: int) -> tuple[int, ...]:
    while True:
        sizes = tuple(_numbers(random, rank, 1, 40))
        if math.prod(sizes) <= LARGEST:
            return sizes


def random_case(random: Random, rank: int, opsets: tuple[int, ...]) -> Case:
    operator = random.choice(("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"))
    opset = random.choice(opsets)
    pool = operator.endswith("Pool")
    kernel = _numbers(random, rank, 1, random.choice((2, 7)))
    attributes: dict[str, Any] = {"strides": _numbers(random, rank, 1, random.choice((1, 3, 6)))}
    if opset >= DILATES_SINCE.get(operator, 0) and random.random() < 0.4:
        attributes["dilations"] = _numbers(random, rank, 1, 3)
    if opset >= ROUNDS_UP_SINCE.get(operator, 99):
        attributes["ceil_mode"] = random.randint(0, 1)
    padding = random.choice(("NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"))
    if padding != "NOTSET":
        attributes["auto_pad"] = padding
    elif pool and random.random() < 0.8:  # pads below the kernel, which alone are taken
        attributes["pads"] = [random.randint(0, k - 1) for k in (*kernel, *kernel)]
    else:
        attributes["pads"] = _numbers(random, 2 * rank, 0, 6)
    if operator == "AveragePool":
        attributes["count_include_pad"] = random.randint(0, 1)
    if operator == "ConvTranspose":
        if random.random() < 0.4:
            attributes["output_padding"] = _numbers(random, rank, 0, 2)
        if random.random() < 0.3:
            attributes["output_shape"] = _numbers(random, rank, 1, (60, 40, 14)[rank - 1])
            if padding == "NOTSET":
                del attributes["pads"]
    if pool:
        return Case(operator, opset, _sizes(random, rank), tuple(kernel), 1, (), attributes)
    group = attributes["group"] = random.choice((1, 1, 2, 3))
    into, out = group * random.randint(1, 2), random.randint(1, 2)
    weight = (into, out, *kernel) if operator == "ConvTranspose" else (group * out, into // group, *kernel)
    return Case(operator, opset, _sizes(random, rank), tuple(kernel), into, weight, attributes)


def _run(case: Case, image: np.ndarray) -> np.ndarray | None:
    outputs = run(case.proto(len(image)), image)
    return None if outputs is None else outputs[0]


def _same_pads(case: Case) -> list[int]:
    """Pads that ONNX Runtime's pools take for SAME on each axis: for ``ceil(n / s)`` outputs of the kernel without its
    holes (onnxruntime, core/providers/common.h, ComputePad); below 0 where the stride leaves elements over."""
    strides = case.attributes["strides"]
    return [(-(-n // s) - 1) * s + k - n for n, s, k in zip(case.sizes, strides, case.kernel, strict=True)]


def _larger_than_input(case: Case) -> list[bool]:
    """For each axis whether a pool's kernel, holes included, is larger than the input with its pads."""
    rank = len(case.sizes)
    padding = case.attributes.get("auto_pad", "NOTSET")
    pads = case.attributes.get("pads", [0] * 2 * rank)
    total = [b + a for b, a in zip(pads[:rank], pads[rank:], strict=True)]
    if padding.startswith("SAME"):
        total = _same_pads(case)
    dilations = case.attributes.get("dilations", [1] * rank)
    return [
        d * (k - 1) + 1 > n + p for d, k, n, p in zip(dilations, case.kernel, case.sizes, total, strict=True)
    ]


def compare(case: Case) -> str:
    """What came out, in a word; the words that begin with a capital are findings."""
    image = np.zeros((1, case.channels, *case.sizes), np.float32)
    output = _run(case, image)
    try:
        found = case.network().nodes[0].output
    except FileError as refusal:
        if output is None:
            return "both refuse"
        larger = _larger_than_input(case)
        made_up = all(n <= 1 for n, is_larger in zip(output.shape[2:], larger, strict=True) if is_larger)
        if case.operator.endswith("Pool") and any(larger) and made_up and TOO_LARGE in refusal.message:
            return "made up"
        if any(not known and what in refusal.message for what, known in REFUSED_SINCE.items()):
            return "older"
        return f"Only the table refuses: {refusal.message}"
    if output is None:
        return f"Only ONNX Runtime refuses what has the shape {found}"
    if output.shape[1:] == found:
        return "same"
    if case.attributes.get("ceil_mode") and not DROPS:
        return "older"
    return f"Shapes {output.shape[1:]} and {found}"


def moved(case: Case) -> np.ndarray | None:
    """For each pixel of a 1-D input which outputs it moves: (pixels, outputs)."""
    (n,) = case.sizes
    image = np.concatenate((np.zeros((1, n)), np.eye(n))).astype(np.float32)
    output = _run(case, np.repeat(image[:, None], case.channels, axis=1))
    return None if output is None else (output[1:] != output[:1]).any(axis=1)


def compare_positions(case: Case) -> str:
    """Whether the table's pixels and neurons are those that ONNX Runtime reads, in words as above."""
    try:
        network = case.network(case.sizes[0] + 1)
    except FileError:
        return "refused"
    seen = moved(case)
    if seen is None:
        return "Only ONNX Runtime refuses"
    pixels = [network.pixels(0, (j,))[0] for j in range(seen.shape[1])]
    neurons = [network.neurons((i,))[0][0] for i in range(seen.shape[0])]
    if pixels != [set(np.flatnonzero(column)) for column in seen.T]:
        return f"Pixels {[sorted(p) for p in pixels]}"
    if neurons != [set(np.flatnonzero(row)) for row in seen]:
        return f"Neurons {[sorted(p) for p in neurons]}"
    return "same"


def otherwise(case: Case) -> bool:
    """Whether the version at hand reads other pixels than the table says, as is known."""
    given = case.attributes
    leaves_out = given.get("auto_pad", "").startswith("SAME") and min(_same_pads(case)) < 0
    # A dilated AveragePool cuts its last window off at the padded size, even where pads are below 0.
    cuts_off = case.operator == "AveragePool" and max(given.get("dilations", [1])) > 1
    return (
        (leaves_out and bool(given.get("ceil_mode")) and cuts_off)
        or (leaves_out and case.operator == "Conv" and not LEAVES_OUT_EVENLY)
        or (bool(given.get("ceil_mode")) and not DROPS)
    )


def opsets() -> tuple[int, ...]:
    """The operator sets that this ONNX Runtime loads."""
    found = tuple(
        o for o in OPSETS if _run(Case("MaxPool", o, (3,), (1,)), np.zeros((1, 1, 3), np.float32)) is not None
    )
    assert found[:4] == OPSETS[:4]
    return found


def _fuzz(seed: int, count: int) -> Counter[str]:
    random, known = Random(seed), opsets()
    counts: Counter[str] = Counter()
    findings = []
    for _ in range(count):
        case = random_case(random, random.randint(1, 3), known)
        word = compare(case)
        counts[word] += 1
        if word[0].isupper():
            findings.append((word, case))
    assert not findings, f"{len(findings)} findings, the first: {findings[0]}"
    return counts


def _fuzz_positions(seed: int, count: int) -> Counter[str]:
    random, known = Random(seed), opsets()
    counts: Counter[str] = Counter()
    findings = []
    while counts["same"] < count:
        case = random_case(random, 1, known)
        if otherwise(case):
            continue
        word = compare_positions(case)
        counts[word] += 1
        if word[0].isupper():
            findings.append((word, case))
            break
    assert not findings, f"{findings[0]}"
    return counts


def test_shapes() -> None:
    counts = _fuzz(1, 2000)
    assert counts["same"] > 1000
    assert counts["both refuse"] > 100
    assert 0 < counts["made up"] < 200


def test_positions() -> None:
    _fuzz_positions(2, 2000)


def test_a_wrong_table_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("MaxPool", 18, (9,), (3,), attributes={"strides": [2]})
    right = case.network()
    assert (compare(case), compare_positions(case)) == ("same", "same")
    for changed in ({"output": (1, 5)}, {"readings": ((Window(3, 2, before=1),),)}):
        node = right.nodes[0]._replace(**changed)
        monkeypatch.setattr(Case, "network", lambda *_, node=node: replace(right, nodes=(node,)))
        words = compare(case), compare_positions(case)
        assert words[0].startswith("Shapes (1, 4)") == ("output" in changed)
        assert words[1].startswith("Pixels [[0, 1], ") == ("readings" in changed)

    def refuses(*_: object) -> Network:
        raise FileError(TOO_LARGE)

    monkeypatch.setattr(Case, "network", refuses)
    assert compare(case) == f"Only the table refuses: {TOO_LARGE}"  # the kernel is not larger


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_shapes(seed: int) -> None:
    counts = _fuzz(seed, 2500)
    assert counts["same"] > 1250
    assert counts["both refuse"] > 125
    assert 0 < counts["made up"] < 250


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 204))
def test_many_positions(seed: int) -> None:
    _fuzz_positions(seed, 1000)
