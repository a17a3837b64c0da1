"""The commands for a program of yours: sweep a training function, load what was trained, and read the report.

results = epsgrid.sweep(train, bounds="bounds.json", learning_rates=[1e-3, 1e-2], out="runs/mine")
results.to_frame()
print(results.report())
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

from epsgrid import plugins
from epsgrid.cli.commands.report import answer_lines
from epsgrid.cli.console import err
from epsgrid.cli.progress import sweep_with_progress
from epsgrid.errors import ExecutionError, ExitCode, SpecError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.notebook import frame
from epsgrid.report.compare import whole
from epsgrid.report.rows import Comparison
from epsgrid.selection.answers import Answer
from epsgrid.selection.load import load_experiment
from epsgrid.spec.checking import check
from epsgrid.spec.reading import Document
from epsgrid.stages.deciding import Further
from epsgrid.stages.experiment import Asked, enter, find_run, prepare_data
from epsgrid.stages.probe import probe_of
from epsgrid.store.cells import asked_cells
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import TrialFailure, TrialResult
from epsgrid.store.state import FINISHED, trial_state
from epsgrid.tasks._own import FunctionTrial

_NOTEBOOK = "__main__"


def sweep(
    train: Callable[[FunctionTrial], Any],
    *,
    learning_rates: Sequence[float],
    out: str | os.PathLike[str],
    bounds: EpsilonBounds | str | os.PathLike[str] | None = None,
    epsilons: Sequence[float] | None = None,
    grid: Literal["narrowed", "conventional", "both", "default"] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    metric: str = "score",
    direction: Literal["max", "min"] = "max",
    unit: Literal["%", ""] = "",
    optimizer: str | Mapping[str, Any] = "adam",
    epochs: int = 1,
    margin: float | str | None = None,
    until_decided: bool = False,
    executor: str | None = None,
    workers: int | None = None,
    quiet: bool = False,
    spec: Mapping[str, Mapping[str, Any]] | None = None,
) -> Results:
    """Train a function over a grid of learning rates, ε and seeds, and return all results.

    What was trained before in the same folder is not trained again; a sweep that was killed goes on by the same call.

    Args:
        train: called with a `FunctionTrial`; returns the score, or {"validation": score, "test": score}. It stands in a
            file, from which the processes of the trials import it: of a script as far as this call, so that no guard is
            needed. One in a notebook trains in the notebook's own process.
        learning_rates: of the grid.
        out: the experiment's folder.
        bounds: of ε, as `observer.bounds()` returns them, or the file that they were saved to.
        epsilons: the ε to train in place of those that bounds make.
        grid: both the narrowed and the conventional grid, or one; left out, both where there are bounds or `epsilons`,
            else the conventional one.
        seeds: of the grid; what they stand for is up to the function.
        metric: what the score is called.
        direction: whether larger or smaller scores are better.
        unit: "%" for a fraction that is shown in percent.
        optimizer: the rule of which ε is, and its options where they matter for ε.
        epochs: the number of epochs that the function reports, if it does.
        margin: the difference that does not matter; see `report.margin` of a spec.
        until_decided: go on with fresh seeds until the questions are decided.
        executor: where trials run, on this machine if it is left out.
        workers: how many trials run at once; left out, one on each processor or GPU.
        quiet: print nothing.
        spec: further sections as in a spec, such as {"sweep": {"prune": {"method": "median"}}}.

    Raises:
        EpsgridError: an argument or the function cannot be used; the message says how to correct it.
    """
    if plugins.is_importing():
        raise plugins.SweepReached
    folder, target = _place_of(train)
    executor = executor or ("inline" if target.startswith(f"{_NOTEBOOK}:") else "local")
    if executor != "inline" and target.startswith(f"{_NOTEBOOK}:"):
        raise ExecutionError(
            f"executor={executor!r}: {train.__name__} stands in a notebook, where no other process finds it. Begin its"
            " cell with `%%writefile my_training.py`, and say `from my_training import"
            f" {train.__name__}` in the next one; or leave out the executor, and it trains in this process"
        )
    plugins.offer(target, train)
    place = Path(out).absolute()
    own_grid = grid or ("conventional" if bounds is None and epsilons is None else "both")
    values: dict[str, Any] = {
        "experiment": re.sub(r"^[^A-Za-z0-9]+|[^\w.-]", "-", place.name, flags=re.ASCII).lstrip("-") or "sweep",
        "task": {
            "name": "function",
            "target": target,
            "folder": folder,
            "metric": {"name": metric, "direction": direction, "unit": unit},
        },
        "optimizer": {"name": optimizer} if isinstance(optimizer, str) else dict(optimizer),
        "training": {"epochs": epochs},
        "sweep": {"learning_rates": [*map(float, learning_rates)], "seeds": [*map(int, seeds)], "grid": own_grid},
        "report": {"margin": margin},
        "execution": {"executor": executor},
    }
    if epsilons is not None:
        values["sweep"]["epsilons"] = [*map(float, epsilons)]
    if bounds is not None and not isinstance(bounds, EpsilonBounds):
        values["sweep"]["bounds"] = os.fspath(bounds)
    for section, settings in (spec or {}).items():
        values[section] = {**values.get(section, {}), **settings}
    asked = Asked(check(Document("epsgrid.sweep", values)), ExperimentFolder(place), place.parent)
    if isinstance(bounds, EpsilonBounds):
        record = probe_of(asked.spec, bounds, "the bounds given to epsgrid.sweep")
        enter(asked, prepare_data(asked.spec))
        record.write(asked.folder.bounds_json)
    _train(asked, until_decided=until_decided, workers=workers, quiet=quiet)
    return load(place)


def _place_of(train: Any) -> tuple[str, str]:
    """Return the folder in which a function's module is found, and its name in a spec, as "module:NAME"."""
    if not isinstance(train, FunctionType) or train.__qualname__ != train.__name__ or train.__name__ == "<lambda>":
        name = getattr(train, "__qualname__", repr(train))
        raise SpecError(
            "epsgrid.sweep: expected a function that is defined with `def` at the top of a module or notebook, got"
            f" {name}, which another process cannot import"
        )
    module, main = train.__module__, sys.modules["__main__"]
    folder, file = str(Path.cwd()), getattr(main, "__file__", None)
    if module == "__main__" and main.__spec__ is not None:  # python -m
        module = main.__spec__.name
    elif module == "__main__" and file and Path(file).suffix == ".py" and Path(file).is_file():
        module, folder = Path(file).stem, str(Path(file).absolute().parent)
        if not module.isidentifier():
            raise SpecError(
                f"epsgrid.sweep: other processes import {train.__name__} from {file}, which is no name of a module;"
                f" rename it to {re.sub(r'[^0-9A-Za-z_]', '_', module)}.py"
            )
    return folder, f"{module}:{train.__name__}"


