"""The report of one experiment in a screen, and of several."""

from dataclasses import replace

from tests.report.simulate import simulate


def test_several_experiments_make_one_page(shell):
    runs = shell.folder / "runs"
    simulate(runs / "one", rates=(1e-3,), seeds=(0, 1))
    simulate(runs / "two", reference=True, probe=False, optimizer="sgdm", rates=(1e-3,), seeds=(0, 1))
    (runs / "junk").mkdir()
    shown = shell.call("report", "runs/one", "runs/two", "runs/junk", "--out", "page")
    assert "May the default ε stay? Open in 1 of 1 experiment." in shown.stdout
    assert "no experiment here" in shown.stdout
    assert shown.stdout.strip().endswith("page/index.html")
    document = shell.json("report", "runs")
    assert [row["run"] for row in document["rows"]] == ["one", "two"]
    assert (runs / "report" / "index.json").exists()


def test_one_experiment_is_one_screen_with_the_answer_first(shell):
    simulate(shell.folder / "runs" / "one", rates=(1e-4, 1e-3, 1e-2))
    shown = shell.call("report", "runs/one").stdout.splitlines()
    assert shown[0] == "simulated: adam on digits, mlp; accuracy, margin 1.00 points, 3 seeds"
    assert shown[1].startswith("Change ε = 1e-8: at its best, lr 1e-3, ε 1e-8, it loses 15.")
    assert shown[-1].endswith("runs/one/report/report.html")
    titles = [line.split("  ")[0].strip() for line in shown[3:-1]]
    assert titles[:3] == ["Each ε", "Narrowing", "Luck"]
    full = shell.call("report", "runs/one", "--full").stdout
    assert "What simple rules lose" in full and "Claims of the paper" in full


def test_a_margin_that_does_not_suit_the_metric_is_refused(shell):
    stored = simulate(shell.folder / "runs" / "one", rates=(1e-4, 1e-3, 1e-2))
    spec = {**stored.experiment.spec, "report": {"margin": "2 %"}}
    replace(stored.experiment, spec=spec).write(stored.folder.experiment_json)
    refused = shell.call("report", "runs/one", expect=2)
    assert "report.margin: 2 %: accuracy is shown in percent; write 1 for a margin of one point" in refused.stderr


def test_figures_for_a_paper_are_those_of_one_experiment(shell):
    refused = shell.call("report", "a", "b", "--paper", expect=2)
    assert "--paper is for the report of one experiment" in refused.stderr
