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

Every ε is compared at its best learning rate. Where that is the lowest or the highest tried, a better one may lie
beyond, and a comparison that rests on it stays open.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from epsgrid.numerics.statistics import LEVEL
from epsgrid.selection.cells import CONVENTIONAL, NARROWED, Cell, at_epsilon, of_grid
from epsgrid.selection.formatting import Metric, amounts, count, duration, power, ranges, share
from epsgrid.selection.trained import Trained, edge_of, margin_of, trained

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds
    from epsgrid.numerics.layout import Loss
    from epsgrid.numerics.placement import Placement

ADAPTIVE, MOMENTUM_SGD = 0.95, 0.05
"""Shares of the moving entries from which, and up to which, an optimizer counts as adaptive and as momentum SGD."""
KEEP, CHANGE, NO_COST, COSTS, OPEN = "keep", "change", "no cost", "costs", "open"
NOT_FINISHED, NOT_MEASURED, NOT_ASKED = "not finished", "not measured", "not asked"
_WINDOW = "a window as wide elsewhere"
_MANY_SEEDS = 50


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        question: "default", "equivalent", "narrowing", "luck", "kind" or "trust".
        answer: in a word or two; see the constants of this module.
        text: in sentences.
        loss: the difference it rests on, in the metric's stored unit, positive where something is lost; None where
            none was measured.
    """

    question: str
    answer: str
    text: str
    loss: Loss | None = None


@dataclass(frozen=True)
class EpsilonRow:
    """One ε at its best learning rate.

    Attributes:
        epsilon: in the optimizer's own ε.
        cell: label of the setting.
        loss: against the best of the other ε, simultaneous with the other rows; None where it diverged or is not
            finished.
        standing: "as good", "worse", "open", "diverged" or "not finished".
        edge: "lowest" or "highest" where its best learning rate is at that end of those tried, "only" where a single
            one was; None otherwise.
    """

    epsilon: float
    cell: str
    loss: Loss | None
    standing: str
    edge: str | None


@dataclass(frozen=True)
class RuleRow:
    """What it costs to train the ε of some rule alone, against the best of all others.

    Attributes:
        name: of the rule.
        epsilons: those it names, as far as they were trained.
        loss: see `Answer.loss`.
    """

    name: str
    epsilons: tuple[float, ...]
    loss: Loss


@dataclass(frozen=True)
class Answers:
    """The answers of one experiment.

    Attributes:
        margin: the difference that does not matter, in the metric's stored unit; None while there is no score.
        level: probability with which each bound holds.
        seeds: number of seeds that are compared.
        sd: what another seed changes in a score, as a standard deviation; None where it is not known.
        answers: one for each question, in the order of the module's docstring.
        epsilons: a row for each ε, rising.
        rules: the narrowed grid, simple rules, and windows as wide as the narrowed grid.
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


