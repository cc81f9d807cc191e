"""A model's configuration, in any of Keras's dialects, as a ``Network``.

Three dialects say what a call reads::

    Keras 1    [["conv", 0, 0], ...]                     layer, node, tensor
    Keras 2    [["conv", 0, 0, {keywords}], ...]         the same; operators are flat: ["conv", 0, 0, {"y": 2.0}]
    Keras 3    {"args": [{"class_name": "__keras_tensor__", "config": {"keras_history": ["conv", 0, 0]}}], "kwargs": {}}

A node is one call of a layer, counted from 0 in the order of the layer's ``inbound_nodes``. For a nested model
the count starts at 1 in Keras 1 and 2 (its own construction is node 0, and is not written); in Keras 3 it does so in
``input_layers`` and ``output_layers`` only, and only for nested Functional models.
"""

from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

from ..errors import FileError
from .keras1 import modern
from .network import Call, Layer, Network, Origin, Tensor, tensors

_MODELS = ("Sequential", "Functional", "Model")
_PACKAGES = ("keras", "tf_keras", "tensorflow")  # a layer's module begins with one of them
_OPERATORS = ("TFOpLambda", "SlicingOpLambda")
_DEEPEST = 30  # models in models


class _Reference(NamedTuple):
    """An output of a call that another call reads, as the file names it."""

    layer: str
    node: int
    tensor: int


def read_network(config: Mapping[str, Any], origin: Origin) -> Network:
    """The network that a model's configuration ``{"class_name": .., "config": ..}`` describes.

    Raises ``FileError`` where it is no model, or what it cites is not there.
    """
    try:
        return _Reader(origin).model(config, 0)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise FileError(
            f"the model's configuration is not what Keras writes: {type(error).__name__}: {error}",
            hint="was the file written by Keras, or edited by hand?",
        ) from error


