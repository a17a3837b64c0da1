"""Point estimates of ε against plain numpy on the entries themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from epsgrid.numerics.bounds import estimate_bounds
from epsgrid.numerics.counting import measure
from epsgrid.numerics.estimates import _FORMULAS, point_estimates
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus, decade_of
from epsgrid.numerics.placement import Placement
from tests.numerics import reference

OUTSIDE = Placement.outside()
BIN = 1 / 128

Layers = list[tuple[np.ndarray, float]]


def measured(layers: Layers) -> list[LayerStatistics]:
    return [measure(str(n), torch.from_numpy(v), scale) for n, (v, scale) in enumerate(layers)]


def magnitudes_of(layers: Layers) -> dict[str, float]:
    return {estimate.name: estimate.magnitude for estimate in point_estimates(measured(layers), OUTSIDE)}


def by_numpy(layers: Layers) -> dict[str, float]:
    """The formulas on the sorted entries, a loop at a time."""
    entries = [reference.magnitudes(v, scale) for v, scale in layers]
    low = min(of[int(0.02 * len(of))] for of in entries)
    high = max(of[int(0.98 * len(of))] for of in entries)
    pooled = np.sort(np.concatenate(entries))
    medians = [of[len(of) // 2] for of in entries]
    return {
        "middle": 10 ** ((math.log10(low) + math.log10(high)) / 2),
        "median": pooled[len(pooled) // 2],
        "layers": np.exp(np.mean(np.log(medians))),
        "balanced": next(b for b in pooled if 2 * sum((of > b).mean() for of in entries) < len(entries) - 1e-9),
        "upper": high,
    }


def random_layers(seed: int = 0) -> Layers:
    generator = np.random.default_rng(seed)
    sizes, scales = (10, 513, 70_001, 3000), (1.0, 3.0856, 3.0856, 1.5)
    return [
        (generator.lognormal(centre, 3, size).astype(np.float32), scale)
        for centre, size, scale in zip((-2, -20, -12, -16), sizes, scales, strict=True)
    ]


@pytest.mark.parametrize("seed", range(2))
def test_estimates_are_the_formulas_on_all_entries(seed: int) -> None:
    layers = random_layers(seed)
    found, exact = magnitudes_of(layers), by_numpy(layers)
    assert list(found) == list(exact) == list(_FORMULAS)
    for name, magnitude in exact.items():
        assert found[name] == pytest.approx(magnitude, rel=1e-12 if name in ("middle", "upper") else BIN), name
    assert len({decade_of(magnitude) for magnitude in found.values()}) > 2


def test_magnitudes_become_the_optimizers_own_epsilon() -> None:
    layers = measured(random_layers())
    for placement in (OUTSIDE, Placement.inside(), Placement.in_place(0.999, outer=1.0)):
        for estimate in point_estimates(layers, placement):
            assert estimate.epsilon == placement.epsilon_from_magnitude(estimate.magnitude)
            rounded = placement.epsilon_from_magnitude(decade_of(estimate.magnitude))
            assert estimate.decade == decade_of(rounded)
    upper = point_estimates(layers, Placement.inside())[-1]
    assert (upper.name, upper.epsilon) == ("upper", estimate_bounds(layers, Placement.inside()).high.epsilon)


def test_layers_that_set_no_bound_or_are_left_out_have_no_say() -> None:
    layers = random_layers()
    expected = point_estimates(
        [replace(of, name=name) for of, name in zip(measured(layers[1:]), "abc", strict=True)], OUTSIDE
    )
    noise, *rest = measured(layers)
    others = [
        LayerStatistics.unmeasured("frozen", (3,), LayerStatus.FROZEN),
        measure("zeros", torch.zeros(3)),
        measure("broken", torch.tensor([1.0, math.nan])),
    ]
    assert point_estimates([noise, *others, *rest], OUTSIDE, leave_out=["0", "frozen"]) == expected
    assert point_estimates([noise, *others, *rest], OUTSIDE) != expected
    assert point_estimates([noise, *others], OUTSIDE, leave_out=["0"]) == point_estimates([], OUTSIDE) == ()
