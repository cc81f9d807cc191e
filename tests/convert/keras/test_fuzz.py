"""Damaged files, by seed: read, refused with one line, or the HDF5 library gives up; never another exception.

The library crashes or does not come back on some of them, also without this project's code; the command line reads in a
child process for that reason, and so does this test.
"""

import os
import signal
from collections import Counter

import numpy as np
import pytest

from dense2conv.convert.errors import Dense2ConvError
from dense2conv.convert.keras.reading.files import open_file

from .files import REFERENCES, read

SEEDS = [
    ("k1_same_bn_th.h5", None),
    ("k2_func_branches_nested.h5", None),
    ("k3_func_branches_nested.keras", None),
    ("k3_valid_flat.weights.h5", "k3_valid_flat.json"),
    ("k1_valid_th_w_only.h5", "k1_valid_th_w_only.json"),
]
VALUES = [0, 1, 127, 128, 255]


def mutant(data, random):
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 5, 20])):
        end = len(data) if random.random() < 0.5 else min(len(data), 20_000)  # where the metadata are
        data[random.integers(end)] = random.choice([*VALUES, random.integers(256)])
    return data[: random.integers(len(data))] if random.random() < 0.1 else data


def outcome(path, config, described):
    """What a child process that reads the file ends with."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(5)
        try:
            read(path, config, described=described)
            said = "read"
        except Dense2ConvError as error:
            said = "refused" if "\n" not in error.message else repr(error.message)
        except BaseException as error:
            said = repr(error)
        os.write(theirs, said.encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return said if os.WIFEXITED(status) else f"signal {os.WTERMSIG(status)}"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "config"), SEEDS)
def test_a_damaged_file_is_read_or_refused(tmp_path, name, config):
    config = str(REFERENCES / config) if config else None
    with open_file(str(REFERENCES / name), config) as file:
        described = file.config
    data = (REFERENCES / name).read_bytes()
    random = np.random.default_rng(7)
    path = tmp_path / name
    seen = Counter()
    for _ in range(300):
        path.write_bytes(mutant(data, random))
        seen[outcome(path, config, described)] += 1
    signals = sum(count for said, count in seen.items() if said.startswith("signal"))
    assert set(seen) <= {"read", "refused", *(said for said in seen if said.startswith("signal"))}
    assert seen["refused"] > 50
    assert signals < 10
