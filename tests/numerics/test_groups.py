"""ε by kind of layer or by layer: the largest that does not shorten the steps of its own layers."""

import math

import pytest
import torch

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.bounds import Reliability, estimate_bounds
from epsgrid.numerics.counting import measure
from epsgrid.numerics.damping import NOT_SHORTENED
from epsgrid.numerics.groups import epsilon_groups
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus
from epsgrid.numerics.placement import Placement
from tests.numerics.reference import exact_damping

MODEL = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.BatchNorm1d(20), torch.nn.Linear(20, 5))
KINDS = {"0.weight": "dense", "0.bias": "bias", "1.weight": "normalisation", "1.bias": "normalisation"}
V = {
    name: (torch.rand(parameter.shape, generator=torch.Generator().manual_seed(0)) + 0.5)
    * 10.0 ** (-14 if name == "0.bias" else -6 if "2." in name else -10)
    for name, parameter in MODEL.named_parameters()
}


def layers(placed: Placement | None = None) -> list[LayerStatistics]:
    found = []
    for name, v in V.items():
        each = measure(name, v, 1.0, 0.02)
        found.append(LayerStatistics(**{**vars(each), "kind": KINDS.get(name, "head")}))
    return found


@pytest.mark.parametrize("placement", [Placement.outside(), Placement.inside(), Placement.in_place(0.999)])
def test_each_kind_gets_the_largest_epsilon_that_does_not_shorten_its_steps(placement):
    groups = {group.name: group for group in epsilon_groups(layers(), placement, 1e-8)}
    assert list(groups) == ["dense", "bias", "normalisation", "head"]
    for group in groups.values():
        together = torch.cat([V[name].flatten() for name in group.layers])
        larger = placement.epsilon_of_decade(placement.decade_of(group.epsilon) + 1)
        assert exact_damping(together, 1.0, placement, group.epsilon) >= NOT_SHORTENED
        assert exact_damping(together, 1.0, placement, larger) < NOT_SHORTENED
        assert group.before.mean == pytest.approx(exact_damping(together, 1.0, placement, 1e-8), abs=1e-3)
    by_layer = {group.name: group.epsilon for group in epsilon_groups(layers(), placement, 1e-8, "layer")}
    assert list(by_layer) == list(V) and by_layer["2.weight"] == by_layer["2.bias"] > by_layer["0.bias"]


def test_the_groups_of_bounds_are_ready_for_an_optimizer():
    bounds = estimate_bounds(layers(), Placement.in_place(0.999))
    groups = bounds.param_groups(MODEL, 1e-16)
    torch.optim.Adam(groups)
    assert [group["name"] for group in groups] == ["dense", "bias", "normalisation", "head"]
    own = epsilon_groups(layers(), Placement.in_place(0.999), 1e-16)
    assert [group["eps"] for group in groups] == [group.epsilon for group in own]
    assert sum(len(group["params"]) for group in groups) == len(V)
    larger = torch.nn.Sequential(*MODEL, torch.nn.Linear(5, 2))
    assert [len(group["params"]) for group in bounds.param_groups(larger, 1e-16)] == [1, 1, 2, 2, 2]
    assert bounds.param_groups(larger, 1e-16)[-1]["eps"] == 1e-16
    with pytest.raises(NoBoundsError, match=r"no parameter of this model was measured; measured were 0\.weight"):
        bounds.param_groups(torch.nn.Linear(2, 2))


def test_what_was_not_measured_or_is_noise_keeps_its_epsilon():
    frozen = LayerStatistics.unmeasured("frozen", (3,), LayerStatus.FROZEN)
    noise = Reliability("low", (), noise={"0.bias": 1.0})
    bounds = estimate_bounds([*layers(), frozen], Placement.outside())
    bounds = type(bounds)(**{**vars(bounds), "reliability": noise})
    *_, last = bounds.epsilon_groups(1e-8, by="layer")
    assert (last.layers, last.epsilon, last.after) == (("0.bias", "frozen"), 1e-8, None)
    assert str(last) == "other layers, 2 layers: ε stays 1e-8"


def test_a_group_says_what_it_changes():
    (dense, *_) = epsilon_groups(layers(), Placement.outside(), 1e-5)
    assert str(dense) == "dense, 1 layer, 600 entries: ε 1e-7: steps 49 % → 99 %"
    assert math.isclose(dense.after.mean, 0.990, abs_tol=1e-3)
