"""The report over several experiments, and winners on fresh seeds, through the command line."""

import json

import pytest

from tests.report.simulate import simulate


def test_several_experiments_make_one_page(shell):
    runs = shell.folder / "runs"
    simulate(runs / "one", rates=(1e-3,), seeds=(0, 1))
    simulate(runs / "two", reference=True, probe=False, optimizer="sgdm", rates=(1e-3,), seeds=(0, 1))
    (runs / "junk").mkdir()
    shown = shell.run("report", "runs/one", "runs/two", "runs/junk", "--out", "page")
    assert "optimum inside: yes in 1 of 1 experiment." in shown.stdout
    assert "no experiment here" in shown.stdout and "Traceback" not in shown.stderr
    assert shown.stdout.strip().endswith("page/index.html")
    document = json.loads(shell.run("report", "runs", "--json").stdout)
    assert [row["run"] for row in document["rows"]] == ["one", "two"]
    assert (runs / "report" / "index.json").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("report", "a", "b", "--paper"), "--paper is for the report of one experiment"),
        (
            ("sweep", "spec.yaml", "--confirm", "2", "--grid", "both"),
            "--confirm and --grid: the one trains",
        ),
    ],
)
def test_what_cannot_be_asked_is_told(shell, arguments, says):
    shell.write()
    assert says in shell.run(*arguments, expect=2).stderr
