from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import epsgrid
from epsgrid.errors import ExecutionError
from epsgrid.numerics.counting import count
from epsgrid.numerics.series import Series
from epsgrid.observing.trackers import Mlflow, Tensorboard, _buckets, import_extra, scalars, write_series

needs_tensorboard = pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="tensorboard not installed")
needs_mlflow = pytest.mark.skipif(not importlib.util.find_spec("mlflow"), reason="mlflow not installed")

LAYERS = ("0.weight", "0.bias", "2.weight", "2.bias")
STEPS = 3


@pytest.fixture
def trained() -> tuple[Series, dict[int, dict[str, np.ndarray[Any, Any]]]]:
    """A series, and √v̂ of every layer at every step, read by hand."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 2))
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-3)
    by_hand: dict[int, dict[str, np.ndarray[Any, Any]]] = {}
    snapshots = []
    with epsgrid.observe(optimizer, model=model) as observer:
        for step in range(1, STEPS + 1):
            optimizer.zero_grad()
            model(torch.randn(5, 6)).square().mean().backward()
            optimizer.step()
            snapshots.append(observer.snapshot())
            by_hand[step] = {
                name: (optimizer.state[parameter]["exp_avg_sq"].double() / (1 - 0.999**step)).sqrt().numpy().ravel()
                for name, parameter in model.named_parameters()
            }
    return replace(observer.series(), snapshots=tuple(snapshots)), by_hand


def test_scalars_are_those_of_the_entries(trained: Any) -> None:
    series, by_hand = trained
    rows = scalars(series)
    assert list(rows) == list(by_hand)
    for step, layers in by_hand.items():
        row = rows[step]
        ends = []
        for entries in layers.values():
            nonzero = np.sort(entries[entries != 0])
            ends.append([nonzero[min(int(share * len(nonzero)), len(nonzero) - 1)] for share in (0.02, 0.98)])
        assert row["epsgrid/low"] == pytest.approx(min(low for low, _ in ends), rel=0.008)
        assert row["epsgrid/high"] == pytest.approx(max(high for _, high in ends), rel=0.008)
        assert row["epsgrid/threshold"] == pytest.approx(1e-3)
        everything = np.concatenate(list(layers.values()))
        assert row["epsgrid/adaptable"] == pytest.approx(np.mean(everything > 1e-3), abs=0.05)
        assert 0 < row["epsgrid/adaptable"] < 1
    assert set(scalars(series, "x")[1]) == {f"x/{what}" for what in ("low", "high", "threshold", "adaptable")}


@pytest.mark.parametrize(("epsilons", "threshold"), [((1e-3, 1e-3), 1e-3), ((1e-3, 1e-1), None)])
def test_a_diagnosis_adds_the_damping_of_the_last_step(epsilons: tuple[float, float], threshold: float | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 2))
    groups = [{"params": model[place].parameters(), "eps": eps} for place, eps in zip((0, 2), epsilons, strict=True)]
    optimizer = torch.optim.RMSprop(groups)
    with epsgrid.observe(optimizer, model=model) as observer:
        for _ in range(STEPS):
            optimizer.zero_grad()
            model(torch.randn(5, 6)).square().mean().backward()
            optimizer.step()
    series, diagnosis = observer.series(), observer.diagnosis()
    assert not [name for row in scalars(series).values() for name in row if "damping" in name]
    rows = scalars(series, diagnosis=diagnosis)
    assert ["epsgrid/damping" in row for row in rows.values()] == [False, False, True]
    by_kind: dict[str, list[torch.Tensor]] = {"dense": [], "bias": []}
    above = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            root = optimizer.state[parameter]["square_avg"].double().sqrt()
            by_kind["dense" if parameter.ndim == 2 else "bias"].append((root / (root + group["eps"]))[root > 0])
            above.append((root > group["eps"]).flatten())
    expected = {f"epsgrid/damping_{kind}": float(torch.cat(factors).mean()) for kind, factors in by_kind.items()}
    expected["epsgrid/damping"] = float(torch.cat([each for factors in by_kind.values() for each in factors]).mean())
    found = rows[STEPS]
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=0.01)
    assert found.get("epsgrid/threshold") == threshold
    assert found["epsgrid/adaptable"] == pytest.approx(observer.adaptable_fraction().total, abs=0.03)
    assert found["epsgrid/adaptable"] == pytest.approx(float(torch.cat(above).double().mean()), abs=0.03)


def test_what_a_diagnosis_leaves_out_as_rounding_noise_sets_no_bound() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))
    optimizer = torch.optim.Adam(model.parameters())
    with epsgrid.observe(optimizer, model=model) as observer:
        for _ in range(STEPS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.randn(16, 3, 8, 8)), torch.arange(16) % 5).backward()
            optimizer.step()
    diagnosis, bounds = observer.diagnosis(), observer.bounds()
    assert diagnosis.left_out == ("0.bias",)
    row, published = (scalars(observer.series(), diagnosis=each)[STEPS] for each in (diagnosis, None))
    assert row["epsgrid/low"] == pytest.approx(bounds.low.magnitude, rel=0.008)
    assert published["epsgrid/low"] < 1e-4 * row["epsgrid/low"]


# Buckets


@pytest.mark.parametrize("mantissa_bits", [1, 5])
def test_buckets_hold_the_entries_between_their_edges(mantissa_bits: int) -> None:
    v = 10 ** (torch.rand(500, generator=torch.Generator().manual_seed(0)) * 20 - 12)
    v[:50] = 0
    limits, counts = _buckets(count(v, 2.0).fold(mantissa_bits))
    roots = np.log10(np.sqrt(v[v > 0].double().numpy() * 2.0))
    expected = Counter(np.searchsorted(limits, roots, side="left").tolist())
    assert counts.tolist() == [expected[place] for place in range(1, len(limits))]
    assert counts[0] and counts[-1]
    assert np.all(np.diff(limits) > 0)


def test_buckets_end_at_finite_edges() -> None:
    """The first bin begins at zero, which has no logarithm; what lies beyond float32 lies in the first and last."""
    v = torch.tensor([1e-300, 2.0**-149, 1.0, 1e300], dtype=torch.float64)
    limits, counts = _buckets(count(v).fold(1))
    assert np.all(np.isfinite(limits))
    assert limits[0] == pytest.approx(math.log10(2.0**-74.5))
    assert (counts[0], counts[-1], counts.sum()) == (2, 1, 4)


# TensorBoard


@needs_tensorboard
def test_event_files_can_be_read_back(trained: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    series, by_hand = trained
    tracker = Tensorboard.open(tmp_path)
    write_series(series, tracker)
    tracker.end()
    events = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0, "histograms": 0})
    events.Reload()
    for step, row in scalars(series).items():
        for name, value in row.items():
            read = {event.step: event.value for event in events.Scalars(name)}
            assert read[step] == pytest.approx(value, rel=1e-6)
    for name in LAYERS:
        for event in events.Histograms(f"epsgrid_magnitudes/{name}"):
            entries = by_hand[event.step][name]
            logarithms = np.log10(entries[entries > 0])
            histogram = event.histogram_value
            assert histogram.num == len(logarithms) == sum(histogram.bucket)
            assert histogram.min <= logarithms.min() and logarithms.max() <= histogram.max
            assert histogram.sum / histogram.num == pytest.approx(logarithms.mean(), abs=0.05)
            assert histogram.sum_squares / histogram.num == pytest.approx((logarithms**2).mean(), rel=0.05)
            places = np.searchsorted([histogram.min, *histogram.bucket_limit], logarithms, side="left")
            assert Counter(places.tolist()) == {
                place: number for place, number in enumerate(map(int, histogram.bucket), start=1) if number
            }


@pytest.mark.parametrize(("module", "extra"), [("torch.utils.tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_what_is_not_installed_is_named_with_its_extra(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    opening = {"tensorboard": Tensorboard.open, "mlflow": Mlflow.open}[extra]
    with pytest.raises(ExecutionError, match=rf"cannot be imported .*pip install 'epsgrid\[{extra}\]'"):
        opening(tmp_path)


# MLflow


@needs_mlflow
@pytest.mark.filterwarnings("ignore::FutureWarning:mlflow", "ignore::DeprecationWarning:mlflow")
def test_a_local_folder_holds_metrics_and_series(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    series, _ = trained
    run = Mlflow.open(tmp_path / "runs", "mine", run_name="first")
    write_series(series, run)
    run.end()
    for name, value in scalars(series)[STEPS].items():
        history = run.client.get_metric_history(run.run_id, name)
        assert {metric.step for metric in history} == set(range(1, STEPS + 1))
        assert history[-1].value == value
    (artifact,) = [each for each in run.client.list_artifacts(run.run_id, "epsgrid") if f"{STEPS:08d}" in each.path]
    text = Path(run.client.download_artifacts(run.run_id, artifact.path)).read_text()
    read = Series.from_json(json.loads(text))
    assert read.snapshots == series.snapshots[-1:]
    assert read.names == LAYERS
    stored = run.client.get_run(run.run_id)
    assert (stored.info.status, stored.info.run_name) == ("FINISHED", "first")
    another = Mlflow.open(tmp_path / "runs", "mine")
    found = another.client.get_run(another.run_id)
    assert another.run_id != run.run_id and found.info.experiment_id == stored.info.experiment_id


def test_telemetry_is_off_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    import_extra("mlflow")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
    assert os.environ["DO_NOT_TRACK"] == "true"