def _train(asked: Asked, *, until_decided: bool, workers: int | None, quiet: bool) -> None:
    """Sweep with its progress shown; after Ctrl-C, and what it lets running trials save, raise KeyboardInterrupt."""
    further = Further(until_decided=until_decided)
    ended, stopped = sweep_with_progress(
        asked, asked.spec.sweep.grid, further, workers=workers, fail_fast=False, quiet=quiet
    )
    if ended.why and not quiet:
        err().print(ended.why, markup=False)
    if not ended.complete and stopped is not None:
        raise KeyboardInterrupt if stopped == ExitCode.INTERRUPTED else SystemExit(int(stopped))


def load(run: str | os.PathLike[str]) -> Results:
    """Return the trials of an experiment, by its folder, or its name in `runs`; StoreError where there is none."""
    folder = find_run(Path(run), Path("runs"))
    rows, metric = [], ""
    for cell in asked_cells(folder):
        place = folder.trial(cell.id)
        state = trial_state(place)
        result = TrialResult.read(place.result_json) if state in FINISHED else None
        metric = result.metric_name if result else metric
        error = TrialFailure.read(place.failure_json).error if state == "failed" else result and result.reason
        rows.append(
            {
                "learning_rate": cell.learning_rate,
                "epsilon": cell.epsilon,
                "seed": cell.seed,
                "state": state,
                "validation": result.validation.metric if result and result.validation else None,
                "test": result.test.metric if result and result.test else None,
                "epochs": result.epochs_trained if result else None,
                "seconds": result.seconds if result else None,
                "grids": list(cell.grids),
                "error": error,
                "id": cell.id,
            }
        )
    return Results(folder.root, metric, tuple(rows))


@dataclass(frozen=True)
class Results:
    """The trials of an experiment, in the order of training.

    Attributes:
        folder: of the experiment.
        metric: what the score is called; "" while there is none.
        rows: a mapping for each trial, with learning_rate, epsilon, seed, state, the scores validation and test,
            epochs, seconds, grids, error and id; what is not known is None.
    """

    folder: Path
    metric: str
    rows: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        """Return the number of trials."""
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows."""
        return iter(self.rows)

    def __repr__(self) -> str:
        """Return how many trials are in which state, and where."""
        states = [row["state"] for row in self.rows]
        counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        return f"{len(self.rows)} trials in {self.folder}: {counted}"

    def to_frame(self) -> Any:
        """Return the rows as a pandas.DataFrame; ExecutionError where pandas is not installed."""
        return frame(self.rows)

    def report(self) -> Report:
        """Return the answers as they are now, from the files; `epsgrid report` writes pages and figures, too."""
        return Report(whole(load_experiment(ExperimentFolder(self.folder)))[0])


@dataclass(frozen=True)
class Report:
    """The answers of an experiment; printed, they are what `epsgrid report` shows."""

    comparison: Comparison

    @property
    def answers(self) -> dict[str, Answer]:
        """The answers by question, such as "default": each with `answer`, in a word, and `text`."""
        return {each.question: each for each in self.comparison.answers.answers}

    def to_json(self) -> dict[str, Any]:
        """Return all of report.json as plain values."""
        return self.comparison.to_json()

    def __str__(self) -> str:
        """Return the screen of `epsgrid report`, in 80 columns."""
        from rich.console import Console

        text = io.StringIO()
        console = Console(file=text, width=80, color_system=None, force_jupyter=False, highlight=False)
        console.print(*answer_lines(self.comparison), sep="\n")
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
