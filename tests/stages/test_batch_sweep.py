"""One setting carried to other batch sizes: which trials, which settings, what is reused, and what is told."""

import pytest

from epsgrid.errors import ScalingError, SpecError
from epsgrid.selection.load import load_experiment
from epsgrid.spec.trial import trial_id, trial_identity
from epsgrid.stages import anew
from epsgrid.stages import sweep as sweep_stage
from epsgrid.stages.batch_sweep import (
    BatchRequest,
    base_setting,
    parse_rules,
    plan_batches,
    planned_again,
    sweep_batches,
    with_trial_states,
)
from epsgrid.stages.experiment import prepare_data, resolve
from epsgrid.stages.status import status
from epsgrid.store.records import BatchesRecord, TrialResult
from tests.stages.conftest import NeverStop

ALL = ("sqrt", "sqrt-keep-epsilon", "linear", "none")
AT = {"learning_rate": 1e-2, "epsilon": 1e-8}


@pytest.fixture
def asking(spec_path, tmp_path):
    def asked(*overrides):
        return resolve(spec_path, None, overrides, tmp_path / "runs")

    return asked


def train(asked, request):
    events = []
    planned = plan_batches(asked, request)
    return sweep_batches(asked, planned, workers=1, fail_fast=False, notify=events.append, stop=NeverStop())


def trials_of(planned, label):
    return [trial for trial in planned.plan.trials if label in trial.grids]


def test_each_rule_carries_the_setting_as_published(asking):
    planned = plan_batches(asking("sweep.seeds=[0,1]"), BatchRequest((64, 1024), ALL, **AT))
    assert len(planned.plan.trials) == 2 * (1 + 2 * 4)
    (found,) = {(trial.learning_rate, trial.epsilon) for trial in trials_of(planned, "batch 1024, sqrt")}
    assert found == (2e-2, 5e-9)
    for trial in trials_of(planned, "batch 1024, sqrt"):
        assert trial.identity["optimizer"]["betas"] == [0.6, 0.996]
        assert trial.identity["training"]["batch_size"] == 1024
        assert trial.identity["training"]["epochs"] == 1
    expected = {"sqrt": (5e-3, 2e-8), "sqrt-keep-epsilon": (5e-3, 1e-8), "linear": (2.5e-3, 1e-8), "none": (1e-2, 1e-8)}
    for rule, point in expected.items():
        assert {(t.learning_rate, t.epsilon) for t in trials_of(planned, f"batch 64, {rule}")} == {point}
    assert planned.record.changes["batch 1024, sqrt"] == "optimizer.betas [0.6, 0.996]"
    assert "batch 1024, none" not in planned.record.changes


def test_seeds_go_one_after_another_and_the_base_first(asking):
    planned = plan_batches(asking("sweep.seeds=[3,1]"), BatchRequest((64,), ("sqrt",), **AT))
    assert [(trial.seed, trial.grids) for trial in planned.plan.trials] == [
        (seed, (label,)) for seed in (3, 1) for label in ("batch 256, base", "batch 64, sqrt")
    ]


def test_the_base_is_the_very_trial_of_a_grid(asking):
    asked = asking()
    planned = plan_batches(asked, BatchRequest((64,), ("sqrt",), **AT))
    (base,) = trials_of(planned, "batch 256, base")
    settings = trial_identity(asked.spec, prepare_data(asked.spec).checksum, 1e-2, 1e-8, 0)
    assert base.id == trial_id(settings)


def test_rules_that_agree_share_a_trial(asking):
    # AdaBelief adds ε to v in place, where the rule leaves it: to forget it costs nothing.
    asked = asking("optimizer=adabelief")
    planned = plan_batches(asked, BatchRequest((64,), ("sqrt", "sqrt-keep-epsilon"), **AT))
    assert trials_of(planned, "batch 64, sqrt") == trials_of(planned, "batch 64, sqrt-keep-epsilon")
    assert len(planned.record.cells) == 3
    assert len(planned.plan.trials) == 2


