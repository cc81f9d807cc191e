"""Functions of TensorFlow in a model of Keras 2.4 to 2.15, and Python's operators on its tensors.

Keras writes each as a layer TFOpLambda or SlicingOpLambda with the function's name: ``x * 2`` is ``math.multiply`` with
the keyword ``y``. keras/layers/core/tf_op_layer.py; what a function is called and takes: TensorFlow's own reference.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ..emit import Value
from ..step import Step
from .operations import OPERATIONS, Used


class _Function(NamedTuple):
    """What a function is in ``keras.ops``, and the names that its options have there."""

    operation: str
    options: Mapping[str, str] = {}


_AXIS = {"axis": "axis"}
_REDUCED = {"axis": "axis", "keepdims": "keepdims"}

FUNCTIONS: Mapping[str, _Function] = {
    **dict.fromkeys(("__operators__.add", "math.add"), _Function("Add")),
    "math.subtract": _Function("Subtract"),
    "math.multiply": _Function("Multiply"),
    **dict.fromkeys(("math.truediv", "math.divide"), _Function("TrueDivide")),
    "math.pow": _Function("Power"),
    "math.maximum": _Function("Maximum"),
    "math.minimum": _Function("Minimum"),
    "math.negative": _Function("Negative"),
    "math.abs": _Function("Absolute"),
    "math.rsqrt": _Function("Rsqrt"),
    **{f"math.{name.lower()}": _Function(name) for name in
       ("Ceil", "Cos", "Exp", "Floor", "Log", "Reciprocal", "Sign", "Sigmoid", "Sin", "Softplus", "Sqrt", "Square",
        "Tanh")},
    **{f"math.reduce_{name.lower()}": _Function(name, _REDUCED) for name in ("Mean", "Sum", "Max", "Min")},
    **{f"nn.{name.lower()}": _Function(name) for name in
       ("Relu", "Relu6", "Elu", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh")},
    "nn.leaky_relu": _Function("LeakyRelu", {"alpha": "alpha"}),
    "nn.gelu": _Function("Gelu", {"approximate": "approximate"}),
    **dict.fromkeys(("nn.silu", "nn.swish"), _Function("Silu")),
    **dict.fromkeys(("nn.softmax", "math.softmax"), _Function("Softmax", _AXIS)),
    **dict.fromkeys(("nn.log_softmax", "math.log_softmax"), _Function("LogSoftmax", _AXIS)),
    "reshape": _Function("Reshape", {"shape": "newshape"}),
    "transpose": _Function("Transpose", {"perm": "axes"}),
    "concat": _Function("Concatenate", _AXIS),
    "stack": _Function("Stack", _AXIS),
    "expand_dims": _Function("ExpandDims", _AXIS),
    "squeeze": _Function("Squeeze", _AXIS),
    "clip_by_value": _Function("Clip", {"clip_value_min": "x_min", "clip_value_max": "x_max"}),
    "cast": _Function("Cast", {"dtype": "dtype"}),
    "identity": _Function("Identity"),
    "__operators__.getitem": _Function("GetItem", {"slice_spec": "key"}),
}  # fmt: skip


def tensorflow_function(step: Step) -> Value:
    """TFOpLambda, SlicingOpLambda."""
    name = step.argument("function")
    if name not in FUNCTIONS:
        raise step.refusal(f"the function {name!r} of TensorFlow is not supported")
    function = FUNCTIONS[name]
    options = {}
    for key, value in step.keywords.items():
        if key in function.options:
            if value is not None:
                options[function.options[key]] = value
        elif key != "y" and value is not None and (key, value) != ("beta", 1.0):
            raise step.refusal(f"{name} with {key}={value!r} is not supported")
    operands = [*step.arguments, *([step.keywords["y"]] if "y" in step.keywords else [])]
    return OPERATIONS[function.operation](Used(step, operands, options))