class _Reader:
    """Reads models of one origin."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin

    def model(self, config: Mapping[str, Any], depth: int) -> Network:
        kind = config["class_name"]
        if kind not in _MODELS:
            raise FileError(
                f"a model is {', '.join(_MODELS)}, but this is {kind!r}",
                hint="a subclassed model has no architecture in its file: rebuild it with the functional interface",
            )
        if depth > _DEEPEST:
            raise FileError(f"models may be nested {_DEEPEST} deep, but these are deeper")
        inner = config["config"]
        if kind == "Sequential":
            return self._sequential(inner, depth)
        if "layers" not in inner:  # a subclass of Model that keeps its own arguments only
            raise FileError("the model has no list of layers", hint="a subclassed model must be rebuilt")
        return self._functional(inner, depth)

    def _layer(self, entry: Mapping[str, Any], depth: int) -> Layer:
        """One entry of ``layers``, which may be a model."""
        kind = entry["class_name"]
        config = entry["config"]
        if kind in _MODELS:
            inner = self.model(entry, depth + 1)
            name = (
                entry.get("name") or (config.get("name") if isinstance(config, Mapping) else "") or inner.name
            )
            return Layer(kind, str(name), config if isinstance(config, Mapping) else {}, inner=inner)
        name = str(entry.get("name") or config.get("name", kind))
        module = str(entry.get("module") or "keras")
        if module.split(".")[0] not in _PACKAGES:
            raise FileError(
                f"only Keras's own layers are known, but this is {kind!r} of {module!r}",
                layer=name,
                hint="rebuild the model with layers of Keras",
            )
        if self.origin.major == 1:
            kind, config = modern(kind, config, name)
        elif _is_operation(kind, config, module, self.origin):
            kind = f"ops.{kind}"
        wrapped = self._layer(config["layer"], depth) if isinstance(config.get("layer"), Mapping) else None
        return Layer(kind, name, config, wrapped=wrapped)

    def _sequential(self, config: Any, depth: int) -> Network:
        """Layers in a row. The first says the input's shape, unless it is an InputLayer or the model itself does."""
        entries = config["layers"] if isinstance(config, Mapping) else config
        name = str(config.get("name", "sequential")) if isinstance(config, Mapping) else "sequential"
        calls: list[Call] = []
        layers: list[Layer] = []
        inputs: list[Tensor] = []
        first = entries[0] if entries else None
        if first is not None and first["class_name"] == "Merge":  # Keras 1: branches, joined in front
            branches = [self._layer(branch, depth) for branch in first["config"]["layers"]]
            outputs = []
            for branch in branches:
                assert branch.inner is not None
                for read in branch.inner.inputs:
                    inputs.append(Tensor(len(calls)))
                    calls.append(branch.inner.calls[read.call])
                outputs.append(Tensor(len(calls)))
                calls.append(Call(branch, tuple(inputs[-len(branch.inner.inputs) :])))
            merge = self._layer(first, depth)
            calls.append(Call(merge, (tuple(outputs),)))
            layers += [*branches, merge]
            entries = entries[1:]
        for entry in entries:
            layer = self._layer(entry, depth)
            layers.append(layer)
            if not calls:
                given = layer if layer.kind == "InputLayer" else _input_of(layer, config)
                inputs.append(Tensor(0))
                calls.append(Call(given))
                if layer.kind == "InputLayer":
                    continue
            calls.append(Call(layer, (Tensor(len(calls) - 1),)))
        if not calls:
            raise FileError("a model must have layers, but this one has none")
        return Network(name, tuple(layers), tuple(calls), tuple(inputs), (Tensor(len(calls) - 1),))

    def _functional(self, config: Mapping[str, Any], depth: int) -> Network:
        """A graph of layers."""
        layers: dict[str, Layer] = {}
        written: list[tuple[Layer, Any]] = []  # each call with the node as the file has it
        first: dict[str, int] = {}  # a layer's first call
        for entry in config["layers"]:
            layer = self._layer(entry, depth)
            if layer.name in layers:
                raise FileError("a layer's name must stand once, but it is there twice", layer=layer.name)
            layers[layer.name] = layer
            first[layer.name] = len(written)
            nodes = entry.get("inbound_nodes") or []
            if layer.kind == "InputLayer":
                nodes = [None]
            written += [(layer, node) for node in nodes]
        counts = {name: sum(1 for layer, _ in written if layer.name == name) for name in layers}

        def resolve(reference: _Reference, declared: bool) -> Tensor:
            if reference.layer not in layers:
                raise FileError(f"a call reads {reference.layer!r}, but there is no such layer")
            shift = self._first_node(layers[reference.layer], declared)
            node = reference.node - shift
            if node < 0 and reference.node < counts[reference.layer]:
                node = reference.node
            if not 0 <= node < counts[reference.layer]:
                raise FileError(
                    f"a call reads call {reference.node} of a layer that has {counts[reference.layer]}",
                    layer=reference.layer,
                )
            return Tensor(first[reference.layer] + node, reference.tensor)

        calls = []
        for layer, node in written:
            arguments, keywords = _arguments(node, layer, lambda reference: resolve(reference, False))
            calls.append(Call(layer, arguments, keywords))
        inputs = [resolve(reference, True) for reference in _declared(config["input_layers"])]
        outputs = [resolve(reference, True) for reference in _declared(config["output_layers"])]
        order = _in_order(calls)
        place = {old: new for new, old in enumerate(order)}

        def moved(value: Any) -> Any:
            return _replaced(value, lambda tensor: Tensor(place[tensor.call], tensor.index))

        return Network(
            str(config.get("name", "model")),
            tuple(layers.values()),
            tuple(Call(calls[i].layer, moved(calls[i].arguments), moved(calls[i].keywords)) for i in order),
            tuple(moved(inputs)),
            tuple(moved(outputs)),
        )

    def _first_node(self, layer: Layer, declared: bool) -> int:
        """The number of a layer's first call, where the file cites it."""
        if layer.inner is None:
            return 0
        return int(self.origin.major < 3 or (declared and layer.kind != "Sequential"))


def _is_operation(kind: str, config: Mapping[str, Any], module: str, origin: Origin) -> bool:
    """Whether a Keras 3 entry is a function of ``keras.ops``, such as ``x * 2``, and no layer.

    A ``.keras`` says it with the module; in a ``.h5`` only layers say their dtype, but for the one that Cast makes.
    """
    if origin.major < 3 or kind == "InputLayer":
        return False
    return ".ops." in module or (
        module == "keras" and "trainable" not in config and ("dtype" not in config or kind == "Cast")
    )


