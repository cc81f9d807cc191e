"""Random small patch classifiers in Keras, by seed. Imported only where Keras is there."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

_FEWEST = 5  # elements an axis that a window still fits into


@dataclass
class Network:
    """A model; the sizes of its patch; whether its channels stand in front."""

    model: Any
    patch: tuple[int, ...]
    first: bool


def network(seed: int) -> Network:
    """A few layers over one to three axes, a head in one of the ways that there are, one or two outputs."""
    return _Builder(np.random.default_rng(seed)).network()


class _Builder:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.rank = self.one(1, 2, 2, 2, 3)
        self.first = self.rank > 1 and self.chance(0.35)
        self.padded = self.chance(0.4)
        # Those of one axis that pad and crop have no data_format in every Keras.
        self.format = {"data_format": "channels_first" if self.first else "channels_last"}
        self.edges = self.format if self.rank > 1 else {}
        self.axis = 1 if self.first else -1

    def one(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def of_rank(self, name: str) -> Any:
        """A class of layers, such as Conv2D for ``ConvnD``."""
        return getattr(layers, name.replace("nD", f"{self.rank}D"))

    def padding(self) -> str:
        return "same" if self.padded and self.chance(0.6) else "valid"

    def activation(self) -> str:
        return str(self.one("relu", "tanh", "linear", "leaky_relu", "elu", "hard_sigmoid", "gelu"))

    def network(self) -> Network:
        size = {1: 40, 2: 21, 3: 11}[self.rank]
        patch = tuple(size + self.number(0, 5) for _ in range(self.rank))
        channels = self.number(1, 3)
        given = layers.Input([channels, *patch] if self.first else [*patch, channels])
        x = self.of_rank("ConvnD")(self.number(2, 4), 2, **self.format)(given)  # so that the layout is known
        for _ in range(self.number(1, 5)):
            x = self.one(self.convolved, self.pooled, self.depthwise, self.edged, self.pointwise)(x)
        if self.chance(0.5) and min(self.space(x)) >= _FEWEST:
            x = self.branched(x)
        if self.chance(0.3):
            x = self.nested(x)
        vector = self.dense(self.vector(x))
        if self.chance(0.2):
            vector = layers.Concatenate()([vector, layers.Dense(2)(self.vector(x))])
        outputs = [self.output(vector) for _ in range(self.one(1, 1, 1, 2))]
        model = keras.Model(given, outputs if len(outputs) > 1 else outputs[0])
        model.set_weights([self.weight(variable) for variable in model.weights])
        return Network(model, patch, self.first)

    def space(self, x: Any) -> list[int]:
        return list(x.shape[2:] if self.first else x.shape[1:-1])

    def convolved(self, x: Any) -> Any:
        if min(self.space(x)) < _FEWEST:
            return x
        stride, dilation = self.one((1, 1), (2, 1), (1, 2))
        return self.of_rank("ConvnD")(
            self.number(2, 5), self.number(1, 3), strides=stride, dilation_rate=dilation, padding=self.padding(),
            activation=self.activation(), use_bias=self.chance(0.5), **self.format,
        )(x)  # fmt: skip

    def pooled(self, x: Any) -> Any:
        if min(self.space(x)) < _FEWEST:
            return x
        kind = self.of_rank(self.one("MaxPoolingnD", "AveragePoolingnD"))
        return kind(self.number(2, 3), strides=self.number(1, 3), padding=self.padding(), **self.format)(x)

    def depthwise(self, x: Any) -> Any:
        if self.rank == 3 or min(self.space(x)) < _FEWEST:
            return x
        if self.chance(0.5):
            return self.of_rank("SeparableConvnD")(3, 3, padding=self.padding(), **self.format)(x)
        return self.of_rank("DepthwiseConvnD")(
            3, strides=self.number(1, 2), padding=self.padding(), **self.format
        )(x)

    def edged(self, x: Any) -> Any:
        if self.padded and self.chance(0.5):
            return self.of_rank("ZeroPaddingnD")(1, **self.edges)(x)
        return self.of_rank("CroppingnD")(1, **self.edges)(x) if min(self.space(x)) >= _FEWEST else x

    def pointwise(self, x: Any) -> Any:
        shared = [i for i in range(1, self.rank + 2) if i != (1 if self.first else self.rank + 1)]
        return self.one(
            layers.BatchNormalization(axis=self.axis, scale=self.chance(0.5)),
            layers.PReLU(shared_axes=shared),
            layers.ReLU(6.0),
            layers.LeakyReLU(),
            layers.Activation("silu"),
            layers.Rescaling(0.5, offset=-0.1),
            layers.Dropout(0.3),
            self.of_rank("SpatialDropoutnD")(0.2),
        )(x)

    def branched(self, x: Any) -> Any:
        """A branch of a convolution and one of a crop, joined."""
        one = self.of_rank("ConvnD")(3, 3, activation="relu", **self.format)(x)
        pointwise = self.of_rank("ConvnD")(self.number(2, 3), 1, **self.format)(x)
        other = self.of_rank("CroppingnD")(1, **self.edges)(pointwise)
        merges = [layers.Add, layers.Maximum, layers.Multiply, layers.Average, layers.Subtract]
        if one.shape == other.shape and self.chance(0.6):
            return self.one(*merges)()([one, other])
        return layers.Concatenate(axis=self.axis)([one, other])

    def nested(self, x: Any) -> Any:
        """A model in the model, called once or twice."""
        convolution = self.of_rank("ConvnD")(4, 1, activation="relu", **self.format)
        inner = keras.Sequential(
            [layers.Input(x.shape[1:]), convolution, layers.BatchNormalization(axis=self.axis)]
        )
        return layers.Concatenate(axis=self.axis)([inner(x), inner(x)]) if self.chance(0.3) else inner(x)

    def vector(self, x: Any) -> Any:
        """A feature map as a vector."""
        way = self.one("flat", "flat", "permuted", "reshaped", "pooled", "kept")
        if way in ("pooled", "kept"):
            kind = self.of_rank(self.one("GlobalAveragePoolingnD", "GlobalMaxPoolingnD"))
            pooled = kind(keepdims=way == "kept", **self.format)(x)
            return layers.Flatten()(pooled) if way == "kept" else pooled
        if way == "permuted":
            x = layers.Permute([int(i) + 1 for i in self.rng.permutation(self.rank + 1)])(x)
        if way == "reshaped":
            return layers.Reshape((-1,))(x)
        return layers.Flatten(data_format=self.one("channels_last", "channels_first"))(x)

    def dense(self, vector: Any) -> Any:
        """A dense layer, and perhaps others with what stands between such layers."""
        vector = layers.Dense(self.number(3, 6), activation=self.activation())(vector)
        for _ in range(self.number(0, 2)):
            between = self.one(
                layers.BatchNormalization(), layers.LayerNormalization(), layers.PReLU(), layers.Dropout(0.5)
            )
            vector = layers.Dense(self.number(2, 6), activation=self.activation())(between(vector))
        return vector

    def output(self, vector: Any) -> Any:
        way = self.one("softmax", "sigmoid", "layer", "convolution")
        if way in ("softmax", "sigmoid"):
            return layers.Dense(3, activation=way)(vector)
        if way == "layer":
            return self.one(layers.Softmax(), layers.Activation("softmax"))(layers.Dense(4)(vector))
        ones = [1] * self.rank
        single = layers.Reshape([5, *ones] if self.first else [*ones, 5])(
            layers.Dense(5, activation="relu")(vector)
        )
        return layers.Flatten()(self.of_rank("ConvnD")(3, 1, **self.format)(single))

    def weight(self, variable: Any) -> Any:
        """Random numbers that keep the values in range; a variance is positive."""
        drawn = self.rng.standard_normal(variable.shape).astype(np.float32)
        if "variance" in variable.path:
            return np.abs(drawn) + 0.5
        if drawn.ndim > 1:
            return drawn * np.sqrt(2 / np.prod(drawn.shape[:-1])).astype(np.float32)
        return 0.3 * drawn + (1 if "gamma" in variable.path else 0)
