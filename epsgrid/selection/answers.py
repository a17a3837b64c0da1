"""The questions that a sweep can decide, and their answers.

    default     May I keep the default ε, or what does it cost?
    equivalent  Which ε are as good as the best, which lose, which are open?
    narrowing   Did training only the narrowed grid cost anything?
    luck        Would windows as wide elsewhere have done as well?
    kind        What is this optimizer at the default and at the best ε: adaptive, or momentum SGD?
    trust       How far can the measured bounds be trusted?

An answer is given where the bounds of a difference (see `epsgrid.numerics.layout`) lie on one side of the margin, the
difference that does not matter to the user. "Open" means that more seeds can decide it; "not finished" that trials
which were asked for have no result yet, and what is said is provisional; "not measured" that something needed was never
run; "not asked" that the question makes no sense here.

Every ε is compared with all its learning rates. Where the best is the lowest or the highest tried, a better one may
lie beyond, and the answer stays open where that could turn it: "keep" where the next learning rate might help the
others by the margin or more, "change" where it might help the default as much. With few seeds an end often looks best
by chance; so an end matters only as far as the rise from the best learning rate inside may reach the margin. Where all
learning rates of one side diverged, lower ones are tried before that decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid.grids import CONVENTIONAL, NARROWED
from epsgrid.selection.cells import Cell, at_epsilon, of_grid
from epsgrid.selection.evidence import Evidence
from epsgrid.selection.formatting import amounts, count, duration, percent, power, ranges
from epsgrid.store.state import PRUNED

if TYPE_CHECKING:
    from epsgrid.numerics.layout import Loss

ADAPTIVE, MOMENTUM_SGD = 0.95, 0.05
"""Shares of the moving entries from which, and up to which, an optimizer counts as adaptive and as momentum SGD."""
KEEP, CHANGE, NO_COST, COSTS, OPEN = "keep", "change", "no cost", "costs", "open"
NOT_FINISHED, NOT_MEASURED, NOT_ASKED = "not finished", "not measured", "not asked"
NARROWED_GRID, WINDOW = "narrowed grid", "a window as wide elsewhere"
"""Names of rules: of the grid that the bounds made, and of all those that are luck."""
_MANY_SEEDS = 50


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        question: "default", "equivalent", "narrowing", "luck", "kind" or "trust".
        answer: in a word or two; see the constants of this module.
        text: in sentences.
        loss: the difference it rests on, in the metric's stored unit, positive where something is lost, or None.
        more_seeds: whether it is open and more seeds can decide it.
    """

    question: str
    answer: str
    text: str
    loss: Loss | None = None
    more_seeds: bool = False


@dataclass(frozen=True)
class EpsilonRow:
    """One ε at its best learning rate.

    Attributes:
        epsilon: in the optimizer's own ε.
        cell: label of the setting.
        loss: of the ε with all its learning rates against the best of the others; all rows hold together at the level.
            None where it diverged or is not finished.
        standing: "as good", "worse", "open", "diverged" or "not finished".
        edge: "lowest" or "highest" where its best learning rate is at that end of those tried, "only" where a single
            one was, "flat" where it is worse and none of them makes a difference; None otherwise.
    """

    epsilon: float
    cell: str
    loss: Loss | None
    standing: str
    edge: str | None


@dataclass(frozen=True)
class RuleRow:
    """What it costs to train the ε of a rule alone, as far as they were trained, against the best of all others.

    `name` is that of the rule, the same in every experiment; all windows elsewhere share one.
    """

    name: str
    epsilons: tuple[float, ...]
    loss: Loss

    def found(self, margin: float) -> str:
        """Return NO_COST where less than the margin is lost, COSTS where something is, OPEN elsewhere."""
        return NO_COST if self.loss.high < margin else COSTS if self.loss.low > 0 else OPEN


@dataclass(frozen=True)
class Answers:
    """The answers of one experiment, in the order of the module's docstring.

    Attributes:
        margin: the difference that does not matter, in the metric's stored unit; None while there is no score.
        level: probability with which each bound holds.
        seeds: number of seeds that every setting has.
        sd: what another seed changes in a score, as a standard deviation; None where it is not known.
        epsilons: a row for each ε, rising.
        rules: the narrowed grid, both kinds of bounds, simple rules, and windows as wide as the narrowed grid.
    """

    margin: float | None
    level: float
    seeds: int
    sd: float | None
    answers: tuple[Answer, ...]
    epsilons: tuple[EpsilonRow, ...]
    rules: tuple[RuleRow, ...]

    def of(self, question: str) -> Answer:
        """Return the answer to a question."""
        return next(answer for answer in self.answers if answer.question == question)


