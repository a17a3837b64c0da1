"""Plans that are not grids: winners on fresh seeds, one setting at other batch sizes, chosen trials again."""

from dataclasses import replace

import pytest

from epsgrid.errors import ScalingError, SpecError, StoreError
from epsgrid.selection.load import load_experiment
from epsgrid.spec.trial import identity, trial_id, trial_identity
from epsgrid.stages import sweep as sweep_stage
from epsgrid.stages.experiment import prepare_data
from epsgrid.stages.plans import (
    _base_setting,
    archive,
    chosen,
    parse_rules,
    plan_again,
    plan_batches,
    start_over,
)
from epsgrid.stages.status import status
from epsgrid.stages.sweep import plan_sweep
from epsgrid.stages.sweep import swept as swept_grids
from epsgrid.store.lease import Lease
from epsgrid.store.records import BatchesRecord, TrialFailure, TrialResult
from tests.report.simulate import peaked, simulate
from tests.stages.conftest import StopAtOnce, train

ALL = ("sqrt", "sqrt-keep-epsilon", "linear", "none")
AT = {"learning_rate": 1e-2, "epsilon": 1e-8}


def ids_of(asked):
    return [cell.id for cell, _ in status(asked.folder).cells]


def result(asked, trial):
    return TrialResult.read(asked.folder.trial(trial).result_json)


def diverge(asked, trial):
    replace(result(asked, trial), state="diverged", reason="loss is NaN").write(asked.folder.trial(trial).result_json)


def trials_of(planned, label):
    return [trial for trial in planned.plan.trials if label in trial.grids]


def test_trials_are_chosen_by_state_by_id_and_by_its_beginning(swept):
    ids = ids_of(swept)
    diverge(swept, ids[3])
    assert chosen(swept.folder, ["failed"]) == ()
    assert chosen(swept.folder, [ids[5], ids[1][:12], "diverged", ids[5]]) == (ids[5], ids[1], ids[3])
    with pytest.raises(StoreError, match="no trial 'divergd' here; did you mean 'diverged'"):
        chosen(swept.folder, ["divergd"])


