"""``dense2conv set-kernel``: a convolution's weights set from a tensor, or computed at run time."""

from typing import TYPE_CHECKING, Any

import click

from ..convert.errors import RequestError
from ..convert.kernel_readings import KERNEL_LAYOUTS, KINDS
from . import options
from .networks import opened, reading
from .output import Column, say, show
from .reports import check_reports, write_reports

if TYPE_CHECKING:
    from ..convert.kernel_setting import Setting, Wanted
    from ..convert.model import Model

_COLUMNS = (
    Column("layer"),
    Column("kernel", "kernel from"),
    Column("kind", "read as"),
    Column("layout"),
    Column("tensor"),
    Column("weight", "kernel in ONNX"),
    Column("group"),
    Column("filters", "filters a sample"),
    Column("bias"),
)


@click.command("set-kernel")
@click.argument("source", metavar="MODEL", type=click.Path())
@click.argument("node", metavar="NODE")
@click.argument("files", metavar="[KERNEL] OUT.onnx", nargs=-1, required=True)
@click.option(
    "--layout", type=click.Choice(KERNEL_LAYOUTS, case_sensitive=False), required=True,
    help="The tensor's axes: O filters, I channels of a filter, C channels of the input; HW all spatial axes.",
)  # fmt: skip
@click.option(
    "--as", "kind", type=click.Choice(KINDS), default="full", show_default=True,
    help="As many filters as there are; one over all channels; or filters for each channel by itself.",
)  # fmt: skip
@click.option("--flip/--no-flip", help="The kernel is a true convolution's; ONNX correlates.")
@click.option(
    "--bias", metavar="keep|zero|WEIGHTS", default="keep", show_default=True,
    help="The bias stays, goes, or comes from a file like KERNEL.",
)  # fmt: skip
@click.option(
    "--dynamic", is_flag=True, help="The kernel is an input of the graph, KERNEL its default if given."
)
@click.option("--from", "value", metavar="VALUE", help="The kernel is this value, which the graph computes.")
@click.option(
    "--per-sample", is_flag=True, help="Each sample has a kernel of its own: the tensor's first axis."
)
@click.option("--batch", type=click.IntRange(1), help="How many samples --per-sample folds into groups.")
@options.force_option
@options.report_option
@options.format_option
def command(
    source: str,
    node: str,
    files: tuple[str, ...],
    layout: str,
    kind: str,
    flip: bool,
    bias: str,
    dynamic: bool,
    value: str | None,
    per_sample: bool,
    batch: int | None,
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
) -> None:
    """Set the kernel of the convolution NODE (its name, the end of it, or its number in `shapes`, from 0).

    KERNEL is FILE.npy, FILE.npz:NAME, FILE.h5:PATH or FILE.onnx:INITIALIZER. With --from there is none.

    \b
    dense2conv set-kernel net.onnx conv1 kernel.npy out.onnx --layout HWIO
    dense2conv set-kernel net.onnx conv3 out.onnx --from g --layout CHW --as depthwise --per-sample --batch 4
    """
    from ..convert.atomic import check_output
    from ..convert.dense_files import split_reference
    from ..convert.kernel_setting import Wanted
    from ..convert.mapped import source_files
    from ..convert.writing import write_model

    kernel, out = _files(files, dynamic, value)
    if per_sample != (batch is not None):
        raise RequestError(
            "--per-sample and --batch go together: a convolution's group is static",
            hint="say --per-sample --batch N",
        )
    references = [r for r in (kernel, bias if bias not in ("keep", "zero") else None) if r]
    inputs = [source, *(split_reference(reference)[0] for reference in references)]
    check_output(out, force=force, inputs=inputs)
    check_reports(reports, force=force, inputs=[*inputs, out])
    model = opened(source, {})
    check_output(out, force=force, inputs=[*inputs, *source_files(model)])
    with reading(inputs):
        wanted = Wanted(layout.upper(), kind, flip, _bias(bias), batch)
        setting = _setting(model, node, kernel, value, wanted, dynamic=dynamic)
    write_model(setting.model, out, force=force, inputs=inputs)
    row = _row(setting, bias, batch or 1)
    document = {"input": source, "output": out, "dynamic": dynamic, "per_sample": batch, "flip": flip, **row}
    write_reports(reports, document, [row], _COLUMNS, force=force, inputs=[*inputs, out])
    show(format, document, [_shown(row)], _COLUMNS)
    _say(setting, out, batch)


def _files(files: tuple[str, ...], dynamic: bool, value: str | None) -> tuple[str | None, str]:
    """KERNEL, if there is one, and OUT."""
    if dynamic and value is not None:
        raise RequestError(
            "--dynamic makes the kernel an input, --from takes a value that the graph computes: say one"
        )
    most, least = (1, 1) if value is not None else (2, 1) if dynamic else (2, 2)
    if not least <= len(files) <= most:
        wanted = "OUT alone" if most == 1 else "KERNEL and OUT" if least == 2 else "OUT, or KERNEL and OUT"
        raise RequestError(
            f"set-kernel takes MODEL, NODE and {wanted}, got {len(files)} behind NODE",
            hint="dense2conv set-kernel net.onnx conv1 kernel.npy out.onnx --layout HWIO",
        )
    return (files[0] if len(files) == 2 else None), files[-1]


def _bias(bias: str) -> Any:
    from ..convert.dense_files import find

    if bias in ("keep", "zero"):
        return bias
    return find(bias, lambda shape: len(shape) == 1, "a bias, one axis,")[1]


def _setting(
    model: "Model", node: str, kernel: str | None, value: str | None, wanted: "Wanted", *, dynamic: bool
) -> "Setting":
    from ..convert.dense_files import find
    from ..convert.kernel_setting import connect_kernel, feed_kernel, set_kernel

    if value is not None:
        return connect_kernel(model, node, value, wanted)
    if kernel is None:
        return feed_kernel(model, node, None, wanted)
    tensor = find(kernel, lambda shape: len(shape) > 1, "a kernel")[1]
    return set_kernel(model, node, tensor, wanted, dynamic=dynamic)


def _row(setting: "Setting", bias: str, batch: int) -> dict[str, Any]:
    found = setting.reading
    return {
        "layer": setting.place.name,
        "kernel": setting.source,
        "kind": found.kind,
        "layout": found.layout,
        "tensor": list(found.rearrangement.shape),
        "weight": list(found.rearrangement.result),
        "group": found.group,
        "filters": found.filters // batch,
        "bias": bias,
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return row | {key: "x".join(map(str, row[key])) for key in ("tensor", "weight")}


def _say(setting: "Setting", out: str, batch: int | None) -> None:
    place, found = setting.place, setting.reading
    if setting.rounded:
        say(f"the tensor is {setting.rounded}: its values were converted to the network's type")
    if found.spatial != place.spatial:
        old, new = ("x".join(map(str, sizes)) or "unknown" for sizes in (place.spatial, found.spatial))
        say(
            f"the kernel's size was {old} and is {new}; pads and strides stay, so the output has another size"
        )
    if found.filters // (batch or 1) != place.filters:
        say(f"the convolution had {place.filters} filters and has {found.filters // (batch or 1)}")
    if batch is not None:
        say(
            f"{batch} samples are folded into {found.group} groups: the network takes {batch} samples, no other number"
        )
    say(f"wrote {out}; ONNX Runtime loads it")
