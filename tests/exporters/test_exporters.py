"""Each file that is written is read by the tool it is for, and what the tool makes of it lies inside the bounds."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from epsgrid import plugins
from epsgrid.errors import NoBoundsError, SpecError, StoreError, UnknownNameError
from epsgrid.exporters._space import Dimension, Kind, Space, space_of
from epsgrid.numerics.bounds import EpsilonBounds, Reliability, estimate_bounds
from epsgrid.numerics.placement import Placement
from epsgrid.stages.export import _target_of, export_bounds
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import ExperimentRecord
from tests.report.simulate import experiment_record, layer, probe_record, simulate, two_layers

TOOLS = plugins.names("exporters")
DECADES = (1e-4, 1e-3, 1e-2)
RATES = (1e-3, 1e-2, 1e-1)
slow_to_import = pytest.mark.xdist_group("search tools")
"""Tune and W&B take seconds to import: in one process, once."""

REASONS = ("the 5 % tail moves the lower bound", "a bias of 10 entries sets the upper one")


def bounds_at(placement: Placement, layers: Any = None) -> EpsilonBounds:
    """Bounds of medium confidence."""
    bounds = estimate_bounds(layers or two_layers(), placement)
    return replace(bounds, reliability=Reliability("medium", REASONS))


def asked(optimizer: dict[str, Any] | None = None, rates: tuple[float, ...] = RATES) -> ExperimentRecord:
    record = experiment_record(rates=rates)
    return replace(record, spec=record.spec | {"optimizer": optimizer or {"name": "adam", "betas": [0.9, 0.999]}})


def made(
    kind: Kind = "log-uniform",
    placement: Placement | None = None,
    layers: Any = None,
    experiment: ExperimentRecord | None = None,
    framework: str | None = None,
    names: tuple[str, str] = ("eps", "lr"),
) -> Space:
    placement, experiment = placement or Placement.outside(), experiment or asked()
    bounds = bounds_at(placement, layers)
    probe = probe_record(bounds, placement)
    target = _target_of(framework, experiment.spec["optimizer"], probe)
    return space_of(experiment, probe, bounds, kind, target, names)


def written(tool: str, space: Space) -> str:
    return str(plugins.load("exporters", tool).export(space))


def run(text: str) -> dict[str, Any]:
    """Run a module that was written, as a tool's user would import it."""
    namespace: dict[str, Any] = {"__name__": "written"}
    exec(compile(text, "written.py", "exec"), namespace)
    return namespace


def inside(dimension: Dimension, values: Any, kind: Kind) -> bool:
    if kind == "grid":
        return set(values) == set(dimension.values)
    return all(dimension.low * (1 - 1e-12) <= value <= dimension.high * (1 + 1e-12) for value in values)


def test_the_grid_is_the_decades_of_the_bounds_and_the_range_reaches_from_end_to_end() -> None:
    space = made()
    assert space.epsilon == Dimension("eps", 1e-4, 1e-2, DECADES)
    assert space.learning_rate == Dimension("lr", 1e-3, 1e-1, RATES)
    single = made(layers=[layer("weight", (50, 50), -3.0, log10_sd=0.05)]).epsilon
    assert single.values == (1e-3,), "one decade is a range of what rounds to it"
    assert (single.low, single.high) == pytest.approx((10**-3.5, 10**-2.5))