def test_where_a_rule_does_not_reach_is_told_and_left_out_unless_nothing_is_left(asking):
    asked = asking("training.batch_size=32")
    planned = plan_batches(asked, BatchRequest((64, 1024), ("sqrt", "none"), **AT))
    assert set(planned.record.skipped) == {"batch 1024, sqrt"}
    assert any("batch 1024, sqrt is left out" in note and "κ" in note for note in planned.notes)
    assert not trials_of(planned, "batch 1024, sqrt")
    assert trials_of(planned, "batch 1024, none")
    with pytest.raises(ScalingError, match="none of the rules reaches any of these batch sizes"):
        plan_batches(asked, BatchRequest((1024,), ("sqrt", "sqrt-keep-epsilon"), **AT))
    (half_life,) = trials_of(
        plan_batches(asked, BatchRequest((1024,), ("sqrt",), half_life=True, **AT)), "batch 1024, sqrt, half-life"
    )
    assert half_life.identity["optimizer"]["betas"] == pytest.approx([0.9**32, 0.999**32])


def test_the_setting_is_the_default_until_a_narrowed_grid_has_a_best(asking):
    asked = asking("sweep.learning_rates=[1e-3,1e-2]")
    found = base_setting(asked, BatchRequest((64,), ("sqrt",)))
    assert (found.learning_rate, found.epsilon) == (1e-3, 1e-8)
    assert "no narrowed grid has a complete cell" in found.origin
    found = base_setting(asked, BatchRequest((64,), ("sqrt",), epsilon=1e-3))
    assert (found.learning_rate, found.epsilon) == (1e-3, 1e-3)
    assert found.origin.startswith("with the ε asked for")
    found = base_setting(asked, BatchRequest((64,), ("sqrt",), learning_rate=0.5))
    assert (found.learning_rate, found.epsilon) == (0.5, 1e-8)
    assert base_setting(asked, BatchRequest((64,), ("sqrt",), 0.5, 1e-3)).origin == "as asked for"


def test_the_best_of_the_narrowed_grid_is_carried(asking, tmp_path):
    from tests.report.simulate import peaked, simulate

    stored = simulate(tmp_path / "swept", peaked(best=1e-3))
    asked = asking()
    found = base_setting(type(asked)(asked.spec, stored.folder, asked.runs_root), BatchRequest((64,), ("sqrt",)))
    assert (found.learning_rate, found.epsilon, found.origin) == (1e-3, 1e-3, "the best of the narrowed grid")


def test_an_optimizer_without_epsilon_goes_by_the_linear_rule(asking):
    asked = asking("optimizer=sgdm")
    planned = plan_batches(asked, BatchRequest((64,), ("linear", "sqrt"), learning_rate=0.1))
    (there,) = trials_of(planned, "batch 64, linear")
    assert (there.learning_rate, there.epsilon) == (0.025, None)
    assert set(planned.record.skipped) == {"batch 64, sqrt"}
    with pytest.raises(SpecError, match="--epsilon: optimizer 'sgdm' has no epsilon"):
        plan_batches(asked, BatchRequest((64,), ("linear",), epsilon=1e-3))


def test_trials_train_at_their_own_batch_size_and_are_found_again(asking):
    asked = asking()
    request = BatchRequest((512,), ("sqrt", "none"), **AT)
    first = train(asked, request)
    assert (first.trained, first.complete) == (3, True)
    record = BatchesRecord.read(asked.folder.batches_json)
    steps = {
        (cell.batch_size, cell.rule): TrialResult.read(asked.folder.trial(cell.id).result_json).steps
        for cell in record.cells
    }
    assert steps == {(256, "base"): 5, (512, "sqrt"): 3, (512, "none"): 3}
    assert train(asked, request).trained == 0
    assert with_trial_states(asked, plan_batches(asked, request), 1).to_run == 0
    more = train(asked, BatchRequest((512, 128), ("linear",), **AT))
    assert more.trained == 2
    joined = BatchesRecord.read(asked.folder.batches_json)
    assert {(cell.batch_size, cell.rule) for cell in joined.cells} == {
        *steps,
        (128, "linear"),
        (512, "linear"),
    }
    stored = load_experiment(asked.folder)
    assert (stored.grid, stored.strays, dict(stored.states)) == (None, (), {})
    train(asked, BatchRequest((512,), ("none",), learning_rate=2e-2, epsilon=1e-8))
    assert {cell.learning_rate for cell in BatchesRecord.read(asked.folder.batches_json).cells} == {2e-2}


