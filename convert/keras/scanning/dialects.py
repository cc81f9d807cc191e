"""A flat network as the configuration that one of two Keras versions reads.

What a layer says is kept as it was read, and in the words of the version that is written::

                        Keras 2                              Keras 3
    calls               [[["conv", 0, 0, {}]]]               [{"args": [tensor], "kwargs": {}}]
    input's shape       batch_input_shape                    batch_shape
    policy              "float32", or a Policy               a DTypePolicy
    LeakyReLU           alpha                                negative_slope
    batch norm's axis   a list, or a number                  a number

Where the file was another version's, only arguments that both versions know are written (``_SHARED``).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..network import Layer, Origin, Tensor
from .draft import Written

# Arguments of Keras 2 that mean the same in Keras 3, of all the layers that a map may have.
_SHARED = frozenset({
    "name", "trainable", "filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups",
    "depth_multiplier", "activation", "use_bias", "units", "pool_size", "cropping", "size", "interpolation", "axis",
    "momentum", "epsilon", "center", "scale", "offset", "mean", "variance", "alpha", "negative_slope", "max_value",
    "threshold", "theta", "shared_axes", "rate", "noise_shape", "seed", "stddev", "dims", "dtype", "l1", "l2", "invert",
})  # fmt: skip
_TRAINING = ("_initializer", "_regularizer", "_constraint")  # of Keras 2 and 3; Keras 1 has others

# What only says of the first layer what its input is: a Functional network has an InputLayer for that.
_INPUT = ("batch_input_shape", "batch_shape", "input_shape", "input_dim", "input_length", "input_dtype")

_OF_CONVOLUTIONS = ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint")


@dataclass(frozen=True)
class Dialect:
    """The Keras that a file is written for."""

    version: tuple[int, ...]
    backend: str

    @property
    def major(self) -> int:
        """2 or 3."""
        return self.version[0]

    @property
    def text(self) -> str:
        """The version as Keras writes it."""
        return ".".join(map(str, self.version))


KERAS2 = Dialect((2, 15, 0), "tensorflow")  # the last Keras 2, whose files Keras 3 reads as well


def keras3(origin: Origin) -> Dialect:
    """Keras 3: the version of a file that is Keras 3's itself, else the first."""
    return Dialect(origin.version if origin.major > 2 else (3, 0, 0), origin.backend or "tensorflow")


def configuration(written: Written, origin: Origin, dialect: Dialect) -> dict[str, Any]:
    """The configuration ``{"class_name": "Functional", "config": ..}`` of a network that ``origin`` was read from."""
    nodes = _nodes(written, dialect)
    layers = []
    for layer in written.network.layers:
        kind, config = _layer(layer, origin, dialect)
        entry = {"class_name": kind, "config": config, "name": layer.name, "inbound_nodes": nodes[layer.name]}
        layers.append(_placed(entry, dialect))
    places = _places(written)
    inputs = [[*places[tensor]] for tensor in written.network.inputs]
    outputs = [[*places[tensor]] for tensor in written.network.outputs]
    single = dialect.major > 2  # Keras 3 writes a single one without a list around it
    config = {
        "name": written.network.name,
        "trainable": True,
        "layers": layers,
        "input_layers": inputs[0] if single and len(inputs) == 1 else inputs,
        "output_layers": outputs[0] if single and len(outputs) == 1 else outputs,
    }
    whole: dict[str, Any] = {"class_name": "Functional", "config": config}
    if dialect.major > 2:
        whole |= {"module": "keras.src.models.functional", "registered_name": "Functional"}
    return whole


