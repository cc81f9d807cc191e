"""``dense2conv translate``: a Keras file as plain ONNX, nothing rewritten."""

from typing import TYPE_CHECKING, Any

import click

from ..convert.errors import NegativeAnswer, RequestError
from . import options
from .guard import at_work_on
from .networks import opened
from .output import Column, in_words, say, show
from .reports import check_reports, write_reports

if TYPE_CHECKING:
    from ..convert.evidence import Check
    from ..convert.model import Model

_COLUMNS = (Column("name", "layer"), Column("kind"), Column("operator"), Column("parameters"))


@click.command("translate")
@click.argument("source", metavar="IN", type=click.Path())
@click.argument("out", metavar="OUT.onnx", type=click.Path())
@options.keras_options
@options.expected_option
@options.provider_option
@options.force_option
@options.report_option
@options.format_option
def command(
    source: str,
    out: str,
    keras: dict[str, Any],
    expected: str | None,
    provider: str,
    force: bool,
    reports: tuple[str, ...],
    format: str,  # noqa: A002
) -> None:
    """Write the Keras file IN as ONNX: the same inputs and outputs, in the same layout, nothing rewritten.

    IN is a model as Keras 1, 2 or 3 saves it (.h5, .hdf5, .keras), or weights with their --config. Keras itself is not
    needed, and nothing of the file is run. Only --expected can say that the translation is right.

    \b
    dense2conv translate model.keras model.onnx --expected outputs.npz
    dense2conv translate model.weights.h5 model.onnx --config model.json
    """
    from ..convert.atomic import check_output
    from ..convert.networks import is_keras
    from ..convert.writing import write_model

    check_output(out, force=force, inputs=[source])
    check_reports(reports, force=force, inputs=[source, out])
    model = opened(source, keras)
    at_work_on(source)
    if not is_keras(source):
        raise RequestError("translate reads Keras files, and this is ONNX already", file=source)
    check = _checked(model, expected, provider)
    write_model(model, out, force=force, inputs=[source])
    at_work_on("")
    assert model.source is not None
    rows = _rows(model)
    document = {
        "input": source,
        "output": out,
        "framework": model.source.framework,
        "notes": list(model.source.notes),
        "layers": rows,
        "check": check.to_json(),
    }
    write_reports(reports, document, rows, _COLUMNS, force=force, inputs=[source, out])
    show(format, document, rows, _COLUMNS)
    say(f"{model.source.framework}: {_interface(model)}")
    say(f"{check.name}: {'not checked: ' if check.verdict is None else ''}{check.text}")
    say(f"wrote {out}")


def _checked(model: "Model", expected: str | None, provider: str) -> "Check":
    """What the framework's own outputs say. Raises ``NegativeAnswer`` where they are others."""
    from ..convert.compare import Verdict
    from ..convert.execute import Session
    from ..convert.expected import NOT_ASKED, on_patches, read_expected

    if expected is None:
        return NOT_ASKED
    check = on_patches(model, Session(model, provider), read_expected(expected))
    if check.verdict is not Verdict.EQUIVALENT:
        raise NegativeAnswer(
            f"nothing was written: {check.text}",
            hint="are these the outputs of this very model? if so, please report this with the file",
        )
    return check


def _rows(model: "Model") -> list[dict[str, Any]]:
    """One row a node: its layer, what Keras and ONNX call it, how many stored numbers it reads."""
    sizes = {}
    for name, tensor in model.initializers().items():
        array = model.array(tensor)
        sizes[name] = array.size if array.dtype.kind == "f" and array.ndim else 0
    return [
        {
            "name": node.name,
            "kind": model.kind(node),
            "operator": node.op_type,
            "parameters": sum(sizes.get(name, 0) for name in node.input),
        }
        for node in model.proto.graph.node
        if not model.relayout(node)
    ]


def _interface(model: "Model") -> str:
    """``image 64x64x3 -> classes 6``, without the batch."""

    def shown(values: Any) -> str:
        sizes = {
            v.name: [d.dim_value if d.HasField("dim_value") else "?" for d in v.type.tensor_type.shape.dim][
                1:
            ]
            for v in values
        }
        return ", ".join(f"{name} {in_words(shape)}" for name, shape in sizes.items())

    return f"{shown(model.proto.graph.input)} -> {shown(model.proto.graph.output)}"
