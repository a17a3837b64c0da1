"""A sweep of a model of the user's: its code is part of what a trial is."""

import sys

import pytest

from epsgrid import worker
from epsgrid.errors import SpecError, StoreError
from epsgrid.selection.evidence import counted
from epsgrid.selection.load import load_experiment
from epsgrid.stages import experiment
from epsgrid.stages import probe as probe_stage
from epsgrid.stages.plans import plan_again
from epsgrid.stages.running import HowToRun
from epsgrid.stages.status import status
from epsgrid.stages.sweep import plan_sweep, sweep
from epsgrid.store.records import ConfirmRecord, GridRecord
from tests.report.simulate import compare
from tests.stages.conftest import NeverStop, train
from tests.user_code import BLOCKS, NET, user_code

__all__ = ["user_code"]

TANH = "from torch.nn import Tanh as activation\n"
MODEL = "model=user_net:net"


@pytest.fixture
def asked(asking, user_code):
    return asking(MODEL)


def to_run(asked):
    return plan_sweep(asked, "default", None).to_run


def measure(asked):
    return probe_stage.probe(asked, ["test"], force=False, on_step=lambda done, of: None)


def test_after_an_edit_trials_are_others_and_every_command_says_what_changed(asked, user_code):
    train(asked, "default")
    assert to_run(asked) == 0
    assert status(asked.folder).changes == plan_sweep(asked, "default", None).changes == ()
    user_code.write("user_blocks.py", TANH)
    said = "user_blocks.py changed since 1 trial here was trained"
    assert status(asked.folder).changes[0].startswith(said)
    planned = plan_sweep(asked, "default", None)
    assert planned.to_run == 1 and planned.warnings[0].startswith(said)
    train(asked, "default")
    stored = load_experiment(asked.folder)
    assert len(stored.results) == 1 and len(stored.orphaned) == 1, "the first is kept, and counted by nobody"
    assert any(note.startswith(said) for note in compare(stored).notes)
    user_code.write("user_blocks.py", BLOCKS)
    assert to_run(asked) == 0, "put back, the code finds its trials again"


def test_modules_on_a_path_that_the_code_appends_itself_are_found_by_commands_that_need_not_import_it(
    asking, user_code, monkeypatch
):
    append = f"import sys\n\nsys.path.append({str(user_code.folder / 'lib')!r})\n"
    user_code.write("user_net.py", append + NET.replace("user_blocks", "user_library"))
    user_code.write("lib/user_library.py", BLOCKS)
    monkeypatch.setattr("sys.path", [*sys.path])
    asked, before = asking(MODEL), [entry for entry in sys.path if not entry.endswith("lib")]
    train(asked, "default")
    for text, said in ((BLOCKS, ()), (TANH, ("user_library.py changed since 1 trial",))):
        user_code.write("lib/user_library.py", text)
        monkeypatch.setattr("sys.path", [*before])  # as in the next command
        changes = status(asked.folder).changes
        assert len(changes) == len(said) and all(map(str.startswith, changes, said))


def test_shapes_that_the_text_does_not_show_make_another_trial(asked, user_code):
    path = user_code.folder / "width.txt"
    read = f"    from pathlib import Path\n\n    width = int(Path({str(path)!r}).read_text())\n"
    text = NET.replace("    from torch", f"{read}    from torch").replace("options.width", "width")
    user_code.write("user_net.py", text)
    path.write_text("3")
    train(asked, "default")
    assert to_run(asked) == 0
    path.write_text("5")
    experiment._PARAMETERS.clear()  # as in the next command
    planned = plan_sweep(asked, "default", None)
    assert planned.to_run == 1
    assert "the names or shapes of the model's parameters changed since 1 trial" in planned.warnings[0]


def test_an_edit_while_a_sweep_runs_stores_nothing_under_the_planned_id(asking, user_code):
    asked, started = asking(MODEL, "sweep.seeds=[0,1,2]"), []

    def notify(event):
        if getattr(event, "state", "") == "running":
            started.append(event.trial)
            if len(started) == 2:
                user_code.write("user_blocks.py", TANH)

    summary = sweep(asked, "default", HowToRun(1, notify, NeverStop()))
    assert summary.counts == {"done": 1, "failed": 2}
    assert len(started) == 3, "none is tried again"
    for failure in summary.failures:
        assert "user_blocks.py changed after this trial was planned, or differs on this machine" in failure.error
    user_code.write("user_blocks.py", BLOCKS)
    assert train(asked, "default").counts == {"done": 3}


def test_a_lazy_import_of_code_that_was_edited_during_the_trial_is_no_result(asked, user_code, monkeypatch):
    def train_after_an_edit(*arguments, **options):
        (user_code.folder / "user_blocks.py").write_text(TANH)
        return run_trial(*arguments, **options)

    run_trial = worker.run_trial
    monkeypatch.setattr(worker, "rehearse_job", lambda job: ("", 0, 0))
    monkeypatch.setattr(worker, "run_trial", train_after_an_edit)
    planned = plan_sweep(asked, "default", None)  # which builds the model
    user_code.forget()
    assert planned.to_run == 1
    with pytest.raises(SpecError, match=r"user_blocks\.py was changed"):
        train(asked, "default")
    assert status(asked.folder).states["failed"] == 1


def test_bounds_of_other_code_are_refused(asked, user_code):
    assert measure(asked)[1] and not measure(asked)[1]
    user_code.write("user_blocks.py", TANH)
    assert "since the bounds were measured; `epsgrid probe`" in status(asked.folder).changes[0]
    with pytest.raises(StoreError, match=r"other settings:\n  code\.user_blocks\.py: '\w+' there, '\w+' asked"):
        train(asked, "narrowed")
    assert measure(asked)[1], "the same folder takes the new ones"


def test_fresh_seeds_of_other_code_are_not_counted_with_the_grid(asking, user_code):
    asked = asking(MODEL, "sweep.seeds=[0,1]")
    train(asked, "default")
    grid = GridRecord.read(asked.folder.grid_json)
    more = asking(MODEL, "sweep.seeds=[10000]")
    cells = plan_sweep(more, "default", None).plan.trials
    train(more, "default")
    ConfirmRecord("adam", (10_000,), cells, grid.checksum).write(asked.folder.confirm_json)
    grid.write(asked.folder.grid_json)
    assert [cell.seed for cell in counted(load_experiment(asked.folder))] == [10_000]
    user_code.write("user_blocks.py", TANH)
    asked.folder.grid_json.unlink()
    train(asked, "default")
    assert counted(load_experiment(asked.folder)) == ()


def test_a_trial_of_other_code_cannot_be_trained_again(asked, user_code):
    train(asked, "default")
    ids = [cell.id for cell in GridRecord.read(asked.folder.grid_json).cells]
    assert [trial.id for trial in plan_again(asked, ids).plan.trials] == ids
    user_code.write("user_blocks.py", TANH)
    with pytest.raises(StoreError, match="planned with other code, data or bounds than there are now"):
        plan_again(asked, ids)