def answer(evidence: Evidence) -> Answers:
    """Answer all questions."""
    rows = epsilon_rows(evidence)
    rules = _rules(evidence)
    layout = evidence.trained.layout
    return Answers(
        margin=evidence.margin,
        level=evidence.level,
        seeds=len(evidence.trained.seeds),
        sd=layout.sd if layout is not None and math.isfinite(layout.sd) else None,
        answers=(
            default_answer(evidence),
            _equivalent(evidence, rows),
            narrowing_answer(evidence),
            _luck(evidence, rules),
            _kind(evidence),
            _trust(evidence),
        ),
        epsilons=rows,
        rules=rules,
    )


def default_answer(evidence: Evidence) -> Answer:
    """Say whether the default ε may be kept, or what it costs."""
    default = f"ε = {power(evidence.default_epsilon)}"
    base, rest = evidence.baseline, evidence.without(evidence.baseline)
    if not evidence.epsilons:
        if evidence.cells:
            return Answer("default", NOT_ASKED, "This optimizer has no ε.")
        return Answer("default", NOT_MEASURED, "Nothing was swept yet; `epsgrid sweep` trains the grids.")
    if not base:
        return Answer("default", NOT_MEASURED, f"The default {default} was not trained; `epsgrid sweep` trains it.")
    if not rest:
        return Answer("default", NOT_ASKED, f"Only the default {default} was trained; `epsgrid sweep` trains others.")
    return _compared(evidence, "default", rest, base, (KEEP, f"Keep {default}"), (CHANGE, f"Change {default}"))


def narrowing_answer(evidence: Evidence) -> Answer:
    """Say whether training only the narrowed grid cost anything."""
    narrowed, conventional = of_grid(NARROWED, evidence.cells), of_grid(CONVENTIONAL, evidence.cells)
    outside = [cell for cell in conventional if cell not in narrowed]
    if not narrowed or not conventional:
        text = "Only one grid was trained, so there is nothing to compare; `epsgrid sweep --grid both` trains both."
        return Answer("narrowing", NOT_ASKED, text)
    if not outside:
        return Answer("narrowing", NOT_ASKED, "The narrowed grid covers the whole conventional one.")
    no, yes = (NO_COST, "Narrowing cost nothing that matters"), (COSTS, "Narrowing has a cost")
    return _compared(evidence, "narrowing", outside, narrowed, no, yes)


def _compared(
    evidence: Evidence,
    question: str,
    better: Sequence[Cell],
    other: Sequence[Cell],
    no: tuple[str, str],
    yes: tuple[str, str],
) -> Answer:
    """Say what is lost with the best of some settings against the best of others, which may be better.

    `no` is the answer where they lose less than the margin, and how its text begins; `yes` where they lose something.
    """
    top, own = evidence.trained.top(better), evidence.trained.top(other)
    found: Loss | None = None
    more_seeds = False
    if top is None or own is None:
        decided, text = _by_divergence(evidence, better, other, no, yes)
    else:
        found = evidence.loss(better, other)
        assert found is not None, "both have scores"
        decided, text = _by_loss(evidence, found, top, own, no, yes)
        more_seeds = decided == OPEN and found.n > 1
        turning = {no[0]: top, yes[0]: own}.get(decided)  # the one that, trained better, would turn the answer
        edge = None if turning is None else evidence.edge(turning)
        if turning is not None and edge is not None and edge.matters:
            more_seeds = edge.is_unsure
            decided, text = OPEN, f"{_edge_sentence(turning, evidence)} As far as tried: {text}"
        elif note := evidence.edge_note([own, top]):
            text += f" {note[0].upper()}{note[1:]}{'' if decided == OPEN else ', which cannot turn this answer'}."
    keys = {(cell.learning_rate, cell.epsilon) for cell in (*better, *other)}
    fresh = [cell for cell in evidence.contenders if (cell.learning_rate, cell.epsilon) in keys]
    trials = {trial.id: trial for cell in (*better, *other, *fresh) for trial in cell.trials}.values()
    if missing := sum(trial.state not in ("done", "diverged", PRUNED) for trial in trials):
        so_far = f"Not finished: {missing} of {count(len(trials), 'training')} have no result."
        if evidence.trained.layout is not None:
            so_far += f" So far, with {count(found.n if found else len(evidence.trained.seeds), 'seed')}: {text}"
        return Answer(question, NOT_FINISHED, so_far, found)
    return Answer(question, decided, text, found, more_seeds)


