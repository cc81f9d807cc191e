"""A capsule layer's small products, in the ways they are written and in the forms that ``--rules matvec`` writes.

    python bench/matvec.py [--batches 1 16 64] [--seconds 1.0]

``y[b, i, j] = W[i, j] @ u[b, i]`` with W of 1152 x 10 x 16 x 8. Each is measured in a process of its own: the median
time of a run in ONNX Runtime with two threads, and how much memory loading the file and running it adds at its peak
(Linux only). Prints a table in Markdown.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (1152, 10, 16, 8)
WRITTEN = ("Tile + MatMul", "broadcast MatMul", "Mul + ReduceSum")
FORMS = ("einsum", "matmul", "grouped-conv")


def network(way: str, batch: int) -> onnx.ModelProto:
    """The graph of one way to write it, u (batch, 1152, 8) to y (batch, 1152, 10, 16)."""
    i, j, k, length = SHAPE
    w = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    multiplied = way == "Mul + ReduceSum"
    to = [batch, i, 1, 1, length] if multiplied else [batch, i, 1, length, 1]
    constants = {"w": w[None], "to": np.asarray(to), "repeats": np.asarray([batch, 1, 1, 1, 1])}
    constants |= {"capsules": np.asarray([1, 1, j, 1, 1]), "last": np.asarray([4])}
    nodes = [helper.make_node("Reshape", ["u", "to"], ["vectors"])]
    if multiplied:
        nodes += [
            helper.make_node("Mul", ["w", "vectors"], ["products"]),
            helper.make_node("ReduceSum", ["products", "last"], ["y"], keepdims=0),
        ]
    else:
        factors = ["w", "vectors"]
        if way == "Tile + MatMul":
            nodes += [
                helper.make_node("Tile", ["w", "repeats"], ["tiled"]),
                helper.make_node("Tile", ["vectors", "capsules"], ["every"]),
            ]
            factors = ["tiled", "every"]
        nodes += [
            helper.make_node("MatMul", factors, ["products"]),
            helper.make_node("Squeeze", ["products", "last"], ["y"]),
        ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "capsules",
        [helper.make_tensor_value_info("u", TensorProto.FLOAT, [batch, i, length])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, i, j, k])],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def make(way: str, batch: int, path: Path) -> None:
    """Write the network of a way, or of a form that the rule makes of the broadcast MatMul."""
    if way in WRITTEN:
        onnx.save(network(way, batch), path)
        return
    from dense2conv.convert import open_model, write_model
    from dense2conv.convert.rules.request import Request
    from dense2conv.convert.rules.rewriting import apply_rules

    source = path.with_suffix(".source.onnx")
    onnx.save(network("broadcast MatMul", batch), source)
    write_model(apply_rules(open_model(source), ["matvec"], Request(way)).model, path, force=True)


def resident(entry: str = "VmHWM") -> int:
    """The largest resident set of this process since the count began, or another entry of its status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))


def measure(path: str, batch: int, seconds: float) -> dict[str, float]:
    """Load and run one file: milliseconds and added megabytes."""
    import onnxruntime

    u = np.random.default_rng(1).standard_normal((batch, SHAPE[0], SHAPE[3]), dtype=np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = resident("VmRSS")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    loaded = resident()
    session.run(None, {"u": u})
    ran = resident()
    taken: list[float] = []
    begin = time.perf_counter()
    while len(taken) < 5 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        session.run(None, {"u": u})
        taken.append(time.perf_counter() - start)
    return {
        "ms": 1e3 * statistics.median(taken),
        "load": (loaded - before) / 1e6,
        "run": (ran - before) / 1e6,
    }


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.batches[0], given.seconds)))
        return
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in (*WRITTEN, *FORMS):
            for batch in given.batches:
                path = Path(folder) / "network.onnx"
                make(way, batch, path)
                command = [sys.executable, __file__, "--one", str(path), "--batches", str(batch)]
                command += ["--seconds", str(given.seconds)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found: dict[str, Any] = json.loads(done.stdout)
                rows.setdefault(way, []).append(
                    f"{found['ms']:.3g} ms, {found['load']:.0f} / {found['run']:.0f} MB"
                )
    print("| | " + " | ".join(f"batch {batch}" for batch in given.batches) + " |")
    print("|---" * (len(given.batches) + 1) + "|")
    for way, cells in rows.items():
        name = f"`--matvec {way}`" if way in FORMS else way
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\ntime of a run, memory after loading / after a run", file=sys.stderr)


if __name__ == "__main__":
    main()
