"""probe, sweep and report through real processes."""

import json

import pytest

from tests.cli.conftest import SPEC

DEFAULT = ("--grid", "default")
"""One trial for each learning rate and seed: enough wherever the grid itself is not what is looked at."""


def test_probe_sweep_report_end_to_end(shell):
    shell.write()
    probe = shell.run("probe", "spec.yaml")
    assert "ε bounds: " in probe.stdout
    assert "set by" in probe.stdout
    assert "Next: epsgrid sweep" in probe.stderr
    sweep = shell.run("sweep")
    assert "trained now" in sweep.stdout
    assert "done" in sweep.stderr
    report = shell.run("report")
    assert "optimum inside" in report.stdout.lower()
    assert report.stdout.strip().endswith("report.html")
    folder = shell.folder / "runs/tiny/report"
    names = {path.name for path in folder.iterdir()}
    assert {"report.html", "report.md", "report.json", "report.csv"} <= names
    assert any(name.endswith(".svg") for name in names)


def test_the_second_sweep_does_nothing(shell):
    shell.write(SPEC.replace("[0, 1]", "[0]"))
    shell.run("probe", "spec.yaml", "-q")
    first = json.loads(shell.run("sweep", "--json", "-q").stdout)
    results = shell.results()
    times = {path: path.stat().st_mtime_ns for path in shell.folder.glob("runs/tiny/trials/*/result.json")}
    second = json.loads(shell.run("sweep", "--json", "-q").stdout)
    assert first["trained_now"] == len(results) == first["states"]["done"]
    assert second["trained_now"] == 0
    assert second["complete"]
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_extending_the_grid_costs_only_the_new_cells(shell):
    shell.write()
    shell.run("sweep", "spec.yaml", *DEFAULT, "-q")
    more = json.loads(shell.run("sweep", "spec.yaml", *DEFAULT, "-q", "--json", "-o", "sweep.seeds=[0,1,2]").stdout)
    assert more["trained_now"] == 1
    assert more["states"] == {"done": 3}


def test_inline_and_local_executors_give_identical_results(shell):
    shell.write()
    for executor in ("inline", "local"):
        rates = ("-o", "sweep.learning_rates=[1e-2,1e-3]")
        shell.run(
            "sweep", "spec.yaml", *DEFAULT, "-q", *rates, "-o", f"execution.executor={executor}", "--out", executor
        )
    inline, local = shell.results("inline"), shell.results("local")
    assert len(inline) == 4
    assert inline == local


def test_probe_is_measured_once_and_again_with_force(shell):
    shell.write()
    first = json.loads(shell.run("probe", "spec.yaml", "--json").stdout)
    second = json.loads(shell.run("probe", "spec.yaml", "--json").stdout)
    third = json.loads(shell.run("probe", "spec.yaml", "--json", "--force").stdout)
    assert [document["measured_now"] for document in (first, second, third)] == [True, False, True]
    assert first["bounds"] == second["bounds"] == third["bounds"]
    assert first["version"] == 1


def test_changed_probe_settings_measure_again_and_sweep_asks_for_it(shell):
    shell.write()
    shell.run("probe", "spec.yaml", "-q")
    refused = shell.run("sweep", "spec.yaml", "-o", "probe.batches=3", expect=2)
    assert "measured with other settings" in refused.stderr
    assert "probe.batches" in refused.stderr
    again = json.loads(shell.run("probe", "spec.yaml", "-o", "probe.batches=3", "--json").stdout)
    assert again["measured_now"]
    assert again["steps"] == 3


def test_out_puts_an_experiment_anywhere_and_it_becomes_the_latest(shell):
    shell.write()
    shell.run("probe", "spec.yaml", "-q", "--out", "elsewhere/here")
    assert (shell.folder / "elsewhere/here/bounds.json").exists()
    plan = json.loads(shell.run("sweep", "--dry-run", "--json").stdout)
    assert plan["to_run"] == plan["trials"] > 0
    assert not (shell.folder / "runs/tiny").exists()


def test_dry_run_writes_nothing(shell):
    shell.write()
    shell.run("probe", "spec.yaml", "-q")
    before = sorted(shell.folder.rglob("*"))
    shown = shell.run("sweep", "--dry-run")
    assert "to run" in shown.stdout
    assert sorted(shell.folder.rglob("*")) == before


def test_sgdm_is_swept_as_the_reference(shell):
    shell.write()
    refused = shell.run("probe", "spec.yaml", "-o", "optimizer=sgdm", expect=4)
    assert "no epsilon: there is nothing to probe" in refused.stderr
    swept = json.loads(shell.run("sweep", "spec.yaml", "-o", "optimizer=sgdm", "--json", "-q").stdout)
    assert swept["states"] == {"done": 2}
    assert "reference" in shell.run("report").stdout


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
    broken = shell.run(*run, "-o", "model={name: 'broken:flaky', hidden: [16]}", expect=3, PYTHONPATH=str(shell.folder))
    document = json.loads(broken.stdout)
    assert document["states"]["failed"] + document["states"]["done"] == 6
    assert document["states"]["failed"] and document["states"]["done"]
    assert all("odd seeds are not welcome" in failure["error"] for failure in document["failures"])
    assert "odd seeds" in broken.stderr
    assert (
        "attempts" in (shell.folder / "runs/tiny/trials" / document["failures"][0]["id"] / "failure.json").read_text()
    )
    (shell.folder / "broken.py").write_text("from epsgrid.models import mlp as flaky\n")
    mended = json.loads(shell.run("sweep", *DEFAULT, "--json", "-q", PYTHONPATH=str(shell.folder)).stdout)
    assert mended["states"] == {"done": 6}
    assert mended["trained_now"] == document["states"]["failed"]


@pytest.mark.parametrize("name", ["spec.json", "result.json"])
def test_a_truncated_record_is_named_never_dropped(shell, name):
    shell.write()
    shell.run("sweep", "spec.yaml", *DEFAULT, "-q", "-o", "training.epochs=1")
    victim = sorted(shell.folder.glob(f"runs/tiny/trials/*/{name}"))[0]
    victim.write_text(victim.read_text()[:200])
    command = "report" if name == "result.json" else "sweep"
    if name == "spec.json":
        (victim.parent / "result.json").unlink()
        refused = shell.run(command, *DEFAULT, expect=3)
    else:
        refused = shell.run(command, expect=2)
    assert str(victim) in refused.stderr


def test_flags_of_a_sweep_that_stand_for_fields_of_the_spec(shell):
    shell.write()
    refused = shell.run("sweep", "spec.yaml", "--address", "10.0.0.1:6379", "-o", "execution.executor=slurm", expect=2)
    assert "--address joins a Ray cluster, but execution.executor is 'slurm'" in refused.stderr
    planned = shell.run("sweep", "spec.yaml", "--lr-mode", "effective", "--grid", "default", "--dry-run", "--json")
    assert "learning rates to train with are known after `epsgrid probe`" in json.loads(planned.stdout)["unknown"][0]
