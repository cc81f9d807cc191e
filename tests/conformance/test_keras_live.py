"""Each row of the layer table against Keras itself: random small models, saved by Keras and opened by us.

Keras runs on jax; its own answers are the oracle, within 1e-5 of their scale, from each form of file that it writes.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from dense2conv.convert.keras import open_keras
from dense2conv.convert.keras.layers import LAYERS
from dense2conv.convert.keras.layers.functions import FUNCTIONS
from dense2conv.convert.writing import write_model

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore")]
os.environ.setdefault("KERAS_BACKEND", "jax")

SEEDS = 4
TOLERANCE = 1e-5

# Why a row has no model of Keras 3 here; each of them is checked in tests/convert/keras or by the references.
NOT_LIVE = {
    **dict.fromkeys(
        ("LocallyConnected1D", "LocallyConnected2D", "ThresholdedReLU", "RandomHeight", "RandomWidth"),
        "Keras 3 has no such layer",
    ),
    **dict.fromkeys(("TFOpLambda", "SlicingOpLambda"), "how Keras 2 writes functions of TensorFlow"),
    "ops.Identity": "Keras 3 writes it as a layer",
}
# Why an activation by name has none.
NOT_NAMES = {
    **dict.fromkeys(("softmax_v2", "log_softmax_v2"), "how TensorFlow 2 names them"),
    "threshold": "it has no defaults; ops.Threshold",
    "ThresholdedReLU": "a layer of Keras 2",
    **dict.fromkeys(("ReLU", "LeakyReLU", "ELU", "Softmax"), "a layer"),
}

# Keras 3.15 cannot write these as HDF5: it copies the configuration, in which there is a module.
NOT_HDF5 = frozenset(("RandomBrightness", "RandomSaturation", "RandomSharpness"))


@pytest.fixture(scope="module")
def models() -> Any:
    pytest.importorskip("keras", reason="pip install -e '.[keras]'")
    from . import keras_models

    return keras_models


def answers(path: Path, config: Path | None, given: list[Any], target: Path) -> list[Any]:
    model = open_keras(str(path), config=str(config) if config else None)
    write_model(model, str(target), force=True)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return list(session.run(None, dict(zip(names, given, strict=True))))


def check(model: Any, given: list[Any], folder: Path, *, hdf5: bool = True) -> float:
    """Save ``model`` in each form; return the worst difference from its own answers, in parts of their scale."""
    expected = model(given if len(given) > 1 else given[0], training=False)
    expected = [np.asarray(y) for y in (expected if isinstance(expected, list) else [expected])]
    model.save(folder / "m.keras")
    if hdf5:
        model.save(folder / "m.h5")
    model.save_weights(folder / "m.weights.h5")
    (folder / "m.json").write_text(model.to_json())
    worst = 0.0
    for name, config in (("m.keras", None), ("m.h5", None), ("m.weights.h5", folder / "m.json")):
        if not (folder / name).exists():
            continue
        found = answers(folder / name, config, given, folder / "m.onnx")
        assert [y.shape for y in found] == [y.shape for y in expected], name
        for y, e in zip(found, expected, strict=True):
            worst = max(worst, float(np.abs(y - e).max() / max(np.abs(e).max(), 1e-3)))
    return worst


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("row", sorted(set(LAYERS) - set(NOT_LIVE)))
def test_a_row_is_what_keras_computes(row: str, seed: int, models: Any, tmp_path: Path) -> None:
    assert check(*models.build(row, seed), tmp_path, hdf5=row not in NOT_HDF5) < TOLERANCE


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - set(NOT_NAMES)))
def test_an_activation_is_what_keras_computes(name: str, models: Any, tmp_path: Path) -> None:
    keras = models.keras
    inputs = keras.Input((5, 4))
    outputs = [keras.layers.Dense(4, activation=name)(inputs), keras.layers.Activation(name)(inputs)]
    model = keras.Model(inputs, outputs)
    given = np.random.default_rng(0).normal(0, 2, (3, 5, 4)).astype(np.float32)
    assert check(model, [given], tmp_path) < TOLERANCE


def test_every_row_has_a_case_or_a_reason(models: Any) -> None:
    assert set(models.CASES) | set(NOT_LIVE) >= set(LAYERS)
    assert not set(models.CASES) & set(NOT_LIVE)
