"""Many small products in every way they are written, in every form: the formula in float64 is the oracle."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from dense2conv.convert import verify
from dense2conv.convert.errors import FileError, RequestError
from dense2conv.convert.model import Model
from dense2conv.convert.rules import RULES
from dense2conv.convert.rules.forms import FORMS
from dense2conv.convert.rules.request import Request
from dense2conv.convert.rules.rewriting import Rewriting, apply_rules

from .nets import Array, Graph, kinds, run, whole
from .products import NEEDS_A_BATCH, WAYS, formula

COPIES = {"Tile", "Expand", "Mul", "ReduceSum"}
OF_FORM = {"einsum": "Einsum", "matmul": "MatMul", "grouped-conv": "Conv"}


def rewrite(proto: onnx.ModelProto, form: str = "matmul", batch: int | None = None) -> Rewriting:
    return apply_rules(Model(proto), ["matvec"], Request(form, batch))


def network(way: str, w: Array, batch: int, opset: int = 17, free: bool = True) -> onnx.ModelProto:
    fixed = way in NEEDS_A_BATCH or not free
    g = Graph([batch if fixed else "N", w.shape[0], w.shape[3]], opset)
    return g.proto(WAYS[way](g, w, batch), [batch if fixed else "N", *w.shape[:3]])


def near(y: Array, wanted: Array) -> None:
    assert y.shape == wanted.shape
    assert np.abs(y - wanted).max() <= 2e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_every_form(way: str, form: str) -> None:
    random = np.random.default_rng(0)
    w = random.standard_normal((6, 3, 4, 5)).astype(np.float32)
    proto = network(way, w, 7)
    result = rewrite(proto, form)
    u = random.standard_normal((7, 6, 5)).astype(np.float32)
    near(run(result.model, u), formula(w, u))
    near(run(proto, u), formula(w, u))  # the way itself says what the formula says
    assert not COPIES & set(kinds(result.model))
    assert kinds(result.model).count(OF_FORM[form]) == 1
    report = verify(Model(proto), result.model)
    assert report.accepted, str(report)


def test_the_weights_are_those_of_the_file_bit_for_bit() -> None:
    w = np.random.default_rng(0).standard_normal((6, 3, 4, 5)).astype(np.float32)
    w.flat[:3] = (-0.0, np.nan, np.inf)
    made = {}
    for form in FORMS:
        model = whole(rewrite(network("tile", w, 7), form).model)
        (made[form],) = [
            onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT
        ]
    assert made["einsum"].tobytes() == w.tobytes()
    assert made["matmul"].tobytes() == w.reshape(6, 12, 5).transpose(0, 2, 1).tobytes()
    assert made["grouped-conv"].shape == (72, 5, 1, 1)
    assert made["grouped-conv"].tobytes() == w.tobytes()


def random_case(seed: int) -> tuple[onnx.ModelProto, Array, Array, str]:
    random = np.random.default_rng(seed)
    way = list(WAYS)[seed % len(WAYS)]
    form = list(FORMS)[random.integers(len(FORMS))]
    i, j, k, length = (int(n) for n in random.integers([2, 1, 1, 2], [12, 7, 9, 10]))
    w = random.standard_normal((i, j, k, length)).astype(np.float32)
    batch = int(random.integers(1, 9))
    opset = int(random.integers(12, 19))
    proto = network(way, w, batch, opset, free=bool(random.integers(2)))
    return proto, w, random.standard_normal((batch, i, length)).astype(np.float32), form


@pytest.mark.parametrize(
    "seed", [*range(40), *(pytest.param(s, marks=pytest.mark.slow) for s in range(40, 240))]
)
def test_random_shapes(seed: int) -> None:
    proto, w, u, form = random_case(seed)
    result = rewrite(proto, form)
    assert len(result.rewritten) == 1, result.places
    near(run(result.model, u), formula(w, u))
    report = verify(Model(proto), result.model)
    assert report.accepted, str(report)


def any_equation(seed: int) -> tuple[onnx.ModelProto, Array, str]:
    """Two operands with any letters, sizes of 1 among them, moved about in front and behind."""
    random = np.random.default_rng(seed)
    letters = "abcdefg"[: random.integers(3, 8)]
    size = {letter: int(n) for letter, n in zip(letters, random.integers(1, 4, len(letters)), strict=True)}
    roles = ["xo", "xwo", "wo", "xw"]  # who has the letter: x, w, the output
    has = {letter: roles[i] if i < 4 else roles[random.integers(4)] for i, letter in enumerate(letters)}
    if random.integers(2):  # one that makes it another function
        has[letters[random.integers(len(letters))]] = str(random.choice(["x", "w"]))

    def those(kind: str) -> str:
        return "".join(random.permutation([letter for letter in letters if kind in has[letter]]))

    of_x, of_w, out = those("x"), those("w"), those("o")
    w = random.standard_normal([size[a] for a in of_w]).astype(np.float32)
    shape = [size[a] for a in of_x]
    if random.integers(2):  # x comes flat, behind its first axis
        g = Graph([shape[0], int(np.prod(shape[1:]))])
        x = g("Reshape", "x", np.asarray(shape))
    else:
        g = Graph([shape[0] if random.integers(2) else "N", *shape[1:]])
        x = "x"
    operands = [(w, of_w), (x, of_x)][:: 1 if random.integers(2) else -1]
    equation = f"{operands[0][1]},{operands[1][1]}->{out}"
    y = g("Einsum", operands[0][0], operands[1][0], equation=equation)
    if random.integers(2):
        y = g("Transpose", y, perm=[int(i) for i in random.permutation(len(out))])
    dims = [d if isinstance(d, int) else shape[0] for d in g.shape]
    return (
        g.proto(y, [None] * len(out)),
        random.standard_normal(dims).astype(np.float32),
        list(FORMS)[seed % len(FORMS)],
    )


@pytest.mark.parametrize(
    "seed", [*range(120), *(pytest.param(s, marks=pytest.mark.slow) for s in range(120, 1200))]
)
def test_whatever_is_rewritten_is_the_same_function(seed: int) -> None:
    proto, x, form = any_equation(seed)
    (place,) = (result := rewrite(proto, form)).places
    y, wanted = run(result.model, x), run(proto, x)
    assert y.shape == wanted.shape, place
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5, err_msg=str(place))


def test_of_those_equations_many_are_rewritten() -> None:
    actions = [rewrite(proto, form).places[0].action for proto, _, form in map(any_equation, range(120))]
    assert actions.count("rewritten") > 20
    assert actions.count("left alone") > 20


def test_a_form_with_a_fault_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkers of this file find two units swapped; the fastest is chosen among those that are right."""
    w = np.random.default_rng(0).standard_normal((6, 3, 4, 5)).astype(np.float32)
    proto = network("einsum", w, 7)
    right = FORMS["matmul"]

    def wrong(builder, found):  # type: ignore[no-untyped-def]
        return builder.emit("Neg", [right(builder, found)])

    monkeypatch.setitem(FORMS, "matmul", wrong)  # type: ignore[arg-type]
    assert verify(Model(proto), rewrite(proto).model).verdict.value == "different"
    (place,) = rewrite(proto, "fastest", 2).places
    assert set(place.milliseconds) == {"einsum", "grouped-conv"}