@pytest.mark.parametrize(
    ("framework", "optimizer", "name", "of_magnitude"),
    [
        (None, {"name": "adam"}, "adam", lambda b: b),
        ("torch", {"name": "rmsprop", "alpha": 0.99}, "rmsprop", lambda b: b),
        ("keras", {"name": "adam", "betas": [0.9, 0.98]}, "keras-adam", lambda b: b * math.sqrt(1 - 0.98**11)),
        ("keras", {"name": "adamw", "betas": [0.9, 0.9]}, "keras-adam", lambda b: b * math.sqrt(1 - 0.9**11)),
        ("optax-adam-eps-root", {"name": "adam", "betas": [0.9, 0.999]}, "optax-adam-eps-root", lambda b: b**2),
        ("eadam", {"name": "adam", "betas": [0.9, 0.99]}, "eadam", lambda b: b**2 * 0.01),
    ],
)
def test_the_epsilon_is_that_of_the_framework(framework: Any, optimizer: Any, name: str, of_magnitude: Any) -> None:
    """Against the placements written out; the probe of these records took 11 steps."""
    space = made(experiment=asked(optimizer), framework=framework)
    measured = bounds_at(Placement.outside())
    step = round(math.log10(of_magnitude(10) / of_magnitude(1)))  # of ε, for a decade of √v̂
    magnitudes = [measured.low.magnitude, measured.high.magnitude]
    if step > 1:
        magnitudes = [10 ** round(math.log10(magnitude)) for magnitude in magnitudes]
    low, high = (round(math.log10(of_magnitude(magnitude))) for magnitude in magnitudes)
    assert space.target.name == name
    assert [round(math.log10(value)) for value in space.epsilon.values] == list(range(low, high + 1, step))


def test_the_beta2_of_the_run_is_found_by_whatever_name() -> None:
    """RMSprop's α in torch is Keras' ρ: √v against √(v + ε), both uncorrected, is the square whatever the step."""
    experiment = asked({"name": "rmsprop", "alpha": 0.9})
    space = made(placement=Placement.uncorrected(0.9, 11), experiment=experiment, framework="keras")
    assert (space.target.name, space.target.converted) == ("keras-rmsprop", "the same weight at step 11 with β₂ = 0.9")
    assert [round(math.log10(value)) for value in (space.epsilon.low, space.epsilon.high)] == [-8, -4]


def test_wrong_frameworks_and_names_that_a_language_could_misread_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"no 'eadam' is known of keras; name another optimizer in full: keras-"):
        made(experiment=asked({"name": "eadam", "betas": [0.9, 0.999]}), framework="keras")
    with pytest.raises(UnknownNameError, match=r"unknown optimizer 'kears'; did you mean 'keras'"):
        made(framework="kears")
    with pytest.raises(NoBoundsError, match="has no epsilon"):
        made(framework="sgdm")
    for name in ("", "1st", "a b", "eps'", "a..b", "eps\n", "ε,", "a:b"):
        with pytest.raises(SpecError, match="cannot name a hyperparameter"):
            made(names=(name, "lr"))
    with pytest.raises(SpecError, match="both called 'x'; give them two names"):
        made(names=("x", "x"))


def test_the_comment_says_where_the_numbers_come_from() -> None:
    comment = made(framework="keras").comment
    for part in (
        "ε of keras-adam from 1e-5 to 1e-3, measured by epsgrid 0.1.0 on 2026-11-22T00:00:00+00:00 in 11 steps.",
        "run: simulated (task digits, model mlp, optimizer adam, batch size 128)",
        "data: 8x8 digits: 1,797 images",
        "converted from the ε of adam: the same weight at step 11 with β₂ = 0.999",
        f"reliability: medium: {'; '.join(REASONS)}",
        "nothing was measured about them",
    ):
        assert part in comment


@pytest.mark.parametrize("kind", ["log-uniform", "grid"])
@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_record_says_cannot_leave_the_comment(tool: str, kind: Kind) -> None:
    """And equal records give equal texts, with the provenance on top."""
    evil = "digits\"\"\"\n'''\r\nraise SystemExit\u2028x: {}{0}\x00\u0085%s #\ud800" + "y" * 10_000
    experiment = replace(asked(), name=evil)
    experiment.spec["task"]["name"] = evil
    plain, odd = written(tool, made(kind)), written(tool, made(kind, experiment=experiment))
    assert plain == written(tool, made(kind)) and plain.endswith("\n")
    assert "8x8 digits: 1,797 images" in plain and "2026-11-22T00:00:00+00:00" in plain and REASONS[0] in plain
    if tool == "json":
        assert json.loads(odd)["measured"]["run"] == evil
        return
    assert len(odd.splitlines()) == len(plain.splitlines()) and max(map(len, odd.splitlines())) < 500
    bare = [[line for line in text.splitlines() if not line.startswith("#")] for text in (plain, odd)]
    assert bare[0] == bare[1]


