"""Check how often the report's answers are wrong by simulation, where the truth is known: run on demand.

    python scripts/check_statistics.py --quick   # a minute: 40 sweeps for each row, three seeds
    python scripts/check_statistics.py           # an hour or two on two cores: 2,000 sweeps for each row

Simulated are sweeps of three learning rates and thirteen ε, 1e-10 to 100; the narrowed grid is 1e-6 to 1e-3, the
default 1e-8. A trial's score is its setting's true score, plus what its seed adds to every setting (standard deviation
1), plus what this one training adds. The latter has a standard deviation of 1 on each split, the unit of everything
here; three quarters of its variance are common to both splits. Learning rates other than the best cost 1.

The sweeps become cells, evidence and answers by the code that a report uses. An answer is false where it says that
nothing is lost ("keep", "no cost") and the truth loses the margin or more, or that something is lost ("change",
"costs") and the truth loses nothing. Both should be at most 5 %. In the tables ✓ marks what is right and ✗ what is
false; between no loss and the margin both answers are right. A set is false that calls an ε "as good" that loses the
margin or more, or "worse" that loses nothing. "All intervals true" counts the sweeps in which every ε's interval,
extended to zero, holds what the ε truly loses. Everything is drawn from fixed seeds.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from epsgrid.grids import CONVENTIONAL, DEFAULT, NARROWED
from epsgrid.selection.answers import default_answer, epsilon_rows, narrowing_answer
from epsgrid.selection.cells import Cell, TrialRow, tally
from epsgrid.selection.deciding import MAX_FRESH_SEEDS, contenders, level_of, looks
from epsgrid.selection.evidence import Evidence
from epsgrid.selection.formatting import Metric

METRIC = Metric("score", "max", "")
DECADES = range(-10, 3)
INSIDE, OUTSIDE = [4, 5, 6, 7], [0, 1, 2, 3, 8, 9, 10, 11, 12]
BASE = 2
SHARED = math.sqrt(0.75)
RATES = (-1.0, 0.0, -1.0)
TWO_RATES = (-1.0, 0.0, 0.0, -1.0)
_CHUNKS = 8

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A kind of sweep.

    Attributes:
        name: what the curve looks like.
        curve: true scores of the ε at their best learning rate.
        margin: the difference that does not matter.
        seeds: of the grids.
        rates: what each learning rate adds to the score.
        spreads: standard deviation of a training at each ε.
        diverging: places of ε at which half of the trainings diverge.
        narrow: only the narrowed grid and the default are trained.
    """

    name: str
    curve: tuple[float, ...]
    margin: float
    seeds: int
    rates: tuple[float, ...] = RATES
    spreads: tuple[float, ...] = (1.0,) * len(DECADES)
    diverging: tuple[int, ...] = ()
    narrow: bool = False

    @property
    def places(self) -> list[int]:
        """Places of the ε that are trained."""
        return [BASE, *INSIDE] if self.narrow else list(range(len(DECADES)))

    def cost(self, own: Sequence[int]) -> float:
        """Return by how much the best of the other ε beats the best of some."""
        return max(self.curve[k] for k in self.places if k not in own) - max(self.curve[k] for k in own)


def curves(size: float) -> dict[str, tuple[float, ...]]:
    """Return curves in which something differs by a size."""
    falling = [-max(place - 6.0, 0.0) for place in range(len(DECADES))]

    def raised(places: Sequence[int], by: float) -> tuple[float, ...]:
        return tuple(value + by * (place in places) for place, value in enumerate(falling))

    near = [size - 1.0] * len(DECADES)
    for place in (BASE, *INSIDE):
        near[place] = 0.0
    near[0] = size
    return {
        "flat, falling from 1e-3 on": tuple(falling),
        "flat": (0.0,) * len(DECADES),
        f"1e-5 (inside) better by {size:g}": raised([5], size),
        f"1e-10 (outside) better by {size:g}": raised([0], size),
        f"1e-10 to 1e-7 better by {size:g}": raised([0, 1, 2, 3], size),
        f"1e-8 alone worse by {size:g}": raised([BASE], -size),
        f"1e-10 better by {size:g}, other outside by {size - 1:g}": tuple(near),
    }


