"""What a Keras file costs to translate, as ratios measured in one run: time against ``cp``, memory against its size.

    python bench/keras_files.py [--runs 5] [--folder DIR]

Makes a VGG-16-sized ``.h5`` (553 MB, contiguous datasets, random weights, as Keras 2.15 writes it) and one of 1 MB,
in DIR or in a temporary folder, and measures whole processes, interleaved. Limits are from the project's own contract:
the large one at most 6 times ``cp`` and 40 % of its size in memory; the small one less than 2.5 times
``import onnx, h5py``.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

DENSE2CONV = str(Path(sys.executable).parent / "dense2conv")
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # filters; 0 is a pool
SMALL = (16, 0, 32, 0)


def layer(kind: str, name: str, **arguments: Any) -> dict[str, Any]:
    """One entry of a configuration, as Keras 2 writes it."""
    return {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32", **arguments}}


def make(path: Path, image: int, blocks: tuple[int, ...], dense: tuple[int, ...]) -> None:
    """Write a model of 3x3 convolutions with padding same, pools of 2, and dense layers behind a flatten."""
    generator = np.random.default_rng(0)
    entries, arrays = [], {}
    channels, size = 3, image
    for number, filters in enumerate(blocks):
        name = f"layer_{number}"
        first = {"batch_input_shape": [None, image, image, 3]} if not number else {}
        if filters:
            entries.append(
                layer("Conv2D", name, **first, filters=filters, kernel_size=[3, 3], strides=[1, 1], padding="same",
                      data_format="channels_last", activation="relu", use_bias=True)
            )  # fmt: skip
            arrays[name] = {"kernel:0": (3, 3, channels, filters), "bias:0": (filters,)}
            channels = filters
        else:
            entries.append(layer("MaxPooling2D", name, pool_size=[2, 2], strides=[2, 2], padding="valid"))
            size //= 2
    entries.append(layer("Flatten", "flatten", data_format="channels_last"))
    features = channels * size * size
    for number, units in enumerate(dense):
        last = number == len(dense) - 1
        name = f"dense_{number}"
        activation = "softmax" if last else "relu"
        entries.append(layer("Dense", name, units=units, activation=activation, use_bias=True))
        arrays[name] = {"kernel:0": (features, units), "bias:0": (units,)}
        features = units
    config = {"class_name": "Sequential", "config": {"name": "sequential", "layers": entries}}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = "2.15.0", "tensorflow"
        file.attrs["model_config"] = json.dumps(config)
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [entry["config"]["name"].encode() for entry in entries]
        for entry in entries:
            name = entry["config"]["name"]
            group = root.create_group(name)
            shapes = arrays.get(name, {})
            group.attrs["weight_names"] = [f"{name}/{what}".encode() for what in shapes]
            for what, shape in shapes.items():
                group[f"{name}/{what}"] = generator.standard_normal(shape, np.float32) * np.float32(0.05)


def measured(command: list[str]) -> tuple[float, int]:
    """Wall time in seconds and the largest memory in bytes of one process, its children included."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def main() -> int:
    """Measure and print; 1 where a ratio is above its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    large, small, out = folder / "vgg16.h5", folder / "small.h5", folder / "out"
    # In a process of their own: what this one has in memory would count for its children as well.
    for making in ((large, 224, VGG16, (4096, 4096, 1000)), (small, 32, SMALL, (120, 10))):
        maker = multiprocessing.get_context("spawn").Process(target=make, args=making)
        maker.start()
        maker.join()
    commands = {
        "cp": ["cp", str(large), str(out)],
        "translate, VGG-16": [DENSE2CONV, "translate", str(large), str(out)],
        "import onnx, h5py": [sys.executable, "-c", "import onnx, h5py"],
        "translate, 1 MB": [DENSE2CONV, "translate", str(small), str(out)],
        "shapes, 1 MB": [DENSE2CONV, "shapes", str(small)],
    }
    limits = {
        "translate, VGG-16": ("cp", 6.0),
        "translate, 1 MB": ("import onnx, h5py", 2.5),
        "shapes, 1 MB": ("import onnx, h5py", 2.5),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    memory = dict.fromkeys(commands, 0)
    for run in range(arguments.runs + 1):  # the first run fills the caches
        for name, command in commands.items():
            out.unlink(missing_ok=True)
            took, peak = measured(command)
            if run:
                times[name].append(took)
                memory[name] = max(memory[name], peak)
    medians = {name: statistics.median(found) for name, found in times.items()}
    megabytes = large.stat().st_size / 1e6
    print(f"{os.cpu_count()} cores, {arguments.runs} runs each, interleaved; {megabytes:.0f} MB and "
          f"{small.stat().st_size / 1e6:.2f} MB")  # fmt: skip
    failed = 0
    for name, found in times.items():
        line = f"{name:20}" + "".join(f"{t:8.3f}" for t in (min(found), medians[name], max(found)))
        line += f" s  {memory[name] / 1e6:6.0f} MB"
        if name in limits:
            base, limit = limits[name]
            ratio = medians[name] / medians[base]
            failed += ratio > limit
            line += f"  {ratio:.2f} x {base} (at most {limit:g})"
        if name == "translate, VGG-16":
            share = memory[name] / large.stat().st_size
            failed += share > 0.4
            line += f", memory {100 * share:.0f} % of the file (at most 40 %)"
        print(line)
    if arguments.folder is None:
        shutil.rmtree(folder)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
