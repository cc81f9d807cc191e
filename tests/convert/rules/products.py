"""``y[b, i, j] = sum_l W[i, j, l] u[b, i, l]`` as exporters write it, in many ways; the formula itself in float64."""

from collections.abc import Callable

import numpy as np

from .nets import Array, Graph

# Each takes W (I, J, K, L) and returns the graph of u (B, I, L) -> (B, I, J, K).


def tile(g: Graph, w: Array, batch: int) -> str:
    """The notebook's: W once a sample, u once an output capsule."""
    j = w.shape[1]
    u = g.axes("Unsqueeze", g.axes("Unsqueeze", "x", [-1]), [2])  # (B, I, 1, L, 1)
    u = g("Tile", u, np.asarray([1, 1, j, 1, 1], np.int64))
    tiled = g("Tile", g("Unsqueeze", w, np.asarray([0])) if g.opset >= 13 else w[None],
              np.asarray([batch, 1, 1, 1, 1], np.int64))  # fmt: skip
    return g.axes("Squeeze", g("MatMul", tiled, u), [4])


def tile_by_shape(g: Graph, w: Array, _: int) -> str:
    """The same with the batch taken from the input's shape, as tf2onnx writes ``tf.shape(x)[0]``."""
    j = w.shape[1]
    u = g("Reshape", "x", np.asarray([0, 0, 1, w.shape[3], 1], np.int64))
    u = g("Tile", u, np.asarray([1, 1, j, 1, 1], np.int64))
    count = g("Gather", g("Shape", "x"), np.asarray([0], np.int64), axis=0)
    repeats = g("Concat", count, np.ones(4, np.int64), axis=0)
    return g.axes("Squeeze", g("MatMul", g("Tile", w[None], repeats), u), [-1])


def broadcast(g: Graph, w: Array, _: int) -> str:
    u = g.axes("Unsqueeze", g.axes("Unsqueeze", "x", [-1]), [2])
    return g.axes("Squeeze", g("MatMul", w, u), [4])


def rows(g: Graph, w: Array, _: int) -> str:
    """u in front: (B, I, 1, L) @ (I, L, J * K)."""
    i, j, k, length = w.shape
    flat = w.reshape(i, j * k, length).transpose(0, 2, 1)
    y = g("MatMul", g.axes("Unsqueeze", "x", [2]), flat)
    return g("Reshape", y, np.asarray([0, i, j, k], np.int64))


def batched(g: Graph, w: Array, _: int) -> str:
    """(I, B, L) @ (I, L, J * K), transposed back."""
    i, j, k, length = w.shape
    flat = w.reshape(i, j * k, length).transpose(0, 2, 1)
    y = g("MatMul", g("Transpose", "x", perm=[1, 0, 2]), flat)
    return g("Transpose", g("Reshape", y, np.asarray([i, -1, j, k], np.int64)), perm=[1, 0, 2, 3])


def multiply(g: Graph, w: Array, _: int) -> str:
    u = g("Reshape", "x", np.asarray([-1, w.shape[0], 1, 1, w.shape[3]], np.int64))
    return g.axes("ReduceSum", g("Mul", u, w[None]), [-1], keepdims=0)


def expand(g: Graph, w: Array, _: int) -> str:
    """Both factors expanded to (B, I, J, K, L) before they are multiplied."""
    u = g("Reshape", "x", np.asarray([-1, w.shape[0], 1, 1, w.shape[3]], np.int64))
    u = g("Expand", u, np.asarray([1, 1, *w.shape[1:]], np.int64))
    return g.axes("Squeeze", g.axes("ReduceSum", g("Mul", w, u), [4], keepdims=1), [4])


def einsum(g: Graph, w: Array, _: int) -> str:
    return g("Einsum", w, "x", equation="ijkl,bil->bijk")


def einsum_turned(g: Graph, w: Array, _: int) -> str:
    """Other letters, another order of both weights and result."""
    y = g("Einsum", "x", w.transpose(3, 1, 0, 2), equation="n a z, z c a d -> c d a n".replace(" ", ""))
    return g("Transpose", y, perm=[3, 2, 0, 1])


WAYS: dict[str, Callable[[Graph, Array, int], str]] = {
    f.__name__: f
    for f in (tile, tile_by_shape, broadcast, rows, batched, multiply, expand, einsum, einsum_turned)
}
NEEDS_A_BATCH = ("tile",)


def formula(w: Array, u: Array) -> Array:
    """One matrix with one vector at a time, in float64."""
    w, u = w.astype(np.float64), u.astype(np.float64)
    result: Array = np.empty((*u.shape[:2], *w.shape[1:3]))
    for i in range(len(w)):
        result[:, i] = (w[i].reshape(-1, w.shape[3]) @ u[:, i].T).T.reshape(len(u), *w.shape[1:3])
    return result