def _by_divergence(
    evidence: Evidence, better: Sequence[Cell], other: Sequence[Cell], no: tuple[str, str], yes: tuple[str, str]
) -> tuple[str, str]:
    """Answer where one side has no setting with scores, or neither has."""
    top, own, seeds = evidence.trained.top(better), evidence.trained.top(other), len(evidence.trained.seeds)
    if evidence.trained.pruned:
        return OPEN, "Open: the trainings of one side were all pruned or diverged, so that it has no score."
    if top is None and own is None:
        return OPEN, "Open: every setting diverged on some seed; try lower learning rates."
    if seeds < 2:
        return OPEN, "Open: one side diverged at every setting, but only one seed was trained; train more seeds."
    if own is None:
        decided, text = yes[0], f"{yes[1]}: all its settings diverged on some seed, {top and top.label} on none"
    else:
        decided, text = no[0], f"{no[1]}: all others diverged on some seed, {own.label} on none"
    text += f" of {seeds}."
    if evidence.tried_lower(other if own is None else better):
        return decided, text
    lower = "Open: lower learning rates may train where all diverged (`epsgrid sweep --extend-rates`)."
    return OPEN, f"{lower} As far as tried: {text}"


def _by_loss(
    evidence: Evidence, found: Loss, top: Cell, own: Cell, no: tuple[str, str], yes: tuple[str, str]
) -> tuple[str, str]:
    """Answer by the bounds of a loss, and write it."""
    metric, margin = evidence.metric, evidence.margin
    assert metric is not None and margin is not None
    if found.n < 2:
        size, where = amounts([abs(found.mean)], metric), "worse" if found.mean > 0 else "better"
        return OPEN, (
            f"Open: with the only seed, {own.label} is {size} {where} than {top.label}; one seed cannot tell that from "
            "chance, so train more seeds."
        )
    based = f"margin {amounts([margin], metric)}, {count(found.n, 'seed')}"
    if not found.pooled:
        based += ", compared in pairs because the settings do not spread alike"
    if found.high < margin:
        at_most = f"at most {amounts([found.high], metric)}" if found.high > 0 else "nothing"
        return no[0], f"{no[1]}: at its best, {own.label}, it loses {at_most} against {top.label} ({based})."
    if found.low > 0:
        size, ends = amounts([found.mean], metric), amounts([found.low, found.high], metric)
        return yes[0], f"{yes[1]}: at its best, {own.label}, it loses {size} ({ends}) against {top.label} ({based})."
    gain, cost = amounts([max(-found.low, 0.0)], metric), amounts([found.high], metric)
    text = f"Open: {own.label} may be up to {gain} better or {cost} worse than {top.label} ({based})."
    return OPEN, f"{text} {_seeds_needed(evidence, found, top, own)}"


def _seeds_needed(evidence: Evidence, found: Loss, top: Cell, own: Cell) -> str:
    """Say about how many more seeds decide, and what they cost."""
    assert evidence.margin is not None
    if evidence.is_exhausted:
        return "All fresh seeds that were planned are trained."
    half = (found.high - found.low) / 2
    gap = max(evidence.margin - max(found.mean, 0.0), found.mean, evidence.margin / 10)
    more = max(math.ceil(found.n * (half / gap) ** 2) - found.n, 1)
    if more > _MANY_SEEDS:
        return f"It would take more than {_MANY_SEEDS} more seeds to decide; a larger `report.margin` takes fewer."
    known = [trial.seconds for cell in (top, own) for trial in cell.trials if trial.seconds is not None]
    cost = f", {duration(2 * more * math.fsum(known) / len(known))} of training" if known else ""
    return f"About {count(more, 'more seed')} of these two would decide it{cost}: `epsgrid sweep --until-decided`."


