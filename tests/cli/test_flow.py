"""probe, sweep and report: the whole flow, and what a second call does."""

import json

import pytest

from tests.cli.conftest import INLINE, SPEC

DEFAULT = ("--grid", "default")
"""One trial for each learning rate and seed: enough wherever the grid itself does not matter."""


def test_probe_sweep_report_end_to_end_in_processes(shell):
    shell.write(SPEC.replace("[0, 1]", "[0]"))
    probe = shell.run("probe", "spec.yaml")
    assert "ε bounds: " in probe.stdout and "\nlower end " in probe.stdout
    assert "step" in probe.stderr and "step " not in probe.stdout
    assert "\x1b" not in probe.stdout + probe.stderr
    assert "Next: epsgrid sweep" in probe.stderr
    sweep = shell.run("sweep", EPSGRID_HEARTBEAT_S="0.1")
    assert "trained now" in sweep.stdout
    assert "done" in sweep.stderr and " running" in sweep.stderr
    report = shell.run("report")
    assert report.stdout.startswith("tiny: adam on digits, mlp; ")
    assert report.stdout.strip().endswith("report.html")
    names = {path.name for path in (shell.folder / "runs/tiny/report").iterdir()}
    assert {"report.html", "report.md", "report.json", "report.csv"} <= names
    assert any(name.endswith(".svg") for name in names)


def test_the_second_sweep_does_nothing_and_more_seeds_cost_only_theirs(swept):
    before = sorted(swept.folder.rglob("*"))
    assert "to run" in swept.call("sweep", "--dry-run").stdout
    assert sorted(swept.folder.rglob("*")) == before, "a dry run writes nothing"
    times = {path: path.stat().st_mtime_ns for path in swept.folder.glob("runs/tiny/trials/*/result.json")}
    again = swept.json("sweep", *DEFAULT, "-q")
    assert (again["trained_now"], again["complete"], len(times)) == (0, True, 2)
    assert times == {path: path.stat().st_mtime_ns for path in times}
    more = swept.json("sweep", "spec.yaml", *DEFAULT, "-q", "-o", "sweep.seeds=[0,1,2]")
    assert (more["trained_now"], more["states"]) == (1, {"done": 3})


def test_a_probe_is_measured_once_and_again_with_force_or_other_settings(swept):
    documents = [swept.json("probe", "spec.yaml", *force) for force in ((), ("--force",))]
    assert [document["measured_now"] for document in documents] == [False, True]
    assert documents[0]["bounds"] == documents[1]["bounds"]
    refused = swept.call("sweep", "spec.yaml", "-o", "probe.batches=3", expect=2)
    assert "measured with other settings" in refused.stderr
    assert "probe.batches" in refused.stderr
    again = swept.json("probe", "spec.yaml", "-o", "probe.batches=3")
    assert (again["measured_now"], again["steps"]) == (True, 3)


def test_sgdm_is_swept_as_the_reference(shell):
    shell.write(INLINE)
    refused = shell.call("probe", "spec.yaml", "-o", "optimizer=sgdm", expect=4)
    assert "no epsilon: there is nothing to probe" in refused.stderr
    swept = shell.json("sweep", "spec.yaml", "-o", "optimizer=sgdm", "-q", "--out", "elsewhere/here")
    assert swept["states"] == {"done": 2} and not (shell.folder / "runs/tiny").exists()
    assert "This optimizer has no ε." in shell.call("report").stdout


def test_failed_trials_are_reported_and_the_others_finish(shell):
    (shell.folder / "broken.py").write_text(
        "from epsgrid.models import mlp as inner\n"
        "class flaky:\n"
        "    Options = inner.Options\n"
        "    @staticmethod\n"
        "    def build(options, inputs, outputs):\n"
        "        import torch\n"
        "        if torch.initial_seed() % 2:\n"
        "            raise ValueError('odd seeds are not welcome')\n"
        "        return inner.build(options, inputs, outputs)\n"
    )
    shell.write()
    run = ["sweep", "spec.yaml", *DEFAULT, "--json", "-o", "sweep.seeds=[0,1,2,3,4,5]"]
    broken = shell.run(*run, "-o", "model={name: 'broken:flaky', hidden: [16]}", expect=3, PYTHONPATH=pythonpath(shell))
    document = json.loads(broken.stdout)
    assert document["states"]["failed"] + document["states"]["done"] == 6
    assert document["states"]["failed"] and document["states"]["done"]
    assert all("odd seeds are not welcome" in failure["error"] for failure in document["failures"])
    assert "odd seeds" in broken.stderr
    (shell.folder / "broken.py").write_text("from epsgrid.models import mlp as flaky\n")
    fixed = json.loads(shell.run("sweep", *DEFAULT, "--json", "-q", PYTHONPATH=pythonpath(shell)).stdout)
    assert fixed["states"] == {"done": 6}
    assert fixed["trained_now"] == 6, "of other code they are other trials"
    there = shell.run("status", "--json", PYTHONPATH=pythonpath(shell))
    (said,) = json.loads(there.stdout)["changes"]
    assert said.startswith(f"broken.py changed since {document['states']['done']} trials here were trained: kept under")


def test_a_folder_is_bound_by_what_it_would_lose_and_force_says_what_that_is(shell):
    shell.write()
    error = shell.call("sweep", "spec.yaml", *DEFAULT, "-o", "model=lstm", expect=2).stderr
    assert error.count("model lstm reads text") == 1
    shell.call("sweep", "spec.yaml", *DEFAULT)
    other = ["sweep", "spec.yaml", *DEFAULT, "-o", "model={name: mlp, hidden: [5]}"]
    assert "With --force it takes this folder, and removes what is there: " in shell.call(*other, expect=2).stderr
    assert "would be removed from " in shell.call(*other, "--force", "--dry-run").stderr
    done = shell.call(*other, "--force")
    assert "Note: removed from " in done.stderr and "finished trials (" in done.stderr


def pythonpath(shell):
    return ":".join(filter(None, (str(shell.folder), shell.environment().get("PYTHONPATH"))))


@pytest.mark.parametrize("name", ["spec.json", "result.json"])
def test_a_truncated_record_is_named_never_dropped(swept, name):
    victim = sorted(swept.folder.glob(f"runs/tiny/trials/*/{name}"))[0]
    victim.write_text(victim.read_text()[:200])
    if name == "spec.json":
        (victim.parent / "result.json").unlink()
        refused = swept.call("sweep", *DEFAULT, expect=3)
    else:
        refused = swept.call("report", expect=2)
    assert str(victim) in refused.stderr


def test_flags_of_a_sweep_stand_for_fields_of_the_spec(shell, monkeypatch):
    asked = []
    monkeypatch.setattr("epsgrid.stages.deciding.plan_sweep", lambda found, *_: asked.append(found) or exit())
    shell.write()
    for address in ("10.0.0.1:6379", "[::1]:6379"):
        shell.call("sweep", "spec.yaml", "-n", "--address", address)
        execution = asked[-1].spec.execution
        assert (execution.executor, execution.ray.address) == ("ray", address)
    for wrong in ("10.0.0.1", ":6379", "host:port", "a b:1", "http://host:1"):
        refused = shell.call("sweep", "spec.yaml", "-n", "--address", wrong, expect=2).stderr
        assert "expected HOST:PORT of a Ray cluster's head" in refused
