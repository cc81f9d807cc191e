"""``dense2conv locate``: which pixels a neuron sees, and which neurons see a pixel."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ..convert.errors import RequestError
from ..shapecalc.notation import ranges
from ..shapecalc.readings import Beyond
from ..shapecalc.receptive import ReceptiveField
from .options import SPATIAL_AXES, Written, force_option, format_option, from_option, report_option
from .output import Column, say, show
from .reports import check_reports, write_reports
from .sources import WithNotation, network_of, source_options

if TYPE_CHECKING:
    from ..shapecalc.network import Network

_BOX = (
    Column("axis"),
    Column("neuron"),
    Column("first", "first pixel"),
    Column("last", "last pixel"),
    Column("before", "pads before"),
    Column("after", "pads after"),
    Column("pixels", "pixels read"),
)
_NEURONS = (
    Column("layer"),
    Column("kind"),
    Column("axis"),
    Column("neurons"),
    Column("count"),
    Column("of"),
)


class _Place(Written):
    """``row,column``, one number an axis."""

    name = "row,column"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The numbers; ``BadParameter`` for anything else."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is no place: row,column as 3,5, or one number an axis", param, ctx)


PLACE = _Place()


@click.command("locate", cls=WithNotation)
@source_options
@click.option("--layer", metavar="L", help="A layer by its name, the end of its name, or its number.")
@click.option("--at", type=PLACE, help="The place of a neuron in --layer: what does it see?")
@click.option("--pixel", type=PLACE, help="A pixel of the input: which neurons see it?")
@from_option
@click.option("--plot", metavar="FILE.png|.svg", help="Draw it (1-D and 2-D).")
@click.option("--image", metavar="FILE", help="Draw it on this image.")
@force_option
@report_option
@format_option
def command(
    source: str,
    given: str | None,
    size: tuple[int, ...] | None,
    batch: int | None,
    runtime: str,
    keras: dict[str, Any],
    layer: str | None,
    at: tuple[int, ...] | None,
    pixel: tuple[int, ...] | None,
    count_from: int,
    plot: str | None,
    image: str | None,
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
) -> None:
    """Say which pixels of the input a neuron sees, or which neurons see a pixel.

    A neuron's box reaches into the pads; the pixels read are those inside the image. With dilation, or a stride larger
    than the kernel, not every pixel of the box is read.

    \b
    dense2conv locate classifier.onnx --layer Conv_2 --at 3,5
    dense2conv locate --input 64x64x3 "conv 4x4 8 same, maxpool 8x8" --pixel 40,17 --from 1
    """
    if (at is None) == (pixel is None):
        raise RequestError(
            "say --at (a neuron) or --pixel, and not both", hint="for instance --layer conv1 --at 3,5"
        )
    if at is not None and layer is None:
        raise RequestError("a neuron is in a layer", hint="say --layer")
    if image is not None and plot is None:
        raise RequestError("--image is what --plot draws on", hint="say --plot FILE.png")
    check_reports(reports, force=force, inputs=[source])
    if plot is not None:
        from ..convert.atomic import check_output
        from .plot import check_plot

        check_plot(plot, image)
        check_output(plot, force=force, inputs=[source, *([image] if image else [])])
    network = network_of(source, given, size, batch, runtime, keras)
    if not network.sizes:
        raise RequestError("no layer of this network slides over its input, so no neuron has a place in it")
    index = None if layer is None else network.find(layer, first=count_from)
    if at is not None and index is not None:
        document, rows = _seen(network, index, at, count_from)
        columns: Sequence[Column] = _BOX
    else:
        assert pixel is not None
        document, rows = _seeing(network, index, pixel, count_from)
        columns = _NEURONS
    if plot is not None:
        from .plot import draw

        draw(plot, document, network.sizes, image=image, force=force, inputs=[source])
    show(format, document, rows, columns)
    write_reports(reports, document, rows, columns, force=force, inputs=[source])
    if plot is not None:
        say(f"drew {plot}")


def _names(network: "Network") -> Sequence[str]:
    return SPATIAL_AXES.get(len(network.sizes)) or [str(i) for i in range(len(network.sizes))]


def _inside(place: tuple[int, ...], sizes: Sequence[int], count_from: int, what: str) -> tuple[int, ...]:
    """A place counted from 0, checked to be there."""
    if len(place) != len(sizes):
        given = "1 is" if len(place) == 1 else f"{len(place)} are"
        raise RequestError(f"a {what} has a number for each of {len(sizes)} axes, but {given} given")
    for number, size in zip(place, sizes, strict=True):
        if not count_from <= number < size + count_from:
            raise RequestError(
                f"a {what} is counted from {count_from} to {size + count_from - 1} here, there is no {number}"
            )
    return tuple(number - count_from for number in place)


def _seen(
    network: "Network", index: int, at: tuple[int, ...], count_from: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What one neuron sees."""
    node = network.nodes[index]
    place = _inside(at, node.sizes, count_from, "neuron")
    read = network.pixels(index, place)
    axes = []
    for i, (field, pixels) in enumerate(zip(network.fields[index], read, strict=True)):
        span = field.span(place[i]) if isinstance(field, ReceptiveField) else None
        inside = sorted(pixels)
        if span is None and inside:
            span = (inside[0], inside[-1])
        axis: dict[str, Any] = {
            "axis": _names(network)[i],
            "neuron": at[i],
            "size": network.sizes[i],
            "box": None if span is None else [span[0] + count_from, span[1] + count_from],
            "clipped": [inside[0] + count_from, inside[-1] + count_from] if inside else None,
            "pixels": len(inside),
            "whole": len(inside) == network.sizes[i],
            "ranges": ranges([pixel + count_from for pixel in inside]),
        }
        axes.append(axis)
    document = {"layer": node.name, "kind": node.kind, "at": list(at), "from": count_from, "axes": axes}
    rows = []
    for axis in axes:
        row = {"axis": axis["axis"], "neuron": axis["neuron"], "pixels": axis["ranges"] or "none"}
        if axis["box"] is not None:
            low, high = axis["box"]
            row |= {"first": low, "last": high}
            row |= {
                "before": max(count_from - low, 0),
                "after": max(high - (axis["size"] + count_from - 1), 0),
            }
        rows.append(row)
    return document, rows


