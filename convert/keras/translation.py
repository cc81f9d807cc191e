"""A Keras network, with its arrays, as an ONNX model.

The calls are translated in order; a nested model is its calls, with its inputs bound to what it is called with. The
large arrays become the model's weights as they are: views, transposed where ONNX wants other axes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from ... import __version__
from ..errors import FileError
from ..model import Array, Model
from .emit import Graph, Value
from .kernels import modern
from .layers import LAYERS, REFUSED
from .network import Call, Layer, Network, Origin, Path, Tensor, leaves, tensors
from .step import Activation, Options, Step

OPSET = 17  # the oldest with LayerNormalization; newer ones move attributes and slow AveragePool down
IR_VERSION = 8

Arrays = Mapping[Path, Sequence[tuple[str, Array]]]
"""Each layer's stored arrays in Keras's order, with their names in the file."""

# What a call may be told besides its tensors, at inference. In Keras 3 predict() overrules a call's ``training``
# (keras/src/models/functional.py, operation_fn), which it writes for augmentation; before, the call overruled.
_HARMLESS: Mapping[str, tuple[Any, ...]] = {"training": (None, False, 0), "mask": (None,)}


def translate(
    network: Network,
    arrays: Arrays,
    origin: Origin,
    *,
    flip: bool | None = None,
    activations: Mapping[str, Activation] | None = None,
    notes: Sequence[str] = (),
) -> Model:
    """The ONNX model of ``network``; inputs and outputs in its order and under its layers' names.

    ``flip``: whether kernels are those of a true convolution; default what ``origin`` says. ``activations``: known
    activations by the names of custom ones. Raises ``FileError``, which names the layer, for a layer or an argument
    that is not supported, and for arrays that do not fit.
    """
    options = options_of(network, origin, flip, activations or {})
    return _Translation(arrays, options).model(network, notes)


def options_of(
    network: Network, origin: Origin, flip: bool | None, activations: Mapping[str, Activation]
) -> Options:
    """What holds for all layers of a network; arguments as in ``translate``."""
    stated = [(layer.kind, layer.config.get("data_format")) for _, layer in leaves(network)]
    words = [(kind, word) for kind, word in stated if word in ("channels_first", "channels_last")]
    # These have a default that nobody had to change, whatever the layout is.
    sure = [word for kind, word in words if kind != "Flatten" and not kind.startswith("SpatialDropout")]
    found = [*sure, *(word for _, word in words), "channels_last"]
    return Options(
        origin,
        found[0],
        activations,
        origin.theano if flip is None else flip,
    )


class _Translation:
    """One model while it is translated."""

    def __init__(self, arrays: Arrays, options: Options) -> None:
        self.arrays, self.options = arrays, options
        self.graph = Graph(_float_type(arrays))

    def model(self, network: Network, notes: Sequence[str]) -> Model:
        graph, origin = self.graph, self.options.origin
        inputs = [_input(network.calls[tensor.call].layer, graph) for tensor in network.inputs]
        outputs = self._run(network, inputs, ())
        names = _unique([network.calls[tensor.call].layer.name for tensor in network.outputs])
        given = {value.own: value for value in inputs}
        first = {
            name: value.shape[0]
            for name, value in {**given, **dict(zip(names, outputs, strict=True))}.items()
        }
        proto = helper.make_model(
            graph.proto(network.name, given, dict(zip(names, outputs, strict=True)), first),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="dense2conv",
            producer_version=__version__,
        )
        framework = " ".join(filter(None, ["Keras", ".".join(map(str, origin.version)), origin.backend]))
        source = graph.source(framework, _order(inputs, self.options), _half(network, graph), notes)
        return Model(proto, graph.weights, source=source)

    def _run(self, network: Network, inputs: Sequence[Value], prefix: Path) -> list[Value]:
        """Translate the calls of a model; return its outputs."""
        bound = dict(zip(network.inputs, inputs, strict=True))
        values: dict[Tensor, Value] = {}

        def value_of(tensor: Tensor) -> Value:
            if tensor not in values:
                raise FileError(
                    f"a call gives no output {tensor.index}", layer=network.calls[tensor.call].layer.name
                )
            return values[tensor]

        for number, call in enumerate(network.calls):
            if call.layer.kind == "InputLayer":
                if Tensor(number) not in bound:
                    raise FileError("an InputLayer must be an input of its model", layer=call.layer.name)
                values[Tensor(number)] = bound[Tensor(number)]
                continue
            call_inputs = [value_of(tensor) for tensor in tensors([*call.arguments, call.keywords])]
            made = self._call(call, call_inputs, (*prefix, call.layer.name), values)
            values.update({Tensor(number, index): value for index, value in enumerate(made)})
        return [value_of(tensor) for tensor in network.outputs]

    def _call(
        self, call: Call, inputs: list[Value], path: Path, values: Mapping[Tensor, Value]
    ) -> list[Value]:
        layer = call.layer
        if layer.inner is not None:
            if len(inputs) != len(layer.inner.inputs):
                raise FileError(
                    f"a model of {len(layer.inner.inputs)} inputs is called with {len(inputs)}",
                    layer="/".join(path),
                )
            return self._run(layer.inner, inputs, path)
        operator = layer.kind.startswith("ops.") or layer.kind.endswith("OpLambda")
        for name, value in call.keywords.items():
            if name == "training" and self.options.origin.major > 2:
                continue
            if not operator and value not in _HARMLESS.get(name, ()) and not list(tensors(value)):
                raise FileError(f"a call with {name}={value!r} is not supported", layer="/".join(path))
        if not operator and any(argument not in (None, False) for argument in _plain(call.arguments[1:])):
            raise FileError(
                f"a call with the arguments {list(_plain(call.arguments[1:]))} is not supported",
                layer="/".join(path),
            )
        rule = LAYERS.get(layer.kind)
        if rule is None:
            reason = REFUSED.get(layer.kind, "it is not known")
            raise FileError(
                f"the layer {layer.kind} is not supported: {reason}",
                layer="/".join(path),
                hint="README lists the layers that are; replace it in Keras, or export the model to ONNX",
            )
        stored = self.arrays.get(path, ())
        kernels = modern(
            layer.wrapped or layer, [array for _, array in stored], self.options.origin, self.options.flip
        )
        left = iter(list(zip([name for name, _ in stored], kernels, strict=True)))
        bound = {tensor: values[tensor] for tensor in tensors([*call.arguments, call.keywords])}
        step = Step(
            layer, "/".join(path), inputs, _bound(call.arguments, bound), _bound(call.keywords, bound), self.graph,
            self.options, left,
        )  # fmt: skip
        result = rule(step)
        unread = [name for name, _ in left]
        if unread:
            raise FileError(
                f"{layer.kind} has no use for {len(unread)} of its arrays: {', '.join(unread[:4])}",
                layer=step.name,
                hint="do the weights belong to this architecture?",
            )
        return [result]


def _plain(arguments: Sequence[Any]) -> list[Any]:
    """The arguments in which there is no tensor."""
    return [argument for argument in arguments if not list(tensors([argument]))]


def _float_type(arrays: Arrays) -> int:
    """The type of the graph's floats: half precision where all stored floats are, else single."""
    types = {array.dtype for stored in arrays.values() for _, array in stored if array.dtype.kind == "f"}
    return int(TensorProto.FLOAT16 if types == {np.dtype(np.float16)} else TensorProto.FLOAT)


