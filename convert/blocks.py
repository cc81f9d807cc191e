"""A patch map with overlap: a Loop over blocks of positions, so that memory does not grow with their number.

    outside   flat (N*C*H*W, unit), the input with its trailing channels as the unit that is gathered;
              corner (1, *patch): where each element of a patch lies, counted from the patch's first one
    the loop  k = iteration * B + 0, 1, ..., B-1       numbers of positions: sample, then row, then column
              first (B,) = n*C*H*W + row*s*W + column*s
              Gather(flat, first + corner)             (B, *patch), the original network, (B, *features)
    outside   (iterations, B, *features)  reshape, crop to the number of positions, reshape, transpose

A position behind the last, in the last block, begins again with the first sample; its vector is cut off. Where all is
free the blocks are of equal size, so that little is computed in vain. Where the file fixes its batch at B, blocks
have that size and the network is not changed at all.

The network's weights stay initializers outside the loop, which the graph inside sees: nothing is copied.
"""

from collections.abc import Sequence
from math import prod

from onnx import TensorProto, helper

from .errors import FileError
from .inputs import Input
from .patch_parts import Task, renamed, restored
from .patch_writer import Size, Writer

# Patches an iteration: as many as have this many elements together. Measured by bench/patches.py --blocks (ONNX Runtime
# 1.32.0, Zen 4, one thread), process time at stride 1 against crops in batches of 256 from outside, for 1, 2, 4, 8, 16,
# 32, 64, 128, 256 patches: two convolutions on 3x32x32 1.27 1.11 1.02 1.01 1.01 1.02 1.03 1.07 1.10; one dense layer on
# 10x100 9.3 5.9 4.3 3.7 3.2 3.1 3.0 3.0 3.0. Large patches go one by one, so that a block, with what the network makes
# of it (some 20 times its size), stays far below 100 MB.
BLOCK_ELEMENTS = 1 << 17
MOST_PATCHES = 64

# ONNX Runtime lays out the kernels of a convolution for its fast form, and folds what follows into them, only if they
# belong to the graph at hand. It counts as such what it computes of constants from outside: a reshape to the shape that
# it has. Without it the loop above takes 1.6 times the time, and rounds otherwise.
_LAID_OUT = ("BatchNormalization", "Conv", "ConvTranspose")

_NOTHING_CARRIED = 11  # https://onnx.ai/onnx/operators/onnx__Loop.html: before, a loop had to carry a value
_BROADCAST = 7  # https://onnx.ai/onnx/operators/onnx__Add.html: the first that broadcasts as numpy does