def test_an_archived_trial_is_kept_whole_and_trained_again_to_the_same_bits(swept):
    trial = ids_of(swept)[0]
    folder = swept.folder.trial(trial)
    before = {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
    (place,) = archive(swept.folder, [trial])
    assert place == swept.folder.archive_dir / f"{trial}-1"
    assert {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()} == before
    assert status(swept.folder).states["pending"] == 1
    assert train(swept, swept_grids(swept.folder)).trained == 1
    old, new = TrialResult.read(place / "result.json"), result(swept, trial)
    assert (old.validation, old.test) == (new.validation, new.test)
    lease = Lease.take(folder.lease)
    assert lease is not None
    with pytest.raises(StoreError, match=f"trial {trial} is being trained"):
        archive(swept.folder, [trial])
    lease.release()
    (second,) = archive(swept.folder, [trial])
    assert second.name == f"{trial}-2"


def test_retrying_starts_finished_trials_over_and_leaves_failed_ones_where_they_are(swept):
    ids = ids_of(swept)
    diverge(swept, ids[0])
    failed = swept.folder.trial(ids[1])
    failed.result_json.unlink()
    TrialFailure(ids[1], "ValueError: no", "", str(failed.log), 1, "2026-01-01T00:00:00+00:00").write(
        failed.failure_json
    )
    failed.checkpoint.touch()
    picked = chosen(swept.folder, ["failed", "diverged"])
    assert picked == (ids[1], ids[0])
    assert [place.name for place in start_over(swept.folder, picked)] == [f"{ids[0]}-1"]
    assert failed.checkpoint.exists()


def test_a_sweep_of_chosen_trials_trains_no_others(swept):
    ids = ids_of(swept)
    archive(swept.folder, ids[:3])
    summary = train(swept, plan_again(swept, [ids[0]]))
    assert (summary.trained, summary.counts) == (1, {"done": 1})
    assert status(swept.folder).states["pending"] == 2
    assert len(status(swept.folder).cells) == 13, "the record of the grid still holds all trials"


def test_each_rule_scales_the_setting_as_published(asking):
    planned = plan_batches(asking("sweep.seeds=[3,1]"), (64, 1024), ALL, **AT)
    assert len(planned.plan.trials) == 2 * (1 + 2 * 4)
    assert [trial.seed for trial in planned.plan.trials] == [3] * 9 + [1] * 9
    assert planned.plan.trials[0].grids == ("batch 256, base",)
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


def test_trials_are_shared_with_the_grid_and_among_rules_that_agree(asking):
    asked = asking()
    (base,) = trials_of(plan_batches(asked, (64,), ("sqrt",), **AT), "batch 256, base")
    assert base.id == trial_id(trial_identity(identity(asked.spec), prepare_data(asked.spec).checksum, 1e-2, 1e-8, 0))
    # EAdam adds ε to v in place, where the rule leaves it: to forget it costs nothing.
    planned = plan_batches(asking("optimizer=eadam"), (64,), ("sqrt", "sqrt-keep-epsilon"), **AT)
    assert trials_of(planned, "batch 64, sqrt") == trials_of(planned, "batch 64, sqrt-keep-epsilon")
    assert (len(planned.record.cells), len(planned.plan.trials)) == (3, 2)


def test_a_size_that_a_rule_does_not_reach_is_left_out_unless_nothing_remains(asking):
    asked = asking("training.batch_size=32")
    planned = plan_batches(asked, (64, 1024), ("sqrt", "none"), **AT)
    assert set(planned.record.skipped) == {"batch 1024, sqrt"}
    assert any("batch 1024, sqrt is left out" in note and "κ" in note for note in planned.notes)
    assert not trials_of(planned, "batch 1024, sqrt")
    assert trials_of(planned, "batch 1024, none")
    with pytest.raises(ScalingError, match="none of the rules reaches any of these batch sizes"):
        plan_batches(asked, (1024,), ("sqrt", "sqrt-keep-epsilon"), **AT)
    planned = plan_batches(asked, (1024,), ("sqrt",), half_life=True, **AT)
    (half_life,) = trials_of(planned, "batch 1024, sqrt, half-life")
    assert half_life.identity["optimizer"]["betas"] == pytest.approx([0.9**32, 0.999**32])


def test_the_setting_is_the_default_until_a_narrowed_grid_has_a_best(asking, tmp_path):
    asked = asking("sweep.learning_rates=[1e-3,1e-2]")

    def setting(learning_rate=None, epsilon=None):
        return _base_setting(asked, learning_rate, epsilon)

    default = "the default ε and the first learning rate, for no narrowed grid has a complete cell"
    assert setting() == (1e-3, 1e-8, default)
    assert setting(epsilon=1e-3) == (1e-3, 1e-3, f"with the ε asked for; otherwise {default}")
    assert setting(learning_rate=0.5)[:2] == (0.5, 1e-8)
    assert setting(learning_rate=0.5, epsilon=1e-3) == (0.5, 1e-3, "as asked for")
    asked = replace(asked, folder=simulate(tmp_path / "swept", peaked(best=1e-3)).folder)
    assert setting() == (1e-3, 1e-3, "the best of the narrowed grid")


def test_an_optimizer_without_epsilon_goes_by_the_linear_rule(asking):
    asked = asking("optimizer=sgdm")
    planned = plan_batches(asked, (64,), ("linear", "sqrt"), learning_rate=0.1)
    (there,) = trials_of(planned, "batch 64, linear")
    assert (there.learning_rate, there.epsilon) == (0.025, None)
    assert set(planned.record.skipped) == {"batch 64, sqrt"}
    with pytest.raises(SpecError, match="--epsilon: optimizer 'sgdm' has no epsilon"):
        plan_batches(asked, (64,), ("linear",), epsilon=1e-3)


def test_trials_train_at_their_own_batch_size_and_are_found_again(asking):
    asked = asking()
    first = train(asked, plan_batches(asked, (512,), ("sqrt", "none"), **AT))
    assert (first.trained, first.complete) == (3, True)
    cells = BatchesRecord.read(asked.folder.batches_json).cells
    steps = {(cell.batch_size, cell.rule): result(asked, cell.id).steps for cell in cells}
    assert steps == {(256, "base"): 5, (512, "sqrt"): 3, (512, "none"): 3}
    assert plan_sweep(asked, plan_batches(asked, (512,), ("sqrt", "none"), **AT), 1).to_run == 0
    assert train(asked, plan_batches(asked, (512, 128), ("linear",), **AT)).trained == 2
    cells = BatchesRecord.read(asked.folder.batches_json).cells
    assert {(cell.batch_size, cell.rule) for cell in cells} == {*steps, (128, "linear"), (512, "linear")}
    stored = load_experiment(asked.folder)
    assert (stored.grid, stored.orphaned, dict(stored.states)) == (None, (), {})

    seen = status(asked.folder)
    assert (len(seen.cells), seen.finished) == (5, 5)
    train(asked, "default")  # the very trial of the base
    seen = status(asked.folder)
    assert (len(seen.cells), "default" in seen.grids) == (5, True)
    scaled = next(cell.id for cell, _ in seen.cells if cell.grids == ("batch 512, sqrt",))
    before = result(asked, scaled).test
    ids = chosen(asked.folder, [scaled])
    start_over(asked.folder, ids)
    again = train(asked, plan_again(asked, ids))
    assert (again.trained, list(again.states)) == (1, [scaled])
    assert result(asked, scaled).test == before

    train(asked, plan_batches(asked, (512,), ("none",), learning_rate=2e-2, epsilon=1e-8), stop=StopAtOnce())
    assert {cell.learning_rate for cell in BatchesRecord.read(asked.folder.batches_json).cells} == {2e-2}


def test_trials_that_are_compared_as_a_whole_are_not_pruned(asking, monkeypatch):
    seen = []
    monkeypatch.setattr(sweep_stage, "train_planned", lambda asked, plan, how: seen.append(asked.spec.sweep.prune))
    asked = asking("sweep.prune={}")
    assert asked.spec.sweep.prune is not None
    planned = plan_batches(asked, (512,), ("sqrt",), **AT)
    train(asked, planned)
    train(asked, plan_again(asked, []))
    assert seen == [None, asked.spec.sweep.prune]


def test_half_life_trials_are_planned_again_as_they_were(asked):
    for half_life in (False, True):
        train(asked, plan_batches(asked, (512,), ("sqrt",), half_life=half_life, **AT), stop=StopAtOnce())
    ids = {cell.id for cell in BatchesRecord.read(asked.folder.batches_json).cells}
    assert len(ids) == 3
    assert {trial.id for trial in plan_again(asked, tuple(ids)).plan.trials} == ids


def test_a_dry_run_without_data_says_so(asking):
    planned = plan_batches(asking("task={name: cifar10, root: nowhere}"), (64,), ("sqrt",), **AT)
    assert any("the data are not ready" in note for note in planned.notes)
    assert len(planned.plan.trials) == 2


def test_rules_are_a_list_of_known_ones():
    assert parse_rules("linear, sqrt,linear") == ("linear", "sqrt")
    with pytest.raises(SpecError, match="there is no rule 'cube'; expected some of sqrt, sqrt-keep-epsilon, linear"):
        parse_rules("sqrt,cube")
