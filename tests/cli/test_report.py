"""The report over several experiments."""

from tests.report.simulate import simulate


def test_several_experiments_make_one_page(shell):
    runs = shell.folder / "runs"
    simulate(runs / "one", rates=(1e-3,), seeds=(0, 1))
    simulate(runs / "two", reference=True, probe=False, optimizer="sgdm", rates=(1e-3,), seeds=(0, 1))
    (runs / "junk").mkdir()
    shown = shell.call("report", "runs/one", "runs/two", "runs/junk", "--out", "page")
    assert "optimum inside: yes in 1 of 1 experiment." in shown.stdout
    assert "no experiment here" in shown.stdout
    assert shown.stdout.strip().endswith("page/index.html")
    document = shell.json("report", "runs")
    assert [row["run"] for row in document["rows"]] == ["one", "two"]
    assert (runs / "report" / "index.json").exists()


def test_figures_for_a_paper_are_those_of_one_experiment(shell):
    refused = shell.call("report", "a", "b", "--paper", expect=2)
    assert "--paper is for the report of one experiment" in refused.stderr
