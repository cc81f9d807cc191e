"""What a map costs against the network run on every crop, and what a pool with holes costs against one without.

    python bench/scan.py [--runs 3] [--crops 4096]
    python bench/scan.py --pools [--runs 7]

One process, one thread, processor time, interleaved; medians. Brute force cuts the crops out, 256 at a time, and runs
the original network on them in ONNX Runtime. It takes as long for each batch as for any other: above ``--crops`` crops
it is timed on so many, spread over the input, and multiplied; ``--crops 0`` runs them all.

Limits are from the project's own contract: a map is at least as many times faster as it has fewer multiply-adds; no
pool with holes takes more than five times as long as the same pool without.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dense2conv.convert.constants import Constants
from dense2conv.convert.conversion import convert
from dense2conv.convert.crops import chunks, crops
from dense2conv.convert.graph import Builder, Value
from dense2conv.convert.layout import BATCH, SPACE, Factor, Layout, channel
from dense2conv.convert.model import Model
from dense2conv.convert.ops.pooling import pooled
from dense2conv.convert.step import Step
from dense2conv.convert.writing import write_model
from dense2conv.shapecalc.field import Axis
from dense2conv.shapecalc.window import Window

BATCH_OF_CROPS = 256
SLOWEST_POOL = 5.0
POOLED = {1: (30000,), 2: (250, 250), 3: (40, 40, 40)}
FLOAT = TensorProto.FLOAT
SCANS = "{:>10} {:>2} {:>9} {:>9} {:>8} {:>6} {:>14}"
POOLS = "{:<12} {:>5} {:>4} {:>8} {:>6} {:>9} {:>9} {:>6}"


def session(model: bytes | str) -> onnxruntime.InferenceSession:
    """One thread, as ONNX Runtime optimises by default."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def network(patch: Sequence[int], channels: int, units: Sequence[int]) -> ModelProto:
    """Two valid convolutions of 5, each with ReLU and a pool of 2, and two dense layers: S = 4."""
    rank, generator = len(patch), np.random.default_rng(0)
    nodes, tensors, value, size = [], [], "x", list(patch)

    def weight(*shape: int) -> str:
        scale = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        name = f"w{len(tensors)}"
        tensors.append(
            numpy_helper.from_array((generator.standard_normal(shape) * scale).astype(np.float32), name)
        )
        return name

    def layer(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"v{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    for filters in units[:2]:
        value = layer("Relu", layer("Conv", value, weight(filters, channels, *[5] * rank), weight(filters)))
        value = layer("MaxPool", value, kernel_shape=[2] * rank, strides=[2] * rank)
        channels, size = filters, [(n - 4) // 2 for n in size]
    value, count = layer("Flatten", value), channels * int(np.prod(size))
    value = layer("Relu", layer("Gemm", value, weight(units[2], count), weight(units[2]), transB=1))
    nodes.append(
        helper.make_node("Gemm", [value, weight(units[3], units[2]), weight(units[3])], ["y"], transB=1)
    )
    given = helper.make_tensor_value_info("x", FLOAT, ["batch", tensors[0].dims[1], *patch])
    made = helper.make_tensor_value_info("y", FLOAT, ["batch", units[3]])
    graph = helper.make_graph(nodes, "net", [given], [made], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NETWORKS: dict[str, tuple[tuple[int, ...], int, tuple[int, ...], list[tuple[int, ...]]]] = {
    "2-D: conv 5x5 32, pool, conv 5x5 64, pool, 256, 10 on 32x32x3": (
        (32, 32), 3, (32, 64, 256, 10), [(256, 256), (512, 512)]),
    "1-D: conv 5 32, pool, conv 5 64, pool, 128, 10 on 100x10": (
        (100,), 10, (32, 64, 128, 10), [(256 * 256,), (512 * 512,)]),
}  # fmt: skip


def seconds(function: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def scans(runs: int, most: int) -> bool:
    """Print maps against brute force; whether each is as much faster as it has fewer multiply-adds."""
    fast = True
    for title, (patch, channels, units, sizes) in NETWORKS.items():
        proto = network(patch, channels, units)
        original = session(proto.SerializeToString())
        print(title)
        print(SCANS.format("input", "s", "positions", "brute, s", "map, s", "ratio", "of operations"))
        for size in sizes:
            image = np.random.default_rng(1).standard_normal((1, channels, *size)).astype(np.float32)
            for step in (4, 2, 1):
                fast &= one_scan(proto, original, image, patch, step, runs, most)
    return fast


def one_scan(
    proto: ModelProto, original: onnxruntime.InferenceSession, image: "np.ndarray[Any, Any]", patch: tuple[int, ...],
    step: int, runs: int, most: int,
) -> bool:  # fmt: skip
    """Time one map and brute force, compare their vectors, and print a line."""
    size, stride, axes = image.shape[2:], (step,) * len(patch), tuple(range(2, image.ndim))
    conversion = convert(Model(proto, {}), order=None, stride=stride)
    with tempfile.TemporaryDirectory() as folder:
        write_model(conversion.map, f"{folder}/map.onnx")
        converted = session(f"{folder}/map.onnx")
    counts = conversion.analysis.positions(size, stride)
    places = [tuple(map(int, place)) for place in np.ndindex(*counts)]
    kept = places if not most or len(places) <= most else places[:: -(-len(places) // most)]
    vectors: list[Any] = []

    def brute() -> None:
        vectors.clear()
        for chunk in chunks(kept, BATCH_OF_CROPS):
            vectors.append(original.run(None, {"x": crops(image, axes, patch, stride, chunk)})[0])

    results: list[Any] = []
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        times[0].append(seconds(brute) * len(places) / len(kept))
        times[1].append(seconds(lambda: results.append(converted.run(None, {"x": image})[0])))
    index = tuple(np.asarray(kept).T)
    found = np.moveaxis(results[-1][0], 0, -1)[index]
    assert np.abs(found - np.concatenate(vectors)).max() < 1e-4, "the map is not the scan"
    slow, fast = map(statistics.median, times)
    costs = [conversion.analysis.cost(size, stride, method).macs for method in ("scan", "conv")]
    ratio, operations = slow / fast, costs[0] / costs[1]
    figures = (f"{len(places):,}", f"{slow:.3f}", f"{fast:.3f}", f"{ratio:.1f}x", f"{operations:.1f}x")
    line = SCANS.format("x".join(map(str, size)), step, *figures)
    print(line + ("" if ratio >= operations else "  SLOW"), flush=True)
    return ratio >= operations


def one_pool(kind: str, rank: int, channels: int, kernel: int, dilation: int, opset: int) -> ModelProto:
    """A model of one pool, as a map has it."""
    sizes = POOLED[rank]
    dims = ((Factor(BATCH, 1),), channel(channels), *((Factor(SPACE, n, i),) for i, n in enumerate(sizes)))
    builder = Builder(opset, Constants(Model(ModelProto(), {})), {"x"}, layer="pool")
    value = Value("x", Layout(dims, dims[1]), tuple(map(Axis, sizes)), frozenset(), FLOAT)
    step = Step(NodeProto(op_type=kind), builder, builder.constants, {}, opset, None, [set()] * rank)
    name = pooled(step, kind, value, "x", [Window(kernel, dilation=dilation)] * rank, {})
    graph = helper.make_graph(
        builder.nodes, "pool", [helper.make_tensor_value_info("x", FLOAT, [1, channels, *sizes])],
        [helper.make_tensor_value_info(name, FLOAT, None)], list(builder.tensors.values()),
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def pools(runs: int) -> bool:
    """Print pools with holes against the same without; whether all are within the limit."""
    good = True
    print(POOLS.format("pool", "opset", "axes", "channels", "kernel", "plain, ms", "holes, ms", "ratio"))
    for kind, opset in (("MaxPool", 17), ("AveragePool", 18), ("AveragePool", 20), ("LpPool", 17)):
        for rank, channels, kernel in [
            (1, 16, 3),
            *((2, c, k) for c in (10, 32) for k in (2, 3, 7)),
            (3, 4, 2),
            (3, 4, 3),
        ]:
            both = [
                session(one_pool(kind, rank, channels, kernel, d, opset).SerializeToString()) for d in (1, 4)
            ]
            image = np.random.default_rng(0).standard_normal((1, channels, *POOLED[rank])).astype(np.float32)
            times: tuple[list[float], ...] = ([], [])
            for _ in range(runs):
                for taken, runtime in zip(times, both, strict=True):
                    taken.append(seconds(lambda: runtime.run(None, {"x": image})))  # noqa: B023 - called at once
            plain, holes = (1000 * statistics.median(t) for t in times)
            bad = holes > SLOWEST_POOL * plain
            good &= not bad
            figures = (f"{plain:.2f}", f"{holes:.2f}", f"{holes / plain:.1f}x")
            line = POOLS.format(kind, opset, rank, channels, kernel, *figures)
            print(line + ("  SLOW" if bad else ""), flush=True)
    return good


def main() -> int:
    """Measure and print; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--crops", type=int, default=4096)
    parser.add_argument("--pools", action="store_true")
    asked = parser.parse_args()
    return 0 if (pools(asked.runs) if asked.pools else scans(asked.runs, asked.crops)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
