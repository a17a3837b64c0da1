"""Sweeps that go on after their grids, with trainings whose scores are simulated, so that the truth is known."""

import math
from collections import Counter

import numpy as np
import pytest

from epsgrid.errors import SpecError
from epsgrid.executors import JobEnded, JobStarted
from epsgrid.report.compare import whole
from epsgrid.selection import deciding
from epsgrid.selection.answers import CHANGE, KEEP, NOT_FINISHED, OPEN, answer
from epsgrid.selection.cells import read_cells
from epsgrid.selection.evidence import counted, evidence
from epsgrid.selection.load import load_experiment
from epsgrid.spec.trial import Trial, identity, trial_identity
from epsgrid.stages.deciding import Further, Preview, preview, sweep_further
from epsgrid.stages.experiment import prepare_data
from epsgrid.stages.plans import plan_again
from epsgrid.stages.running import HowToRun
from epsgrid.stages.status import status
from epsgrid.stages.sweep import plan_sweep
from epsgrid.store.atomic import read_json
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import AddedRate, ConfirmRecord, GridRecord
from tests.report.simulate import result

RATES = "sweep.learning_rates=[1e-3,1e-2,1e-1]"
SEEDS = "sweep.seeds=[0,1,2]"
DECIDE = Further(until_decided=True)


def scored(noise=0.0, peak=1e-2, gain=None):
    """Return scores that fall by 3 points with every decade of learning rate from a peak, the same at every ε but some.

    Args:
        noise: standard deviation of what one training adds.
        peak: the best learning rate.
        gain: what is added to the score at some ε.
    """

    def score(rate, epsilon, seed):
        place = [seed, round(1000 * -math.log10(rate) + 5000), round(10 * -math.log10(epsilon or 1.0) + 1000)]
        own = noise * np.random.default_rng(place).standard_normal()
        return 0.8 - 0.03 * abs(math.log10(rate / peak)) + (gain or {}).get(epsilon, 0.0) + own

    return score


class StopAfter:
    """Asks to stop once a number of trials has ended."""

    def __init__(self, trials=math.inf):
        self.left = trials

    def level(self):
        return int(self.left <= 0)


@pytest.fixture
def further(monkeypatch):
    """Return a function that sweeps with simulated trainings, and the trials that it has trained, in order."""
    trained = []

    def run(asked, what=DECIDE, *, score, grid="conventional", trials=math.inf):
        stop, said = StopAfter(trials), []

        def execute(jobs, work, *, slots, notify, stop, execution):
            for job in jobs:
                if stop.level():
                    return
                folder = ExperimentFolder(asked.folder.root).trial(job.trial)
                setting = read_json(folder.spec_json)
                trial = Trial.of({key: value for key, value in setting.items() if key != "checksum"})
                outcome = score(trial.learning_rate, trial.epsilon, trial.seed)
                if outcome is not None:
                    outcome = (outcome, outcome)
                notify(JobStarted(job))
                result(trial, outcome or "diverged", metric=("accuracy", "max", "%")).write(folder.result_json)
                trained.append(trial)
                stop.how.stop.left -= 1
                notify(JobEnded(job, 0))

        monkeypatch.setattr("epsgrid.executors.inline.run", execute)
        return sweep_further(asked, grid, what, HowToRun(1, lambda event: None, stop, say=said.append)), said

    run.trained = trained
    return run


def record_of(asked):
    return ConfirmRecord.read(asked.folder.confirm_json)


def settings(trials):
    return Counter((trial.grid_rate, trial.epsilon) for trial in trials)


