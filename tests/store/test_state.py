import dataclasses
from pathlib import Path

import pytest

from epsgrid.errors import CorruptRecordError
from epsgrid.store import state as state_module
from epsgrid.store.atomic import write_text
from epsgrid.store.lease import Lease
from epsgrid.store.paths import TrialFolder
from epsgrid.store.records import append_epoch
from epsgrid.store.state import trial_state
from tests.store.samples import EPOCH, FAILURE, RESULT


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    return TrialFolder(tmp_path / "trials" / "ab")


def test_a_trial_goes_through_its_states(folder: TrialFolder) -> None:
    def states_while_held_and_after() -> tuple[str, str]:
        lease = Lease.take(folder.lease)
        assert lease is not None
        held = trial_state(folder)
        lease.release()
        return held, trial_state(folder)

    assert trial_state(folder) == "pending"
    write_text(folder.spec_json, "{}")
    write_text(folder.metrics_jsonl, "")
    assert states_while_held_and_after() == ("running", "pending")
    append_epoch(folder.metrics_jsonl, EPOCH)
    assert states_while_held_and_after() == ("running", "interrupted")
    folder.metrics_jsonl.unlink()
    write_text(folder.checkpoint, "x")
    assert trial_state(folder) == "interrupted", "a checkpoint alone will do"
    FAILURE.write(folder.failure_json)
    assert states_while_held_and_after() == ("running", "failed"), "a failed trial may be tried again"
    RESULT.write(folder.result_json)
    assert trial_state(folder) == "done"
    dataclasses.replace(RESULT, state="diverged", reason="loss is NaN").write(folder.result_json)
    assert trial_state(folder) == "diverged"


def test_a_result_that_comes_while_we_look_is_seen(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends_now(_: Path) -> bool:
        RESULT.write(folder.result_json)
        return False

    monkeypatch.setattr(state_module, "is_held", ends_now)
    assert trial_state(folder) == "done"


def test_a_damaged_result_is_named_and_not_trained_again_silently(folder: TrialFolder) -> None:
    write_text(folder.result_json, '{"version": 1,')
    with pytest.raises(CorruptRecordError, match=r"ab/result\.json is damaged"):
        trial_state(folder)