def patches_at_once(elements: int, own_batch: int | None) -> int:
    """Return how many patches of so many elements an iteration takes at most; ``own_batch``, where the file says."""
    return own_batch or max(1, min(MOST_PATCHES, BLOCK_ELEMENTS // elements))


def blocks(task: Task, write: Writer, own_batch: int | None) -> list[Size]:
    """Write the map; return its number of positions on each axis.

    ``own_batch``: how many patches the network takes at a time; ``None`` for any number.
    """
    if write.opset < _BROADCAST:
        raise FileError(
            f"operator set {write.opset} cannot cut out patches at any stride: that needs {_BROADCAST} or newer",
            hint="--stride patch, or convert the file with onnx.version_converter",
        )
    given = task.given
    extents = [task.cut[a] for a in given.spatial_axes]
    counts = [_count(write, *axis) for axis in zip(extents, given.patch, task.stride, strict=True)]
    total = task.cut[0]
    for count in counts:
        total = write.multiply(total, count)
    most = patches_at_once(prod(task.patch[1:]), own_batch)
    times = write.divide(write.add(total, most - 1), most)
    block: Size = most
    if own_batch is None:
        block = _equal(write, total, times)
    numbers = write.numbers(block)
    flat, pitches = _flat(write, given, task.cut)
    corner = _corner(write, task, pitches)
    vectors = _loop(task, write, times, (block, numbers, flat, corner), counts, pitches, own_batch)
    for output, name in zip(task.outputs, vectors, strict=True):
        features, _ = task.place(output)
        # (iterations, B, *rest) -> (iterations * B, *features)
        rows = write.emit("Reshape", [name, write.integers([-1, *features])])
        whole = most == 1 or (isinstance(total, int) and total == write.multiply(times, block))
        restored(task, write, output, rows if whole else write.first(rows, [total], [0]), counts)
    return counts


def _count(write: Writer, extent: Size, patch: int, stride: int) -> Size:
    """Return the number of positions on an axis, ``(H - P) // s + 1``; 0 where no patch fits."""
    count = write.divide(write.add(extent, stride - patch), stride)
    if isinstance(extent, int):
        return count
    # Division rounds towards zero: between 0 and -s it would count a position.
    small = write.emit("Less", [extent, write.integers([patch])])
    fits = write.emit("Cast", [write.emit("Not", [small])], to=TensorProto.INT64)
    return write.multiply(count, fits)


def _equal(write: Writer, total: Size, times: Size) -> Size:
    """Return the size of so many equal blocks for all positions, the last of which may be cut off."""
    if isinstance(total, int) and isinstance(times, int):
        return -(-total // times)
    none = write.emit("Equal", [write.tensor(times), write.integers([0])])
    some = write.add(times, write.emit("Cast", [none], to=TensorProto.INT64))  # nothing is divided by 0
    return write.divide(write.add(write.add(total, some), -1), some)


def _flat(write: Writer, given: Input, cut: Sequence[Size]) -> tuple[str, dict[int, Size]]:
    """Return the input as rows that are gathered whole, and how many of them lie between neighbours on each axis."""
    last = len(cut) - 1
    unit = [int(cut[last])] if given.channels_last else []
    pitch: Size = 1
    pitches: dict[int, Size] = {}
    for axis in range(last - len(unit), -1, -1):
        pitches[axis] = pitch
        pitch = write.multiply(pitch, cut[axis])
    return write.emit("Reshape", [given.name, write.integers([-1, *unit])]), pitches


def _corner(write: Writer, task: Task, pitches: dict[int, Size]) -> str:
    """Return where in ``flat`` each element of a patch lies, counted from its first: ``(1, *patch)``."""
    axes = sorted(set(pitches) - {0})
    parts = []
    for axis in axes:
        pitch, pixels = pitches[axis], task.patch[axis]
        shape = [pixels if a == axis else 1 for a in (0, *axes)]
        steps = range(0, pixels * pitch, pitch) if isinstance(pitch, int) else range(pixels)
        part = write.integers(steps, shape)
        parts.append(part if isinstance(pitch, int) else write.emit("Mul", [part, pitch]))
    corner, *others = parts
    for part in others:
        corner = write.emit("Add", [corner, part])
    return corner


def _loop(
    task: Task,
    write: Writer,
    times: Size,
    block: tuple[Size, str, str, str],
    counts: Sequence[Size],
    pitches: dict[int, Size],
    own_batch: int | None,
) -> list[str]:
    """Write the loop; return for each output its vectors, ``(iterations, B, *rest)``."""
    size, numbers, flat, corner = block
    # What the loop reads of sizes, computed before it.
    samples = write.tensor(task.cut[0])
    named = [write.tensor(c) for c in counts]
    steps = [
        write.tensor(write.multiply(pitches[a], s))
        for a, s in zip(task.given.spatial_axes, task.stride, strict=True)
    ]
    sample_pitch, size_name = write.tensor(pitches[0]), write.tensor(size)
    apart = write.integers([-1, *[1] * (len(pitches) - 1)])
    limit = write.emit("Reshape", [write.tensor(times), write.integers([])])  # (1,) -> ()
    outside = write.take()

    iteration, condition = write.name("iteration"), write.name("condition")
    number = write.emit("Add", [write.emit("Mul", [iteration, size_name]), numbers])
    first = ""
    for count, step in [*reversed(list(zip(named, steps, strict=True))), (samples, sample_pitch)]:
        quotient = write.emit("Div", [number, count])
        place = write.emit("Sub", [number, write.emit("Mul", [quotient, count])])
        offset = write.emit("Mul", [place, step])
        first = write.emit("Add", [first, offset]) if first else offset
        number = quotient
    index = write.emit("Add", [write.emit("Reshape", [first, apart]), corner])
    stacked = write.emit("Gather", [flat, index], axis=0)
    names = {task.given.name: stacked} | {o.name: write.name("vector") for o in task.outputs}
    for node in task.inside:
        renamed(node, names)
    _laid_out(task, write)
    write.nodes.extend(task.inside)
    carried = [limit] if write.opset < _NOTHING_CARRIED else []
    inputs = {iteration: TensorProto.INT64, condition: TensorProto.BOOL}
    inputs |= {write.name("carried"): TensorProto.INT64 for _ in carried}
    results = [
        helper.make_tensor_value_info(write.emit("Identity", [name]), kind, [])
        for name, kind in inputs.items()
        if name != iteration
    ]
    for output in task.outputs:
        kind = output.type.tensor_type.elem_type
        sizes = [own_batch or "windows", *task.features(output)]
        results.append(helper.make_tensor_value_info(names[output.name], kind, sizes))
    body = helper.make_graph(
        write.take(),
        "one block of patches",
        [helper.make_tensor_value_info(name, kind, []) for name, kind in inputs.items()],
        results,
        value_info=[task.windows(stacked, own_batch)],
    )
    vectors = [write.name("vectors") for _ in task.outputs]
    made = [write.name("carried") for _ in carried] + vectors
    loop = helper.make_node("Loop", [limit, "", *carried], made, name=write.name("loop"), body=body)
    write.nodes = [*outside, loop]
    return vectors


def _laid_out(task: Task, write: Writer) -> None:
    """Let convolutions read their kernels through a reshape to the shape that they have (see ``_LAID_OUT``)."""
    tensors = task.model.initializers()
    own: dict[str, str] = {}
    for node in task.inside:
        if node.op_type not in _LAID_OUT or node.domain not in ("", "ai.onnx"):
            continue
        for i, name in enumerate(node.input):
            if name in tensors:
                if name not in own:
                    own[name] = write.emit("Reshape", [name, write.integers(list(tensors[name].dims))])
                node.input[i] = own[name]
