"""A job of two real processes over gloo; every scenario is in `distributed_worker`."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial

import epsgrid
from epsgrid.errors import ObservationError
from epsgrid.numerics.counting import count
from epsgrid.numerics.damping import damping_of
from epsgrid.numerics.placement import Placement
from epsgrid.observing import distributed
from epsgrid.observing.distributed import gathered_bounds, gathered_diagnosis, gathered_series
from epsgrid.observing.layers import Layer
from tests.observing import distributed_worker as worker
from tests.observing.samples import order_statistics

pytestmark = pytest.mark.xdist_group("distributed")  # what its fixtures made is made once

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 240  # a job takes seconds; on a machine that does much else, minutes

Answers = list[dict[str, Any]]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answers]:
    """What each rank got, by scenario."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "tests.observing.distributed_worker"]
    ranks = [
        subprocess.Popen([*command, str(rank), str(folder)], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and any(rank.poll() is None for rank in ranks) and not any(r.poll() for r in ranks):
        time.sleep(0.1)  # where one has failed, the other would wait for it
    for rank in ranks:
        rank.kill()
    told = [rank.communicate()[1] for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), "\n".join(told)
    return {
        name: [torch.load(folder / f"{name}-{rank}.pt", weights_only=False) for rank in range(2)]
        for name in worker.SCENARIOS
    }


def assert_found_by_sorting(answer: Mapping[str, Any]) -> None:
    """Compare counts and order statistics of each layer, and the bounds of all, with those of the whole v."""
    bounds = answer["bounds"]
    ends = []
    for layer in bounds.layers:
        entries = answer["v"][layer.name]
        assert layer.histogram == count(entries, layer.histogram.scale)
        assert (layer.entries, layer.shape) == (entries.numel(), tuple(entries.shape))
        ends.append(order_statistics(entries.double().numpy(), layer.histogram.scale))
        assert (layer.low, layer.high) == ends[-1]
    assert len(ends) == len(answer["v"])
    assert bounds.low.magnitude == min(low for low, _ in ends)
    assert bounds.high.magnitude == max(high for _, high in ends)


@pytest.mark.parametrize("scenario", ["ddp", "fsdp2", "hsdp"])
def test_every_rank_gets_what_a_sort_of_the_whole_gives(job: dict[str, Answers], scenario: str) -> None:
    first, second = job[scenario]
    assert_found_by_sorting(first)
    assert (first["bounds"], first["series"]) == (second["bounds"], second["series"])


@pytest.mark.parametrize("scenario", ["fsdp2", "hsdp", "zero"])
def test_the_result_is_that_of_one_process(job: dict[str, Answers], scenario: str) -> None:
    alone = worker.replica(worker.batches())[2].bounds()
    for answer in job[scenario]:
        found = answer["bounds"]
        assert sorted(found.layers, key=lambda layer: layer.name) == sorted(alone.layers, key=lambda layer: layer.name)
        assert (found.low, found.high) == (alone.low, alone.high)


@pytest.mark.parametrize("scenario", ["ddp", "fsdp2", "zero"])
def test_a_series_of_one_snapshot_holds_the_same_counts(job: dict[str, Answers], scenario: str) -> None:
    series, statistics = job[scenario][0]["series"], job[scenario][0]["bounds"].layers
    (snapshot,) = series.snapshots
    assert (snapshot.step, snapshot.epoch, snapshot.threshold) == (worker.STEPS, 0.5, None)
    assert series.names == tuple(layer.name for layer in statistics)
    assert series.kinds == tuple(layer.kind for layer in statistics)
    for layer, whole in zip(snapshot.layers, statistics, strict=True):
        assert layer is not None and layer.histogram is not None and whole.histogram is not None
        assert layer.histogram == whole.histogram.fold(layer.histogram.mantissa_bits)
        assert layer.quantiles == tuple(whole.histogram.quantile(fraction) for fraction in series.fractions)


@pytest.mark.parametrize("scenario", ["ddp", "fsdp2", "hsdp", "zero"])
def test_every_rank_gets_the_diagnosis_of_all_entries(job: dict[str, Answers], scenario: str) -> None:
    """Layers are of two ε."""
    found, others = (answer["diagnosis"] for answer in job[scenario])
    assert found == others
    assert [layer.name for layer in found.findings] == ["4.weight", "4.bias"]
    assert {layer.learning_rate for layer in found.findings} == {1e-2}
    for layer, statistics in zip(found.layers, job[scenario][0]["bounds"].layers, strict=True):
        assert (layer.name, layer.kind) == (statistics.name, statistics.kind)
        assert layer.damping == damping_of(statistics.histogram, Placement.outside(), layer.epsilon)
    if scenario != "ddp":  # there ranks have batches of their own
        alone = worker.replica(worker.batches())[2].diagnosis()
        assert set(found.layers) == set(alone.layers)


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ("out_of_step", "ranks 0 and 1 hold second moments that are not of one tensor, or not at the same step"),
        ("unreadable", "rank 1: layer '2.weight': a second moment is a mean of squares"),
        ("unbuilt", "not built yet on any rank"),
        ("lacking", "the 1 ranks that know it hold 6 of its 10 entries: every rank that holds a part"),
        ("flattened", "flattened by FullyShardedDataParallel.*fully_shard"),
    ],
)
def test_what_is_wrong_on_one_rank_is_told_on_all(job: dict[str, Answers], scenario: str, words: str) -> None:
    for answer in job[scenario]:
        assert re.search(f"^ObservationError: .*{words}", answer["error"])


