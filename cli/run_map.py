"""``dense2conv run``: a map applied to an input of any size, in overlapping tiles."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..convert.errors import Dense2ConvError, RequestError
from . import options
from .counter import Counter, as_bytes, as_time
from .guard import at_work_on
from .networks import reading
from .output import in_words, say

if TYPE_CHECKING:
    from ..convert.scan_files import FileSource
    from ..convert.scanning import Plan
    from ..convert.step_rows import StepRows


class NumbersType(options.Written):
    """``0.5``, ``1/255`` or one a channel with commas: a tuple of numbers."""

    name = "NUMBER[,..]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers; ``BadParameter`` for anything else."""
        import math

        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(_number(text) for text in value.split(","))
            if not all(map(math.isfinite, numbers)):
                raise ValueError
            return numbers
        except (ValueError, ZeroDivisionError):
            self.fail(
                f"{value!r} is no number, nor one a channel as 0.485,0.456,0.406; 1/255 is one", param, ctx
            )


def _number(text: str) -> float:
    numerator, slash, denominator = text.partition("/")
    return float(numerator) / float(denominator) if slash else float(numerator)


class PadType(options.Written):
    """``nan``, ``drop`` or a number: the text."""

    name = "nan|drop|NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text; ``BadParameter`` for anything else."""
        text = str(value).lower()
        try:
            return text if text == "drop" else str(value) if float(value) == float(value) else "nan"
        except ValueError:
            self.fail(f"{value!r} is no pad: nan, drop, or a number", param, ctx)


@click.command("run")
@click.argument("map_path", metavar="MAP", type=click.Path())
@click.argument("source", metavar="INPUT", type=click.Path())
@click.argument("out", metavar="OUT", type=click.Path())
@click.option(
    "--tile", type=options.SIZE,
    help="Pixels of a tile, what it shares with its neighbours included: HxW, L or DxHxW; default what memory allows.",
)  # fmt: skip
@click.option(
    "--axes", metavar="HWC|CHW|TC|CT|..",
    help="The input's axes: N samples, C channels, T steps, D, H, W; default the network's, of images HWC, of .csv TC.",
)  # fmt: skip
@click.option(
    "--scale", type=NumbersType(), help="The network gets (pixel * scale - mean) / std; 1/255 is a number."
)
@click.option("--mean", type=NumbersType(), help="See --scale; one number, or one a channel.")
@click.option("--std", type=NumbersType(), help="See --scale.")
@click.option("--heatmap", metavar="FILE.png", help="Draw one class of the map: .png or .svg.")
@click.option("--class", "chosen", metavar="[OUTPUT:]N", help="Which class --heatmap draws, counted from 0.")
@click.option("--labels", metavar="FILE", help="Of a series: a label a step, which each row of OUT.csv gets.")
@click.option(
    "--align", type=click.Choice(("last", "centre", "first")), default="last", show_default=True,
    help="Which step of its window a row of OUT.csv is for.",
)  # fmt: skip
@click.option(
    "--pad", type=PadType(), default="nan", show_default=True,
    help="What stands in OUT.csv for steps that no window is for; drop leaves them out.",
)  # fmt: skip
@click.option(
    "--dask", metavar="[SCHEDULER]", is_flag=False, flag_value="local",
    help="Hand the tiles to a Dask cluster: tcp://HOST:PORT, or local for one on this machine.",
)  # fmt: skip
@options.provider_option
@options.force_option
def command(
    map_path: str,
    source: str,
    out: str,
    tile: tuple[int, ...] | None,
    axes: str | None,
    scale: tuple[float, ...] | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    heatmap: str | None,
    chosen: str | None,
    labels: str | None,
    align: str,
    pad: str,
    dask: str | None,
    provider: str,
    force: bool,
) -> None:
    """Apply MAP, which convert wrote, to INPUT of any size, tile by tile, and write what it gives to OUT.

    INPUT is .npy, .npz:NAME, .csv (a series, a step a line), .png, .jpg, .tif or .zarr; OUT .npy, .npz (all outputs in
    one file), .zarr or, of a series, .csv: a line a step with the window's start and stop, the prediction and its
    values. OUT has the map's own axes, with the samples' only where INPUT has it. Tiles overlap by what a vector reads,
    and the result is that of one pass, up to rounding. What is in memory is one tile.

    \b
    dense2conv run map.onnx slide.tif classes.npy --scale 1/255 --heatmap tumour.png --class 1
    dense2conv run map.onnx eeg.csv predictions.csv --labels classes.csv --align last --pad nan
    dense2conv run map.onnx volume.zarr classes.zarr --dask tcp://scheduler:8786
    """
    from ..convert.mapped import source_files
    from ..convert.opening import open_model
    from ..convert.pixels import SPATIAL, Pixels, Scaling
    from ..convert.scan_files import FileSource, check_target, output_files, split_input, writing
    from ..convert.scanning import Plan, load
    from ..convert.series_files import split_series

    _check_dask(dask)
    inputs = [map_path, split_input(source)[0], *([split_series(labels)[0]] if labels else [])]
    if labels is not None and not out.lower().endswith(".csv"):
        raise RequestError("--labels stand in the rows of a .csv", file=out, hint="for example OUT.csv")
    output_files(out, ["one"])  # refuses an ending that is not written
    if not out.lower().endswith(".npy"):  # of several outputs each gets its own
        check_target(out, force=force, inputs=inputs)
    if heatmap is not None:
        from .heatmap import check_heatmap

        check_heatmap(heatmap, chosen, force=force, inputs=[*inputs, out])
    elif chosen is not None:
        raise RequestError(
            "--class says what --heatmap draws", hint="for example --heatmap seen.png --class 1"
        )
    with reading([map_path]):
        model = open_model(map_path)
    inputs += [str(path) for path in source_files(model)]
    at_work_on(map_path)
    scanner = load(model, provider)
    at_work_on(f"{map_path} and {inputs[1]}")
    with _named(inputs[1]):
        opened = FileSource(source)
        fits = set(opened.axes or "") - {"C"} == set(SPATIAL[len(scanner.reaches)])
        letters = axes or (opened.axes if fits else None)
        pixels = Pixels(opened, scanner, letters, Scaling(scale, mean, std))
        plan = Plan(scanner, pixels, tile)
    rows = _rows(plan, align, pad, labels).write if out.lower().endswith(".csv") else None
    drawn = None
    if heatmap is not None:
        from .heatmap import Heatmap

        drawn = Heatmap(plan, chosen)
    _say_what(plan, opened, source)
    with writing(out, plan, force=force, inputs=inputs, rows=rows) as arrays:
        _estimate(plan)
        with Counter() as progress:
            if dask is None:
                plan.run(arrays, progress)
            else:
                from ..convert.clusters import connected, run_on

                with connected(dask) as client:
                    run_on(plan, client, arrays, progress)
        if drawn is not None and heatmap is not None:
            drawn.draw(heatmap, arrays, force=force, inputs=[*inputs, out])
    at_work_on("")
    _say_written(plan, out)