def draw(rng: np.random.Generator, case: Case, seeds: int) -> Scores:
    """Return validation and test scores of shape (2, ε, rates, seeds); NaN where a training diverges."""
    shape = len(DECADES), len(case.rates), seeds
    true = np.asarray(case.curve)[:, None, None] + np.asarray(case.rates)[None, :, None]
    shared = SHARED * rng.normal(size=shape)
    noise = shared + math.sqrt(1 - SHARED**2) * rng.normal(size=(2, *shape))
    scores = true + rng.normal(size=seeds) + np.asarray(case.spreads)[:, None, None] * noise
    for place in case.diverging:
        scores[:, place, rng.random(shape[1:]) < 0.5] = np.nan
    return np.asarray(scores)


def cell(case: Case, scores: Scores, place: int, rate: int, seeds: int) -> Cell:
    """Return a setting with some seeds."""
    grids = () if case.narrow else (CONVENTIONAL,)
    grids += ((NARROWED,) if place in INSIDE else ()) + ((DEFAULT,) if place == BASE else ())
    rows = []
    for seed in range(seeds):
        validation, test = scores[:, place, rate, seed].tolist()
        ended = (f"{place} {rate} {seed}", seed)
        if math.isfinite(test):
            rows.append(TrialRow(*ended, "done", validation, test, 1, 1.0, None))
        else:
            rows.append(TrialRow(*ended, "diverged", None, None, None, 1.0, "loss is not finite"))
    learning_rate = 10.0 ** (rate - len(case.rates))
    trials, epsilon = tuple(rows), 10.0 ** DECADES[place]
    return Cell(learning_rate, learning_rate, epsilon, grids, None, tally(trials), None, None, trials)


@dataclass
class Tally:
    """What some sweeps were answered.

    Attributes:
        default, narrowing: the answers.
        missed: how many of the simultaneous intervals of all ε do not hold the truth, of each sweep.
        wrong_sets: sweeps that call an ε as good that loses the margin, or one worse that loses nothing.
        decided: share of the ε whose standing is decided, of each sweep.
        fresh: fresh seeds that were trained.
        trainings: in all.
    """

    default: list[str] = field(default_factory=list)
    narrowing: list[str] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)
    wrong_sets: list[bool] = field(default_factory=list)
    decided: list[float] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)
    trainings: list[int] = field(default_factory=list)

    def extend(self, other: Tally) -> None:
        """Add other sweeps."""
        for name, values in vars(self).items():
            values.extend(getattr(other, name))


def look(case: Case, cells: Sequence[Cell]) -> tuple[Evidence, Tally]:
    """Answer the questions after the grids, and compare the standing of each ε with the truth."""
    evidence = Evidence(cells, METRIC, 10.0 ** DECADES[BASE], case.margin)
    found = Tally([default_answer(evidence).answer], [narrowing_answer(evidence).answer])
    missed, wrong, decided = 0, False, 0
    rows = epsilon_rows(evidence)
    compared = {round(math.log10(row.epsilon)) - DECADES[0]: row for row in rows if row.loss is not None}
    for place, row in compared.items():
        true = max(case.curve[other] for other in compared if other != place) - case.curve[place]
        assert row.loss is not None
        missed += not min(row.loss.low, 0) <= true <= max(row.loss.high, 0)
        wrong |= (row.standing == "as good" and true >= case.margin) or (row.standing == "worse" and true <= 0)
        decided += row.standing in ("as good", "worse")
    found.missed, found.wrong_sets, found.decided = [missed], [wrong], [decided / len(rows)]
    return evidence, found


