from __future__ import annotations

import math

import pytest

from epsgrid.errors import NoBoundsError, SpecError, UnknownNameError
from epsgrid.optimizers._conversion import convertible, placement_of

ALIASES = ("fairseq", "fbgemm", "keras", "optax", "optax-eps-root", "tf-keras", "rmsproptf", "torch", "torch-radam")


@pytest.mark.parametrize("name", [*convertible(), *ALIASES])
def test_every_name_has_a_placement(name: str) -> None:
    placement = placement_of(name, 0.98, 100)
    assert placement.magnitude_from_epsilon(placement.epsilon_from_magnitude(1e-3)) == pytest.approx(1e-3)


def test_beta2_goes_where_the_optimizer_has_it() -> None:
    assert placement_of("eadam", 0.9, 1).factor == pytest.approx(0.1)
    assert placement_of("eadam", None, 1).factor == pytest.approx(0.001)
    assert placement_of("rmsprop", 0.75, 1).per_gradient == pytest.approx(0.5)
    assert placement_of("adadelta", 0.75, 1).per_gradient == pytest.approx(0.5)
    assert placement_of("keras", 0.75, 1).factor == pytest.approx(0.5)
    assert placement_of("adagrad", 0.75, 4).per_gradient == 2


def test_torch_is_ours() -> None:
    assert placement_of("torch", None, math.inf) == placement_of("adam", None, math.inf)
    assert placement_of("torch-adamax", None, 3) == placement_of("adamax", None, 3)


def test_wrong_names_and_values_are_told() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown optimizer 'optax-adm'; did you mean 'optax-adam'\?"):
        placement_of("optax-adm", None, 1)
    with pytest.raises(UnknownNameError, match="'muon' is not supported"):
        placement_of("muon", None, 1)
    with pytest.raises(NoBoundsError, match="'sgdm' has no"):
        placement_of("sgdm", None, 1)
    with pytest.raises(SpecError, match=r"keras-adam: beta2 2: beta2 must lie in \[0, 1\)"):
        placement_of("keras-adam", 2, 1)