@dataclass(frozen=True)
class Evidence:
    """What the questions are answered from.

    Attributes:
        cells: all settings of the grids.
        metric: None while no trial has a result.
        default_epsilon: the ε one would use without a search.
        margin_asked: as in the spec; None means the usual one.
        contenders: the settings that were trained with more seeds than the grids, with all their seeds.
        level: probability with which each bound holds; higher where results are looked at several times.
        is_exhausted: whether all fresh seeds that were planned are trained.
        bounds: measured by the probe; None without one.
        placement: where the optimizer adds its ε; None without a probe.
        estimates: names and decades of the point estimates of ε.
    """

    cells: Sequence[Cell]
    metric: Metric | None
    default_epsilon: float
    margin_asked: float | str | None = None
    contenders: Sequence[Cell] = ()
    level: float = LEVEL
    is_exhausted: bool = False
    bounds: EpsilonBounds | None = None
    placement: Placement | None = None
    estimates: Sequence[tuple[str, float]] = ()

    @cached_property
    def grid(self) -> Trained:
        """The settings of the grids that can be compared."""
        return trained(self.cells, self.metric)

    @cached_property
    def judging(self) -> Trained:
        """The contenders with all their seeds where these have ended, else the settings of the grids."""
        found = trained(self.contenders, self.metric) if self.contenders else self.grid
        return found if len(found.seeds) > len(self.grid.seeds) else self.grid

    @cached_property
    def margin(self) -> float | None:
        """The difference that does not matter, in the metric's stored unit; None while there is no score."""
        layout = self.grid.layout
        if layout is None or self.metric is None:
            return None
        return margin_of(self.margin_asked, self.metric, float(layout.test.mean(1).max()))

    @property
    def epsilons(self) -> list[float]:
        """All ε of the grids, rising."""
        return sorted({cell.epsilon for cell in self.cells if cell.epsilon is not None})

    @property
    def baseline(self) -> list[Cell]:
        """The settings at the default ε."""
        return at_epsilon(self.default_epsilon, self.cells)

    def without(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the settings of the grids that are not among some."""
        return [cell for cell in self.cells if cell.epsilon is not None and cell not in cells]

    def loss(self, better: Sequence[Cell], other: Sequence[Cell]) -> Loss | None:
        """Return by how much the best of some settings beats the best of others; None where one side has no scores.

        They are judged with the seeds of the contenders where the best of both sides are among these, else with those
        of the grids.
        """
        from epsgrid.numerics.layout import loss

        tops = [cell for cell in (self.top(better), self.top(other)) if cell is not None]
        for own in (self.judging, self.grid):
            if own.layout is not None and len(own.places(tops)) == 2:
                return loss(own.layout, own.places(better), own.places(other), self.level)
        return None

    def top(self, cells: Sequence[Cell]) -> Cell | None:
        """Return the best of some settings by their selecting scores with the seeds of the grids; None without any."""
        places, layout = self.grid.places(cells), self.grid.layout
        if layout is None or not places:
            return None
        return self.grid.cells[max(places, key=lambda place: layout.selecting[place].mean())]


def answer(evidence: Evidence) -> Answers:
    """Answer all questions."""
    rows = _epsilon_rows(evidence)
    rules = _rules(evidence)
    layout = evidence.judging.layout
    return Answers(
        margin=evidence.margin,
        level=evidence.level,
        seeds=len(evidence.judging.seeds),
        sd=layout.sd if layout is not None and math.isfinite(layout.sd) else None,
        answers=(
            _default(evidence),
            _equivalent(evidence, rows),
            _narrowing(evidence),
            _luck(evidence, rules),
            _kind(evidence),
            _trust(evidence),
        ),
        epsilons=rows,
        rules=rules,
    )


def _default(evidence: Evidence) -> Answer:
    default = f"ε = {power(evidence.default_epsilon)}"
    base, rest = evidence.baseline, evidence.without(evidence.baseline)
    if not evidence.epsilons:
        return Answer("default", NOT_ASKED, "This optimizer has no ε.")
    if not base:
        return Answer("default", NOT_MEASURED, f"The default {default} was not trained; `epsgrid sweep` trains it.")
    if not rest:
        return Answer("default", NOT_ASKED, f"Only the default {default} was trained; `epsgrid sweep` trains others.")
    return _compared(evidence, "default", rest, base, (KEEP, f"Keep {default}"), (CHANGE, f"Change {default}"))


def _narrowing(evidence: Evidence) -> Answer:
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
    """Say what is lost with the best of some settings against the best of others.

    Args:
        evidence: the results.
        question: the answer's question.
        better: the settings that may be better.
        other: those that may lose.
        no: the answer where they lose less than the margin, and how its text begins.
        yes: the same where they lose something.
    """
    top, own = evidence.top(better), evidence.top(other)
    found: Loss | None = None
    if top is None and own is None:
        decided, text = OPEN, "Every training diverged."
    elif own is None:
        decided, text = yes[0], f"{yes[1]}: all its settings diverge on some seed, and {top and top.label} on none."
    elif top is None:
        decided, text = no[0], f"{no[1]}: all other settings diverge on some seed."
    else:
        found = evidence.loss(better, other)
        assert found is not None, "both have scores with the seeds of the grids"
        decided, text = _by_loss(evidence, found, top, own, no, yes)
        if found.n > 1 and (caveat := edge_sentence([own, top], evidence.cells)):
            decided, text = OPEN, f"{caveat} As far as tried: {text}"
        elif found.n > 1 and decided == OPEN:
            text = f"Open: {text} {_seeds_needed(evidence, found, top, own)}"
    trials = [trial for cell in (*better, *other) for trial in cell.trials]
    if missing := sum(trial.state not in ("done", "diverged") for trial in trials):
        so_far = f"Not finished: {missing} of {count(len(trials), 'training')} have no result."
        seeds = len(evidence.grid.seeds)
        if evidence.grid.layout is None:
            return Answer(question, NOT_FINISHED, so_far)
        return Answer(question, NOT_FINISHED, f"{so_far} So far, with {count(seeds, 'seed')}: {text}", found)
    return Answer(question, decided, text, found)


def _by_loss(
    evidence: Evidence, found: Loss, top: Cell, own: Cell, no: tuple[str, str], yes: tuple[str, str]
) -> tuple[str, str]:
    """Answer by the bounds of a loss, and write it."""
    metric, margin = evidence.metric, evidence.margin
    assert metric is not None and margin is not None
    against = f"({own.label}) against {top.label}"
    if found.n < 2:
        size = amounts([found.mean], metric)
        return OPEN, f"With the only seed it loses {size} {against}, and one seed has no spread; train more seeds."
    based = f"margin {amounts([margin], metric)}, {count(found.n, 'seed')}"
    if not found.pooled:
        based += ", compared in pairs because spreads differ"
    if found.high < margin:
        at_most = f"at most {amounts([found.high], metric)}" if found.high > 0 else "nothing"
        return no[0], f"{no[1]}: it loses {at_most} {against} ({based})."
    ends = amounts([found.low, found.high], metric)
    if found.low > 0:
        return yes[0], f"{yes[1]}: it loses {amounts([found.mean], metric)} ({ends}) {against} ({based})."
    return OPEN, f"it loses {ends} {against} ({based})."


def _seeds_needed(evidence: Evidence, found: Loss, top: Cell, own: Cell) -> str:
    """Say about how many more seeds decide, and what they cost."""
    assert evidence.margin is not None
    if evidence.is_exhausted:
        return "All fresh seeds that were planned are trained."
    half = (found.high - found.low) / 2
    gap = max(evidence.margin - max(found.mean, 0.0), found.mean, evidence.margin / 10)
    more = max(math.ceil(found.n * (half / gap) ** 2) - found.n, 1)
    known = [trial.seconds for cell in (top, own) for trial in cell.trials if trial.seconds is not None]
    cost = f", {duration(2 * more * math.fsum(known) / len(known))} of training" if known else ""
    seeds = f"More than {_MANY_SEEDS}" if more > _MANY_SEEDS else f"About {more}"
    decide = "would decide" if more > _MANY_SEEDS else "more decide"
    return f"{seeds} {decide}{cost if more <= _MANY_SEEDS else ''}: `epsgrid sweep --until-decided`."


def _epsilon_rows(evidence: Evidence) -> tuple[EpsilonRow, ...]:
    """Return how each ε, at its best learning rate, compares with the best of the others."""
    losses = _against_best(evidence, evidence.grid)
    if evidence.judging is not evidence.grid:
        losses |= _against_best(evidence, evidence.judging)
    rows = []
    for epsilon in evidence.epsilons:
        own = at_epsilon(epsilon, evidence.cells)
        cell = evidence.top(own)
        edge = None if cell is None else edge_of(cell, evidence.cells)
        found = losses.get(epsilon)
        if cell is None:
            diverged = all(each.tally.complete for each in own)
            rows.append(
                EpsilonRow(epsilon, f"ε {power(epsilon)}", None, "diverged" if diverged else NOT_FINISHED, None)
            )
            continue
        standing = OPEN
        if found is not None and evidence.margin is not None:
            if found.high < evidence.margin:
                standing = "as good"
            elif found.low > 0 and edge is None:
                standing = "worse"
        rows.append(EpsilonRow(epsilon, cell.label, found, standing, edge))
    return tuple(rows)


def _against_best(evidence: Evidence, own: Trained) -> dict[float, Loss]:
    """Return the simultaneous losses of the ε, each at its best learning rate; empty where they cannot be compared."""
    from epsgrid.numerics.layout import Layout, compare_with_best

    if own.layout is None or own.layout.seeds < 2:
        return {}
    best_cells = [evidence.top(at_epsilon(epsilon, own.cells)) for epsilon in evidence.epsilons]
    places = own.places([cell for cell in best_cells if cell is not None])
    if len(places) < 2:
        return {}
    both = evidence.judging is not evidence.grid
    level = 1 - (1 - evidence.level) / 2 if both else evidence.level  # two families of statements share the errors
    layout = Layout(own.layout.selecting[places], own.layout.test[places])
    losses = compare_with_best(layout, level)
    return {own.cells[place].epsilon or 0.0: found for place, found in zip(places, losses, strict=True)}


def _equivalent(evidence: Evidence, rows: Sequence[EpsilonRow]) -> Answer:
    question = "equivalent"
    if len(rows) < 2:
        return Answer(question, NOT_ASKED, "Fewer than two ε were trained.")
    if evidence.metric is None or evidence.margin is None:
        return Answer(question, NOT_FINISHED, "No seed has been trained at every setting yet.")
    margin = amounts([evidence.margin], evidence.metric)
    titles = {
        "as good": f"As good as the best within {margin}",
        "worse": "Worse than the best",
        OPEN: "Open",
        "diverged": "Diverged",
        NOT_FINISHED: "Not finished",
    }
    trained_epsilons = [row.epsilon for row in rows]
    parts = [
        f"{title}: ε {ranges([row.epsilon for row in rows if row.standing == standing], trained_epsilons)}."
        for standing, title in titles.items()
        if any(row.standing == standing for row in rows)
    ]
    text = " ".join(parts)
    if any(row.standing == NOT_FINISHED for row in rows) or evidence.grid.unfinished:
        return Answer(question, NOT_FINISHED, f"Not finished, so far: {text}")
    if all(row.loss is None for row in rows):
        return Answer(question, OPEN, f"{text} One seed has no spread.")
    top = evidence.top(evidence.cells)
    if top is not None and (caveat := edge_sentence([top], evidence.cells)):
        return Answer(question, OPEN, f"{caveat} As far as tried: {text}")
    decided = sum(row.standing != OPEN for row in rows)
    return Answer(question, f"{decided} of {len(rows)} decided" if decided < len(rows) else "decided", text)


def _rules(evidence: Evidence) -> tuple[RuleRow, ...]:
    """Return what each rule loses: the narrowed grid, the default ε, the two ends, point estimates, other windows."""
    narrowed = sorted({cell.epsilon for cell in of_grid(NARROWED, evidence.cells) if cell.epsilon is not None})
    named: list[tuple[str, list[float]]] = []
    if narrowed:
        named.append(("narrowed grid", narrowed))
    named.append((f"default ε {power(evidence.default_epsilon)}", [evidence.default_epsilon]))
    if len(narrowed) > 2:
        named.append(("two ends of the bounds", [narrowed[0], narrowed[-1]]))
    shared: dict[float, list[str]] = {}
    for name, decade in evidence.estimates:
        shared.setdefault(decade, []).append(name)
    named += [(f"estimate: {', '.join(names)}", [decade]) for decade, names in shared.items()]
    conventional = sorted({cell.epsilon for cell in of_grid(CONVENTIONAL, evidence.cells) if cell.epsilon is not None})
    width = sum(epsilon in conventional for epsilon in narrowed)
    if 0 < width < len(conventional):
        windows = [conventional[start : start + width] for start in range(len(conventional) - width + 1)]
        named += [(_WINDOW, window) for window in windows if not set(window) <= set(narrowed)]
    rows = []
    for name, epsilons in named:
        own = [cell for epsilon in epsilons for cell in at_epsilon(epsilon, evidence.cells)]
        rest = evidence.without(own)
        if own and rest and (found := evidence.loss(rest, own)) is not None:
            rows.append(RuleRow(name, tuple(epsilons), found))
    return tuple(rows)


def _luck(evidence: Evidence, rules: Sequence[RuleRow]) -> Answer:
    windows = [row for row in rules if row.name == _WINDOW]
    narrowed = next((row for row in rules if row.name == "narrowed grid"), None)
    if not windows or narrowed is None or evidence.metric is None or evidence.margin is None:
        return Answer("luck", NOT_ASKED, "Only with both grids can the probe be compared with luck.")
    if narrowed.loss.n < 2:
        return Answer("luck", OPEN, "One seed has no spread.", narrowed.loss)
    good = sum(row.loss.high < evidence.margin for row in windows)
    bad = sum(row.loss.low > 0 and row.loss.high >= evidence.margin for row in windows)
    text = (
        f"Of {len(windows)} other windows as wide as the narrowed grid {good} lose less than the margin, too, "
        f"{bad} lose something, and {len(windows) - good - bad} are open."
    )
    answer = NOT_FINISHED if evidence.grid.unfinished else f"{good} of {len(windows)} as good"
    return Answer("luck", answer, text, narrowed.loss)


def _kind(evidence: Evidence) -> Answer:
    if evidence.bounds is None or evidence.placement is None:
        return Answer("kind", NOT_MEASURED, "No probe has measured √v̂; `epsgrid probe` does it.")
    top = evidence.top(evidence.cells)
    cells = [cell for cell in (evidence.top(evidence.baseline), top) if cell is not None and cell.epsilon is not None]
    if not cells:
        return Answer("kind", NOT_MEASURED, "Nothing was trained yet.")
    texts, name = [], ""
    for cell in dict.fromkeys(cells):
        assert cell.epsilon is not None
        adapting = share_adapting(evidence.bounds, evidence.placement, cell.epsilon)
        if adapting is None:
            return Answer("kind", NOT_MEASURED, "No entry that the probe measured has a gradient.")
        name = "adaptive" if adapting >= ADAPTIVE else "momentum SGD" if adapting <= MOMENTUM_SGD else "in between"
        text = f"At {cell.label} {share(adapting)} of the moving entries adapt: {name}"
        if name == "momentum SGD":
            step = cell.trained_rate / evidence.placement.magnitude_from_epsilon(cell.epsilon)
            text += f" with learning rate lr/ε = {power(step)}; compare `optimizer: sgdm` at that rate"
        texts.append(f"{text}.")
    return Answer("kind", name, " ".join(texts))


def share_adapting(bounds: EpsilonBounds, placement: Placement, epsilon: float) -> float | None:
    """Return the share of the probe's moving entries whose √v̂ is above an ε, so that their steps adapt.

    Returns:
        A fraction in [0, 1]; None where no entry has a gradient.
    """
    histograms = [layer.histogram for layer in bounds.layers if layer.histogram is not None]
    magnitude = placement.magnitude_from_epsilon(epsilon)
    moving = sum(float(histogram.entries_above(0.0)) for histogram in histograms)
    return sum(float(histogram.entries_above(magnitude)) for histogram in histograms) / moving if moving else None


def _trust(evidence: Evidence) -> Answer:
    if evidence.bounds is None:
        return Answer("trust", NOT_MEASURED, "No bounds were measured; `epsgrid probe` does it.")
    found = evidence.bounds.reliability
    if found is None:
        return Answer("trust", NOT_MEASURED, "The confidence in the bounds was not checked.")
    reasons = "; ".join(found.reasons)
    return Answer("trust", found.verdict, f"Confidence in the bounds is {found.verdict}: {reasons}.")


def edge_sentence(chosen: Iterable[Cell], cells: Sequence[Cell]) -> str:
    """Return a sentence about those of some settings whose learning rate is at an edge; "" where none is."""
    found: dict[str, list[str]] = {}
    for cell in dict.fromkeys(chosen):
        if (edge := edge_of(cell, cells)) is not None:
            found.setdefault(edge, []).append(f"ε {power(cell.epsilon)} ({power(cell.learning_rate)})")
    texts = [
        f"only one learning rate was tried at {' and '.join(who)}"
        if edge == "only"
        else f"the best learning rate of {' and '.join(who)} is the {edge} tried"
        for edge, who in found.items()
    ]
    if not texts:
        return ""
    text = "; ".join(texts)
    return f"Open: {text}, so a better one may lie beyond (`epsgrid sweep --extend-rates`)."