def _input(layer: Layer, graph: Graph) -> Value:
    shape = layer.config.get("batch_shape") or layer.config.get("batch_input_shape")
    if (
        not isinstance(shape, (list, tuple))
        or not shape
        or not all(n is None or isinstance(n, int) for n in shape)
    ):
        raise FileError(f"an input's shape must be sizes, but it is {shape!r}", layer=layer.name)
    if any(n is not None and not 0 < n < 1 << 31 for n in shape):
        raise FileError(f"an input's sizes must be positive, but they are {list(shape)}", layer=layer.name)
    return Value(tuple(shape), own=graph.fresh(layer.name))


def _order(inputs: Sequence[Value], options: Options) -> str:
    """The axes of an image or volume in letters; nothing else says which of them are the channels."""
    if len(inputs) != 1 or inputs[0].rank not in (4, 5):
        return ""
    letters = "HW" if inputs[0].rank == 4 else "DHW"
    return f"{letters}C" if options.data_format == "channels_last" else f"C{letters}"


def _half(network: Network, graph: Graph) -> bool:
    """Whether Keras computed in half precision: by the layers' policies, or because all that is stored is half."""
    policies = []
    for _, layer in leaves(network):
        policy = layer.config.get("dtype")
        if isinstance(policy, Mapping):
            inner = policy.get("config")
            policy = inner.get("name") if isinstance(inner, Mapping) else None
        policies.append(str(policy))
    return graph.dtype == TensorProto.FLOAT16 or any("float16" in policy for policy in policies)


def _unique(names: Sequence[str]) -> list[str]:
    """Names with a number behind those that were there before."""
    return [
        name if name not in names[:i] else f"{name}_{names[:i].count(name)}" for i, name in enumerate(names)
    ]


def _bound(value: Any, values: Mapping[Tensor, Value]) -> Any:
    """``value`` with each tensor in it as the value that it is."""
    if isinstance(value, Tensor):
        return values[value]
    if isinstance(value, Mapping):
        return {key: _bound(item, values) for key, item in value.items()}
    return type(value)(_bound(item, values) for item in value) if isinstance(value, (list, tuple)) else value
