"""`sweep --until-decided` and `--extend-rates` on real trainings, killed in the middle."""

import os
import re
import shutil
import signal

import pytest

from tests.cli.conftest import Shell

pytestmark = pytest.mark.xdist_group("deciding")

SPEC = """\
experiment: tiny
task: digits
model: {name: mlp, hidden: [16]}
optimizer: adam
training: {epochs: 1, batch_size: 64}
execution: {executor: inline}
sweep:
  grid: narrowed
  learning_rates: [1e-3, 1e-2]
  seeds: [0, 1]
"""
ASKED = ("sweep", "spec.yaml", "--until-decided", "--max-seeds", "1")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A grid with rates beyond those of the spec, so that no best one is at an edge."""
    shell = Shell(tmp_path_factory.mktemp("grid"))
    shell.write(SPEC)
    refused = shell.call(*ASKED, expect=2)
    assert "bounds.json is missing, and the narrowed grid needs measured bounds; run `epsgrid probe" in refused.stderr
    shell.call("probe", "spec.yaml", "-q")
    ended = shell.call("sweep", "--extend-rates")
    assert "The best learning rate is at an edge of those tried; trained next: lr 0.1, ε " in ended.stderr
    assert shell.json("sweep", "-n")["to_run"] == 0
    return shell


def test_killed_in_the_middle_it_gives_the_same_trials_and_the_same_answer(swept: Shell, tmp_path) -> None:
    whole, broken = (Shell(tmp_path / name) for name in ("whole", "broken"))
    for shell in (whole, broken):
        shutil.copytree(swept.folder, shell.folder)
    planned = whole.json(*ASKED, "-n")
    assert 0 < planned["at_least"] == planned["at_most"], "one fresh seed is one block"
    shown = whole.call(*ASKED)
    assert f"{planned['at_most']} trained now" in shown.stdout
    answer = shown.stdout.split("\n", 1)[1]
    assert re.search(
        r"^(Keep|Change|May the default ε stay\? Open:) .*margin 1.00 points, 3 seeds", answer, re.MULTILINE
    )
    assert answer.rstrip().endswith(
        ("Decided with 1 fresh seed.", "Not decided with 1 fresh seed, all that were planned.")
    )

    before = len(broken.results())
    process = broken.start(*ASKED)
    broken.wait_for(lambda: len(broken.results()) > before + 1, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert before < len(broken.results()) < before + planned["at_most"]
    stopped = broken.call("report").stdout
    assert broken.json(*ASKED, "-n")["at_least"] == planned["at_least"] - (len(broken.results()) - before)
    assert broken.call(*ASKED, "-q").stdout.split("\n", 1)[1] == answer
    assert broken.results() == whole.results()
    answers = broken.json(*ASKED)["answers"]
    assert answers["default"]["text"] in answer
    assert "3 seeds" not in stopped, "a report in the middle does not look before the next planned look"
