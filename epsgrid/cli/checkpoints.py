"""`epsgrid inspect FILE ...`: what checkpoints say of ε, one by one or over the steps of a training."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from epsgrid.cli.console import hint, note, print_json
from epsgrid.cli.magnitudes import checkpoint_layers, checkpoint_summary
from epsgrid.cli.tables import report_table, show
from epsgrid.codec import to_document
from epsgrid.errors import EpsgridError, ExitCode, NoBoundsError
from epsgrid.numerics.damping import pooled
from epsgrid.numerics.magnitudes import LayerStatus
from epsgrid.numerics.series import FRACTIONS, LayerSnapshot
from epsgrid.report.checkpoints import CheckpointRow, checkpoints_page, headline, in_order, timeline_table
from epsgrid.store.atomic import write_text

if TYPE_CHECKING:
    from epsgrid.observing.checkpoint import CheckpointOptimizer

_LAYERS_SHOWN = 10
_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".distcp")

_Read = tuple[CheckpointRow, "CheckpointOptimizer | None"]


def is_checkpoint(path: Path) -> bool:
    """Say whether an argument is meant as a checkpoint: a file but a spec, or a folder with an optimizer's state."""
    if path.is_dir():
        return not (path / "experiment.json").exists() and any(
            any(path.glob(pattern)) for pattern in (".metadata", "*optim*")
        )
    return (path.is_file() and path.suffix not in (".yaml", ".yml")) or path.suffix in _SUFFIXES


def inspect_files(
    paths: Sequence[Path], asked: dict[str, Any], *, page_folder: Path | None, json: bool, all_layers: bool
) -> ExitCode:
    """Print what checkpoints say, and the errors of those that cannot be read; the others are shown all the same.

    `asked` are the options of `read_checkpoint`; `page_folder` is where a page is written, if anywhere.
    """
    read, errors = _read_all(paths, asked, keep=json)
    places = {row.where: [other.optimizer for other, _ in read if other.where == row.where] for row, _ in read}
    common = {where: Counter(names).most_common(1)[0][0] for where, names in places.items()}
    for row in [row for row, _ in read if row.optimizer != common[row.where]]:
        others = common[row.where]
        errors.append(f"{row.label}: is of {row.optimizer}, the others of {others}: they make no common timeline")
    read = [(row, optimizer) for row, optimizer in read if row.optimizer == common[row.where]]
    rows = in_order([row for row, _ in read])
    if json:
        print_json({"files": [_document(row, optimizer) for row, optimizer in read if optimizer], "errors": errors})
    elif rows:
        if any(optimizer is None for _, optimizer in read):  # several files: the answer of the last, and a row for each
            show(Text(f"{headline(rows[-1])} in {rows[-1].label}", style="bold"))
            show(*report_table(timeline_table(rows))[1:-1])
        else:
            show(*_parts(read, all_layers=all_layers))
    if page_folder is not None and rows:
        notes = dict.fromkeys(note for row in rows for note in row.notes)
        write_text(page_folder / "checkpoints.html", checkpoints_page(rows, (*notes, *errors)))
        hint(f"Wrote {page_folder / 'checkpoints.html'}")
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return ExitCode.USAGE if errors else ExitCode.OK


def _read_all(paths: Sequence[Path], asked: dict[str, Any], *, keep: bool) -> tuple[list[_Read], list[str]]:
    """Return the states in some checkpoints, and what is wrong with them or with those that cannot be read.

    The whole of each is kept only on demand, or where there is but one: of many checkpoints that is much.
    """
    # New memory for each tensor costs as much time as reading it; in huge pages, of which torch asks here, a third.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from epsgrid.observing.checkpoint import checkpoint_parts, read_checkpoint

    read: list[_Read] = []
    errors: list[str] = []
    seen: set[tuple[Path, ...]] = set()
    for path in paths:
        try:
            if (parts := checkpoint_parts(path)) in seen and parts:  # another rank's file of the same checkpoint
                continue
            seen.add(parts)
            checkpoint = read_checkpoint(path, **asked)
            for skipped in checkpoint.skipped:
                note(f"{path}: {skipped}")
            for optimizer in checkpoint.optimizers:
                row = _row(path, optimizer, several=len(checkpoint.optimizers) > 1)
                read.append((row, optimizer))
                bad = [each for _, each in optimizer.measured if each.status is LayerStatus.NON_FINITE]
                if bad:
                    number = sum(each.histogram.nonfinite for each in bad if each.histogram)
                    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
                    errors.append(
                        f"{row.label}: v has {number:,} NaN or infinite entries, in {bad[0].name}{more}: the loss or a"
                        " gradient was not finite before it was saved; these layers set no bounds"
                    )
                elif row.bounds is None:
                    errors.append(f"{row.label}: no layer has a non-zero entry of v, so there are no bounds")
            if not keep and len({row.file for row, _ in read}) > 1:
                read = [(row, None) for row, _ in read]
        except EpsgridError as error:
            text = str(error)
            errors.append(text if str(path) in text else f"{path}: {text}")
    return read, errors