def test_fresh_seeds_of_contenders_are_trained_until_nothing_is_open(asking, further):
    asked = asking(RATES, SEEDS)
    ended, said = further(asked, score=scored(noise=0.008))
    record = record_of(asked)
    fresh = [trial for trial in further.trained if trial.seed >= 10_000]
    assert ended.answers.of("default").answer == KEEP
    assert ended.why == f"Decided with {len({trial.seed for trial in fresh})} fresh seeds."
    assert len(further.trained) - len(fresh) == 13 * 3 * 3
    assert [trial.seed for trial in fresh] == sorted(trial.seed for trial in fresh), "one seed after the other"
    assert {rate for rate, _ in settings(fresh)} == {1e-2}
    assert max(settings(fresh).values()) == settings(fresh)[1e-2, 1e-8] == len({trial.seed for trial in fresh})
    assert record.looks == (0, 3, 6, 12) and record.level == deciding.level_of((3, 6, 9, 15))
    assert record.seeds == tuple(range(10_000, 10_012))
    assert [cell.id for cell in record.cells] == [trial.id for trial in fresh]
    assert said[0].startswith("Not decided yet; the next look is after 3 fresh seeds of lr 1e-2, ε 1e-10 to 100.")
    found = evidence(load_experiment(asked.folder))
    assert (found.level, answer(found).answers) == (record.level, ended.answers.answers)
    assert {len(cell.trials) - 3 for cell in found.contenders} == set(settings(fresh).values())


def test_what_the_grids_decide_needs_no_fresh_seed(asking, further):
    asked = asking(RATES, SEEDS)
    ended, said = further(asked, score=scored(noise=1e-4, gain={1e-4: 0.05}))
    assert (ended.answers.of("default").answer, ended.why) == (CHANGE, "Decided with the seeds of the grids.")
    assert (record_of(asked).cells, record_of(asked).level, said) == ((), deciding.level_of((3, 6, 9, 15)), [])
    assert evidence(load_experiment(asked.folder)).level > 0.95, "the report looks at the same level"
    assert further(asked, score=scored())[0].answers == ended.answers
    assert len(further.trained) == 13 * 9


def test_it_ends_with_the_seeds_that_were_planned(asking, further):
    asked = asking(RATES, SEEDS)
    ended, _ = further(asked, Further(until_decided=True, max_seeds=5), score=scored(noise=0.05))
    fresh = whole(load_experiment(asked.folder))[0].fresh
    assert fresh.trials == len(further.trained) - 13 * 9 > 0, "their cost is told beside that of the grids"
    assert ended.answers.of("default").answer == OPEN
    assert ended.why == "Not decided with 5 fresh seeds, all that were planned."
    assert ended.answers.of("default").text.endswith("All fresh seeds that were planned are trained.")
    assert record_of(asked).looks == (0, 2, 3, 5)
    trials = len(further.trained)
    assert further(asked, score=scored())[0].why == ended.why, "without --max-seeds it goes by the plan"
    assert len(further.trained) == trials
    with pytest.raises(SpecError, match="--max-seeds 9: 5 fresh seeds were planned here before the first look"):
        further(asked, Further(until_decided=True, max_seeds=9), score=scored())


@pytest.mark.parametrize("trials", [40, 13 * 9, 13 * 9 + 3, 13 * 9 + 30])
def test_a_sweep_that_is_stopped_goes_on_to_the_same_answer(asking, further, trials):
    whole, broken = asking(RATES, SEEDS, runs="whole"), asking(RATES, SEEDS, runs="broken")
    score = scored(noise=0.008)
    expected, _ = further(whole, score=score)
    once = [trial.id for trial in further.trained]
    further.trained.clear()
    stopped, _ = further(broken, score=score, trials=trials)
    assert (stopped.complete, stopped.answers, stopped.why) == (False, None, "")
    seen = evidence(load_experiment(broken.folder))
    ended, _ = further(broken, score=score)
    assert [trial.id for trial in further.trained] == once, "nothing else, nothing twice"
    assert (ended.answers, ended.why) == (expected.answers, expected.why)
    assert record_of(broken) == record_of(whole)
    if trials > 13 * 9:
        fresh = {len(cell.trials) - 3 for cell in seen.contenders}
        assert fresh <= {3, 6}, "trials between two looks do not count yet"


