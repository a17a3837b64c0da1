"""Predicted bounds: known laws are found within their intervals, and what follows no law is refused."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import epsgrid
from epsgrid.errors import NoBoundsError
from epsgrid.numerics.bounds import EpsilonBounds, Reliability, estimate_bounds
from epsgrid.numerics.histogram import LogHistogram, bin_count
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.predicting import Prediction, predict

SIZES = (32, 64, 128, 256)


def layer(name: str, median: float) -> LayerStatistics:
    """A layer whose √v̂ lie a decade to either side of the median."""
    magnitudes = median * np.logspace(-1, 1, 101)
    counts = np.bincount(
        np.searchsorted(np.asarray(LogHistogram(5, np.zeros(bin_count(5))).edges()), magnitudes), minlength=bin_count(5)
    )
    histogram = LogHistogram(5, counts)
    return LayerStatistics(
        name, (101,), 101, 101, magnitudes[2], magnitudes[98], histogram, LayerStatus.MEASURED, "linear"
    )


def at_size(laws: dict[str, Callable[[float], float]], size: float, placement: Placement) -> EpsilonBounds:
    return estimate_bounds([layer(name, law(size)) for name, law in laws.items()], placement)


def power_law(factor: float, exponent: float) -> Callable[[float], float]:
    return lambda size: factor * size**exponent


LAWS = {"hidden": power_law(1e-2, -0.5), "head": power_law(3e-3, 0.0), "norm": power_law(1e-4, -1.0)}


def test_a_power_law_is_continued_and_its_exponent_found() -> None:
    measured = {size: at_size(LAWS, size, Placement.outside()) for size in SIZES}
    found = epsgrid.predict(measured, at=2048)
    assert isinstance(found, Prediction) and not found.refused
    for name, exponent in (("hidden", -0.5), ("head", 0.0), ("norm", -1.0)):
        law = found.law(name, "median")
        assert law.exponent == pytest.approx(exponent, abs=0.01)
        assert law.predicted == pytest.approx(LAWS[name](2048), rel=0.03)
        assert law.held_out == pytest.approx(0, abs=0.01)
    true = at_size(LAWS, 2048, Placement.outside())
    assert found.bounds.low.magnitude == pytest.approx(true.low.magnitude, rel=1e-6)
    assert found.bounds.high.magnitude == pytest.approx(true.high.magnitude, rel=1e-6)
    assert found.bounds.low.layers == ("norm",)
    medians = {each.name: each.histogram.median for each in found.bounds.layers if each.histogram}
    assert medians["norm"] == pytest.approx(LAWS["norm"](2048), rel=0.03)
    assert found.bounds.reliability is not None and found.bounds.reliability.verdict == "medium"
    assert "predicted at 2048 from 32, 64, 128, 256" in str(found)


@pytest.mark.parametrize("placement", [Placement.inside(), Placement.in_place(0.999)])
def test_epsilons_are_those_of_the_optimizer(placement: Placement) -> None:
    found = predict({size: at_size(LAWS, size, placement) for size in SIZES}, at=1024)
    true = at_size(LAWS, 1024, placement)
    assert found.bounds.decades == true.decades
    assert found.bounds.low.epsilon == pytest.approx(true.low.epsilon, rel=1e-6)


@pytest.mark.parametrize(("common", "own"), [(0.0, 0.05), (0.1, 0.03)])
def test_intervals_hold_what_they_promise_where_probes_scatter(common: float, own: float) -> None:
    """Of the predictions of one more probe, nine in each of 40 trials, about 95 % are inside; also where all layers of
    a probe are shifted alike, so that their number says less."""
    generator, inside, all_ = random.Random(5), 0, 0

    def scattered(size: float) -> EpsilonBounds:
        shift = generator.gauss(0, common)
        noise = {name: 10 ** (shift + generator.gauss(0, own)) for name in LAWS}
        return at_size({n: lambda s, n=n: LAWS[n](s) * noise[n] for n in LAWS}, size, Placement.outside())

    for _ in range(40):
        found = predict({size: [scattered(size), scattered(size)] for size in SIZES}, at=1024)
        real = {each.name: each for each in scattered(1024).layers}
        for law in found.laws:
            there = real[law.layer]
            histogram = there.histogram
            assert histogram is not None
            value = histogram.median if law.statistic == "median" else getattr(there, law.statistic)
            inside += abs(math.log10(law.predicted / value)) <= law.decades
            all_ += 1
    assert 0.88 <= inside / all_ <= 0.995


def test_a_layer_that_follows_no_law_sets_no_bound_and_is_named() -> None:
    laws = {**LAWS, "bent": lambda size: 1e-6 if size < 200 else 1e-9}
    found = predict({size: at_size(laws, size, Placement.outside()) for size in SIZES}, at=1024)
    assert {law.layer for law in found.refused} == {"bent"}
    assert "bent, low" in str(found) and "at 256 it is off by -3.00 decades" in str(found)
    assert found.bounds.low.layers == ("norm",)
    assert found.bounds.reliability is not None and found.bounds.reliability.verdict == "low"
    assert "bent would set a bound" in found.bounds.reliability.reasons[0]


def test_seeds_are_averaged_and_missing_layers_left_out() -> None:
    def seeds(size: float) -> list[EpsilonBounds]:
        laws = {**LAWS, f"only{size}": power_law(1.0, 0.0)}
        scales = (0.5, 2.0)
        return [
            at_size({n: lambda s, n=n, k=k: laws[n](s) * k for n in laws}, size, Placement.outside()) for k in scales
        ]

    found = predict({size: seeds(size) for size in SIZES[:3]}, at=512)
    assert found.law("hidden", "median").predicted == pytest.approx(LAWS["hidden"](512), rel=0.03)
    assert found.law("hidden", "median").held_out is None
    with pytest.raises(KeyError, match="only"):
        found.law("only128", "median")
    assert [each.status for each in found.bounds.layers][-1] is LayerStatus.LEFT_OUT


def test_layers_of_deeper_models_are_compared_at_the_same_relative_position() -> None:
    """√v̂ falls by a decade from the first layer to the last at every depth, and with the root of the depth."""

    def at_depth(depth: int) -> EpsilonBounds:
        levels = {f"layers.{i}.weight": 1e-2 * depth**-0.5 * 10 ** -(i / (depth - 1)) for i in range(depth)}
        return at_size({n: lambda s, v=v: v for n, v in {**levels, "head": 1e-3}.items()}, depth, Placement.outside())

    shapes = {f"layers.{i}.weight": np.zeros((101, 2)) for i in range(31)} | {"head": np.zeros(101)}
    model = SimpleNamespace(named_parameters=shapes.items)
    found = predict({depth: at_depth(depth) for depth in (2, 3, 6, 11)}, at=31, model=model)
    assert [layer.name for layer in found.bounds.layers] == list(shapes)
    for i in (0, 10, 15, 30):
        law = found.law(f"layers.{i}.weight", "median")
        assert law.exponent == pytest.approx(-0.5, abs=0.02)
        assert law.predicted == pytest.approx(1e-2 * 31**-0.5 * 10 ** -(i / 30), rel=0.05)
    assert found.law("head", "median").exponent == pytest.approx(0, abs=0.01)
    first = found.bounds.layers[0]
    assert (first.shape, first.entries, first.nonzero) == ((101, 2), 202, 202), "counts go with the entries"


def test_rounding_noise_at_any_size_leaves_a_layer_out() -> None:
    measured = {size: at_size(LAWS, size, Placement.outside()) for size in SIZES}
    noisy = Reliability("high", (), noise={"norm": 0.3})
    found = predict({**measured, 64: replace(measured[64], reliability=noisy)}, at=1024)
    assert {law.layer for law in found.laws} == {"hidden", "head"}
    assert found.bounds.reliability.noise == {"norm": 0.3}
    assert {layer.name: layer.status for layer in found.bounds.layers}["norm"] is LayerStatus.LEFT_OUT


def test_a_placement_at_the_target_takes_the_place_of_those_measured() -> None:
    measured = {size: at_size(LAWS, size, Placement.in_place(1 - 1 / size)) for size in SIZES}
    with pytest.raises(NoBoundsError, match="of different optimizers"):
        predict(measured, at=1024)
    there = Placement.in_place(1 - 1 / 1024)
    found, true = predict(measured, at=1024, placement=there), at_size(LAWS, 1024, there)
    assert found.bounds.low.epsilon == pytest.approx(true.low.epsilon, rel=1e-6)


class _Quadratic(torch.nn.Module):
    """Gradients are `signal` for each weight, and noise of variance 1 / batch size."""

    def __init__(self, signal: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((2000,), signal))

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        return 0.5 * self.weight.square().sum() + (self.weight * noise.mean(0)).sum()


@pytest.mark.parametrize(("signal", "exponent"), [(0.0, -0.5), (10.0, 0.0)])
def test_noisy_quadratics_follow_their_law_of_the_batch_size(signal: float, exponent: float) -> None:
    def probed(size: int, seed: int) -> EpsilonBounds:
        model, source = _Quadratic(signal), torch.Generator().manual_seed(seed)
        batches = [torch.randn(size, 2000, generator=source) for _ in range(40)]
        return epsgrid.probe(model, torch.optim.Adam(model.parameters()), batches, lambda model, batch: model(batch))

    found = predict({size: [probed(size, seed) for seed in (0, 1)] for size in (2, 4, 8, 16)}, at=64)
    for law in found.laws:
        assert abs(law.exponent - exponent) <= law.exponent_within < 0.2
        real = probed(64, 2).layers[0]
        value = real.histogram.median if law.statistic == "median" else getattr(real, law.statistic)
        assert abs(math.log10(law.predicted / value)) <= law.decades


@pytest.mark.parametrize("kind", ["standard", "mean field"])
def test_linear_networks_follow_their_laws_of_the_width(kind: str) -> None:
    """Gradients of the first matrix go as the second one's entries, those of the second as the hidden numbers."""

    def probed(width: int, seed: int) -> EpsilonBounds:
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(32, width, bias=False), torch.nn.Linear(width, 8, bias=False))
        torch.nn.init.normal_(model[0].weight, std=32**-0.5)
        torch.nn.init.normal_(model[1].weight, std=width ** (-0.5 if kind == "standard" else -1))
        batches = [(torch.randn(16, 32), torch.randn(16, 8)) for _ in range(20)]
        optimizer = torch.optim.Adam(model.parameters())
        return epsgrid.probe(model, optimizer, batches, lambda m, b: (m(b[0]) - b[1]).square().mean())

    found = predict({size: [probed(size, seed) for seed in (0, 1, 2)] for size in (64, 128, 256, 512)}, at=2048)
    exponents = {"0.weight": -0.5 if kind == "standard" else -1.0, "1.weight": 0.0}
    for name, exponent in exponents.items():
        law = found.law(name, "median")
        assert abs(law.exponent - exponent) <= law.exponent_within < 0.2
        (real,) = [layer for layer in probed(2048, 3).layers if layer.name == name]
        assert abs(math.log10(law.predicted / real.histogram.median)) <= law.decades


