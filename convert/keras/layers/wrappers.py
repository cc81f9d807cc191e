"""TimeDistributed: one layer for every step of a sequence, as if the steps were samples.

(N, T, *rest)  ->  (N * T, *rest)  ->  the layer  ->  (N * T, *result)  ->  (N, T, *result)
"""

from collections.abc import Mapping
from dataclasses import replace

from ..emit import Value
from ..step import Rule, Step

# These treat each step by itself as they are.
ALIKE = frozenset(("Activation", "Dense", "Dropout", "ReLU", "LeakyReLU", "ELU", "Identity", "Rescaling"))


def time_distributed(rules: Mapping[str, Rule]) -> Rule:
    """The rule of TimeDistributed, around the layers of ``rules``."""

    def distributed(step: Step) -> Value:
        inner = step.layer.wrapped
        if inner is None or inner.kind not in rules:
            kind = step.layer.config.get("layer", {}).get("class_name")
            raise step.refusal(f"TimeDistributed of {kind!r} is not supported")
        value = step.input
        within = replace(step, layer=inner)
        if inner.kind in ALIKE:
            return rules[inner.kind](within)
        rest = [size for size in value.shape[2:] if size is not None]
        steps = value.shape[1]
        if steps is None or len(rest) < value.rank - 2:
            raise step.refusal(
                "the input's size must be known, but it is free",
                "give the model a fixed input size, and save it again",
            )
        # (N, T, *rest) -> (N * T, *rest)
        merged = step.emit("Reshape", [step.graph.own(value), step.graph.integers([-1, *rest])], "samples")
        result = rules[inner.kind](replace(within, inputs=[step.graph.made((None, *rest), merged)]))
        sizes = [size for size in result.shape[1:] if size is not None]
        # (N * T, *result) -> (N, T, *result)
        split = step.emit(
            "Reshape", [step.graph.own(result), step.graph.integers([-1, steps, *sizes])], "steps"
        )
        return step.graph.made((value.shape[0], steps, *sizes), split)

    return distributed