def epsilon_rows(evidence: Evidence) -> tuple[EpsilonRow, ...]:
    """Return how each ε, with all its learning rates, compares with the best of the others."""
    losses = _against_best(evidence)
    rows = []
    for epsilon in evidence.epsilons:
        own = at_epsilon(epsilon, evidence.cells)
        cell = evidence.trained.top(own)
        edge = None if cell is None else evidence.edge(cell)
        found = losses.get(epsilon)
        complete = all(each.tally.complete for each in own)
        if cell is None:
            standing = "diverged" if complete else NOT_FINISHED
            rows.append(EpsilonRow(epsilon, f"ε {power(epsilon)}", None, standing, None))
            continue
        standing = OPEN if complete else NOT_FINISHED
        if found is not None and evidence.margin is not None:
            if found.high < evidence.margin:
                standing = "as good"
            elif found.low > 0 and not (edge is not None and edge.matters):
                standing = "worse"
        rows.append(EpsilonRow(epsilon, cell.label, found, standing, None if edge is None else edge.name))
    return tuple(rows)


def _against_best(evidence: Evidence) -> dict[float, Loss]:
    """Return the simultaneous losses of the ε; empty where they cannot be compared."""
    from epsgrid.numerics.layout import compare_with_best

    layout = evidence.trained.layout
    if layout is None or layout.seeds < 2:
        return {}
    places = {epsilon: evidence.trained.places(at_epsilon(epsilon, evidence.cells)) for epsilon in evidence.epsilons}
    places = {epsilon: own for epsilon, own in places.items() if own}
    if len(places) < 2:
        return {}
    return dict(zip(places, compare_with_best(layout, list(places.values()), evidence.level), strict=True))


def _equivalent(evidence: Evidence, rows: Sequence[EpsilonRow]) -> Answer:
    question = "equivalent"
    if len(rows) < 2:
        return Answer(question, NOT_ASKED, "Fewer than two ε were trained.")
    if evidence.metric is None or evidence.margin is None:
        if evidence.trained.unfinished:
            return Answer(question, NOT_FINISHED, "No seed has been trained at every setting yet.")
        return Answer(question, OPEN, "Every setting diverged on some seed.")
    margin = amounts([evidence.margin], evidence.metric)
    titles = {
        "as good": f"As good as the best within {margin}",
        "worse": "Worse than the best",
        OPEN: "Open",
        "diverged": "Diverged at all learning rates tried",
        NOT_FINISHED: "Not finished",
    }
    trained_epsilons = [row.epsilon for row in rows]
    parts = [
        f"{title}: ε {ranges([row.epsilon for row in rows if row.standing == standing], trained_epsilons)}."
        for standing, title in titles.items()
        if any(row.standing == standing for row in rows)
    ]
    text = " ".join(parts)
    if any(row.standing == NOT_FINISHED for row in rows) or evidence.trained.unfinished:
        return Answer(question, NOT_FINISHED, f"Not finished, so far: {text}")
    if all(row.loss is None for row in rows):
        return Answer(question, OPEN, f"{text} One seed cannot tell a difference from chance.")
    top = evidence.trained.top(evidence.cells)
    if top is not None and (edge := evidence.edge(top)) is not None and edge.matters:
        return Answer(question, OPEN, f"{_edge_sentence(top, evidence)} As far as tried: {text}")
    decided = sum(row.standing != OPEN for row in rows)
    return Answer(question, f"{decided} of {len(rows)} decided" if decided < len(rows) else "decided", text)


def _rules(evidence: Evidence) -> tuple[RuleRow, ...]:
    """Return what each rule loses: the bounds, the default ε, the two ends, point estimates, other windows."""
    narrowed = sorted({cell.epsilon for cell in of_grid(NARROWED, evidence.cells) if cell.epsilon is not None})
    named: list[tuple[str, Sequence[float]]] = []
    if narrowed:
        named.append((NARROWED_GRID, narrowed))
    if (measured := evidence.measured) is not None:
        named += [(f"{choice} bounds", measured.chosen(choice).decades) for choice in ("trusted", "published")]
    named.append(("default ε", [evidence.default_epsilon]))
    if len(narrowed) > 2:
        named.append(("two ends of the bounds", [narrowed[0], narrowed[-1]]))
    named += [(f"estimate: {name}", [decade]) for name, decade in evidence.estimates]
    conventional = sorted({cell.epsilon for cell in of_grid(CONVENTIONAL, evidence.cells) if cell.epsilon is not None})
    width = sum(epsilon in conventional for epsilon in narrowed)
    if 0 < width < len(conventional):
        windows = [conventional[start : start + width] for start in range(len(conventional) - width + 1)]
        named += [(WINDOW, window) for window in windows if not set(window) <= set(narrowed)]
    rows = []
    for name, epsilons in named:
        own = [cell for epsilon in epsilons for cell in at_epsilon(epsilon, evidence.cells)]
        rest = evidence.without(own)
        if own and rest and (found := evidence.loss(rest, own)) is not None:
            rows.append(
                RuleRow(name, tuple(dict.fromkeys(cell.epsilon for cell in own if cell.epsilon is not None)), found)
            )
    return tuple(rows)