def test_the_fastest_is_the_one_with_the_least_time() -> None:
    w = np.random.default_rng(0).standard_normal((6, 3, 4, 5)).astype(np.float32)
    result = rewrite(network("multiply", w, 7), "fastest", 7)
    (place,) = result.places
    assert set(place.milliseconds) == set(FORMS)
    best = min(place.milliseconds, key=lambda form: place.milliseconds[form])
    assert OF_FORM[best] in kinds(result.model)
    assert f"as {best} (batch 7: " in place.reason


def test_a_locally_connected_layer_is_a_grouped_convolution() -> None:
    """One dense layer a position: (N, P, L) with W (P, L, O), as torch writes it with bmm or einsum."""
    random = np.random.default_rng(0)
    w = random.standard_normal((9, 4, 5)).astype(np.float32)
    g = Graph(["N", 9, 4])
    y = g("Squeeze", g("MatMul", g("Unsqueeze", "x", np.asarray([2])), w), np.asarray([2]))
    proto = g.proto(y, [None] * 3)
    result = rewrite(proto, "grouped-conv")
    x = random.standard_normal((3, 9, 4)).astype(np.float32)
    wanted = np.stack([x[:, p].astype(np.float64) @ w[p] for p in range(9)], axis=1)
    near(run(result.model, x), wanted)
    assert kinds(result.model) == ["Reshape", "Conv", "Reshape"]


def test_products_inside_a_network_with_other_readers() -> None:
    """The input is used elsewhere, the products' result twice; what is not rewritten stays."""
    random = np.random.default_rng(0)
    w = random.standard_normal((6, 4, 5)).astype(np.float32)
    g = Graph(["N", 6, 5])
    h = g("Relu", "x")
    y = g("MatMul", g("Unsqueeze", h, np.asarray([2])), w.transpose(0, 2, 1))  # (N, 6, 1, 4)
    a, b = g("Squeeze", y, np.asarray([2])), g("Reshape", y, np.asarray([0, 6, 4]))
    s = g("ReduceSum", h, np.asarray([2]))
    proto = g.proto(g("Add", g("Mul", a, b), s), [None] * 3)
    result = rewrite(proto, "grouped-conv")
    assert [p.action for p in result.places] == ["rewritten"]
    x = random.standard_normal((3, 6, 5)).astype(np.float32)
    np.testing.assert_allclose(run(result.model, x), run(proto, x), rtol=1e-5, atol=1e-5)


W = np.random.default_rng(1).standard_normal((6, 3, 4, 5)).astype(np.float32)


def bilk(g: Graph) -> str:
    return str(g("Einsum", W, "x", equation="ijkl,bil->bilk"))


def u_summed(g: Graph) -> str:
    return str(g("Einsum", W[..., 0], "x", equation="ijk,bil->bijk"))


def one_matrix(g: Graph) -> str:
    return str(g("MatMul", "x", W[0, 0].T))