def _row(path: Path, optimizer: CheckpointOptimizer, *, several: bool) -> CheckpointRow:
    from epsgrid.observing.reading import common

    placed = [reading for reading, _ in optimizer.measured if reading.placement is not None]
    threshold = common(
        None if each.epsilon is None or each.placement is None else each.placement.magnitude_from_epsilon(each.epsilon)
        for each in placed
    )
    try:
        bounds = optimizer.bounds().chosen("trusted")
    except NoBoundsError:
        bounds = None
    diagnosis = optimizer.diagnosis()
    adaptable = optimizer.adaptable_fraction() if all(each.epsilon is not None for each in placed) else None
    return CheckpointRow(
        file=str(path),
        where=optimizer.where if several else "",
        optimizer=optimizer.name,
        step=optimizer.step,
        epsilons=optimizer.epsilons,
        threshold=threshold,
        adapting=adaptable.total if adaptable else None,
        shares=adaptable.layers if adaptable else {},
        dampings={each.name: each.damping for each in diagnosis.layers},
        findings=tuple(map(str, diagnosis.findings)),
        bounds=bounds,
        layers={each.name: (each.kind, LayerSnapshot.of(h)) for _, each in optimizer.measured if (h := each.histogram)},
        notes=optimizer.notes,
    )


def _parts(read: Sequence[_Read], *, all_layers: bool) -> list[RenderableType]:
    """Return what to show of one file: of each optimizer the answer, what it rests on, and its layers."""
    parts: list[RenderableType] = []
    for row, optimizer in read:
        assert optimizer is not None
        parts += [Text(headline(row), style="bold"), row.label, *checkpoint_summary(row, optimizer)]
        most = max(_LAYERS_SHOWN // len(read), 2)
        parts += [*checkpoint_layers(row, optimizer, all_layers=all_layers, most=most), ""]
    return parts[:-1]


def _document(row: CheckpointRow, optimizer: CheckpointOptimizer) -> dict[str, Any]:
    layers = [
        {
            "name": each.name,
            "kind": each.kind,
            "shape": list(each.shape),
            "status": str(each.status),
            "step": reading.step if row.step is not None else None,
            "epsilon": reading.epsilon,
            "zeros": h.zeros,
            "nonfinite": h.nonfinite,
            "low": each.low,
            "high": each.high,
            "percentiles": [h.quantile(fraction) for fraction in FRACTIONS],
            "adaptable": row.shares.get(each.name),
            "damping": row.dampings[each.name].mean if each.name in row.dampings else None,
            "histogram": h.to_json(),
        }
        for reading, each in optimizer.measured
        if (h := each.histogram) is not None
    ]
    ends = None if row.bounds is None else {"low": to_document(row.bounds.low), "high": to_document(row.bounds.high)}
    about = {"file": row.file, "where": optimizer.where, "optimizer": row.optimizer, "step": row.step}
    total = pooled(row.dampings.values())
    found = {
        "epsilons": list(row.epsilons),
        "adaptable": row.adapting,
        "damping": total and total.mean,
        "bounds": ends,
        "findings": list(row.findings),
        "notes": list(row.notes),
    }
    return {**about, **found, "fractions": list(FRACTIONS), "layers": layers}
