"""What a command costs from the shell, as ratios measured in one run: interleaved whole processes, their medians.

    python bench/startup.py [--runs 15]

Limits are from the project's own contract: a command that needs no model is within 1.5 times ``--help``, which is
within 6 times ``python -c pass``; the table of a large topology costs at most twice ``import onnx``.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import onnx

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
DENSE2CONV = [str(Path(sys.executable).parent / "dense2conv")]
CHAIN = "conv 4x4 8 same nobias, relu, maxpool 8x8/8 same, conv 2x2 16 same nobias, relu, flatten, dense 6"

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import onnx": [sys.executable, "-c", "import onnx"],
    "--help": [*DENSE2CONV, "--help"],
    "calc": [*DENSE2CONV, "calc", "conv", "--input", "64", "--kernel", "4", "--padding", "same"],
    "shapes, a chain": [*DENSE2CONV, "shapes", "--input", "64x64x3", CHAIN],
    "shapes, VGG-19": [*DENSE2CONV, "shapes", str(LIGHT / "light_vgg19.onnx")],
    "shapes, DenseNet-121": [*DENSE2CONV, "shapes", str(LIGHT / "light_densenet121.onnx")],
}

# command: (what it is measured against, at most)
LIMITS = {
    "--help": ("python -c pass", 6.0),
    "calc": ("--help", 1.5),
    "shapes, a chain": ("--help", 1.5),
    "shapes, VGG-19": ("import onnx", 2.0),
    "shapes, DenseNet-121": ("import onnx", 2.0),
}


def seconds(command: list[str]) -> float:
    """Wall time of one process whose output goes nowhere."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> int:
    """Measure and print; 1 where a ratio is above its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    for command in COMMANDS.values():
        seconds(command)  # the first run fills the caches
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(f"{os.cpu_count()} cores, {runs} runs each, interleaved; milliseconds")
    print(f"{'command':22}{'min':>8}{'median':>8}{'max':>8}  ratio of medians")
    failed = 0
    for name, found in times.items():
        line = f"{name:22}" + "".join(f"{1000 * t:8.0f}" for t in (min(found), medians[name], max(found)))
        if name in LIMITS:
            base, limit = LIMITS[name]
            ratio = medians[name] / medians[base]
            failed += ratio > limit
            line += f"  {ratio:.2f} x {base} (at most {limit:g})"
        print(line)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
