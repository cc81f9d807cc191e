"""Patches cut in many ways, read by a dense layer: the oracle reads pixel by pixel, in float64."""

from itertools import permutations, product

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from dense2conv.convert import verify
from dense2conv.convert.model import Model
from dense2conv.convert.rules import cuts
from dense2conv.convert.rules.cuts import Cut, cut
from dense2conv.convert.rules.rewriting import Rewriting, apply_rules

from .nets import Array, Graph, kinds, run, whole

CUTTING = {"SpaceToDepth", "DepthToSpace", "Slice", "Concat", "Gather", "MatMul", "Gemm"}


def rewrite(proto: onnx.ModelProto) -> Rewriting:
    return apply_rules(Model(proto), ["patches"])


def pixels(x: Array, patch: tuple[int, int], columns: str, rows: str) -> Array:
    """The rows (N, P, K) of x (N, C, H, W): ``columns`` an order of c, p, q; ``rows`` of i, j. A loop."""
    n, c, height, width = x.shape
    p, q = patch
    counts = {"i": height // p, "j": width // q}
    sizes = {"c": c, "p": p, "q": q}
    made = []
    for place in product(*(range(counts[axis]) for axis in rows)):
        at = dict(zip(rows, place, strict=True))
        row = []
        for inner in product(*(range(sizes[axis]) for axis in columns)):
            k = dict(zip(columns, inner, strict=True))
            row.append(x[:, k["c"], at["i"] * p + k["p"], at["j"] * q + k["q"]])
        made.append(np.stack(row, axis=1))
    return np.stack(made, axis=1) if n else x


def by_reshape(
    g: Graph, shape: tuple[int, ...], patch: tuple[int, int], columns: str, rows: str, last: bool
) -> str:
    """Reshape, Transpose, Reshape of an image that is (N, C, H, W), or (N, H, W, C) with ``last``."""
    c, height, width = shape
    p, q = patch
    split = "nipjqc" if last else "ncipjq"
    sizes = {"n": 0, "c": c, "i": height // p, "p": p, "j": width // q, "q": q}
    x = g("Reshape", "x", np.asarray([-1 if a == "n" else sizes[a] for a in split]))
    x = g("Transpose", x, perm=[split.index(a) for a in "n" + rows + columns])
    return str(g("Reshape", x, np.asarray([-1, sizes["i"] * sizes["j"], c * p * q])))


def by_space_to_depth(
    g: Graph, shape: tuple[int, ...], patch: tuple[int, int], columns: str, rows: str, last: bool
) -> str:
    """SpaceToDepth puts the offset in front of the channels: p, q, c."""
    assert patch[0] == patch[1]
    assert columns == "pqc"
    assert not last
    c, p = shape[0], patch[0]
    x = g("SpaceToDepth", "x", blocksize=p)
    x = g("Transpose", x, perm=[0, 2, 3, 1] if rows == "ij" else [0, 3, 2, 1])
    return str(g("Reshape", x, np.asarray([0, -1, c * p * p])))


def by_slices(
    g: Graph, shape: tuple[int, ...], patch: tuple[int, int], columns: str, rows: str, last: bool
) -> str:
    """A Slice with steps for each offset, and Concat: as a Focus layer does."""
    assert columns == "pqc"
    p, q = patch
    axes = [1, 2] if last else [2, 3]
    parts = [
        g("Slice", "x", np.asarray([a, b]), np.asarray([10**6, 10**6]), np.asarray(axes), np.asarray([p, q]))
        for a, b in product(range(p), range(q))
    ]
    x = g("Concat", *parts, axis=3 if last else 1)
    order = {"ij": [0, 1, 2, 3], "ji": [0, 2, 1, 3]} if last else {"ij": [0, 2, 3, 1], "ji": [0, 3, 2, 1]}
    x = g("Transpose", x, perm=order[rows])
    return str(g("Flatten", g("Reshape", x, np.asarray([-1, shape[0] * p * q])), axis=1))


def by_gather(
    g: Graph, shape: tuple[int, ...], patch: tuple[int, int], columns: str, rows: str, last: bool
) -> str:
    """One Gather of the flat image, by a table of pixels."""
    c, height, width = shape
    table = np.arange(c * height * width).reshape(1, *((height, width, c) if last else shape))
    image = table.transpose(0, 3, 1, 2) if last else table
    flat = g("Reshape", "x", np.asarray([0, c * height * width]))
    return str(g("Gather", flat, pixels(image, patch, columns, rows)[0], axis=1))


def network(seed: int) -> tuple[onnx.ModelProto, Array, Array]:
    """A random network, an input and what it must give."""
    random = np.random.default_rng(seed)
    way = (by_reshape, by_space_to_depth, by_slices, by_gather)[seed % 4]
    p, q = (int(n) for n in random.integers(1, 5, 2))
    p, q = (p + 1, p + 1) if way is by_space_to_depth else (p, q + 1)
    counts = random.integers(1, 5, 2)
    c = int(random.integers(1, 5))
    if counts.prod() == 1:
        counts[0] = 2
    height, width = int(counts[0]) * p, int(counts[1]) * q
    columns = "pqc" if way in (by_space_to_depth, by_slices) else "".join(random.permutation(list("cpq")))
    rows = "".join(random.permutation(list("ij")))
    last = bool(random.integers(2)) and way is not by_space_to_depth
    free = bool(random.integers(2))
    batch = int(random.integers(1, 5))
    image = (height, width, c) if last else (c, height, width)
    g = Graph(["N" if free else batch, *image])
    x = way(g, (c, height, width), (p, q), columns, rows, last)
    units = int(random.integers(1, 7))
    inputs = c * p * q
    w = random.standard_normal((inputs, units)).astype(np.float32)
    b = random.standard_normal(units).astype(np.float32)
    wanted_shape = (batch, int(counts.prod()), units)
    dense = int(random.integers(4)) if way is not by_slices else 2
    if dense < 2:
        y = g("MatMul", x, w)
        y = g("Add", y, b) if dense else y
    else:
        flat = g("Reshape", x, np.asarray([-1, inputs]))
        y = g("Gemm", flat, w.T, b, transB=1) if dense == 2 else g("Gemm", flat, w, b[None])
        y = g("Reshape", y, np.asarray([-1, int(counts.prod()), units]))
    proto = g.proto(y, [None] * len(wanted_shape))
    u = random.standard_normal((batch, *image)).astype(np.float32)
    canonical = u.transpose(0, 3, 1, 2) if last else u
    patches = pixels(canonical.astype(np.float64), (p, q), columns, rows)
    wanted = patches @ w.astype(np.float64) + (b if dense else 0.0)
    return proto, u, wanted.reshape(wanted_shape)


@pytest.mark.parametrize(
    "seed", [*range(40), *(pytest.param(s, marks=pytest.mark.slow) for s in range(40, 240))]
)
def test_random_patches(seed: int) -> None:
    proto, x, wanted = network(seed)
    result = rewrite(proto)
    assert [p.action for p in result.places] == ["rewritten"], result.places
    y = run(result.model, x)
    assert y.shape == wanted.shape
    assert np.abs(y - wanted).max() <= 3e-6 * np.abs(wanted).max()
    assert (
        np.abs(run(proto, x) - wanted).max() <= 3e-6 * np.abs(wanted).max()
    )  # the oracle reads what the graph reads
    assert kinds(result.model).count("Conv") == 1
    assert not CUTTING & set(kinds(result.model))
    report = verify(Model(proto), result.model)
    assert report.accepted, str(report)


@pytest.mark.parametrize("columns", ["".join(order) for order in permutations("cpq")])
@pytest.mark.parametrize("rows", ["ij", "ji"])
@pytest.mark.parametrize("last", [False, True])
def test_every_axis_order_keeps_the_weights_bit_for_bit(columns: str, rows: str, last: bool) -> None:
    random = np.random.default_rng(0)
    w = random.standard_normal((3 * 2 * 4, 5)).astype(np.float32)
    g = Graph(["N", 6, 12, 3] if last else ["N", 3, 6, 12])
    proto = g.proto(g("MatMul", by_reshape(g, (3, 6, 12), (2, 4), columns, rows, last), w), [None] * 3)
    result = rewrite(proto)
    assert "kernel 2x4, stride 2x4" in result.places[0].reason
    (kernel,) = [
        onnx.numpy_helper.to_array(t)
        for t in whole(result.model).graph.initializer
        if t.data_type == TensorProto.FLOAT
    ]
    sizes = {"c": 3, "p": 2, "q": 4}
    split = w.reshape(*(sizes[a] for a in columns), 5)
    wanted = split.transpose(3, *(columns.index(a) for a in "cpq"))
    assert kernel.tobytes() == np.ascontiguousarray(wanted).tobytes()
    x = random.standard_normal((2, *([6, 12, 3] if last else [3, 6, 12]))).astype(np.float32)
    np.testing.assert_allclose(run(result.model, x), run(proto, x), rtol=1e-5, atol=1e-5)


def test_overlapping_windows_from_a_table() -> None:
    """Gather may cut any windows: kernel 3 with dilation 2 at stride 2, begun at 1, of a series (N, T, C)."""
    random = np.random.default_rng(0)
    steps = 1 + 2 * np.arange(4)[:, None] + 2 * np.arange(3)  # (4, 3)
    w = random.standard_normal((6, 5)).astype(np.float32)
    g = Graph(["N", 14, 2])
    x = g("Reshape", g("Gather", "x", steps, axis=1), np.asarray([0, 4, 6]))
    proto = g.proto(g("MatMul", x, w), [None] * 3)
    result = rewrite(proto)
    assert kinds(result.model) == ["Slice", "Transpose", "Conv", "Transpose"]
    data = random.standard_normal((3, 14, 2)).astype(np.float32)
    wanted = data[:, steps].reshape(3, 4, 6).astype(np.float64) @ w
    np.testing.assert_allclose(run(result.model, data), wanted, rtol=1e-5, atol=1e-5)
    assert verify(Model(proto), result.model).accepted


def test_the_seed_s_dense_layer_on_patches_of_20_x_20_x_10() -> None:
    """Worked case 1: W (4000, 64) on the patches of a 100 x 60 x 10 image, stride 20: 5 x 3 x 64."""
    random = np.random.default_rng(0)
    w = random.standard_normal((4000, 64)).astype(np.float32)
    b = random.standard_normal(64).astype(np.float32)
    g = Graph(["N", 100, 60, 10])
    x = by_reshape(g, (10, 100, 60), (20, 20), "pqc", "ij", True)
    y = g("Reshape", g("Add", g("MatMul", x, w), b), np.asarray([-1, 5, 3, 64]))
    proto = g.proto(y, ["N", 5, 3, 64])
    result = rewrite(proto)
    assert kinds(result.model) == ["Transpose", "Conv", "Transpose"]
    kernel = next(t for t in whole(result.model).graph.initializer if len(t.dims) == 4)
    hwio = onnx.numpy_helper.to_array(kernel).transpose(2, 3, 1, 0)
    assert np.array_equal(hwio, w.reshape(20, 20, 10, 64))
    image = random.standard_normal((2, 100, 60, 10)).astype(np.float32)
    wanted = pixels(image.transpose(0, 3, 1, 2).astype(np.float64), (20, 20), "pqc", "ij") @ w + b
    np.testing.assert_allclose(run(result.model, image).reshape(wanted.shape), wanted, rtol=1e-3, atol=1e-3)
    assert verify(Model(proto), result.model).accepted


def test_windows_of_eeg_are_a_convolution_of_kernel_100() -> None:
    """Worked case 6: 10 channels, 100 steps a window without overlap, a dense layer on each."""
    random = np.random.default_rng(0)
    w = random.standard_normal((1000, 2)).astype(np.float32)
    g = Graph(["N", 3000, 10])
    proto = g.proto(g("MatMul", g("Reshape", "x", np.asarray([0, 30, 1000])), w), [None] * 3)
    result = rewrite(proto)
    assert "kernel 100, stride 100" in result.places[0].reason
    x = random.standard_normal((2, 3000, 10)).astype(np.float32)
    wanted = x.reshape(2, 30, 1000).astype(np.float64) @ w
    np.testing.assert_allclose(run(result.model, x), wanted, rtol=1e-4, atol=1e-4)


def test_a_volume_and_an_image_without_channels() -> None:
    random = np.random.default_rng(0)
    for shape, split, perm, k in (
        ((4, 6, 4), (2, 2, 3, 2, 2, 2), (0, 1, 3, 5, 2, 4, 6), 8),
        ((6, 8), (3, 2, 2, 4), (0, 1, 3, 2, 4), 8),
    ):
        w = random.standard_normal((k, 3)).astype(np.float32)
        g = Graph([2, *shape])
        x = g("Transpose", g("Reshape", "x", np.asarray([2, *split])), perm=list(perm))
        proto = g.proto(g("MatMul", g("Reshape", x, np.asarray([2, -1, k])), w), [None] * 3)
        result = rewrite(proto)
        data = random.standard_normal((2, *shape)).astype(np.float32)
        assert "Unsqueeze" in kinds(result.model)
        np.testing.assert_allclose(run(result.model, data), run(proto, data), rtol=1e-5, atol=1e-5)
        assert verify(Model(proto), result.model).accepted


def test_a_weight_left_of_its_patches() -> None:
    """y (N, O, P) = W (O, K) @ x (N, K, P): channels first behind the embedding."""
    random = np.random.default_rng(0)
    w = random.standard_normal((5, 12)).astype(np.float32)
    g = Graph(["N", 3, 4, 6])
    x = g("Transpose", by_reshape(g, (3, 4, 6), (2, 2), "qcp", "ij", False), perm=[0, 2, 1])
    proto = g.proto(g("MatMul", w, x), [None] * 3)
    result = rewrite(proto)
    data = random.standard_normal((2, 3, 4, 6)).astype(np.float32)
    np.testing.assert_allclose(run(result.model, data), run(proto, data), rtol=1e-5, atol=1e-5)
    assert kinds(result.model) == ["Conv", "Reshape"]


def test_columns_in_no_order_of_the_axes() -> None:
    """A shuffle within the patch that no transposition makes is still one kernel."""
    random = np.random.default_rng(0)
    order = random.permutation(12)
    w = random.standard_normal((12, 5)).astype(np.float32)
    g = Graph(["N", 3, 4, 6])
    x = g("Gather", by_reshape(g, (3, 4, 6), (2, 2), "cpq", "ij", False), order, axis=2)
    proto = g.proto(g("MatMul", x, w), [None] * 3)
    result = rewrite(proto)
    data = random.standard_normal((2, 3, 4, 6)).astype(np.float32)
    np.testing.assert_allclose(run(result.model, data), run(proto, data), rtol=1e-5, atol=1e-5)


def embedding(g: Graph, x: str) -> str:
    return str(g("MatMul", x, np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)))


def patches_of(g: Graph, order: str = "cpq") -> str:
    return by_reshape(g, (3, 4, 6), (2, 2), order, "ij", False)


def layer_norm(g: Graph) -> str:
    return embedding(
        g, g("LayerNormalization", patches_of(g), np.ones(12, np.float32), np.ones(12, np.float32))
    )


def old_layer_norm(g: Graph) -> str:
    x = patches_of(g)
    centred = g("Sub", x, g("ReduceMean", x, axes=[2]))
    deviation = g("Sqrt", g("ReduceMean", g("Mul", centred, centred), axes=[2]))
    return embedding(g, g("Div", centred, deviation))


def relu(g: Graph) -> str:
    return embedding(g, g("Relu", patches_of(g)))


def head(g: Graph) -> str:
    return str(g("Gemm", g("Flatten", "x"), np.ones((72, 2), np.float32)))


def pointwise(g: Graph) -> str:
    return str(g("MatMul", g("Transpose", "x", perm=[0, 2, 3, 1]), np.ones((3, 2), np.float32)))


def blocks(g: Graph) -> str:
    """Rows that run through windows of windows."""
    x = g("Reshape", "x", np.asarray([-1, 3, 2, 2, 3, 2]))  # n c i p j q
    x = g("Reshape", g("Transpose", x, perm=[0, 4, 2, 1, 3, 5]), np.asarray([-1, 6, 12]))  # rows j, i
    return embedding(g, g("Gather", x, np.asarray([0, 3, 1, 2, 5, 4]), axis=1))


def unequal(g: Graph) -> str:
    series = g("Reshape", g("Relu", g("Reshape", "x", np.asarray([0, 72]))), np.asarray([0, 72]))
    table = np.asarray([0, 1, 3])[:, None] + np.arange(12)
    return embedding(g, g("Gather", series, table, axis=1))


def mixed(g: Graph) -> str:
    """Rows across samples."""
    x = g("Reshape", g("Transpose", "x", perm=[1, 2, 3, 0]), np.asarray([-1, 12]))
    return embedding(g, x)


def two_images(g: Graph) -> str:
    return embedding(g, g("Concat", patches_of(g), g("Relu", patches_of(g)), axis=1))


def scaled(g: Graph) -> str:
    flat = g("Reshape", patches_of(g), np.asarray([-1, 12]))
    return str(g("Gemm", flat, np.ones((12, 2), np.float32), alpha=0.5))


def no_constant(g: Graph) -> str:
    x = patches_of(g)
    return str(g("MatMul", x, g("Transpose", x, perm=[0, 2, 1])))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (layer_norm, "a layer normalisation (LayerNormalization 'layernormalization_3') stands between"),
        (old_layer_norm, "a layer normalisation (ReduceMean "),
        (relu, "Relu 'relu_3' stands between the patches and the weight"),
        (head, "the head of a patch network"),
        (pointwise, "pointwise already"),
        (blocks, "in blocks, which no transposition of a map does"),
        (unequal, "not at equal distances"),
        (mixed, "mix samples"),
        (two_images, "from several values"),
        (scaled, "alpha and beta"),
        (no_constant, "neither factor is a constant"),
    ],
)
def test_what_is_no_patch_embedding_is_left_alone(make, reason: str) -> None:  # type: ignore[no-untyped-def]
    g = Graph([2, 3, 4, 6])
    proto = g.proto(make(g))
    result = rewrite(proto)
    assert [p.action for p in result.places] == ["left alone"]
    assert reason in result.places[0].reason
    assert result.model.proto.SerializeToString() == proto.SerializeToString()


def test_a_cut_is_read_off_the_indices() -> None:
    image = np.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    found = cut(pixels(image, (2, 3), "qcp", "ji"), image.shape)
    assert isinstance(found, Cut)
    assert found.kernel == (3, 2, 3)
    assert [(s.size, s.stride, s.count) for s in found.spatial] == [(2, 2, 2), (3, 3, 2)]
    assert found.rows == (0, 2, 1)
    assert found.column_order() == (2, 0, 1)


def test_a_kernel_in_another_order_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkers find a kernel whose columns were taken in the wrong order."""
    g = Graph(["N", 3, 4, 6])
    proto = g.proto(embedding(g, patches_of(g, "qpc")), [None] * 3)
    monkeypatch.setattr(cuts.Cut, "column_order", lambda _: (2, 0, 1))
    assert verify(Model(proto), rewrite(proto).model).verdict.value == "different"
