"""What several experiments teach together: what rules of thumb lose, and where the best ε lies.

A loss counts in margins of its experiment, so that points, perplexities and BLEU can stand side by side. Experiments on
the same data are not independent, and no interval here says how it would be on other data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from epsgrid.grids import DEFAULT, REFERENCE
from epsgrid.numerics.damping import decades_of_fall
from epsgrid.numerics.statistics import share_interval
from epsgrid.report.claims import Run, change_of
from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table, shortened
from epsgrid.selection.answers import COSTS, NARROWED_GRID, NO_COST, NOT_FINISHED, OPEN, WINDOW, EpsilonRow
from epsgrid.selection.cells import Choice, best, difference
from epsgrid.selection.formatting import NOTHING, count, gain, power, ranges


@dataclass(frozen=True)
class RuleTally:
    """What a rule loses in several experiments.

    Attributes:
        runs: the experiments in which it can be judged.
        no_cost, costs, open: in how many it loses less than the margin, loses something, or cannot be told; of several
            windows in an experiment each counts in part.
        median, worst: loss in margins, 0 where nothing is lost; of several windows in an experiment their mean.
        worst_run: the experiment that loses most.
        failed: those in which it costs something, the worst first.
    """

    rule: str
    runs: int
    no_cost: float
    costs: float
    open: float
    median: float
    worst: float
    worst_run: str
    failed: tuple[str, ...]


def rule_tallies(runs: Sequence[Run]) -> tuple[RuleTally, ...]:
    """Tally each rule over the experiments in which it was trained with two or more seeds, the safest first."""
    judged: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for run in runs:
        answers = run.comparison.answers
        margin = answers.margin
        if not margin or run.evidence.trained.unfinished:
            continue
        for row in answers.rules:
            if row.loss.n > 1 and row.name != NARROWED_GRID:  # one of the two bounds, or a list of the user's own
                found = (row.found(margin), max(row.loss.mean, 0.0) / margin)
                judged.setdefault(row.name, {}).setdefault(run.name, []).append(found)
    tallies = []
    for rule, by_run in judged.items():
        no_cost, costs, still_open = (
            math.fsum(fmean(own == answer for own, _ in found) for found in by_run.values())
            for answer in (NO_COST, COSTS, OPEN)
        )
        losses = {name: fmean(loss for _, loss in found) for name, found in by_run.items()}
        order = sorted(losses, key=lambda name: -losses[name])
        failed = tuple(name for name in order if any(own == COSTS for own, _ in by_run[name]))
        ends = (median(losses.values()), losses[order[0]], order[0])
        tallies.append(RuleTally(rule, len(by_run), no_cost, costs, still_open, *ends, failed))
    return tuple(sorted(tallies, key=lambda row: (-row.no_cost / row.runs, row.worst)))


def rules_table(tallies: Sequence[RuleTally]) -> Table | None:
    """Return what the rules lose; None unless there are two experiments to compare."""
    if max((row.runs for row in tallies), default=0) < 2:
        return None
    rows = []
    for row in tallies:
        low, high = share_interval(row.no_cost, row.runs)
        rows.append(
            (
                *(row.rule, str(row.runs), *(f"{own:.3g}" for own in (row.no_cost, row.costs, row.open))),
                f"{100 * row.no_cost / row.runs:.0f} % ({100 * low:.0f} to {100 * high:.0f} %)",
                *(_margins(row.median), _margins(row.worst), row.worst_run if row.worst else NOTHING),
            )
        )
    columns = ("rule", "runs", "no cost", "costs", "open", "no cost in", "loses, median", "at worst", "where")
    note = (
        "the ε of the rule alone at their best learning rate, against the best of all other ε; losses in margins of "
        "each run; no cost in: share of runs with its 95 % interval as if independent, which runs on one task "
        "are not; windows: all that are as wide as the narrowed grid, averaged within a run"
    )
    return Table("What rules of thumb lose", columns, tuple(rows), note, points=tuple(_safest(tallies)))


def _margins(loss: float) -> str:
    """Show a loss in margins; that of a training that diverged is infinite."""
    return "diverged" if math.isinf(loss) else f"{loss:.2f}" if loss < 1000 else f"{loss:.1e}"


def _safest(tallies: Sequence[RuleTally]) -> Iterator[str]:
    """Yield which rule of one ε, and which of several, loses least, and where each fails."""
    several = [row for row in tallies if row.rule == WINDOW or "bounds" in row.rule]
    for what, own in (("single ε", [row for row in tallies if row not in several]), ("ranges of ε", several)):
        if own:
            first = own[0]
            fails = shortened(first.failed) if first.failed else "none"
            often = f"costs nothing in {first.no_cost:.3g} of {count(first.runs, 'run')}"
            worst = f"at worst {_margins(first.worst)} margins"
            yield f"Of {what} the least is lost by: {first.rule}, which {often}, something in {fails}; {worst}."


def constant_table(runs: Sequence[Run]) -> Table | None:
    """Return how ε fares that are so many times the median √v̂, over all experiments; None with fewer than two."""
    standings: dict[int, list[tuple[str, float]]] = {}
    judged = 0
    for run in runs:
        comparison, margin = run.comparison, run.comparison.answers.margin
        _, ratios = _relative(comparison)
        rows = [row for row in comparison.answers.epsilons if row.epsilon in ratios and row.standing != NOT_FINISHED]
        if not margin or not rows:
            continue
        judged += 1
        nearest: dict[int, tuple[float, EpsilonRow]] = {}
        for row in rows:
            ratio = math.log10(ratios[row.epsilon])
            found = (abs(ratio - round(ratio)), row)
            nearest[round(ratio)] = min(nearest.get(round(ratio), found), found, key=lambda pair: pair[0])
        for place, (_, row) in nearest.items():
            lost = math.inf if row.loss is None else max(row.loss.mean, 0.0) / margin
            standings.setdefault(place, []).append((row.standing, lost))
    shown = [place for place in sorted(standings) if 2 * len(standings[place]) >= judged]
    if judged < 2 or not shown:
        return None
    rows_of = []
    for place in shown:
        names = [standing for standing, _ in standings[place]]
        good, worse = names.count("as good"), names.count("worse") + names.count("diverged")
        losses = [lost for _, lost in standings[place]]
        texts = [_margins(lost) for lost in (median(losses), max(losses))]
        rows_of.append(
            (power(float(f"1e{place}")), *map(str, (len(names), good, worse, len(names) - good - worse)), *texts)
        )
    columns = ("ε / median √v̂", "runs", "as good", "worse", "open", "loses, median", "at worst")
    note = (
        "the ratio in √v̂ units, to the nearest decade; as good, worse: than the best other ε, all ε of a run at once; "
        f"losses in margins; only ratios that half of the {judged} runs trained"
    )
    return Table("ε relative to the median gradient magnitude", columns, tuple(rows_of), note)


def _relative(comparison: Comparison) -> tuple[float | None, dict[float, float]]:
    """Return the median √v̂, and each ε in √v̂ units over it; None and nothing without a probe."""
    middle = next((row.magnitude for row in comparison.estimates if row.name == "median"), None)
    return middle, {row.epsilon: row.magnitude / middle for row in comparison.adaptive} if middle else {}


def optima_table(runs: Sequence[Run]) -> Table | None:
    """Return where the best ε of each experiment may lie, how sharply the curve falls, and how far the bounds moved."""
    rows = []
    for run in runs:
        comparison = run.comparison
        found = comparison.answers.epsilons
        if not found:
            continue
        plausible = [row.epsilon for row in found if row.standing in ("as good", OPEN)]
        middle, ratios = _relative(comparison)
        ends = [ratios[epsilon] for epsilon in plausible if epsilon in ratios]
        _, step, against = change_of(run)
        step = None if against else step
        moved, evidence = comparison.most_moved, run.evidence
        falls = None
        if evidence.bounds is not None and evidence.placement is not None:
            layers = (layer.histogram for layer in evidence.bounds.layers)
            falls = decades_of_fall(filter(None, layers), evidence.placement)
        rows.append(
            (
                run.name,
                ranges(plausible, [row.epsilon for row in found]) or NOTHING,
                NOTHING if middle is None else power(float(f"{middle:.2g}")),
                " to ".join(dict.fromkeys(power(float(f"{end:.1g}")) for end in (ends[0], ends[-1])))
                if ends
                else NOTHING,
                comparison.answers.of("kind").answer,
                NOTHING if step is None else power(float(f"{10**step.centre:.2g}")),
                NOTHING if step is None else f"{step.width:.1f} ({step.width_low:.1f} to {step.width_high:.1f})",
                NOTHING if falls is None else f"{falls:.1f}",
                NOTHING if moved is None else f"{moved.decades:.1f}",
            )
        )
    columns = (
        *("run", "plausible ε", "median √v̂", "of the median", "optimizer there"),
        *("half-way at ε", "10 to 90 %, decades", "of the steps", "bounds moved"),
    )
    note = (
        "plausible: not told from the best; of the median: the same in √v̂ units over the median; optimizer there: at "
        "the best ε; half-way, 10 to 90 %: of a step fitted to the metric over log ε, where one describes it and no "
        "rate beyond those tried could change it, in √v̂ units; of the steps: decades over which ε shortens them to 90, "
        "then to 10 % (one entry's takes 1.9, or 1.3 with ε inside the root); bounds moved: decades from the probe's, "
        "the worst of the trainings at the best settings"
    )
    return Table("Where the best ε lies", columns, tuple(rows), note, texts=1) if rows else None


def references_table(runs: Sequence[Run]) -> Table | None:
    """Return how each optimizer without ε compares with tuned and default ε of the same setting; None without any."""
    rows = []
    for reference in (run for run in runs if run.is_reference):
        own, metric = reference.comparison.best_of(REFERENCE), reference.comparison.metric
        others = [run for run in runs if not run.is_reference and run.setting == reference.setting]
        if own is None or metric is None or not others:
            continue
        texts: list[str] = []
        own_edge = reference.evidence.open_note(reference.evidence.cells)
        for at_default in (False, True):
            means, better, worse = [], 0, 0
            for run in others:
                gap = difference(own.choice, _chosen(run, at_default), (reference.name, run.name), metric)
                if gap.mean is not None:
                    means.append(gap.mean)
                edge = run.evidence.open_note(run.evidence.baseline if at_default else run.evidence.without(()))
                better += gap.low is not None and gap.low > 0 and not edge
                worse += gap.high is not None and gap.high < 0 and not own_edge
            middle = f"{gain(median(means), metric)}{metric.difference_unit}" if means else NOTHING
            texts += [middle, str(better), str(worse), str(len(others) - better - worse)]
        rows.append((reference.name, str(len(others)), *texts))
    sides = ("over the best ε", "better", "worse", "open", "over the default", "better", "worse", "open")
    note = (
        "both at their best settings by validation, on test, paired by seed; median over the runs on the same data, "
        "with the same model and training; positive where the one without ε is better; better, worse: by 95 % "
        "intervals, and no learning rate beyond those tried could turn it"
    )
    return Table("Without ε", ("without ε", "against", *sides), tuple(rows), note) if rows else None


def _chosen(run: Run, at_default: bool) -> Choice:
    """Return the best setting of a run, or that at the default ε, with all seeds that it was trained with."""
    row = run.comparison.best_of(DEFAULT)
    choice = best([cell for cell in run.comparison.cells if cell.epsilon is not None], run.comparison.metric)
    if at_default:
        choice = row.choice if row else Choice(None, "not trained", 0, 0)
    return run.with_all_seeds(choice)
