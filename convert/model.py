"""The in-memory form of a network: an ONNX skeleton, and its large weights as views of mapped files.

``Model.proto`` is an ordinary ``ModelProto`` whose large initializers have no data; ``Model.weights`` holds
that data, one read-only numpy view an initializer. A rewrite edits the proto and puts other views
(``reshape``, ``transpose``, ``[::-1]``) into ``weights``: no byte moves until the file is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

Array = NDArray[np.generic]

# Constants from this size on, in bytes, live beside the proto, as views; the same limit as for opening a file.
LARGE = 1024


@dataclass(frozen=True)
class Source:
    """What a network was in its own file, before it was translated to ONNX.

    ``framework``: what wrote it. ``order``: the axes of its input in letters, such as HWC ("" where the file does not
    say). ``half``: whether the framework computed in half precision, so that its outputs are as coarse. ``kinds``: what
    it calls the layer of a node, by the node's name. ``orders``: for values whose axes the translation moved, the
    permutation back. ``relayouts``: the nodes that move axes and are no layers of it.
    ``paddings``: how nodes pad, as shapecalc names it, where the source has a word and the node numbers.
    ``notes``: what was assumed about it.
    """

    framework: str
    order: str
    half: bool
    kinds: Mapping[str, str]
    orders: Mapping[str, tuple[int, ...]]
    relayouts: frozenset[str]
    paddings: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass
class Model:
    """A network: ``proto`` without its large weights, and ``weights`` by initializer name.

    An initializer is in ``weights`` exactly when its ``TensorProto`` has no data of its own; dims, data_type and
    name of that ``TensorProto`` are right in either case. ``path`` is the file it was read from ("" if none);
    ``source`` what it was there, where that was not ONNX; ``files`` are the further files that it was read from.
    """

    proto: ModelProto
    weights: dict[str, Array] = field(default_factory=dict)
    path: str = ""
    source: Source | None = None
    files: tuple[str, ...] = ()

    def kind(self, node: NodeProto) -> str:
        """What the source calls the layer of ``node``; its operator, where it has no name for it."""
        return self.source.kinds.get(node.name, node.op_type) if self.source else node.op_type

    def relayout(self, node: NodeProto) -> bool:
        """Whether ``node`` only brings axes from the source's order to ONNX's, or back: no layer of the source."""
        return self.source is not None and node.name in self.source.relayouts

    def initializers(self) -> Mapping[str, TensorProto]:
        """The graph's initializers by name."""
        return {tensor.name: tensor for tensor in self.proto.graph.initializer}

    def array(self, tensor: TensorProto) -> Array:
        """The values of one initializer of this model: a view of the mapped file, or the proto's own small data."""
        if tensor.name in self.weights:
            return self.weights[tensor.name]
        return numpy_helper.to_array(tensor)  # type: ignore[no-any-return]
