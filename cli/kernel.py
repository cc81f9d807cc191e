"""``dense2conv kernel``: one dense weight to convolution kernels, or a kernel back to a dense weight."""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..convert.errors import RequestError
from ..convert.kernel import ORDERS, WEIGHT_LAYOUTS
from . import options
from .networks import reading
from .output import Column, say, show
from .reports import check_reports, write_reports

if TYPE_CHECKING:
    from ..convert.kernel_files import Rearranged
    from ..convert.order_finding import Found

AUTO = "auto"
ORDER = click.Choice([*ORDERS, AUTO], case_sensitive=False)

_COLUMNS = (
    Column("file"),
    Column("layout"),
    Column("shape"),
    Column("dtype", "type"),
    Column("round_trip", "round trip"),
    Column("ratio", "difference / scale"),
)


def _outputs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """``FILE=LAYOUT`` arguments as layout by file, in the order given; an ``.onnx`` needs no layout."""
    outputs: dict[str, str] = {}
    for value in values:
        path, equals, layout = value.rpartition("=")
        if not equals and value.lower().endswith(".onnx"):
            path, layout = value, "OIHW"
        if not path or not layout:
            raise click.BadParameter(f"{value!r} is not FILE=LAYOUT, for example kernel.npy=OIHW", ctx, param)
        if os.path.abspath(path) in map(os.path.abspath, outputs):  # noqa: PTH100 - need not exist
            raise click.BadParameter(f"{path!r} is written twice", ctx, param)
        outputs[path] = layout.upper()
    return outputs


@click.command("kernel")
@click.argument("weights", metavar="WEIGHTS")
@click.option("--patch", type=options.PATCH, help="Sizes of the patch, in --order's axes: 20x20x10 for HWC.")
@click.option(
    "--order", type=ORDER, metavar="|".join([*ORDERS, AUTO]), required=True,
    help="In which order the patch was flattened; auto finds it with --probe.",
)  # fmt: skip
@click.option(
    "--probe", metavar="FILE.npz",
    help="Patches and the layer's outputs for them, patch_x (samples, *patch) and patch_y (samples, O), for "
    "--order auto. --patch then names patch_x's axes: H=20,W=20,C=10.",
)  # fmt: skip
@click.option(
    "-o", "--output", "outputs", metavar="FILE=LAYOUT", multiple=True, required=True, callback=_outputs,
    help="Write FILE (.npy, .npz, .h5) in the layout OIHW or HWIO, or FILE.onnx, a network of one convolution. "
    "With --from-kernel: in the layout KO or OK. Repeatable.",
)  # fmt: skip
@click.option("--bias", metavar="WEIGHTS", help="The layer's bias, in a file like WEIGHTS.")
@click.option(
    "--stride", type=options.STRIDE, default="patch", show_default=True, help="Pixels between the outputs."
)
@click.option("--flip/--no-flip", help="For an engine that flips kernels (true convolution); ONNX does not.")
@click.option(
    "--weight-layout",
    type=click.Choice(WEIGHT_LAYOUTS, case_sensitive=False),
    metavar="KO|OK",
    help="Of a square weight.",
)
@click.option(
    "--from-kernel", metavar="OIHW|HWIO", help="WEIGHTS is a kernel in this layout: write its dense weight."
)
@options.force_option
@options.report_option
@options.format_option
def command(
    weights: str,
    patch: options.Patch | None,
    order: str,
    probe: str | None,
    outputs: dict[str, str],
    bias: str | None,
    stride: tuple[int, ...] | str,
    flip: bool,
    weight_layout: str | None,
    from_kernel: str | None,
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
) -> None:
    """Turn a dense weight into convolution kernels, or back, and prove it.

    WEIGHTS is FILE.npy, FILE.npz:NAME, FILE.h5:PATH or FILE.onnx:INITIALIZER; the name may be left out where only
    one array of the file fits. A dense weight is (K, O) or (O, K): K values of the flattened patch, O units.

    \b
    dense2conv kernel net.h5:dense/kernel:0 --patch 20x20x10 --order HWC -o k.npy=OIHW -o conv.onnx
    """
    from ..convert.atomic import check_output
    from ..convert.dense_files import split_reference, write_files

    inputs = [split_reference(reference)[0] for reference in (weights, bias) if reference]
    inputs += [probe] if probe else []
    for path in outputs:
        check_output(path, force=force, inputs=inputs)
    check_reports(reports, force=force, inputs=[*inputs, *outputs])
    with reading(inputs):
        found = _rearranged(
            weights, patch, order, list(outputs.values()), flip, bias, weight_layout, from_kernel, probe
        )
    layer, order = found.layer, found.layer.order
    step = options.on_each_axis(stride, layer.spatial)
    writers = found.writers(outputs, step)
    say(f"patch {options.with_axis_names(layer.patch, order)}; stride {options.with_axis_names(step)}")
    proofs = found.proofs(step)
    write_files(writers, force=force, inputs=inputs)

    worst = max(proofs.values(), key=lambda figures: figures.ratio)
    rows = [
        {
            "file": path,
            "layout": layout,
            "shape": list(found.array(layout).shape),
            "dtype": str(found.array(layout).dtype),
            "round_trip": "bit-equal",
            "ratio": proofs.get(layout, worst).ratio,
        }
        for path, layout in outputs.items()
    ]
    assumption = (
        f"the patch was flattened in the order {order} (row-major, {options.with_axis_names(layer.patch, order)}, "
        f"{math.prod(layer.patch)} values). No file says so, and this proof cannot: another order gives the kernel "
        "of another network"
    )
    document: dict[str, Any] = {
        "weights": found.name,
        "weight_layout": layer.weight_layout,
        "patch": list(layer.patch),
        "order": order,
        "assumption": None if found.found else assumption,
        "found": None if found.found is None else _found(found.found),
        "units": layer.units,
        "bias": bias,
        "stride": list(step),
        "flip": flip,
        "outputs": rows,
        "proof": {layout: figures.to_json() for layout, figures in proofs.items()},
    }
    write_reports(reports, document, rows, _COLUMNS, force=force, inputs=[*inputs, *outputs])
    show(format, document, rows, _COLUMNS)
    if layer.bias is not None and any(path.lower().endswith(".npy") for path in outputs):
        say("a .npy file holds one array: the bias is not in it")
    windows = worst.count // layer.units
    say(
        f"proven: dense (numpy) on {windows} windows of a random image = convolution (ONNX Runtime), {worst.ratio:.1e}"
    )
    if found.found is None:
        say(f"assumed: {assumption}")
        return
    winner, second = found.found.winner, found.found.runner_up
    said = "every other reading is the same function"
    if second is not None:
        said = f"the runner-up, {second}, is off by {second.error:.1e}"
    say(
        f"found: the patch was flattened in the order {winner}: on {found.found.samples} probes it is off by "
        f"{winner.error:.1e} of the largest output; {said}"
    )
    if str(winner) != order:
        say(f"the kernels are those of the weight with its rows put in the order {order}")