def test_what_cannot_be_predicted_is_refused_with_the_reason() -> None:
    measured = {size: at_size(LAWS, size, Placement.outside()) for size in SIZES}
    with pytest.raises(NoBoundsError, match=r"at least 3 sizes above 0.*got sizes 32, 64 and target 128"):
        predict({size: measured[size] for size in (32, 64)}, at=128)
    with pytest.raises(NoBoundsError, match="target 0"):
        predict(measured, at=0)
    with pytest.raises(NoBoundsError, match="of different optimizers or tail fractions"):
        predict({**measured, 512: at_size(LAWS, 512, Placement.inside())}, at=1024)
    with pytest.raises(NoBoundsError, match="no layer was measured at every size"):
        predict({s: at_size({f"layer{s}": LAWS["head"]}, s, Placement.outside()) for s in SIZES}, at=512)


@pytest.mark.parametrize("signal", [0.0, 1e-3, 0.02, 1.0])
def test_over_batch_sizes_noise_gives_way_to_signal(signal: float) -> None:
    laws = {"hidden": lambda batch: 1e-2 * math.sqrt(signal + (1 - signal) / batch), "head": lambda batch: 1e-4}
    found = predict({size: at_size(laws, size, Placement.outside()) for size in SIZES}, at=4096, batch_sizes=True)
    law = found.law("hidden", "median")
    assert law.predicted == pytest.approx(laws["hidden"](4096), rel=0.05)
    assert not law.refused and law.decades > 0.01
    noise = (1 - signal) / 4096
    assert law.exponent == pytest.approx(-noise / (signal + noise) / 2, abs=0.02)
    assert found.law("head", "median").exponent == pytest.approx(0, abs=1e-3)