def _check_dask(address: str | None) -> None:
    """Refuse what is no scheduler: an argument behind a bare --dask is taken for one."""
    if address is not None and address != "local" and ":" not in address:
        raise RequestError(
            f"{address!r} is no Dask scheduler: it has HOST:PORT, as tcp://scheduler:8786",
            hint="put --dask last, or say --dask local",
        )


def _rows(plan: "Plan", align: str, pad: str, labels: str | None) -> "StepRows":
    from ..convert.series_files import open_labels
    from ..convert.step_rows import StepRows

    held = None if labels is None else open_labels(labels)
    return StepRows(plan, align, None if pad == "drop" else pad, held)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the input in an error about what it holds."""
    try:
        yield
    except Dense2ConvError as error:
        error.file = error.file or path
        raise


def _say_what(plan: "Plan", opened: "FileSource", source: str) -> None:
    named = ", ".join(f"{a}={n}" for a, n in zip(plan.pixels.axes, opened.shape, strict=True))
    say(f"{source}: {named}, {opened.dtype}")
    about = plan.scanner.metadata
    several = "s" * (plan.steps > 1)
    kind = "" if about.exactness == "exact" else f", {about.exactness.upper()}"
    say(
        f"patch {in_words(about.patch)}, a vector every {in_words(about.stride)} pixels{kind}: "
        f"{in_words(plan.tiling.counts)} positions, {plan.steps} tile{several} "
        f"of {in_words(plan.tiling.largest)} at most"
    )


def _estimate(plan: "Plan") -> None:
    estimate = plan.estimate()
    say(f"about {as_time(estimate.seconds)} in one process, {as_bytes(estimate.bytes)} on disk")


def _say_written(plan: "Plan", out: str) -> None:
    from ..convert.scan_files import output_files

    files = output_files(out, [output.name for output in plan.scanner.outputs])
    for output in plan.scanner.outputs:
        say(f"wrote {Path(files[output.name])}: {output.name} {in_words(plan.shape(output))} {output.dtype}")
