"""A series cut into windows, against slices one by one; and the dense layer on them, against ONNX Runtime's Conv."""

import tracemalloc
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from dense2conv.convert import series
from dense2conv.convert.bands import BUFFER
from dense2conv.convert.errors import MachineError, RequestError
from dense2conv.convert.series import arrays, check_labels, view, write_windows
from dense2conv.shapecalc.series import LABELS, RESTS, SlidingWindows

RANDOM = np.random.default_rng(0)


@st.composite
def cuts(draw):
    """A cut whose windows make one array: of a kept rest there is none."""
    steps, length, hop = draw(st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(1, 15)))
    rest = draw(st.sampled_from(list(RESTS)))
    if rest != "pad":
        length = min(length, steps)
    cut = SlidingWindows(steps, length, hop, rest)
    return cut if rest != "keep" else SlidingWindows(cut.window(cut.full - 1).stop, length, hop, rest)


def one_by_one(data, labels, cut, rule):
    """X, Y and index, one window after the other, with lists and slices."""
    xs, ys, index = [], [], []
    start = 0
    last_end = 0
    while True:
        whole = start + cut.length <= cut.steps
        if not whole and (cut.rest != "pad" or start >= cut.steps or last_end >= cut.steps):
            break
        window, own = data[start : start + cut.length], labels[start : start + cut.length].tolist()
        zeros = np.zeros((cut.length - len(window), *data.shape[1:]), data.dtype)
        xs.append(np.concatenate([window, zeros]))
        counts = Counter(map(str, own))
        ys.append(
            {
                "first": own[0],
                "last": own[-1],
                "centre": own[len(own) // 2],
                "majority": next(y for y in own if counts[str(y)] == max(counts.values())),
                "per-step": own,
            }[rule]
        )
        last_end = start + len(window)
        index.append([start, last_end])
        if not whole:
            break
        start += cut.hop
    return np.array(xs), np.array(ys, labels.dtype), np.array(index)


def gathered(blocks):
    """The blocks as one array, which has the shape and type that they promise."""
    found = np.concatenate(list(blocks.blocks))
    assert found.shape == blocks.shape
    assert found.dtype == blocks.dtype
    return found


@given(
    cut=cuts(),
    rule=st.sampled_from(list(LABELS)),
    channels=st.sampled_from([(), (3,), (2, 3)]),
    one_hot=st.booleans(),
    fortran=st.booleans(),
)
def test_each_window_is_its_slice(cut, rule, channels, one_hot, fortran):
    data = RANDOM.standard_normal((cut.steps, *channels)).astype(np.float32)
    classes = RANDOM.integers(0, 3, cut.steps)
    labels = np.eye(3, dtype=np.uint8)[classes] if one_hot else classes
    if rule == "per-step" and cut.pads:
        with pytest.raises(RequestError, match=f"ends with {cut.pads} pads"):
            arrays(data, labels, cut, rule)
        return
    found = arrays(np.asfortranarray(data) if fortran else data, labels, cut, rule)
    assert list(found) == ["X", "Y", "index"]
    for blocks, expected in zip(found.values(), one_by_one(data, labels, cut, rule), strict=True):
        assert np.array_equal(gathered(blocks), expected)
        assert len(expected) == cut.count


def test_the_reshape_of_the_worked_case():
    """(30000, 10) as (300, 100, 10) is hop 100; at hop 1 there are 29,901 windows, each with a row of two labels."""
    data, labels = RANDOM.standard_normal((30000, 10)), np.eye(2)[RANDOM.integers(0, 2, 30000)]
    tiles = arrays(data, labels, SlidingWindows(30000, 100, 100))
    assert np.array_equal(gathered(tiles["X"]), data.reshape(300, 100, 10))
    assert np.array_equal(gathered(tiles["Y"]), labels[99::100])
    every = arrays(data, labels, SlidingWindows(30000, 100, 1))
    assert every["X"].shape == (29901, 100, 10)
    assert np.array_equal(gathered(every["Y"]), labels[99:])
    assert arrays(data, None, SlidingWindows(30000, 300, 1))["X"].shape == (29701, 300, 10)


@pytest.mark.parametrize(
    ("steps", "length", "hop", "rest"),
    [
        (50, 7, 1, "drop"), (50, 7, 7, "drop"), (50, 7, 3, "drop"), (50, 7, 11, "drop"),
        (50, 7, 1, "pad"), (50, 7, 7, "pad"), (50, 7, 3, "pad"), (50, 7, 11, "pad"), (5, 7, 2, "pad"),
    ],
)  # fmt: skip
def test_a_dense_layer_on_the_windows_is_the_convolution(steps, length, hop, rest):
    """Whole numbers, so that both sums are exact: they are equal, not close."""
    channels, units = 4, 3
    data = RANDOM.integers(-8, 8, (steps, channels)).astype(np.float32)
    weight = RANDOM.integers(-8, 8, (length * channels, units)).astype(np.float32)
    cut = SlidingWindows(steps, length, hop, rest)
    dense = gathered(arrays(data, None, cut)["X"]).reshape(cut.count, -1) @ weight

    window, output = cut.convolution()
    kernel = weight.reshape(length, channels, units).transpose(2, 1, 0)  # (L, C, O) to (O, C, L)
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], strides=[window.stride], pads=[window.before, window.after]
    )
    values = [
        helper.make_tensor_value_info("x", 1, [1, channels, steps]),
        helper.make_tensor_value_info("y", 1, [1, units, "l"]),
    ]
    graph = helper.make_graph(
        [node], "g", values[:1], values[1:], [numpy_helper.from_array(np.ascontiguousarray(kernel), "w")]
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": data.T[np.newaxis]})
    assert found.shape == (1, units, output)
    assert np.array_equal(found[0].T, dense)
    assert np.any(dense[:-1] != dense[1:]) or len(dense) == 1, "outputs that never vary prove nothing"


def test_the_whole_windows_are_a_view():
    data = np.zeros((1000, 3))
    windows = view(data, SlidingWindows(1000, 100, 10))
    assert windows.shape == (91, 100, 3)
    assert np.shares_memory(windows, data)
    assert windows.strides == (10 * 3 * 8, 3 * 8, 8)
    assert not windows.flags.writeable


def peak(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("rest", ["drop", "pad"])
def test_a_mapped_file_is_never_in_memory_as_a_whole(tmp_path, rest):
    """64 MiB become 128 MiB of windows through one buffer; a copy of either would be seen."""
    data = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (1 << 20, 16))  # holes, no blocks
    labels = np.lib.format.open_memmap(tmp_path / "y.npy", "w+", np.int64, (1 << 20,))
    cut = SlidingWindows(1 << 20, 1 << 10, 1 << 9, rest)

    def write():
        write_windows(tmp_path / "out.npz", arrays(data, labels, cut, "majority"))

    assert peak(write) < 1.5 * BUFFER < data.nbytes / 4
    assert (tmp_path / "out.npz").stat().st_size > 127 << 20
    assert peak(lambda: np.array(view(data, cut))) > data.nbytes, "the measure does not see a copy"


def test_the_file_is_what_numpy_reads(tmp_path):
    data, labels = RANDOM.standard_normal((33, 2)).astype(">f4"), RANDOM.integers(0, 2, 33)
    cut = SlidingWindows(33, 10, 4, "pad")
    path = tmp_path / "out.npz"
    write_windows(path, arrays(data, labels, cut))
    with np.load(path) as archive:
        found = dict(archive)
    assert list(found) == ["X", "Y", "index"]
    for name, expected in zip(found, one_by_one(data, labels, cut, "last"), strict=True):
        assert np.array_equal(found[name], expected)
    assert found["X"].dtype == np.dtype(">f4")
    start, stop = found["index"][-1]
    assert np.array_equal(found["X"][-1][: stop - start], data[start:stop])
    with pytest.raises(RequestError, match="OUT exists"):
        write_windows(path, arrays(data, labels, cut))
    write_windows(path, arrays(data, None, cut), force=True)
    with np.load(path) as archive:
        assert archive.files == ["X", "index"]


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_the_size_of_a_block_changes_nothing(monkeypatch, block):
    data, labels = np.arange(60), RANDOM.integers(0, 3, 60)
    cut = SlidingWindows(60, 7, 2, "pad")
    expected = one_by_one(data, labels, cut, "majority")
    monkeypatch.setattr(series, "_BLOCK", block)
    found = arrays(data, labels, cut, "majority")
    for blocks, values in zip(found.values(), expected, strict=True):
        assert np.array_equal(gathered(blocks), values)


def test_a_full_disk_leaves_nothing(tmp_path):
    class Full:
        def __iter__(self):
            yield np.zeros((1, 4))
            raise OSError(28, "No space left on device")

    found = arrays(np.zeros(12), None, SlidingWindows(12, 4, 4))
    found["X"] = series.Blocks((3, 4), np.dtype(float), Full())
    with pytest.raises(MachineError, match="no space"):
        write_windows(tmp_path / "out.npz", found)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "labels", "rest", "rule", "message"),
    [
        ((11, 2), (10,), "drop", "last", "have 11 and 10"),
        ((11, 2), (12, 2), "drop", "per-step", "have 11 and 12"),
        ((12, 2), None, "drop", "last", "those of 11 steps, but the data has 12"),
        ((11, 2), None, "keep", "last", "the last one stays short: 2 of 4 steps"),
        ((11, 2), (11,), "pad", "per-step", "a pad has no label, but the last window ends with 2 pads"),
        ((11, 2), (11,), "drop", "mean", "a label rule is last, first, .*, not 'mean'"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_numbers(data, labels, rest, rule, message):
    cut = SlidingWindows(11, 4, 3, rest)
    with pytest.raises(RequestError, match=message):
        arrays(np.zeros(data), None if labels is None else np.zeros(labels), cut, rule)


def test_labels_of_another_length_are_refused_at_once():
    check_labels(np.zeros((3, 2)), np.zeros(3))
    with pytest.raises(RequestError, match="same number of steps, but have 3 and 4"):
        check_labels(np.zeros((3, 2)), np.zeros(4))


@pytest.mark.parametrize("odd", [0.5, np.nan])
def test_there_is_no_most_frequent_of_measurements(odd):
    labels = np.zeros(20)
    labels[13] = odd
    found = arrays(np.zeros(20), labels, SlidingWindows(20, 4, 4), "majority")
    with pytest.raises(RequestError, match="whole numbers"):
        gathered(found["Y"])