def until_decided(case: Case, cells: Sequence[Cell], scores: Scores) -> Tally:
    """Train fresh seeds until the questions are decided, as `epsgrid sweep --until-decided` does."""
    planned = looks(MAX_FRESH_SEEDS)
    level = level_of(tuple(case.seeds + fresh for fresh in planned))
    more: dict[tuple[float, float | None], Cell] = {}
    place_of = {(each.learning_rate, each.epsilon): (each.trials[0].id.split()) for each in cells}
    for trained, following in zip(planned, (*planned[1:], None), strict=True):
        fresh = trained
        evidence = Evidence(cells, METRIC, 10.0 ** DECADES[BASE], case.margin, tuple(more.values()), level)
        chosen = contenders(evidence)
        if not chosen or following is None:
            break
        for each in chosen:
            place, rate, _ = map(int, place_of[each.learning_rate, each.epsilon])
            more[each.learning_rate, each.epsilon] = cell(case, scores, place, rate, case.seeds + following)
    trainings = len(cells) * case.seeds + sum(len(each.trials) - case.seeds for each in more.values())
    answers = default_answer(evidence).answer, narrowing_answer(evidence).answer
    return Tally([answers[0]], [answers[1]], fresh=[fresh], trainings=[trainings])


def simulate(case: Case, repeats: int, sequential: bool, chunk: int) -> Tally:
    """Answer the questions for some sweeps of a case."""
    rng = np.random.default_rng([chunk, repeats, case.seeds, round(10 * case.margin), len(case.rates)])
    total = Tally()
    for _ in range(chunk, repeats, _CHUNKS):
        scores = draw(rng, case, case.seeds + sequential * MAX_FRESH_SEEDS)
        cells = [
            cell(case, scores, place, rate, case.seeds) for rate in range(len(case.rates)) for place in case.places
        ]
        total.extend(until_decided(case, cells, scores) if sequential else look(case, cells)[1])
    return total


def percent(values: Sequence[bool]) -> float:
    """Return the share of true values."""
    return 100 * sum(values) / max(len(values), 1)


def shares(answers: Sequence[str], cost: float, margin: float, nothing: str, something: str) -> str:
    """Write how often two answers were given, with marks of what is right and false."""
    marks = ("✓" if cost < margin else "✗", "✓" if cost > 0 else "✗")
    texts = [
        f"{percent([each == answer for each in answers]):5.1f} {mark}"
        for answer, mark in zip((nothing, something), marks, strict=True)
    ]
    return " | ".join(texts)