def _seeing(
    network: "Network", index: int | None, pixel: tuple[int, ...], count_from: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Which neurons see one pixel, in one layer or in all."""
    place = _inside(pixel, network.sizes, count_from, "pixel")
    layers, rows = [], []
    for i, sets in enumerate(network.neurons(place)):
        if index not in (None, i):
            continue
        node = network.nodes[i]
        axes = []
        for name, found, size, field, pixels in zip(
            _names(network), sets, node.sizes, network.fields[i], network.sizes, strict=True
        ):
            neurons = [neuron + count_from for neuron in sorted(found)]
            whole = [(0, pixels - 1)] if found and isinstance(field, Beyond) else []
            spans = [
                span for n in found if isinstance(field, ReceptiveField) and (span := field.span(n))
            ] or whole
            box = (
                [min(low for low, _ in spans) + count_from, max(high for _, high in spans) + count_from]
                if spans
                else None
            )
            axes.append(
                {
                    "axis": name,
                    "neurons": neurons,
                    "ranges": ranges(neurons) or "none",
                    "count": len(neurons),
                    "of": size,
                    "box": box,
                }
            )
            rows.append(
                {
                    "layer": node.name,
                    "kind": node.kind,
                    "axis": name,
                    "neurons": ranges(neurons) or "none",
                    "count": len(neurons),
                    "of": size,
                }
            )
        layers.append({"layer": node.name, "kind": node.kind, "axes": axes})
    return {"pixel": list(pixel), "from": count_from, "layers": layers}, rows