def test_a_failure_in_a_block_leaves_the_question_open(asking, further):
    asked = asking(RATES, SEEDS)
    further(asked, score=scored(noise=0.008))
    record = record_of(asked)
    asked.folder.trial(record.cells[-1].id).result_json.unlink()
    fresh = {trial.seed for trial in counted(load_experiment(asked.folder))}
    begun = len({cell.seed for cell in record.cells})
    assert len(fresh) == max(look for look in record.looks if look < begun)
    seen = status(asked.folder).grids
    assert seen["conventional, fresh seeds"]["done"] == len(record.cells) - 1
    (again,) = plan_again(asked, [record.cells[-1].id]).plan.trials
    assert again == record.cells[-1]


def test_what_an_earlier_version_trained_on_fresh_seeds_counts(asking, further):
    """It trained the winners and the default ε on a number of seeds, and looked once."""
    asked, score = asking(RATES, SEEDS), scored(noise=0.008)
    further(asked, Further(), score=score)
    common, checksum = identity(asked.spec), prepare_data(asked.spec).checksum
    stored = load_experiment(asked.folder)
    winner = evidence(stored).trained.top(read_cells(stored))
    cells = tuple(
        Trial.of(trial_identity(common, checksum, 1e-2, epsilon, seed), (name,))
        for name, epsilon in (("conventional", winner.epsilon), ("default", 1e-8))
        for seed in (10_000, 10_001)
    )
    for cell in cells:
        own = score(cell.learning_rate, cell.epsilon, cell.seed)
        path = asked.folder.trial(cell.id).result_json
        result(cell, (own, own), metric=("accuracy", "max", "%")).write(path)
    ConfirmRecord("adam", (10_000, 10_001), cells, "00").write(asked.folder.confirm_json)
    found = evidence(load_experiment(asked.folder))
    assert (found.level, [len(cell.trials) for cell in found.contenders]) == (0.95, [5, 5])
    assert found.loss(found.without(found.baseline), found.baseline).n == 5
    further.trained.clear()
    ended, _ = further(asked, score=score)
    record = record_of(asked)
    assert ended.answers.of("default").answer == KEEP
    assert record.looks == (0, 3, 6, 12) and record.seeds == tuple(range(10_000, 10_012))
    assert settings(cells).keys() <= settings(record.cells).keys()
    assert not {cell.id for cell in cells} & {trial.id for trial in further.trained}


def test_other_looks_are_planned_where_the_grids_have_changed(asking, further):
    score = scored(noise=0.05)
    further(asking(RATES, SEEDS), Further(until_decided=True, max_seeds=4), score=score)
    asked = asking(RATES, "sweep.seeds=[0,1,2,10000]")
    before = record_of(asked)
    ended, _ = further(asked, Further(until_decided=True, max_seeds=6), score=score)
    record = record_of(asked)
    assert record.looks == (0, 2, 3, 6)
    assert 10_000 not in record.seeds and before.grid_checksum != record.grid_checksum
    assert ended.why.startswith("Not decided with 6 fresh seeds")