@pytest.mark.parametrize("kind", ["log-uniform", "grid"])
def test_optuna_runs_a_study(kind: Kind) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = made(kind, names=("optimizer.eps", "lr"))
    module = run(written("optuna", space))
    sampler = module["sampler"](seed=0) if kind == "grid" else optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: module["suggest"](trial)["optimizer.eps"], n_trials=None if kind == "grid" else 3)
    found = [trial.params for trial in study.trials]
    for dimension in space.dimensions:
        assert inside(dimension, [params[dimension.name] for params in found], kind)
    if kind == "grid":
        points = [(each["optimizer.eps"], each["lr"]) for each in found]
        assert sorted(points) == [(e, r) for e in DECADES for r in RATES], "each once"
    else:
        assert all(distribution.log for distribution in study.trials[0].distributions.values())


@slow_to_import
@pytest.mark.parametrize("kind", ["log-uniform", "grid"])
def test_tune_makes_samples(kind: Kind) -> None:
    pytest.importorskip("ray.tune")
    from ray.tune.search.variant_generator import generate_variants

    space = made(kind)
    parameters = run(written("ray", space))["PARAM_SPACE"]
    samples = [config for _, config in generate_variants(parameters, random_state=np.random.default_rng(0))]
    assert len(samples) == (9 if kind == "grid" else 1)
    for dimension in space.dimensions:
        assert inside(dimension, [sample[dimension.name] for sample in samples], kind)
        assert kind == "grid" or type(parameters[dimension.name].sampler).__name__ == "_LogUniform"


@slow_to_import
@pytest.mark.filterwarnings("ignore:Exception ignored in.*FileIO:pytest.PytestUnraisableExceptionWarning")  # W&B's own
@pytest.mark.parametrize("kind", ["log-uniform", "grid"])
def test_wandb_reads_the_sweep(kind: Kind, tmp_path: Path) -> None:
    """By the code of W&B itself that loads a sweep's file, and that gives its parameters to a sampler."""
    pytest.importorskip("wandb.sdk.sweeps.scheduler.optuna")
    from wandb.sdk.launch.sweeps.utils import load_sweep_config
    from wandb.sdk.sweeps.scheduler.optuna import search_space_from_sweep_config

    space = made(kind, names=("optimizer.eps", "lr"))
    file = tmp_path / "sweep.yaml"
    file.write_text(written("wandb", space), encoding="utf-8")
    config = load_sweep_config(str(file))
    assert set(config) == {"program", "method", "parameters"}
    assert config["method"] == ("grid" if kind == "grid" else "random")
    read = search_space_from_sweep_config(config["parameters"])
    for dimension in space.dimensions:
        distribution = read[dimension.name]
        if kind == "grid":
            assert distribution.choices == dimension.values
        else:
            assert (distribution.low, distribution.high, distribution.log) == (dimension.low, dimension.high, True)