def test_intervals_over_batch_sizes_hold_what_they_promise() -> None:
    """Half-way from noise to signal, where a power law misses most: about 95 % of further probes are inside."""
    generator, rng = random.Random(3), np.random.default_rng(7)
    inside: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(40):
        shares = {f"layers.{k}": 10 ** rng.uniform(-3, -1) for k in range(6)}

        def scattered(batch: float, shares: dict[str, float] = shares) -> EpsilonBounds:
            laws = {
                name: power_law(1e-2 * math.sqrt(f + (1 - f) / batch) * 10 ** generator.gauss(0, 0.02), 0)
                for name, f in shares.items()
            }
            return at_size(laws, 1, Placement.outside())

        measured = {size: [scattered(size) for _ in range(3)] for size in (2, 4, 8, 16)}
        further = {layer.name: layer for layer in scattered(128).layers}
        for batch_sizes in inside:
            found = predict(measured, at=128, batch_sizes=batch_sizes)
            for law in found.laws:
                middle = further[law.layer].histogram
                if law.statistic == "median" and middle and middle.median:
                    miss = abs(math.log10(law.predicted / middle.median))
                    inside[batch_sizes].append(miss <= law.decades)
    assert np.mean(inside[True]) > 0.9
    assert np.mean(inside[False]) < 0.75