def _placed(entry: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    """A layer's entry, in Keras 3 with where its class is."""
    return entry if dialect.major < 3 else {"module": "keras.layers", "registered_name": None, **entry}


def _places(written: Written) -> dict[Tensor, tuple[str, int, int]]:
    """Each call's output as layer, node (the how manieth call of that layer), and 0: layers here have one output."""
    calls: Counter[str] = Counter()
    found = {}
    for number, call in enumerate(written.network.calls):
        found[Tensor(number)] = (call.layer.name, calls[call.layer.name], 0)
        calls[call.layer.name] += 1
    return found


def _nodes(written: Written, dialect: Dialect) -> dict[str, list[Any]]:
    """The calls of each layer, as ``inbound_nodes`` has them."""
    places = _places(written)
    found: dict[str, list[Any]] = {layer.name: [] for layer in written.network.layers}

    def tensor(value: Tensor) -> Any:
        if dialect.major < 3:
            return [*places[value], {}]
        shape = [None, *written.shapes[value.call]]
        history = list(places[value])
        config = {"shape": shape, "dtype": "float32", "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": config}

    for call in written.network.calls:
        if not call.arguments:
            continue
        (read,) = call.arguments
        given = [tensor(value) for value in read] if isinstance(read, list) else tensor(read)
        if dialect.major > 2:
            found[call.layer.name].append({"args": [given], "kwargs": {}})
        else:
            found[call.layer.name].append(given if isinstance(read, list) else [given])
    return found


def _layer(layer: Layer, origin: Origin, dialect: Dialect) -> tuple[str, dict[str, Any]]:
    """A layer's class and arguments in the dialect."""
    if layer.kind == "InputLayer":
        word = "batch_input_shape" if dialect.major < 3 else "batch_shape"
        shape = list(layer.config["batch_shape"])
        return layer.kind, {word: shape, "dtype": _input_type(layer), "sparse": False, "name": layer.name}
    kind, config = layer.kind, {key: value for key, value in layer.config.items() if key not in _INPUT}
    if not kind.startswith("Spatial"):
        config.setdefault("trainable", True)  # what has neither it nor a dtype is no layer to Keras 3
    elif dialect.major > 2:
        config.pop("trainable", None)  # those take no such argument there
    if kind.startswith(("Depthwise", "Separable")):
        # Keras 2.15 writes these for them too, and Keras 3 refuses them.
        config = {key: value for key, value in config.items() if key not in _OF_CONVOLUTIONS}
    if dialect.major < 3 and "dtype" in config:
        config["dtype"] = _type(config["dtype"])
    if origin.major == dialect.major:
        return kind, config
    training = () if origin.major == 1 else _TRAINING
    config = {key: value for key, value in config.items() if key in _SHARED or key.endswith(training)}
    if kind == "GaussianNoise" and "sigma" in layer.config:  # Keras 1
        config["stddev"] = layer.config["sigma"]
    return (kind, config) if dialect.major < 3 else _in_keras3(kind, config)


def _input_type(layer: Layer) -> Any:
    given = layer.config.get("dtype")
    return given if isinstance(given, str) else "float32"


def _in_keras3(kind: str, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Arguments of Keras 2 in the words of Keras 3."""
    for key, value in config.items():
        if (
            key.endswith("_initializer")
            and isinstance(value, Mapping)
            and isinstance(value.get("config"), Mapping)
        ):
            inner = {k: v for k, v in value["config"].items() if k != "dtype"}  # the variable's type decides
            config[key] = {**value, "config": inner}
    if isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
        config["axis"] = config["axis"][0]
    if "dtype" in config:
        config["dtype"] = _policy(config["dtype"])
    if "activation" in config:
        config["activation"] = _activation(config["activation"])
    if kind == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
    if kind == "ThresholdedReLU":
        kind, config["threshold"] = "ReLU", config.pop("theta", 1.0)
    return kind, config


def _policy(given: Any) -> Any:
    """A layer's dtype: a type's name or a policy, as Keras 3's policy."""
    config = {"name": _type(given)}
    return {"module": "keras", "class_name": "DTypePolicy", "config": config, "registered_name": None}


def _type(given: Any) -> Any:
    """A type or policy by its name, which every Keras 2 and 3 can read; 3 cannot read a policy of 2."""
    return given["config"]["name"] if isinstance(given, Mapping) else given


def _activation(given: Any) -> Any:
    """An activation of Keras 2 for Keras 3: a name, or a layer."""
    if isinstance(given, Mapping) and given.get("class_name") != "function":
        kind, config = _in_keras3(str(given.get("class_name")), dict(given.get("config") or {}))
        return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}
    word = given["config"] if isinstance(given, Mapping) else given
    return word.removesuffix("_v2") if isinstance(word, str) else word