class Tables:
    """Runs cases on all processes, prints their rows, and keeps the worst error."""

    def __init__(self, pool: multiprocessing.pool.Pool, repeats: int) -> None:
        self.pool, self.repeats = pool, repeats
        self.worst: tuple[float, str] = (0.0, "")

    def run(self, case: Case, *, sequential: bool = False) -> Tally:
        """Simulate a case."""
        total = Tally()
        for part in self.pool.map(partial(simulate, case, self.repeats, sequential), range(_CHUNKS)):
            total.extend(part)
        for answers, own, nothing, something in (
            (total.default, [BASE], "keep", "change"),
            (total.narrowing, INSIDE, "no cost", "costs"),
        ):
            cost = case.cost(own)
            false = nothing if cost >= case.margin else something if cost <= 0 else None
            if false is not None:
                self.worst = max(self.worst, (percent([each == false for each in answers]), f"{false}: {case}"))
        return total

    def after_grids(self, cases: Sequence[Case]) -> None:
        """Print what one look after the grids answers."""
        print("| curve | δ | seeds | keep | change | no cost | costs | ε decided | all intervals true | false sets |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for case in cases:
            found = self.run(case)
            default = shares(found.default, case.cost([BASE]), case.margin, "keep", "change")
            narrowing = shares(found.narrowing, case.cost(INSIDE), case.margin, "no cost", "costs")
            sets = f"{100 * np.mean(found.decided):3.0f} | {percent([not each for each in found.missed]):5.1f}"
            wrong = f"{percent(found.wrong_sets):4.1f}"
            start = f"| {case.name} | {case.margin:g} | {case.seeds}"
            print(f"{start} | {default} | {narrowing} | {sets} | {wrong} |", flush=True)

    def until_decided(self, cases: Sequence[Case]) -> None:
        """Print what the sequential procedure answers, and what it costs."""
        narrow = cases[0].narrow
        more = "" if narrow else " no cost | costs |"
        print(f"| curve | δ | seeds | keep | change |{more} decided | fresh seeds | trainings, % of the full grid |")
        print("| --- | --- | --- | --- | --- |" + ("" if narrow else " --- | --- |") + " --- | --- | --- |")
        for case in cases:
            found = self.run(case, sequential=True)
            questions = [shares(found.default, case.cost([BASE]), case.margin, "keep", "change")]
            if not narrow:
                questions.append(shares(found.narrowing, case.cost(INSIDE), case.margin, "no cost", "costs"))
            decided = percent(["open" not in each for each in zip(found.default, found.narrowing, strict=True)])
            full = len(DECADES) * len(case.rates) * case.seeds
            median, most = (100 * float(np.quantile(found.trainings, q)) / full for q in (0.5, 0.9))
            fresh = f"{np.median(found.fresh):.0f}, 90 %: {np.quantile(found.fresh, 0.9):.0f}"
            start = f"| {case.name} | {case.margin:g} | {case.seeds} | {' | '.join(questions)}"
            print(f"{start} | {decided:5.1f} | {fresh} | {median:.0f}, 90 %: {most:.0f} |", flush=True)


def cases(margins: Sequence[float], seeds: Sequence[int], **changes: object) -> list[Case]:
    """Return a case for each curve, margin and number of seeds; what differs on the curve differs by the margin."""
    return [
        Case(name, curve, margin, n, **changes)  # type: ignore[arg-type]
        for margin in margins
        for n in seeds
        for name, curve in curves(margin).items()
    ]


def unequal(seeds: Sequence[int]) -> list[Case]:
    """Return cases whose settings do not all spread alike; what differs on the curve differs by the margin of 2."""
    ones, found = (1.0,) * len(DECADES), []
    noisy = {place: (*ones[:place], 5.0, *ones[place + 1 :]) for place in (0, BASE, 5)}
    quiet = (*ones[:9], 0.01, 0.01, 0.01, 0.01)
    for n in seeds:
        for name, curve in curves(2.0).items():
            if name.startswith(("flat", "1e-10 (outside)", "1e-5", "1e-8")) and name != "flat":
                found += [
                    Case(f"{name}; 1e-8 spreads 5 times as much", curve, 2.0, n, spreads=noisy[BASE]),
                    Case(f"{name}; 1e-10 spreads 5 times as much", curve, 2.0, n, spreads=noisy[0]),
                    Case(f"{name}; 1e-5 spreads 5 times as much", curve, 2.0, n, spreads=noisy[5]),
                    Case(f"{name}; 0.1 and above hardly spread", curve, 2.0, n, spreads=quiet),
                    Case(f"{name}; half diverge from 1 on", curve, 2.0, n, diverging=(10, 11, 12)),
                ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 sweeps for each row, three seeds")
    parser.add_argument("--repeats", type=int, default=2000, help="simulated sweeps for each row")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 8], help="numbers of seeds of the grids")
    parser.add_argument("--margins", type=float, nargs="+", default=[1.0, 2.0], help="margins, in spreads")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6], help="tables to print")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.seeds = 40, [3]
    start = time.perf_counter()
    with multiprocessing.Pool(options.processes) as pool:
        tables = Tables(pool, options.repeats)
        standard = cases(options.margins, options.seeds)
        titles = {
            1: "After both grids, three learning rates, the best in the middle",
            2: "After both grids, four learning rates, the two in the middle equally good",
            3: "Until decided, from the narrowed grid and the default",
            4: "Until decided, from both grids",
            5: "After both grids, unequal spreads",
            6: "Until decided, from both grids, unequal spreads",
        }
        for number in options.only:
            print(f"\n{number}. {titles[number]}; {options.repeats} sweeps a row, shares in %\n")
            if number == 1:
                tables.after_grids(standard)
            elif number == 2:
                tables.after_grids(cases(options.margins, options.seeds, rates=TWO_RATES))
            elif number == 3:
                names = ("flat", "1e-5", "1e-8", "1e-10 to")  # the others differ outside only
                narrow = cases(options.margins, options.seeds, narrow=True)
                tables.until_decided([case for case in narrow if case.name.startswith(names)])
            elif number == 4:
                tables.until_decided(standard)
            elif number == 5:
                tables.after_grids(unequal(options.seeds))
            else:
                tables.until_decided(unequal(options.seeds))
            share, where = tables.worst
            error = math.sqrt(max(share * (100 - share), 0.0) / options.repeats)
            print(f"\nMost often false so far: {share:.1f} % (± {error:.1f}), {where}", flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
