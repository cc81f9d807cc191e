"""One layer, or a few, from a configuration as Keras 2 writes it, run in ONNX Runtime."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

from dense2conv.convert.keras.architecture import read_network
from dense2conv.convert.keras.network import Origin
from dense2conv.convert.keras.translation import translate

RNG = np.random.default_rng(42)
K1, K2, K3 = (1, 2, 2), (2, 15, 0), (3, 15, 1)


def draw(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def model_of(
    layers: Sequence[tuple[str, Mapping[str, Any], Any]], shapes: Sequence[Sequence[int | None]]
) -> dict[str, Any]:
    """A functional model of Keras 2: inputs ``x0``, ``x1``, ..., then ``layers`` (class, config, inbound nodes)."""
    entries = [
        {
            "class_name": "InputLayer",
            "name": f"x{i}",
            "config": {"batch_input_shape": [None, *shape]},
            "inbound_nodes": [],
        }
        for i, shape in enumerate(shapes)
    ]
    for number, (kind, config, nodes) in enumerate(layers):
        name = f"l{number}"
        config = {"name": name, "dtype": "float32", "trainable": True, **config}
        entries.append({"class_name": kind, "name": name, "config": config, "inbound_nodes": nodes})
    last = entries[-1]["name"]
    inputs = [[f"x{i}", 0, 0] for i in range(len(shapes))]
    return {
        "class_name": "Functional",
        "config": {"layers": entries, "input_layers": inputs, "output_layers": [[last, 0, 0]]},
    }


def run(
    kind: str,
    config: Mapping[str, Any],
    inputs: Sequence[np.ndarray],
    arrays: Sequence[np.ndarray] = (),
    version: tuple[int, ...] = K2,
    *,
    keywords: Mapping[str, Any] | None = None,
    node: Any = None,
    backend: str = "",
    moved: bool = False,
) -> np.ndarray:
    """The output of one layer in ONNX Runtime. ``moved``: behind a pool of one element, whose channels lie in front."""
    rank = inputs[0].ndim - 2
    first = f"MaxPooling{rank}D"
    front = [(first, {"pool_size": [1] * rank, "padding": "valid"}, [[["x0", 0, 0, {}]]])] if moved else []
    names = ["l0" if moved and i == 0 else f"x{i}" for i in range(len(inputs))]
    node = node or [[name, 0, 0, dict(keywords or {})] for name in names]
    described = model_of([*front, (kind, config, [node])], [x.shape[1:] for x in inputs])
    origin = Origin(version, backend)
    stored = {(f"l{len(front)}",): [(f"array_{i}", array) for i, array in enumerate(arrays)]}
    return execute(translate(read_network(described, origin), stored, origin), inputs)


def execute(model: Any, inputs: Sequence[np.ndarray]) -> np.ndarray:
    proto = model.proto
    for tensor in proto.graph.initializer:
        if tensor.name in model.weights:
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(np.ascontiguousarray(model.weights[tensor.name]), tensor.name)
            )
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[0])


def same(found: np.ndarray, expected: np.ndarray) -> None:
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * max(float(np.abs(expected).max()), 1e-3)
