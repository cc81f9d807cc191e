"""Where ONNX Runtime runs a network: the provider that was asked for, and the session's own word on where nodes went.

A runtime that misses a provider takes the CPU and says so in a warning at most; ``get_providers()`` names what was
registered, not what was used. So the evidence is the session's assignment of each node
(``get_provider_graph_assignment_info``, in ONNX Runtime since 1.24). An older runtime with nothing but the CPU
registered can have used nothing else; on a GPU it is told to fail where a node would go to the CPU
(``session.disable_cpu_ep_fallback``).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx import GraphProto, ModelProto

from .constants import subgraphs
from .errors import MachineError, RequestError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_PROVIDERS = {"cpu": CPU, "cuda": CUDA, CPU.lower(): CPU, CUDA.lower(): CUDA}

# Convolutions, products and poolings, as ONNX calls them and as the runtime calls its fusions of them. They must run
# where it was asked for; shape arithmetic belongs on the CPU and may stay there.
HEAVY = frozenset(
    (
        "Attention", "AveragePool", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "DynamicQuantizeMatMul",
        "Einsum", "FusedConv", "FusedGemm", "FusedMatMul", "GRU", "Gemm", "GlobalAveragePool", "GlobalLpPool",
        "GlobalMaxPool", "LSTM", "LpPool", "MatMul", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits", "MaxPool",
        "MultiHeadAttention", "NhwcConv", "NhwcFusedConv", "NhwcMaxPool", "QGemm", "QLinearAveragePool", "QLinearConv",
        "QLinearGlobalAveragePool", "QLinearMatMul", "RNN", "TransposeMatMul",
    )
)  # fmt: skip

INSTALL_CUDA = "pip uninstall -y onnxruntime onnxruntime-gpu; pip install 'onnxruntime-gpu[cuda,cudnn]'"


def parse_provider(provider: str) -> tuple[str, int]:
    """ONNX Runtime's name and the device number of ``cpu``, ``cuda``, ``cuda:1`` or a long name.

    Raises ``RequestError`` for anything else.

    >>> parse_provider("cuda:1")
    ('CUDAExecutionProvider', 1)
    """
    name, colon, device = provider.partition(":")
    known = _PROVIDERS.get(name.lower())
    if known is None or (colon and (known == CPU or not re.fullmatch("[0-9]{1,3}", device))):
        raise RequestError(
            f"a provider is cpu, cuda or cuda:N, not {provider!r}", hint="for instance --provider cuda:0"
        )
    return known, int(device) if colon else 0


def clash() -> str:
    """What is wrong where several distributions installed the folder ``onnxruntime``, and what to do; else "".

    pip writes one over the other: a file is the one that came last, and CUDA is found or not as it happens.
    """
    found = sorted(_installed())
    if len(found) < 2:
        return ""
    listed = " and ".join(f"{name} {version}" for name, version in found)
    away = " ".join(name for name, _ in found)
    wanted = next((name for name, _ in found if name != "onnxruntime"), "onnxruntime")
    return (
        f"{listed} are installed over each other, in one folder, and the last one's files count: "
        f"run `pip uninstall -y {away}; pip install {wanted}`"
    )


def _installed() -> Iterator[tuple[str, str]]:
    """Name and version of each distribution that has files in the folder ``onnxruntime``."""
    import importlib.metadata  # asked for CUDA only

    seen = set()
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name in seen or not name.startswith(("onnxruntime", "ort-")):
            continue
        if any(file.as_posix() == "onnxruntime/__init__.py" for file in distribution.files or ()):
            seen.add(name)
            yield name, distribution.version


def missing(name: str, numbers: str) -> MachineError:
    """The error for a provider that is not there, or did not start; it names what is installed twice."""
    twice = clash()
    return MachineError(
        f"{name} is not on this machine: {numbers}" + (f"; {twice.partition(': run ')[0]}" if twice else ""),
        hint=f"run `{INSTALL_CUDA}` on a machine with an NVIDIA driver, or leave --provider out to run on the CPU",
    )


@dataclass(frozen=True)
class Placement:
    """Where a session's convolutions, products and poolings are: operator -> how many, by provider.

    ``recorded``: the session itself said so, node by node. Else it had only one provider, and the counts are the
    file's. ``device`` is the device's number, ``tf32`` whether float32 products may be rounded to TF32's 10 bits.
    """

    provider: str
    device: int = 0
    tf32: bool = False
    recorded: bool = False
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        where = self.provider if self.provider == CPU else f"{self.provider} {self.device}"
        parts = []
        for name, counts in sorted(self.counts.items(), key=lambda item: item[0] != self.provider):
            listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
            parts.append(f"{where if name == self.provider else name} ran {listed}")
        text = "; ".join(parts) or f"{where} ran it, without a convolution, product or pooling"
        if self.provider == CUDA:
            text += " (TF32 allowed)" if self.tf32 else " (TF32 off)"
        return text if self.recorded else f"{text} (no other provider was allowed)"

    def to_json(self) -> dict[str, object]:
        """The fields under their names."""
        counts = {name: dict(counts) for name, counts in self.counts.items()}
        return {
            "provider": self.provider,
            "device": self.device,
            "tf32": self.tf32,
            "recorded": self.recorded,
            "nodes": counts,
        }


def records_assignment(runtime: Any) -> bool:
    """Whether this ONNX Runtime says where each node runs."""
    return hasattr(runtime.InferenceSession, "get_provider_graph_assignment_info")


def placed(running: Any, model: ModelProto, name: str, device: int, tf32: bool) -> Placement:
    """Where a session runs ``model``. Raises ``MachineError`` unless all that computes runs on provider ``name``."""
    registered = list(running.get_providers())
    if not registered or registered[0] != name:
        raise missing(name, f"it is listed but did not start; running: {', '.join(registered)}")
    expected = Counter(_operators(model.graph, model.functions))
    ask = getattr(running, "get_provider_graph_assignment_info", None)
    if ask is None:
        # Only the CPU was registered, or the session was told to fail where it needs the CPU.
        counts = {name: dict(expected)} if expected else {}
        return Placement(name, device, tf32, recorded=False, counts=counts)
    found: dict[str, Counter[str]] = {}
    for part in ask():
        for node in part.get_nodes():
            if node.op_type not in HEAVY:
                continue
            if part.ep_name != name:
                raise MachineError(
                    f"{name} cannot run {node.op_type} {node.name!r}: it would run on {part.ep_name}",
                    hint="leave --provider out to run all of it on the CPU",
                )
            found.setdefault(part.ep_name, Counter())[node.op_type] += 1
    if expected and not found and name != CPU:
        raise MachineError(
            f"ONNX Runtime does not say that {name} ran any of {', '.join(sorted(expected))}",
            hint="leave --provider out to run all of it on the CPU",
        )
    return Placement(name, device, tf32, recorded=True, counts={k: dict(c) for k, c in found.items()})


def _operators(graph: GraphProto, functions: Iterable[Any]) -> Iterator[str]:
    """The operators of ``HEAVY`` that a file has, in the graphs of its nodes and in its functions too."""
    for nodes in (graph.node, *(function.node for function in functions)):
        for node in nodes:
            if node.op_type in HEAVY:
                yield node.op_type
            if subgraphs(node):
                for attribute in node.attribute:
                    for inner in (attribute.g, *attribute.graphs):
                        yield from _operators(inner, ())
