"""Dense layers as 1x1 convolutions: numpy in float64 is the oracle, layer by layer."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from dense2conv.convert import verify
from dense2conv.convert.model import Model
from dense2conv.convert.rules import pointwise
from dense2conv.convert.rules.rewriting import Rewriting, apply_rules

from .nets import Array, Graph, kinds, run, whole


def rewrite(proto: onnx.ModelProto) -> Rewriting:
    return apply_rules(Model(proto), ["pointwise"])


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Tanh": np.tanh,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Softplus": lambda x: np.log1p(np.exp(-abs(x))) + np.maximum(x, 0),
}


def network(seed: int) -> tuple[onnx.ModelProto, Array, Array]:
    """Dense layers with activations, scales and skips between, on 2 to 4 axes, and what they give."""
    random = np.random.default_rng(seed)
    rest = tuple(int(n) for n in random.integers(1, 5, seed % 3))
    width = int(random.integers(1, 9))
    batch = int(random.integers(1, 5))
    g = Graph(["N" if random.integers(2) else batch, *rest, width])
    u = random.standard_normal((batch, *rest, width)).astype(np.float32)
    x, y = "x", u.astype(np.float64)
    for _ in range(int(random.integers(1, 4))):
        units = int(random.integers(1, 9))
        w = (random.standard_normal((width, units)) / np.sqrt(width)).astype(np.float32)
        b = random.standard_normal(units).astype(np.float32)
        if rest or random.integers(2):
            z = g("Add", g("MatMul", x, w), b) if random.integers(2) else g("Add", b, g("MatMul", x, w))
        else:
            z = g("Gemm", x, w.T, b, transB=1)
        new = y @ w.astype(np.float64) + b
        if random.integers(2) and width == units:  # a skip
            z, new = g("Add", x, z), y + new
        kind = list(ACTIVATIONS)[random.integers(len(ACTIVATIONS))]
        z, new = g(kind, z), ACTIVATIONS[kind](new)
        if random.integers(2):
            scale = random.standard_normal(units).astype(np.float32)
            z, new = g("Mul", z, scale), new * scale
        x, y, width = z, new, units
    if random.integers(2):
        x, y = g("Softmax", x, axis=-1), softmax(y)
    return g.proto(x, [None] * y.ndim), u, y


@pytest.mark.parametrize(
    "seed", [*range(40), *(pytest.param(s, marks=pytest.mark.slow) for s in range(40, 240))]
)
def test_random_networks(seed: int) -> None:
    proto, x, wanted = network(seed)
    result = rewrite(proto)
    assert {p.action for p in result.places} <= {"rewritten", "kept"}, result.places
    y = run(result.model, x)
    assert y.shape == wanted.shape
    assert np.abs(y - wanted).max() <= 5e-6 * max(1.0, np.abs(wanted).max())
    found = kinds(result.model)
    assert not {"MatMul", "Gemm", "Reshape"} & set(found)
    assert found.count("Unsqueeze") <= 1  # once in, once out, nothing between
    assert found.count("Squeeze") <= 1
    assert found.count("Transpose") <= 2
    report = verify(Model(proto), result.model)
    assert report.accepted or wanted.shape[-1] == 1, str(report)  # a Softmax of one number says nothing


def test_the_kernels_are_the_weights_bit_for_bit() -> None:
    w = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    for transposed in (0, 1):
        g = Graph(["N", 4])
        proto = g.proto(g("Gemm", "x", w.T if transposed else w, transB=transposed), [None, 3])
        model = whole(rewrite(proto).model)
        (kernel,) = [
            onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT
        ]
        assert kernel.shape == (3, 4, 1, 1)
        assert kernel.tobytes() == np.ascontiguousarray(w.T).tobytes()


def test_a_transformer_block_keeps_what_needs_the_first_layout() -> None:
    """Attention and layer normalisation read (N, T, C); q, k, v share one way to the convolutions."""
    random = np.random.default_rng(0)

    def dense(x: str, inputs: int, units: int) -> str:
        w, b = random.standard_normal((inputs, units)) / 3, random.standard_normal(units)
        return str(g("Add", g("MatMul", x, w.astype(np.float32)), b.astype(np.float32)))

    g = Graph(["N", 5, 8])
    ones = np.ones(8, np.float32)
    normed = g("LayerNormalization", "x", ones, ones)
    first = [g("MatMul", normed, random.standard_normal((8, 8)).astype(np.float32)) for _ in range(3)]
    q, k, v = (g("Add", x, random.standard_normal(8).astype(np.float32)) for x in first)
    scores = g("Softmax", g("MatMul", q, g("Transpose", k, perm=[0, 2, 1])), axis=-1)
    x = g("Add", "x", dense(g("MatMul", scores, v), 8, 8))
    hidden = (
        g("Gelu", dense(g("LayerNormalization", x, ones, ones), 8, 16))
        if g.opset >= 20
        else g("Tanh", dense(g("LayerNormalization", x, ones, ones), 8, 16))
    )
    proto = g.proto(g("Add", x, dense(hidden, 16, 8)), ["N", 5, 8])
    result = rewrite(proto)
    assert [p.action for p in result.places].count("rewritten") == 6
    assert [p.reason for p in result.places if p.action == "left alone"] == [
        "neither factor is a constant"
    ] * 2
    data = random.standard_normal((3, 5, 8)).astype(np.float32)
    np.testing.assert_allclose(run(result.model, data), run(proto, data), rtol=1e-4, atol=1e-5)
    report = verify(Model(proto), result.model)
    assert report.accepted, str(report)
    between = kinds(result.model)
    place = between.index("Tanh")
    assert between[place - 1] == between[place + 1] == "Conv"


def free_length(g: Graph) -> str:
    return str(g("MatMul", "x", np.ones((4, 3), np.float32)))


def on_the_left(g: Graph) -> str:
    return str(g("MatMul", np.ones((3, 5), np.float32), "x"))


def stack(g: Graph) -> str:
    return str(g("MatMul", "x", np.ones((5, 4, 3), np.float32)))


@pytest.mark.parametrize(
    ("shape", "make", "reason"),
    [
        (["N", "T", 4], free_length, "of a shape that is not known"),
        ([1, 2, 3, 5, 4], free_length, "has 5 axes"),
        (["N", 5, 4], on_the_left, "the channels are not the last axis"),
        (["N", 5, 4, 4], stack, "its weight has 3 axes"),
    ],
)
def test_what_is_left_alone(shape, make, reason: str) -> None:  # type: ignore[no-untyped-def]
    g = Graph(shape)
    result = rewrite(g.proto(make(g)))
    assert [p.action for p in result.places] == ["left alone"]
    assert reason in result.places[0].reason


def test_a_softmax_over_another_axis_reads_the_first_layout() -> None:
    g = Graph(["N", 5, 4])
    y = g(
        "Softmax",
        g("MatMul", "x", np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)),
        axis=1,
    )
    proto = g.proto(y, ["N", 5, 3])
    result = rewrite(proto)
    assert kinds(result.model)[-2:] == ["Transpose", "Softmax"]
    assert verify(Model(proto), result.model).accepted


def test_a_constant_on_the_wrong_axis_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkers find a position's constant that was not turned with its axes."""
    random = np.random.default_rng(0)
    g = Graph(["N", 4, 4])
    y = g("MatMul", "x", random.standard_normal((4, 4)).astype(np.float32))
    proto = g.proto(g("Mul", y, random.standard_normal((4, 4)).astype(np.float32)), ["N", 4, 4])
    assert verify(Model(proto), rewrite(proto).model).accepted
    right = pointwise._Layouts.constant

    def wrong(self, builder, name, rank):  # type: ignore[no-untyped-def]
        value = right(self, builder, name, rank)
        return builder.emit("Transpose", [value], perm=[0, 2, 1, 3])

    monkeypatch.setattr(pointwise._Layouts, "constant", wrong)
    assert verify(Model(proto), rewrite(proto).model).verdict.value == "different"
