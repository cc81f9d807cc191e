"""What the gate costs beside the runs that it makes, on a model of 500 MB.

    python bench/gate.py [--megabytes 500] [--folder DIR]

Makes a patch classifier whose first dense layer has nearly all of the weights, and its map, and verifies them in a
process of its own, in which the time inside ONNX Runtime (loading and running) is added up. A process that only loads
both networks in the same way and runs a patch says how much memory that takes, and one that lets ONNX Runtime read the
files itself how much that is. Limits are from the project's own contract: at most 1.3 times the time of the runs, and
at most 200 MB more than they take.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from dense2conv.convert import audit, convert, open_model, write_model
from dense2conv.convert.model import Model

PATCH, CHANNELS = 34, 64


def make(folder: Path, megabytes: int) -> tuple[Path, Path]:
    """A network of one convolution, a flatten and two dense layers, and its map."""
    generator = np.random.default_rng(0)
    features = CHANNELS * (PATCH - 2) ** 2
    units = max(1, megabytes * 10**6 // (4 * features))
    arrays = {
        "K": generator.standard_normal((CHANNELS, 3, 3, 3), np.float32) / 5,
        "W": generator.standard_normal((units, features), np.float32) / np.float32(features**0.5),
        "V": generator.standard_normal((10, units), np.float32) / np.float32(units**0.5),
    }
    nodes = [
        helper.make_node("Conv", ["image", "K"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Flatten", ["r"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "W"], ["h"], name="fc1", transB=1),
        helper.make_node("Relu", ["h"], ["g"], name="relu1"),
        helper.make_node("Gemm", ["g", "V"], ["classes"], name="fc2", transB=1),
    ]
    large = {"W": arrays.pop("W")}
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, PATCH, PATCH])],
        [helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        + [TensorProto(name=name, data_type=TensorProto.FLOAT, dims=a.shape) for name, a in large.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    paths = folder / "large.onnx", folder / "large_map.onnx"
    write_model(Model(proto, large), paths[0], force=True)
    write_model(convert(open_model(paths[0])).map, paths[1], force=True)
    return paths


def gate(reference: str, candidate: str) -> None:
    """Verify, and print the time in all, the time inside ONNX Runtime, and the largest memory in bytes."""
    from dense2conv.convert import execute, verify

    inside = [0.0]

    def timed(method: object) -> object:
        def measured(*arguments: object, **options: object) -> object:
            start = time.perf_counter()
            try:
                return method(*arguments, **options)  # type: ignore[operator]
            finally:
                inside[0] += time.perf_counter() - start

        return measured

    execute.Session.__init__ = timed(execute.Session.__init__)  # type: ignore[assignment]
    execute.Session.run = timed(execute.Session.run)  # type: ignore[assignment]
    ours, theirs = open_model(reference), open_model(candidate)
    analysis = audit(ours)
    start = time.perf_counter()
    report = verify(ours, theirs, analysis=analysis)
    total = time.perf_counter() - start
    assert report.verdict == "equivalent", report
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([total, inside[0], peak]))


def runs(reference: str, candidate: str) -> None:
    """Load both as the gate does and run a patch; print the largest memory in bytes."""
    from dense2conv.convert import execute

    loaded = [execute.Session(open_model(path)) for path in (reference, candidate)]
    for session in loaded:
        session.run({"image": np.zeros((4, 3, PATCH, PATCH), np.float32)})
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def files(reference: str, candidate: str) -> None:
    """The same, with ONNX Runtime reading the files."""
    import onnxruntime

    loaded = [onnxruntime.InferenceSession(path) for path in (reference, candidate)]
    for session in loaded:
        session.run(None, {"image": np.zeros((4, 3, PATCH, PATCH), np.float32)})
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def child(what: str, *arguments: Path) -> object:
    """The JSON that a process of its own prints for one of the functions above."""
    command = [sys.executable, __file__, "--child", what, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    """Measure and print; 1 where a limit is passed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        {"gate": gate, "runs": runs, "files": files}[arguments.child[0]](*arguments.child[1:])
        return 0
    folder = arguments.folder or Path(tempfile.mkdtemp())
    paths = make(folder, arguments.megabytes)
    total, inside, peak = child("gate", *paths)  # type: ignore[misc]
    alone = child("runs", *paths)
    ratio, more = total / inside, (peak - alone) / 1e6  # type: ignore[operator]
    print(f"{paths[0].stat().st_size / 1e6:.0f} MB: {total:.1f} s, of which {inside:.1f} s in ONNX Runtime")
    print(f"{ratio:.2f} times the runs (at most 1.3)")
    print(f"{peak / 1e6:.0f} MB, {more:.0f} MB more than the runs (at most 200)")
    print(f"{child('files', *paths) / 1e6:.0f} MB where ONNX Runtime reads the files")  # type: ignore[operator]
    if arguments.folder is None:
        shutil.rmtree(folder)
    return int(ratio > 1.3 or more > 200)


if __name__ == "__main__":
    raise SystemExit(main())
