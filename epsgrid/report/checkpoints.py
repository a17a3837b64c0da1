"""Checkpoints of one training side by side: a table, figures of √v̂ over the steps, and the page that has both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.damping import Damping, pooled
from epsgrid.numerics.series import FRACTIONS, LayerSnapshot, Series, Snapshot
from epsgrid.report.figures.damping import damping_numbers, draw_damping
from epsgrid.report.figures.percentiles import draw_percentiles, percentile_numbers
from epsgrid.report.html.page import Section, html_page
from epsgrid.report.pictures import Picture, rendered
from epsgrid.report.table import Table
from epsgrid.selection.formatting import NOTHING, percent, power, powers


@dataclass(frozen=True)
class CheckpointRow:
    """One optimizer's state in one checkpoint.

    Attributes:
        file, where: the checkpoint, and the optimizer's place in it.
        optimizer: its name.
        step: the steps taken; None where not known.
        epsilons: the different ε it was trained with; empty where not known.
        threshold: the magnitude that ε weighs as much as, where all layers have the same.
        adapting: share of all entries with √v̂ above ε, in [0, 1]; None where ε is not known.
        shares: the same of each layer by name.
        dampings: of the layers whose ε is known, by name.
        findings: what is to be said of layers whose steps are shortened, a sentence each.
        bounds: None where no layer can set any.
        layers: kind and magnitudes of each layer by name.
        notes: what is not known, a sentence each.
    """

    file: str
    where: str
    optimizer: str
    step: int | None
    epsilons: tuple[float, ...]
    threshold: float | None
    adapting: float | None
    shares: Mapping[str, float]
    dampings: Mapping[str, Damping]
    findings: tuple[str, ...]
    bounds: EpsilonBounds | None
    layers: dict[str, tuple[str, LayerSnapshot]]
    notes: tuple[str, ...] = ()

    @property
    def reach(self) -> str:
        """The bounds as text, such as "1e-7 to 1e-2"."""
        return f"{power(self.bounds.low.decade)} to {power(self.bounds.high.decade)}" if self.bounds else NOTHING

    @property
    def label(self) -> str:
        """The file, and the optimizer's place in it if there are several."""
        return f"{self.file} {self.where}".strip()


def in_order(rows: Sequence[CheckpointRow]) -> list[CheckpointRow]:
    """Return rows by steps; those without a number of steps keep their order, behind the others."""
    return sorted(rows, key=lambda row: (row.step is None, row.step or 0))


def timeline_table(rows: Sequence[CheckpointRow]) -> Table:
    """Return a row for each checkpoint, in their order."""
    cells = [
        (
            row.label,
            NOTHING if row.step is None else f"{row.step:,}",
            row.reach,
            powers(row.epsilons),
            NOTHING if row.adapting is None else percent(row.adapting),
            NOTHING if (damping := pooled(row.dampings.values())) is None else percent(damping.mean),
        )
        for row in rows
    ]
    return Table("Checkpoints", ("file", "step", "bounds of ε", "ε", "adapting", "damping"), tuple(cells))


def headline(row: CheckpointRow) -> str:
    """Return the answer of one checkpoint in a sentence."""
    used = f"at its ε, {powers(row.epsilons)}," if row.epsilons else "its ε is not known"
    share = "" if row.adapting is None else f" {percent(row.adapting)} of the entries adapt"
    return f"ε bounds: {row.reach}; {used}{share}"


def series_of(rows: Sequence[CheckpointRow]) -> Series:
    """Return the checkpoints of one optimizer as snapshots over its steps; by their numbers where steps do not rise."""
    kinds = {name: kind for row in rows for name, (kind, _) in row.layers.items()}
    held = [{name: layer for name, (_, layer) in row.layers.items()} for row in rows]
    entries = {name: layer.zeros + layer.nonzero + layer.nonfinite for each in held for name, layer in each.items()}
    steps = [row.step for row in rows if row.step is not None]
    times = steps if len(set(steps)) == len(rows) else range(len(rows))
    snapshots = tuple(
        Snapshot(time, None, row.threshold, tuple(map(layers.get, kinds)))
        for time, row, layers in zip(times, rows, held, strict=True)
    )
    return Series(tuple(kinds), tuple(kinds.values()), tuple(map(entries.__getitem__, kinds)), FRACTIONS, snapshots)


def checkpoints_page(rows: Sequence[CheckpointRow], notes: Sequence[str]) -> str:
    """Return the page: the last checkpoint's answer, figures of each optimizer over the steps, table and layers."""
    pictures: list[Picture] = []
    for number, where in enumerate(dict.fromkeys(row.where for row in rows)):
        own = [row for row in rows if row.where == where]
        last = own[-1]
        series, prefix, axis = series_of(own), f"{where}: " if where else "", ""
        if len({row.step for row in own} - {None}) < len(own):
            axis = " The axis counts the files from 0, since they have no steps of their own each."
        numbers = percentile_numbers(series, last.bounds, last.epsilons[0] if last.epsilons else None)
        caption = f"{prefix}Percentiles of √v̂, and the bounds of {last.file}.{axis}"
        pictures.append((f"percentiles-{number}", "√v̂ and ε over the steps", caption, numbers, draw_percentiles))
        shortened = damping_numbers(list(zip(series.steps, [row.dampings for row in own], strict=True)), "step")
        caption = (
            f"{prefix}The mean length of steps of the layers with the shortest, as a share of that at ε → 0.{axis}"
        )
        pictures.append((f"damping-{number}", "How far ε shortens the steps", caption + axis, shortened, draw_damping))
    sections = [Section("Over the steps", figures=rendered(pictures), tables=(timeline_table(rows),))]
    title = f"{rows[-1].optimizer}: {len(rows)} checkpoints"
    return html_page(title, f"{rows[-1].label}: {headline(rows[-1])}", sections, notes=notes)