def test_a_best_learning_rate_at_an_edge_needs_no_seeds_but_rates(asking, further):
    asked, score = asking("sweep.learning_rates=[1e-3,3e-3]", SEEDS), scored(noise=1e-4, peak=0.02)
    ended, _ = further(asked, score=score)
    assert (ended.answers.of("default").answer, record_of(asked).cells) == (OPEN, ())
    assert ended.why == (
        "More seeds would not decide what is open; it takes other learning rates (`epsgrid sweep --extend-rates`)."
    )
    assert "As far as tried" in ended.answers.of("default").text
    both = Further(extend_rates=True, until_decided=True)
    seen = preview(asked, "conventional", both, 1)
    further.trained.clear()
    ended, said = further(asked, both, score=score)
    assert (ended.answers.of("default").answer, ended.why) == (KEEP, "Decided with the seeds of the grids.")
    added = GridRecord.read(asked.folder.grid_json).added_rates
    assert {each.learning_rate for each in added} == {9e-3, 0.027, 0.08}
    assert len(further.trained) == 3 * len(added)
    first = said[0].count("lr ")
    assert [trial.seed for trial in further.trained[: 3 * first]] == [0] * first + [1] * first + [2] * first
    assert said[0].startswith("The best learning rate is at an edge of those tried; trained next: lr 9e-3, ε ")
    assert seen.at_least <= len(further.trained) <= seen.at_most
    again = asking("sweep.learning_rates=[1e-3,3e-3]", SEEDS)
    assert plan_sweep(again, "conventional", 1).to_run == 0, "later sweeps keep them"
    for each in added:
        trials = [trial for trial in GridRecord.read(asked.folder.grid_json).cells if trial.epsilon == each.epsilon]
        assert {trial.grids for trial in trials} == {("conventional",)}


def test_a_rate_that_fresh_seeds_make_the_best_is_followed_as_well(asking, further):
    """On the seeds of the grids the middle rate is best by a little, on fresh ones the highest."""

    def score(rate, epsilon, seed):
        gain = {1e-2: 0.03, 0.1: 0.045 if seed >= 10_000 else 0.026}.get(rate, 0.0)
        return 0.8 + gain + scored(noise=0.008)(rate, epsilon, seed) - scored()(rate, epsilon, seed)

    asked = asking(RATES, SEEDS)
    ended, said = further(asked, Further(until_decided=True, extend_rates=True), score=score)
    assert OPEN not in [ended.answers.of(question).answer for question in ("default", "narrowing")]
    assert ended.why.startswith("Decided with")
    assert said[0].startswith("Not decided yet") and "The best learning rate is at an edge" in " ".join(said)
    assert max(each.learning_rate for each in GridRecord.read(asked.folder.grid_json).added_rates) > 0.1
    trials = [trial.id for trial in further.trained]
    assert len(trials) == len({*trials}), "nothing is trained again"


def test_rates_are_added_four_times_on_one_side_and_no_more(asking, further):
    asked, score = asking("sweep.learning_rates=[1e-2]", SEEDS), scored(peak=1e3)
    seen = preview(asked, "default", Further(extend_rates=True), 1)
    further(asked, Further(extend_rates=True), score=score, grid="default")
    added = GridRecord.read(asked.folder.grid_json).added_rates
    assert added == tuple(AddedRate(1e-8, rate) for rate in (3e-3, 0.03, 0.1, 0.3, 1.0))
    assert len(further.trained) == seen.at_most == 3 * 6
    ended, _ = further(asked, Further(extend_rates=True, until_decided=True), score=score)
    assert ended.why.endswith("it takes other learning rates (even beyond the spec's, so set others).")


def test_where_everything_diverges_lower_rates_are_tried(asking, further):
    def score(rate, epsilon, seed):
        return None if rate > 1e-3 else scored(peak=1e-3)(rate, epsilon, seed)

    asked = asking("sweep.learning_rates=[1e-1,1]", SEEDS)
    ended, _ = further(asked, score=score)
    assert ended.answers.of("default").text.startswith("Open: every setting diverged on some seed")
    assert "--extend-rates" in ended.why
    further(asked, Further(extend_rates=True), score=score)
    added = GridRecord.read(asked.folder.grid_json).added_rates
    assert {each.learning_rate for each in added} == {1e-2, 1e-3, 1e-4}