def _input_of(layer: Layer, model: Any) -> Layer:
    """The input that the first layer of a Sequential model implies."""
    inner = layer
    while inner.inner is not None:  # a model in front: its own input
        inner = inner.inner.calls[inner.inner.inputs[0].call].layer
    config = inner.config
    shape = config.get("batch_input_shape") or config.get("batch_shape")
    if shape is None and isinstance(model, Mapping):
        shape = model.get("build_input_shape")
    if shape is None and config.get("input_dim"):
        shape = [None, config["input_dim"]]
    if shape is None:
        raise FileError(
            "the input's shape is not in the file: the model was saved before it was built",
            layer=layer.name,
            hint="build the model, or give its first layer an input_shape, and save it again",
        )
    return Layer("InputLayer", f"{layer.name}_input", {"batch_shape": shape, "dtype": config.get("dtype")})


def _declared(given: Any) -> list[_Reference]:
    """``input_layers`` or ``output_layers``: one reference, a list of them, or a dictionary."""
    if isinstance(given, Mapping):
        given = list(given.values())
    if len(given) == 3 and isinstance(given[0], str):
        given = [given]
    return [_Reference(str(layer), int(node), int(tensor)) for layer, node, tensor in given]


def _arguments(
    node: Any, layer: Layer, resolve: Callable[[_Reference], Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments and keywords, from what ``inbound_nodes`` has of it."""
    if node is None:
        return (), {}
    if isinstance(node, Mapping):  # Keras 3

        def read(value: Any) -> Any:
            if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
                return resolve(_Reference(*value["config"]["keras_history"]))
            if isinstance(value, Mapping):
                return {key: read(item) for key, item in value.items()}
            return [read(item) for item in value] if isinstance(value, list) else value

        return tuple(read(value) for value in node["args"]), {k: read(v) for k, v in node["kwargs"].items()}
    if layer.kind in _OPERATORS:  # Keras 2: keywords may be tensors too

        def operand(value: Any) -> Any:
            if isinstance(value, list) and [type(v) for v in value[:3]] == [str, int, int]:
                return resolve(_Reference(*value[:3]))
            return [operand(item) for item in value] if isinstance(value, list) else value

        entries = [node] if isinstance(node[0], str) else node
        keywords = {k: operand(v) for k, v in entries[0][3].items()} if len(entries[0]) > 3 else {}
        # A number in front, as in 2 - x, is ["_CONSTANT_VALUE", -1, 2.0, {"y": ..}] (keras/engine/node.py).
        return tuple(
            entry[2] if entry[0] == "_CONSTANT_VALUE" else resolve(_Reference(*entry[:3]))
            for entry in entries
        ), keywords
    entries = list(node.values()) if isinstance(node, Mapping) else node
    read_tensors = [resolve(_Reference(*entry[:3])) for entry in entries]
    keywords = dict(entries[0][3]) if entries and len(entries[0]) > 3 else {}
    return (read_tensors[0] if len(read_tensors) == 1 else read_tensors,), keywords


def _in_order(calls: Sequence[Call]) -> list[int]:
    """The numbers of the calls, each behind those that it reads; as they stand where that is such an order."""
    missing = [{tensor.call for tensor in tensors([*call.arguments, call.keywords])} for call in calls]
    readers: dict[int, list[int]] = {}
    for number, read in enumerate(missing):
        for source in read:
            readers.setdefault(source, []).append(number)
    ready = [number for number, read in enumerate(missing) if not read]  # ascending, hence a heap
    order = []
    while ready:
        number = heappop(ready)
        order.append(number)
        for reader in readers.get(number, []):
            missing[reader].discard(number)
            if not missing[reader]:
                heappush(ready, reader)
    if len(order) < len(calls):
        stuck = next(call.layer.name for number, call in enumerate(calls) if missing[number])
        raise FileError("calls must not read each other in a circle", layer=stuck)
    return order


def _replaced(value: Any, replace: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with every tensor in it replaced."""
    if isinstance(value, Tensor):
        return replace(value)
    if isinstance(value, Mapping):
        return {key: _replaced(item, replace) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_replaced(item, replace) for item in value)
    return value