def _luck(evidence: Evidence, rules: Sequence[RuleRow]) -> Answer:
    windows = [row for row in rules if row.name == WINDOW]
    narrowed = next((row for row in rules if row.name == NARROWED_GRID), None)
    if not windows or narrowed is None or evidence.metric is None or evidence.margin is None:
        return Answer(
            "luck", NOT_ASKED, "Only a sweep of both grids can compare the narrowed grid with other windows as wide."
        )
    if narrowed.loss.n < 2:
        return Answer("luck", OPEN, "One seed cannot tell a difference from chance.", narrowed.loss)
    found = [row.found(evidence.margin) for row in windows]
    good, bad, unsure = (found.count(each) for each in (NO_COST, COSTS, OPEN))
    too = " as well" if good and narrowed.found(evidence.margin) == NO_COST else ""
    text = (
        f"Of {len(found)} other windows as wide as the narrowed grid, {good or 'none'} lost less than the margin"
        f"{too}, {f'{bad} lost something' if bad else 'none lost anything'}; {unsure or 'none'} open."
    )
    answer = NOT_FINISHED if evidence.trained.unfinished else f"{good} of {len(found)} as good"
    return Answer("luck", answer, text, narrowed.loss)


def _kind(evidence: Evidence) -> Answer:
    from epsgrid.numerics.damping import total_damping

    if evidence.bounds is None or evidence.placement is None:
        return Answer("kind", NOT_MEASURED, "No probe has measured √v̂; `epsgrid probe` does it.")
    tops = map(evidence.trained.top, (evidence.baseline, evidence.cells))
    cells = [cell for cell in tops if cell is not None and cell.epsilon is not None]
    if not cells:
        return Answer("kind", NOT_MEASURED, "No setting has a score for every seed.")
    histograms = [layer.histogram for layer in evidence.bounds.layers if layer.histogram is not None]
    texts, name = [], ""
    for cell in dict.fromkeys(cells):
        assert cell.epsilon is not None
        damping = total_damping(histograms, evidence.placement, cell.epsilon)
        if damping is None:
            return Answer("kind", NOT_MEASURED, "No entry that the probe measured has a gradient.")
        adapting = damping.adapting
        name = "adaptive" if adapting >= ADAPTIVE else "momentum SGD" if adapting <= MOMENTUM_SGD else "in between"
        text = f"At {cell.label}, {percent(adapting)} of the entries with a gradient adapt"
        text += f" and steps are {percent(damping.mean)} of those at ε → 0: {name}"
        if name == "momentum SGD":
            step = cell.trained_rate / evidence.placement.magnitude_from_epsilon(cell.epsilon)
            text += f" with learning rate lr/ε = {power(step)}; compare `optimizer: sgdm` at that rate"
        texts.append(f"{text}.")
    return Answer("kind", name, " ".join(texts))


def _trust(evidence: Evidence) -> Answer:
    if evidence.bounds is None:
        return Answer("trust", NOT_MEASURED, "No bounds were measured; `epsgrid probe` does it.")
    found = evidence.bounds.reliability
    if found is None:
        return Answer("trust", NOT_MEASURED, "The probe did not check how far its bounds can be trusted.")
    reasons = "; ".join(found.reasons)
    return Answer("trust", found.verdict, f"Confidence in the bounds is {found.verdict}: {reasons}.")


def _edge_sentence(cell: Cell, evidence: Evidence) -> str:
    return f"Open: {evidence.edge_note([cell])}, so a better one may lie beyond (`epsgrid sweep --extend-rates`)."