def _found(found: "Found") -> dict[str, Any]:
    return {
        "samples": found.samples,
        "order": found.order,
        "winner": asdict(found.winner),
        "runner_up": None if found.runner_up is None else asdict(found.runner_up),
    }


def _rearranged(
    weights: str,
    patch: options.Patch | None,
    order: str,
    layouts: Sequence[str],
    flip: bool,
    bias: str | None,
    weight_layout: str | None,
    from_kernel: str | None,
    probe: str | None,
) -> "Rearranged":
    from ..convert import kernel_files

    automatic = order.lower() == AUTO
    if automatic != (probe is not None):
        raise RequestError(
            "--order auto needs --probe, and --probe needs --order auto",
            hint="numpy.savez(FILE, patch_x=patches, patch_y=outputs)",
        )
    if automatic and from_kernel is not None:
        raise RequestError("--order auto is for dense weights, not for --from-kernel")
    if from_kernel is None:
        if patch is None:
            raise RequestError(
                "a dense weight needs --patch", hint="for example --patch 20x20x10 --order HWC"
            )
        if probe is not None:
            from ..convert.expected import read_expected

            arrays = read_expected(probe).arrays
            return kernel_files.to_kernels(
                weights,
                patch.sizes,
                patch.names,
                layouts,
                flip=flip,
                bias=bias,
                weight_layout=weight_layout,
                probes=(arrays["patch_x"], arrays["patch_y"]),
            )
        sizes = patch.in_order(order)
        return kernel_files.to_kernels(
            weights, sizes, order, layouts, flip=flip, bias=bias, weight_layout=weight_layout
        )
    found = kernel_files.from_kernel(weights, order, from_kernel.upper(), flip=flip, bias=bias)
    if patch is not None and patch.in_order(order) != found.layer.patch:
        asked, real = (
            options.with_axis_names(sizes, order) for sizes in (patch.in_order(order), found.layer.patch)
        )
        raise RequestError(f"--patch is {asked}, the kernel's is {real}", file=found.name)
    return found
