"""One call of the patch network while the map is written: what its rule may ask for.

A rule takes a ``Turn``, adds the layers of the map that stand for the call, and returns its value. What is not
touched keeps its arguments as the file has them.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import FileError
from ...model import Array
from ..kernels import modern
from ..network import Layer, Path
from ..step import Step
from .draft import Draft
from .scanned import Scanned

Rule = Callable[["Turn"], Scanned]

# What every layer has, and what stays where one layer takes the place of another.
COMMON = ("name", "trainable", "dtype")

_HINT = "convert it to .onnx instead: there the rewrite has more freedom"


@dataclass
class Turn:
    """One call. ``read`` is the layer's arguments; ``inputs`` its tensors in order; ``stride`` that of the map.

    ``arguments`` and ``keywords`` are the call's, with tensors as ``Scanned``.
    """

    layer: Layer
    path: Path
    read: Step
    inputs: Sequence[Scanned]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    stored: Sequence[Array]
    draft: Draft
    stride: tuple[int, ...]

    @property
    def value(self) -> Scanned:
        """The one input. Raises ``FileError`` where there are several."""
        if len(self.inputs) != 1:
            raise self.refusal(
                f"{self.layer.kind} reads one tensor, but this call reads {len(self.inputs)}", ""
            )
        return self.inputs[0]

    @property
    def arrays(self) -> list[Array]:
        """The layer's arrays as Keras 2 and 3 have them: a convolution's kernel is ``(*window, in, out)``."""
        options = self.read.options
        return modern(self.layer, self.stored, options.origin, options.flip)

    @property
    def data_format(self) -> str:
        """Where the layer takes the channels to be."""
        return "channels_last" if self.read.channels_last else "channels_first"

    def refusal(self, message: str, hint: str = _HINT) -> FileError:
        """The error that names this layer."""
        return self.read.refusal(f"a map in Keras: {message}", hint)

    def add(
        self,
        kind: str,
        config: Mapping[str, Any],
        inputs: Sequence[Scanned],
        result: Scanned,
        arrays: Sequence[Array] = (),
        *,
        role: str = "",
        variant: Hashable = None,
    ) -> Scanned:
        """Call a layer of the map on ``inputs``; return ``result`` as its output.

        ``role`` tells it from the other layers that stand for the same one, and ends its name; ``variant`` says
        what its arrays depend on beside the layer.
        """
        if self.read.options.origin.major > 2 or activation_name(config.get("activation")) != "hard_sigmoid":
            return self._add(kind, config, inputs, result, arrays, role, variant)
        # 0.2 x + 0.5 up to Keras 2, x / 6 + 0.5 in Keras 3, which would read it so from a file of Keras 2, too.
        made = inputs[0]
        if kind != "Activation":
            plain = {**config, "activation": "linear"}
            made = self._add(kind, plain, inputs, result, arrays, f"{role}linear", variant)
        made = self._add(
            "Rescaling", {"scale": 0.2, "offset": 0.5}, [made], made, (), f"{role}fifth", variant
        )
        return self._add("ReLU", {"max_value": 1.0}, [made], made, (), role, variant)

    def _add(
        self,
        kind: str,
        config: Mapping[str, Any],
        inputs: Sequence[Scanned],
        result: Scanned,
        arrays: Sequence[Array],
        role: str,
        variant: Hashable,
    ) -> Scanned:
        given = {key: value for key, value in self.layer.config.items() if key in COMMON}
        inner = len(self.path) > 1
        name = "_".join(self.path) if inner and self.layer.name in self.draft.reserved else self.layer.name
        layer = Layer(
            kind, f"{name}_{role}" if role else name, {**given, **config}, wrapped=self.layer.wrapped
        )
        owner = (self.path, role, variant)
        return self.draft.add(layer, inputs, result, arrays, owner=owner, keeps_name=not inner and not role)

    def kept(
        self, inputs: Sequence[Scanned], result: Scanned, changed: Mapping[str, Any] | None = None
    ) -> Scanned:
        """The layer itself, with its arrays, but for ``changed`` arguments."""
        config = {**self.layer.config, **(changed or {})}
        return self.add(self.layer.kind, config, inputs, result, self.arrays)

    def feature(self, value: Scanned) -> Scanned:
        """``value`` as a tensor of the map, with its axes as the patch network has them.

        Raises ``FileError`` where its axes were regrouped, which has no counterpart on a larger input.
        """
        if value.order is None:
            return value
        axes = value.transposition(exact=True)
        if axes is None:
            raise self.refusal(
                f"{self.layer.kind} reads a feature map {_x(value.shape)} regrouped as {_x(value.own_shape)}, which "
                "has no counterpart on a larger input"
            )
        result = replace(
            value,
            shape=value.own_shape,
            space=tuple(axes.index(axis) for axis in value.space),
            order=None,
        )
        return self.add("Permute", {"dims": [axis + 1 for axis in axes]}, [value], result, role="axes")

    def windowed(self) -> Scanned:
        """The input as a tensor whose channels are where the layer takes them to be.

        Raises ``FileError`` where they are elsewhere: then the layer would slide over them.
        """
        value = self.feature(self.value)
        if value.channel is None or value.data_format != self.data_format:
            raise self.refusal(
                f"{self.layer.kind} is {self.data_format}, but its input has the channels elsewhere"
            )
        return value

    def head_strides(self, value: Scanned) -> tuple[int, ...]:
        """The strides that give ``value`` the stride of the map. Raises ``FileError`` where that is between two."""
        pairs = list(zip(self.stride, value.jump, strict=True))
        if any(wanted % jump for wanted, jump in pairs):
            raise self.refusal(f"the map's stride {_x(self.stride)} is not a multiple of {_x(value.jump)}")
        return tuple(wanted // jump for wanted, jump in pairs)


def activation_name(activation: Any) -> Any:
    """The name of an activation, which may be a dictionary."""
    if isinstance(activation, Mapping):
        inner = activation.get("config")
        return inner if isinstance(inner, str) else activation.get("class_name")
    return activation


def _x(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
