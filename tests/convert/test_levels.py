"""A network whose answer depends on ONNX Runtime's optimiser is caught; rounding is not."""

import numpy as np
import pytest

from dense2conv.convert import levels, verification
from dense2conv.convert.conversion import convert
from dense2conv.convert.execute import Session
from dense2conv.convert.levels import at_both_levels
from dense2conv.convert.verification import verify

from .nets import Net


@pytest.fixture(scope="module")
def pair():
    net = Net((None, 2, 9, 8))
    x = net("MaxPool", net("Relu", net.conv("x")), kernel_shape=[2, 2], strides=[2, 2])
    model = net.model(net("Softmax", net.dense(net("Relu", net.dense(net.flat(x), 6))), axis=-1))
    return model, convert(model).map


def checked(reference, candidate, **how):
    networks = {"reference": (reference, Session(reference)), "candidate": (candidate, Session(candidate))}
    return at_both_levels(networks, (1, 2, 9, 8), (2, 3), coarsest="float32", **how)


def test_rounding_passes_with_its_figures(pair):
    check = checked(*pair)
    assert check.verdict == "equivalent"
    assert check.text.startswith("from ORT_ENABLE_ALL to ORT_DISABLE_ALL the reference moves by ")
    for name in ("reference", "candidate"):
        (figures,) = check.details[name].values()
        assert 0 <= figures["ratio"] < 1e-5


class Doubled(Session):
    """An optimiser that gets it wrong: what is not optimised gives twice as much."""

    wrong = ()

    def __init__(self, model, provider="cpu", *, allow_tf32=False, optimized=True):
        super().__init__(model, provider, allow_tf32=allow_tf32, optimized=optimized)
        self.factor = 1 if optimized or model not in self.wrong else 2

    def run(self, feeds):
        return {name: self.factor * array for name, array in super().run(feeds).items()}


@pytest.mark.parametrize(
    ("which", "verdict"), [([0], "inconclusive"), ([1], "different"), ([0, 1], "inconclusive")]
)
def test_a_network_with_two_answers(pair, monkeypatch, which, verdict):
    monkeypatch.setattr(levels, "Session", Doubled)
    monkeypatch.setattr(Doubled, "wrong", [pair[i] for i in which])
    monkeypatch.setattr(verification, "with_hidden", lambda *models: models)  # the very models that are wrong
    check = checked(*pair)
    assert check.verdict == verdict
    assert "more than rounding: it has no one answer" in check.text
    report = verify(*pair)
    assert report.verdict == verdict
    assert not report.accepted


def test_class_numbers_do_not_count_beside_scores():
    net = Net((None, 2, 9, 8))
    scores = net.dense(net.flat(net.conv("x")))
    model = net.model(scores, net("ArgMax", scores, axis=1, keepdims=0))
    assert list(checked(model, model).details["candidate"]) == [scores]
    alone = Net((None, 2, 9, 8))
    number = alone("ArgMax", alone.dense(alone.flat(alone.conv("x"))), axis=1, keepdims=0)
    model = alone.model(number)
    assert list(checked(model, model).details["candidate"]) == [number]


def test_a_network_that_only_runs_optimised_fails(pair, monkeypatch):
    class Refused(Session):
        def run(self, feeds):  # noqa: ARG002
            raise levels.FileError("no kernel")

    monkeypatch.setattr(levels, "Session", Refused)
    check = checked(*pair)
    assert check.verdict == "inconclusive"
    assert "the candidate fails: no kernel" in check.text


def test_the_sessions_are_closed(pair):
    sessions = [Session(model) for model in pair]
    networks = dict(zip(("reference", "candidate"), zip(pair, sessions, strict=True), strict=True))
    at_both_levels(networks, (1, 2, 9, 8), (2, 3), coarsest="float32")
    assert all(session._session is None for session in sessions)


def test_the_report_says_what_ran_where(pair):
    report = verify(*pair).to_json()
    check = next(c for c in report["checks"] if c["name"] == "providers")
    assert check["verdict"] == "equivalent"
    assert sum(check["details"]["reference"]["nodes"]["CPUExecutionProvider"].values()) == 4
    assert check["details"]["candidate"]["nodes"] == {"CPUExecutionProvider": {"Conv": 3, "MaxPool": 1}}
    assert report["provider"] == report["reference_provider"] == "cpu"


def test_an_input_has_the_networks_own_sizes(pair):
    fixed = convert(pair[0], size=(14, 13), batch=3).map
    running = Session(fixed)
    given = levels._input(running, (1, 2, 9, 8), (2, 3), 1.0, 0)
    assert given.shape == (3, 2, 14, 13)
    assert given.dtype == np.float32