def test_decays_of_a_trial_are_its_own_and_not_the_experiment_s(asking, monkeypatch):
    from epsgrid import worker

    betas = {}
    monkeypatch.setattr(
        worker,
        "run_trial",
        lambda spec, trial, *rest, **options: betas.update({trial.id: spec.optimizer.betas}) or _stop(),
    )
    asked = asking("execution.retries=0")
    planned = plan_batches(asked, BatchRequest((512,), ("sqrt",), **AT))
    sweep_batches(asked, planned, workers=1, fail_fast=False, notify=lambda event: None, stop=NeverStop())
    carried = trials_of(planned, "batch 512, sqrt")[0].id
    assert betas[carried] == (0.8, 0.998)
    assert {found for trial, found in betas.items() if trial != carried} == {(0.9, 0.999)}


def _stop():
    raise RuntimeError("seen enough")


def test_status_counts_them_and_retry_trains_them(asking):
    asked = asking()
    train(asked, BatchRequest((512,), ("sqrt",), **AT))
    seen = status(asked.folder)
    assert (seen.total, seen.finished) == (2, 2)
    assert set(seen.grids) == {"batch 256, base", "batch 512, sqrt"}
    sweep_stage.sweep(
        asked, "default", workers=1, fail_fast=False, notify=lambda event: None, stop=NeverStop()
    )  # the very trial of the base
    seen = status(asked.folder)
    assert (seen.total, set(seen.grids)) == (2, {"default", "batch 256, base", "batch 512, sqrt"})
    carried = next(cell.id for cell, _ in seen.cells if cell.grids == ("batch 512, sqrt",))
    before = TrialResult.read(asked.folder.trial(carried).result_json).test
    ids = anew.chosen(asked.folder, [carried])
    anew.start_over(asked.folder, ids)
    again = anew.train_again(asked, ids, workers=1, notify=lambda event: None, stop=NeverStop())
    assert (again.trained, list(again.states)) == (1, [carried])
    assert TrialResult.read(asked.folder.trial(carried).result_json).test == before


def test_no_trial_is_pruned_for_curves_are_compared_as_a_whole(asking, monkeypatch):
    from epsgrid.stages import batch_sweep

    seen = []
    monkeypatch.setattr(
        batch_sweep, "train_planned", lambda asked, plan, **options: seen.append(asked.spec.sweep.prune)
    )
    asked = asking("sweep.prune={}")
    assert asked.spec.sweep.prune is not None
    train(asked, BatchRequest((512,), ("sqrt",), **AT))
    assert seen == [None]


def test_half_life_trials_are_planned_again_as_they_were(asking):
    asked = asking()
    assert planned_again(asked) == ()
    for half_life in (False, True):
        request = BatchRequest((512,), ("sqrt",), half_life=half_life, **AT)
        planned = plan_batches(asked, request)
        sweep_batches(
            asked, planned, workers=1, fail_fast=False, notify=lambda event: None, stop=type("S", (), {"level": _one})()
        )
    cells = BatchesRecord.read(asked.folder.batches_json).cells
    assert {trial.id for trial in planned_again(asked)} == {cell.id for cell in cells}
    assert len({cell.id for cell in cells}) == 3


def _one(self):
    return 1


def test_a_dry_run_without_data_says_so(asking):
    planned = plan_batches(asking("task={name: cifar10, root: nowhere}"), BatchRequest((64,), ("sqrt",), **AT))
    assert any("the data are not ready" in note for note in planned.notes)
    assert len(planned.plan.trials) == 2


def test_rules_are_a_list_of_those_there_are():
    assert parse_rules("linear, sqrt,linear") == ("linear", "sqrt")
    with pytest.raises(SpecError, match="there is no rule 'cube'; expected some of sqrt, sqrt-keep-epsilon, linear"):
        parse_rules("sqrt,cube")