def test_an_epsilon_that_always_diverges_is_given_up_after_four_lower_rates(asking, further):
    def score(rate, epsilon, seed):
        return None if epsilon == 1e-8 else scored(peak=0.3)(rate, epsilon, seed)

    asked = asking("sweep.learning_rates=[0.1,0.3,1]", SEEDS)
    ended, _ = further(asked, score=score)
    assert ended.answers.of("default").answer == OPEN and "--extend-rates" in ended.why
    ended, _ = further(asked, Further(until_decided=True, extend_rates=True), score=score)
    assert [each.epsilon for each in GridRecord.read(asked.folder.grid_json).added_rates] == [1e-8] * 4
    assert ended.answers.of("default").text.startswith("Change ε = 1e-8: all its settings diverged")


def test_the_optimizer_without_epsilon_has_rates_but_nothing_to_decide(asking, further):
    asked = asking("optimizer=sgdm", "sweep.learning_rates=[1e-3,1e-2]", SEEDS)
    further(asked, Further(extend_rates=True), score=scored(peak=0.1))
    assert GridRecord.read(asked.folder.grid_json).added_rates == (AddedRate(None, 0.1), AddedRate(None, 1.0))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("sweep.seeds=[0]",), "sweep.seeds has one seed, and one seed has no spread; give two or more"),
        ((SEEDS, "optimizer=sgdm"), "optimizer 'sgdm' has no ε, so there is no question to decide"),
        ((SEEDS, "sweep.prune={}"), "trials that sweep.prune ends early have no score to compare; leave it out"),
    ],
)
def test_what_cannot_be_decided_is_refused_before_anything_is_trained(asking, further, overrides, words):
    asked = asking(*overrides)
    for call in (
        lambda: further(asked, score=scored()),
        lambda: preview(asked, "conventional", DECIDE, 1),
    ):
        with pytest.raises(SpecError, match=words):
            call()
    assert further.trained == []


def test_a_preview_counts_the_trainings_at_least_and_at_most(asking, further):
    asked, score = asking(RATES, SEEDS), scored(noise=0.008)

    def counted_now(**options):
        seen: Preview = preview(asked, "conventional", Further(until_decided=True, **options), 1)
        return seen.at_least, seen.at_most

    assert counted_now() == (13 * 9, 13 * 9 + 39 * 12)
    assert counted_now(max_seeds=2) == (13 * 9, 13 * 9 + 39 * 2)
    both = preview(asked, "conventional", Further(extend_rates=True), 1)
    assert (both.at_least, both.at_most) == (13 * 9, 13 * 9 + 13 * 4 * 3)
    further(asked, Further(), score=score)
    least, most = counted_now()
    contenders = least // 3
    assert (least, most) == (3 * contenders, 12 * contenders)
    wide = asking(RATES, SEEDS, "report.margin=50")
    assert preview(wide, "conventional", DECIDE, 1).at_most == 0, "by the margin that is asked for now"
    assert not asked.folder.confirm_json.exists()
    further(asked, score=score, trials=3)
    assert counted_now() == (least - 3, most - 3)
    further(asked, score=score)
    assert counted_now() == (0, 0)


def test_half_a_sweep_is_provisional(asking, further):
    asked, score = asking(RATES, SEEDS), scored(noise=0.008)
    for trials, seeds in ((20, 1), (25, 1), (40, 2)):
        further(asked, score=score, trials=trials)
        text = answer(evidence(load_experiment(asked.folder))).of("default")
        assert text.answer == NOT_FINISHED
        assert f"have no result. So far, with {seeds} seed" in text.text


def test_grids_that_were_swept_before_are_finished_first(asking, further):
    asked = asking(RATES, SEEDS)
    further(asked, Further(), score=scored(), trials=100)
    ended, _ = further(asked, score=scored(), grid="default")
    assert ended.why.startswith("17 trainings of grids that were swept before have no result; `epsgrid sweep --grid")
    assert ended.answers.of("default").answer == NOT_FINISHED
    assert not asked.folder.confirm_json.exists()
    ended, _ = further(asking(RATES, SEEDS, runs="alone"), score=scored(), grid="default")
    assert ended.why == "There is nothing to decide."