def two_inputs(g: Graph) -> str:
    return str(g("MatMul", "x", g("Transpose", "x", perm=[0, 2, 1])))


def copies(g: Graph) -> str:
    """Summed over copies of itself: a factor of 3 that is no weight's."""
    u = g("Reshape", "x", np.asarray([-1, 6, 1, 1, 5]))
    return str(
        g("ReduceSum", g("Expand", g("Mul", u, W[:, :1]), np.asarray([1, 1, 3, 1, 1])), np.asarray([2, 4]))
    )


def trace(g: Graph) -> str:
    return str(g("Einsum", W[:, :, :3], "x", equation="ijjl,bil->bij"))


def ellipsis(g: Graph) -> str:
    return str(g("Einsum", W[:, 0], "x", equation="...kl,b...l->b...k"))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (bilk, "it sums the weight itself over an axis of 3 that neither its input nor its output has"),
        (u_summed, "it sums its input over an axis of 5 that the weight does not have"),
        (one_matrix, "one matrix for all vectors: a dense layer"),
        (two_inputs, "neither factor is a constant"),
        (copies, "it adds up copies"),
        (trace, "has an ellipsis or a letter twice"),
        (ellipsis, "has an ellipsis or a letter twice"),
    ],
)
def test_another_function_is_left_alone(make, reason: str) -> None:  # type: ignore[no-untyped-def]
    g = Graph(["N", 6, 5])
    proto = g.proto(make(g))
    result = rewrite(proto)
    (place,) = result.places
    assert place.action == "left alone"
    assert reason in place.reason
    assert result.model.proto.SerializeToString() == proto.SerializeToString()


def test_a_double_is_not_convolved() -> None:
    g = Graph(["N", 6, 5], kind=TensorProto.DOUBLE)
    proto = g.proto(g("Einsum", W.astype(np.float64), "x", equation="ijkl,bil->bijk"), [None] * 4)
    assert "no double" in rewrite(proto, "grouped-conv").places[0].reason
    assert "Einsum" in kinds(rewrite(proto, "einsum").model)
    assert set(rewrite(proto, "fastest").places[0].milliseconds) == {"einsum", "matmul"}


def test_an_old_operator_set_has_no_einsum() -> None:
    g = Graph(["N", 6, 5], opset=11)
    proto = g.proto(g("MatMul", W[:, 0], g.axes("Unsqueeze", "x", [3])), [None] * 4)
    assert "operator set 12" in rewrite(proto, "einsum").places[0].reason
    assert len(rewrite(proto, "matmul").rewritten) == 1


def test_shapes_that_do_not_fit_are_an_error_with_both_shapes() -> None:
    g = Graph(["N", 6, 5])
    proto = g.proto(g("Einsum", W[:4], "x", equation="ijkl,bil->bijk"))
    with pytest.raises(FileError, match="fit"):
        rewrite(proto)
    g = Graph([2, 6, 5])
    proto = g.proto(g("MatMul", W[0, 0], g("Unsqueeze", "x", np.asarray([3]))))
    rewrite(proto)
    g = Graph([2, 6, 4])
    with pytest.raises(FileError, match="shapes"):
        rewrite(g.proto(g("MatMul", W[0], g("Unsqueeze", "x", np.asarray([3])))))


def test_a_rule_that_is_not_known() -> None:
    with pytest.raises(RequestError, match="no rule 'matvex'"):
        apply_rules(Model(network("einsum", W, 2)), ["matvex"])
    assert "matvec" in RULES


def test_a_batch_that_is_asked_for_is_fixed() -> None:
    result = rewrite(network("rows", W, 2), "grouped-conv", 4)
    assert result.model.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4
    assert result.source.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


_LOAD = """
import sys
import onnxruntime

def peak():  # of this program alone: what getrusage says begins with the process that started it
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

before = peak()
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print((peak() - before) * 1024)
"""


def loaded(path: Path) -> int:
    """How many bytes loading a file takes: what the runtime folds is among them."""
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, os.fspath(path)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.slow
def test_the_seed_s_capsules_never_hold_the_tiled_weight(tmp_path: Path) -> None:
    """1152 x 10 x 16 x 8 at batch 50: tiled it is 294,912,000 bytes, which the runtime folds when it loads the file."""
    random = np.random.default_rng(0)
    w = random.standard_normal((1152, 10, 16, 8)).astype(np.float32)
    assert 50 * w.nbytes == 294_912_000
    proto = network("tile", w, 50)
    onnx.save(proto, tmp_path / "tile.onnx")
    assert loaded(tmp_path / "tile.onnx") > 200e6  # the test finds what it is for
    u = random.standard_normal((50, 1152, 8)).astype(np.float32)
    wanted = formula(w, u)
    for form in FORMS:
        result = rewrite(proto, form)
        near(run(result.model, u), wanted)
        onnx.save(whole(result.model), tmp_path / f"{form}.onnx")
        assert (tmp_path / f"{form}.onnx").stat().st_size < w.nbytes + 4096
        assert loaded(tmp_path / f"{form}.onnx") < 60e6
        report = verify(Model(proto), result.model)
        assert report.accepted, str(report)
