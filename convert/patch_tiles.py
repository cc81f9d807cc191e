"""A patch map without overlap: a reshape cuts the input, and all patches are one batch.

    (N, C, H, W)  crop to whole patches  (N, C, a*P, b*Q)   reshape    (N, C, a, P, b, Q)
                  transpose              (N, a, b, C, P, Q) reshape    (N*a*b, C, P, Q)
    the network   (N*a*b, D)             reshape            (N, a, b, D) transpose (N, D, a, b)

Sizes that are free are computed by the graph from its input's shape; with a fixed size no such arithmetic is left,
because a batch that is free is then the one size a reshape may leave open. All patches are in memory at once, with what
the network makes of them: the one form that is not bounded.
"""

from .patch_parts import Task, renamed, restored
from .patch_writer import Size, Writer


def tiles(task: Task, write: Writer) -> tuple[list[Size], str]:
    """Write the map; return its number of positions on each axis, and the value that holds the patches."""
    given = task.given
    axes, place = range(1, len(given.shape)), {a: i for i, a in enumerate(given.spatial_axes)}
    extents = [task.cut[a] for a in given.spatial_axes]
    counts = [write.divide(h, p) for h, p in zip(extents, given.patch, strict=True)]
    ends = [write.multiply(c, p) for c, p in zip(counts, given.patch, strict=True)]
    whole = given.name if ends == extents else write.first(given.name, ends, given.spatial_axes)
    cut: list[Size] = [task.cut[0]]
    for a in axes:
        cut += [counts[place[a]], task.patch[a]] if a in place else [task.patch[a]]
    apart = write.reshape(whole, cut)
    # (N, ... count, patch ...) -> (N, counts in spatial order, the patch's axes in the file's order)
    position, count_at, rest = 1, {}, []
    for a in axes:
        if a in place:
            count_at[place[a]] = position
            position += 1
        rest.append(position)
        position += 1
    order = [0, *(count_at[i] for i in range(len(given.patch))), *rest]
    moved = write.emit("Transpose", [apart], perm=order)
    stacked = write.emit("Reshape", [moved, write.integers(task.patch)])
    names = {given.name: stacked} | {o.name: write.name("vector") for o in task.outputs}
    for node in task.inside:
        renamed(node, names)
    write.nodes.extend(task.inside)
    for output in task.outputs:
        restored(task, write, output, names[output.name], counts)
    return counts, stacked