def composed(text: str, folder: Path) -> Any:
    """What Hydra makes of a user's configuration with the file in it, and of a stand-in for the plug-in's own."""
    from hydra import compose, initialize_config_dir

    for name, content in {
        "config.yaml": "optimizer: {name: adam, eps: 1e-8}\nlr: 1e-3\n",
        "sweep/epsilon.yaml": text,
        "hydra/sweeper/optuna.yaml": "_target_: plugin.Sweeper\nn_trials: 20\nparams: null\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("config", ["+sweep=epsilon"], return_hydra_config=True)


@pytest.mark.parametrize("kind", ["log-uniform", "grid"])
def test_hydra_composes_a_sweep(kind: Kind, tmp_path: Path) -> None:
    pytest.importorskip("hydra")
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep

    space = made(kind, names=("optimizer.eps", "lr"))
    text = written("hydra", space)
    config = composed(text, tmp_path)
    assert config.hydra.mode.name == "MULTIRUN"
    assert config.hydra.sweeper._target_.endswith("BasicSweeper" if kind == "grid" else "plugin.Sweeper")
    assert config.optimizer == {"name": "adam", "eps": 1e-8}
    words = [f"{name}={value}" for name, value in config.hydra.sweeper.params.items()]
    for dimension, override in zip(space.dimensions, OverridesParser.create().parse_overrides(words), strict=True):
        sweep = override.value()
        assert override.key_or_group == dimension.name
        if kind == "grid":
            assert isinstance(sweep, ChoiceSweep) and tuple(sweep.list) == dimension.values
        else:
            assert isinstance(sweep, IntervalSweep) and sweep.tags == {"log"}
            assert (sweep.start, sweep.end) == (dimension.low, dimension.high)


def test_json_holds_both_whichever_was_asked_for() -> None:
    document = json.loads(written("json", made("grid", framework="keras")))
    assert (document["version"], document["kind"], document["space"]) == (1, "epsgrid search space", "grid")
    assert document["learning_rate"] == {"name": "lr", "low": 1e-3, "high": 1e-1, "values": list(RATES)}
    assert document["epsilon"]["low"] == document["epsilon"]["values"][0]
    assert document["for"]["optimizer"] == "keras-adam"
    assert document["measured"]["reliability"] == {"verdict": "medium", "reasons": list(REASONS)}
    assert document["measured"]["low"]["layers"] == ["0.weight"]


@slow_to_import
def test_a_single_learning_rate_is_a_constant(tmp_path: Path) -> None:
    """A range without extent is refused by Tune, and would be by W&B."""
    optuna, _ = pytest.importorskip("optuna"), pytest.importorskip("ray.tune")
    space = made(experiment=asked(rates=(3e-4,)))
    study = optuna.create_study()
    assert run(written("optuna", space))["suggest"](study.ask())["lr"] == 3e-4
    assert run(written("ray", space))["PARAM_SPACE"]["lr"] == 3e-4
    assert yaml.safe_load(written("wandb", space))["parameters"]["lr"] == {"value": 3e-4}
    assert composed(written("hydra", space), tmp_path).hydra.sweeper.params.lr == 3e-4


def test_small_numbers_are_numbers_to_every_yaml_reader() -> None:
    """YAML 1.1 reads 1e-08 as a text."""
    space = made("log-uniform", layers=[layer("weight", (60, 60), -9.0, log10_sd=1.0)])
    numbers = yaml.safe_load(written("wandb", space))["parameters"]["eps"]
    assert isinstance(numbers["min"], float) and numbers["min"] < 1e-9
    sweep = yaml.safe_load(written("hydra", space))["hydra"]["sweeper"]["params"]["eps"]
    assert sweep == f"tag(log, interval({numbers['min']!r}, {numbers['max']!r}))"


def export(folder: Path) -> str:
    run = ExperimentFolder(folder)
    return export_bounds(run, "json", "grid", bounds=None, framework=None, names=("eps", "lr"))[1]


def test_a_run_is_exported_at_any_time_after_its_probe_and_refused_without_bounds(tmp_path: Path) -> None:
    simulate(tmp_path / "probed", sweep=False)
    assert json.loads(export(tmp_path / "probed"))["epsilon"]["values"] == list(DECADES)
    simulate(tmp_path / "swept", probe=False, narrowed=None)
    with pytest.raises(StoreError, match=r"no bounds were measured here; `epsgrid probe SPEC` does it"):
        export(tmp_path / "swept")
    with pytest.raises(StoreError, match="no experiment here"):
        export(tmp_path / "nowhere")
