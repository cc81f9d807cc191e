"""What ``--method patches`` costs beside crops from outside: the same network, the same positions, in one process.

    python bench/patches.py [--runs 5] [--blocks]

Outside: numpy cuts the crops, ONNX Runtime runs the network on 256 at a time. Both on one thread, interleaved; medians
of process time, since other processes share the machine. ``--blocks`` compares sizes of a block: the measurement behind
``BLOCK_ELEMENTS`` and ``MOST_PATCHES`` of ``convert/blocks.py``.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from math import prod

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from dense2conv.convert import blocks
from dense2conv.convert.conversion import convert
from dense2conv.convert.model import Model

BATCH = 256


def network(patch: tuple[int, ...], kind: str) -> onnx.ModelProto:
    """Two convolutions and two dense layers on ``(C, *sizes)``; ``padded``: SAME, with squeeze-and-excite; or dense."""
    random = np.random.default_rng(0)
    tensors: list[TensorProto] = []
    nodes: list[NodeProto] = []

    def weight(*shape: int) -> str:
        scale = prod(shape[1:] if len(shape) > 2 else shape[:1]) ** -0.5
        tensors.append(
            numpy_helper.from_array(
                (random.standard_normal(shape) * scale).astype(np.float32), f"w{len(tensors)}"
            )
        )
        return tensors[-1].name

    def node(op: str, *inputs: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [f"v{len(nodes)}"], **attributes))
        return f"v{len(nodes) - 1}"

    x, channels, sizes = "x", patch[0], list(patch[1:])
    rank = len(sizes)
    for out in () if kind == "dense" else (32, 64):
        pads = {"pads": [2] * 2 * rank} if kind == "padded" else {}
        x = node("Relu", node("Conv", x, weight(out, channels, *[5] * rank), **pads))
        if kind == "padded":
            gate = node("GlobalAveragePool", x)
            x = node("Mul", x, node("Sigmoid", node("Conv", gate, weight(out, out, *[1] * rank))))
        x = node("MaxPool", x, kernel_shape=[2] * rank, strides=[2] * rank)
        sizes, channels = [(n if kind == "padded" else n - 4) // 2 for n in sizes], out
    hidden = 64 if kind == "dense" else 256
    x = node("Relu", node("MatMul", node("Flatten", x), weight(channels * prod(sizes), hidden)))
    y = node("MatMul", x, weight(hidden, 10))
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *patch])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["batch", 10])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


CASES = {  # patch, kind, size of the input, strides, at most how many times the crops from outside
    "3x32x32, two convolutions": ((3, 32, 32), "valid", (128, 128), (4, 1), 1.25),
    "3x32x32, SAME, squeeze-and-excite": ((3, 32, 32), "padded", (96, 96), (4, 1), 1.25),
    # hardly more than gathering: numpy copies runs, ONNX Runtime elements
    "10x100, dense": ((10, 100), "dense", (30_000,), (10, 1), 4.0),
}


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """The network on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def crops(image: np.ndarray, patch: tuple[int, ...], stride: int) -> Iterator[np.ndarray]:
    """All patches of an image ``(1, C, *size)``, in batches."""
    axes = tuple(range(1, len(patch)))
    views = np.lib.stride_tricks.sliding_window_view(image[0], patch[1:], axis=axes)
    # (C, *positions, *patch) -> (*positions, C, *patch)
    views = np.moveaxis(views[(slice(None), *[slice(None, None, stride)] * len(axes))], 0, len(axes))
    places = list(np.ndindex(*views.shape[: len(axes)]))
    for start in range(0, len(places), BATCH):
        yield np.stack([views[place] for place in places[start : start + BATCH]])


def scanned(
    outside: onnxruntime.InferenceSession, image: np.ndarray, patch: tuple[int, ...], stride: int
) -> np.ndarray:
    """The network on all patches, ``(positions, 10)``."""
    return np.concatenate([outside.run(None, {"x": batch})[0] for batch in crops(image, patch, stride)])


def medians(runs: int, tasks: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Process time of each task, interleaved."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for run in range(runs + 1):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            if run:  # the first fills caches and arenas
                times[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def mapped(
    proto: onnx.ModelProto, stride: int, rank: int, most: int | None = None
) -> onnxruntime.InferenceSession:
    """The map at ``stride``, with ``most`` patches an iteration instead of the rule's."""
    rule = blocks.BLOCK_ELEMENTS, blocks.MOST_PATCHES
    if most is not None:
        blocks.BLOCK_ELEMENTS, blocks.MOST_PATCHES = 1 << 62, most
    try:
        order = "CHW" if rank == 2 else "CL"
        return session(
            convert(Model(proto), method="patches", stride=(stride,) * rank, order=order).map.proto
        )
    finally:
        blocks.BLOCK_ELEMENTS, blocks.MOST_PATCHES = rule


def main() -> int:
    """Measure and print; 1 where a map takes more times the crops than ``CASES`` allow."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--blocks", action="store_true", help="compare sizes of a block")
    given = parser.parse_args()
    slow = False
    for name, (patch, kind, size, strides, limit) in CASES.items():
        proto = network(patch, kind)
        outside = session(proto)
        image = np.random.default_rng(1).standard_normal((1, patch[0], *size), np.float32)
        for stride in strides:
            rule = blocks.patches_at_once(prod(patch), None)
            choices = (
                {f"{n} a block": n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256)}
                if given.blocks
                else {"map": rule}
            )
            maps = {title: mapped(proto, stride, len(size), most) for title, most in choices.items()}
            (reference,) = maps[next(iter(maps))].run(None, {"x": image})
            vectors = scanned(outside, image, patch, stride)
            difference = np.abs(np.moveaxis(reference, 1, -1).reshape(-1, 10) - vectors).max()
            tasks: dict[str, Callable[[], object]] = {
                "crops": partial(scanned, outside, image, patch, stride)
            }
            tasks |= {title: partial(made.run, None, {"x": image}) for title, made in maps.items()}
            found = medians(given.runs, tasks)
            print(f"{name}, stride {stride}: {len(vectors)} positions, largest difference {difference:.1e}; "
                  f"crops of {BATCH} from outside {found['crops']:.3f} s, by the rule {rule} a block")  # fmt: skip
            for title, seconds in found.items():
                if title != "crops":
                    print(f"  {title}: {seconds:.3f} s, {seconds / found['crops']:.2f} of it")
            slow |= not given.blocks and found["map"] > limit * found["crops"]
    return int(slow)


if __name__ == "__main__":
    raise SystemExit(main())
