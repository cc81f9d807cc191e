"""What ``convert`` says of a map: the layers, what it is and the proof of it, and the same as JSON."""

import os
from typing import TYPE_CHECKING, Any

import click

from .analysis import COLUMNS, analysis_document, cost_documents, cost_line, layer_rows, other_method, summary
from .output import VERBOSITY, in_words, say, show
from .proofs import say_proof

if TYPE_CHECKING:
    from ..convert.conversion import Conversion
    from ..convert.evidence import Report
    from .asked import Asked


def is_keras(out: str) -> bool:
    """Whether the map is to be a Keras file, which its name says."""
    return out.lower().endswith((".h5", ".hdf5", ".keras"))


def map_document(
    source: str, out: str, conversion: "Conversion", report: "Report | None", asked: "Asked"
) -> dict[str, Any]:
    """The JSON of a conversion."""
    analysis = conversion.analysis
    document = analysis_document(analysis)
    document |= {
        "input": source,
        "output": out,
        "method": conversion.method,
        "exactness": conversion.exactness,
        "natural_stride": document["stride"],
        "stride": list(conversion.stride),
        "frozen_inputs": conversion.frozen,
        "verify": None if report is None else report.to_json(),
    }
    if asked.method == "exact":
        document |= cost_documents(analysis, _seen(conversion, asked), conversion.stride)
    return document


def _seen(conversion: "Conversion", asked: "Asked") -> tuple[int, ...]:
    """The size of the input for which costs are given."""
    return asked.size or tuple(10 * p for p in conversion.analysis.patch)


def show_map(
    source: str, out: str, conversion: "Conversion", report: "Report | None", asked: "Asked"
) -> None:
    """Print the layers, then what the map is and the proof of it."""
    analysis, seen = conversion.analysis, _seen(conversion, asked)
    if conversion.method == "conv":
        every = click.get_current_context().meta.get(VERBOSITY, 0) > 0
        show(asked.format, None, layer_rows(analysis, every=every), COLUMNS)
        for line in summary(analysis):
            say(line)
    else:
        say(
            f"patches of {in_words(analysis.patch)}, one every {in_words(conversion.stride)} pixels, and the network "
            "itself run on each: exact for every network, padded or not"
        )
    if asked.method == "exact":
        for line in other_method(conversion, seen):
            say(line)
    if conversion.frozen:
        say(f"weights that were inputs with a default are constants now: {', '.join(conversion.frozen)}")
    say_proof(report)
    if conversion.exactness == "border effect":
        onnx = os.path.splitext(out)[0] + ".onnx" if is_keras(out) else out  # noqa: PTH122 - kept as given
        say(f"exact instead: dense2conv convert {source} {onnx} --method exact --force")
        for cost in (
            analysis.cost(seen, conversion.stride, "conv"),
            analysis.cost(seen, conversion.stride, "patches"),
        ):
            say("  " + cost_line(cost, seen))
    say(f"wrote {out}: one vector every {in_words(conversion.stride)} pixels, (input - {in_words(analysis.patch)}) // "
        f"{in_words(conversion.stride)} + 1 of them")  # fmt: skip