@pytest.mark.parametrize("dtype", worker.DTYPES)
def test_uneven_and_empty_shards(job: dict[str, Answers], dtype: str) -> None:
    answers = job[f"uneven {dtype}"]
    assert_found_by_sorting(answers[0])
    assert answers[0]["bounds"] == answers[1]["bounds"]
    held = [[layer.entries for layer in answer["local"].values()] for answer in answers]
    assert held == [[20, 3, 16, 9, 1], [15, 3, 16, 9, 0]]


# One process


@pytest.mark.parametrize("name", ["", "optim_world_size_2_rank_1.pt", "dcp"])
def test_a_checkpoint_of_shards_has_the_bounds_of_the_job(job: dict[str, Answers], name: str) -> None:
    answer = job["saved"][0]
    (found,) = epsgrid.read_checkpoint(answer["folder"] / name).optimizers
    for end in ("low", "high"):
        assert getattr(found.bounds(), end).magnitude == getattr(answer["bounds"], end).magnitude
    assert [each.entries for _, each in found.measured] == [35, 5, 15, 3, 3, 1]
    assert found.step == worker.STEPS


def test_outside_a_job_it_is_the_observers_own() -> None:
    observer = worker.replica(worker.batches())[2]
    assert gathered_bounds(observer) == observer.bounds()
    series = gathered_series(observer, 0.25)
    assert series.snapshots == (observer.snapshot(0.25),)
    assert series.names == observer.series().names
    assert gathered_diagnosis(observer) == observer.diagnosis()


@contextmanager
def job_of_one(folder: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def test_partial_sums_are_refused(tmp_path: Path) -> None:
    with job_of_one(tmp_path):
        part = DTensor.from_local(torch.ones(2), init_device_mesh("cpu", (1,)), [Partial()])
        with pytest.raises(ObservationError, match="layer 'weight' is a partial sum on each rank"):
            distributed._place(Layer("weight", part, None))


ENTRIES = st.lists(
    st.one_of(st.just(0.0), st.floats(0, allow_nan=False, allow_infinity=False), st.floats(1e-9, 1e-8)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=ENTRIES, dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
@example(entries=[5e-324, 2.0**-149, 1e-40, 1.0, 3.4028234663852886e38, 1e39, 1.7e308], dtype=torch.float64)
@example(entries=[2.0**-149, 2.0**-126, 3.4028234663852886e38], dtype=torch.float32)
@example(entries=[0.5] * 50, dtype=torch.float32)
def test_every_rank_of_any_entries_is_selected_exactly(
    tmp_path_factory: pytest.TempPathFactory, entries: list[float], dtype: torch.dtype
) -> None:
    v = torch.tensor(entries, dtype=torch.float64).to(dtype)
    v = v[torch.isfinite(v)]
    expected = np.sort(v.double().numpy())
    expected = expected[expected != 0]
    histogram = count(v)
    queries = [(v, dtype == torch.float64, histogram, rank) for rank in range(len(expected))]
    with job_of_one(tmp_path_factory.mktemp("job")):
        assert distributed._order_statistics(queries) == expected.tolist()
