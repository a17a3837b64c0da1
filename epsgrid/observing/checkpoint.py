"""Read √v̂ from a checkpoint alone: no model, no data and no training are needed, and no code in the file is run.

    checkpoint = epsgrid.read_checkpoint("checkpoint-500/optimizer.pt")
    bounds = checkpoint.optimizers[0].bounds()          # what `observe(...).bounds()` would have said at that step

An optimizer's state is found by its form, wherever in the file it lies, and which optimizer it is of by the names of
its entries and the fields of its parameter groups. Tensors are mapped, or read one at a time.
"""

from __future__ import annotations

import json
import math
import re
from collections import UserDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from epsgrid import optimizers, plugins
from epsgrid.errors import ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.magnitudes import TAIL_FRACTION, LayerStatistics
from epsgrid.observing.adapters import Adapter, adapter_called, epsilon_in
from epsgrid.observing.checkpoint_files import DCP_METADATA, loaded, open_file
from epsgrid.observing.checkpoint_state import (
    ModelShapes,
    StoredState,
    layer_shape,
    model_shapes,
    names_by_order,
    optimizer_of,
    plain_state,
    stored_states,
)
from epsgrid.observing.diagnosis import Diagnosis, arguments_of, diagnose
from epsgrid.observing.kinds import kind_of_name
from epsgrid.observing.layers import Layer
from epsgrid.observing.reading import (
    AdaptableFraction,
    Reading,
    adaptable_fraction,
    bounds_by_placement,
    far_below,
    measure_reading,
    read_layer,
)

_RANK = re.compile(r"(?<![a-z])rank[_-]?(\d+)")
_WORLD = re.compile(r"world_size_(\d+)")
_STEPS = ("global_step", "step", "iteration", "iter_num", "steps")
"""Where a checkpoint has the steps taken, if the optimizer's state does not."""


_EMPTY = "its state is empty: it was saved before the first step, or its optimizer keeps nothing, as plain SGD"


class _Entries(UserDict[str, Any]):
    """One parameter's entry of an optimizer's state; a value is read when it is asked for, and not kept."""

    def __getitem__(self, name: str) -> Any:
        return loaded(self.data[name])


@contextmanager
def _of_known_form(where: str) -> Iterator[None]:
    """Raise ObservationError where what a file holds is of a form that nobody foresaw, such as a list for a number."""
    try:
        yield
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ObservationError(f"{where}: is of a form that epsgrid cannot read ({reason})") from error


@dataclass(frozen=True)
class CheckpointOptimizer:
    """An optimizer's state in a checkpoint.

    Attributes:
        where: the keys that lead to it in the file, such as "optimizer_states.0"; "" where the file is the state.
        name: the optimizer, as `epsgrid list optimizers` calls it; "adam" also for AdamW.
        layers: each parameter that has a state, with its name, kind and group; the tensor has only the right shape.
        notes: what is not known and what was assumed instead, a sentence each.
    """

    where: str
    name: str
    layers: tuple[Layer, ...]
    notes: tuple[str, ...]
    _stored: tuple[tuple[Mapping[str, Any], Adapter], ...]

    def readings(self) -> Iterator[Reading]:
        """Yield v of each layer with its scale, steps, placement and ε; each is read when it is reached.

        Raises ObservationError where the file does not have what the optimizer needs, or cannot be read to its end.
        """
        for layer, (state, adapter) in zip(self.layers, self._stored, strict=True):
            try:
                with _of_known_form(f"layer {layer.name!r}"):
                    if not float(state["step"]) >= 0:
                        raise ObservationError(f"layer {layer.name!r}: its state counts {float(state['step']):g} steps")
                    reading = read_layer(layer, state, adapter)
            except KeyError as error:
                raise ObservationError(
                    f"layer {layer.name!r}: {self.name} needs {error.args[0]!r}, and its state has only"
                    f" {', '.join(state)}: is it another optimizer's? --optimizer NAME names one"
                ) from error
            yield reading

    @cached_property
    def measured(self) -> tuple[tuple[Reading, LayerStatistics], ...]:
        """Each layer's reading, without v, and its statistics; the file is read once, at the first call."""
        found = []
        for reading in self.readings():
            with _of_known_form(f"layer {reading.layer.name!r}"):
                found.append((replace(reading, values=None), measure_reading(reading, TAIL_FRACTION)))
        if all(reading.placement is None for reading, _ in found):
            names = ", ".join(sorted({name for state, _ in self._stored for name in state}))
            raise ObservationError(f"{self.name} finds no second moment in the state, whose entries are {names}")
        return tuple(found)

    @property
    def step(self) -> int | None:
        """The steps taken, of the layer that has taken most; None where the file does not know them."""
        steps = [reading.step for reading, _ in self.measured if reading.placement is not None]
        return int(max(steps)) if steps and math.isfinite(max(steps)) else None

    @property
    def epsilons(self) -> tuple[float, ...]:
        """The different ε of the parameter groups, rising; empty where the file has none."""
        return tuple(sorted({each.epsilon for each, _ in self.measured if each.epsilon is not None}))

    def bounds(self) -> EpsilonBounds:
        """Estimate the ε range, with exact order statistics: the same as `observe(...).bounds()` of this state.

        Vectors whose √v̂ is far below that of all other layers are taken for biases that a normalisation or a softmax
        cancels, so only rounding noise: `without_noise` is the range without them.

        Raises ObservationError as `readings`, and NoBoundsError where no layer has finite non-zero entries only.
        """
        statistics = [measured for _, measured in self.measured]
        placements = [reading.placement for reading, _ in self.measured]
        bounds = bounds_by_placement(statistics, placements, TAIL_FRACTION)
        noisy = self.noisy()
        if noisy:
            rest = [each.left_out() if each.name in noisy else each for each in statistics]
            bounds = bounds.beside(bounds_by_placement(rest, placements, TAIL_FRACTION))
        return bounds.measured_on(self.name, placements, self.step)

    def noisy(self) -> set[str]:
        """Return the names of the vectors that are taken for rounding noise."""
        return far_below(self.histograms(), [each.name for _, each in self.measured if len(each.shape) < 2])

    def diagnosis(self) -> Diagnosis:
        """Say by how much ε shortens the steps of each layer, as `Observer.diagnosis`; raises as `readings`.

        It has no layers where the file has no ε.
        """
        layers = (arguments_of(reading, each.histogram) for reading, each in self.measured)
        return diagnose(self.name, self.step or 0, layers, sorted(self.noisy()))

    def histograms(self) -> dict[str, LogHistogram]:
        """Return the histogram of √v̂ of each layer by name; raises as `readings`."""
        return {each.name: each.histogram for _, each in self.measured if each.histogram is not None}

    def adaptable_fraction(self, epsilon: float | None = None) -> AdaptableFraction:
        """Return the share of the entries with √v̂ above ε, by default each layer's own; see `Observer`'s.

        Raises ObservationError as `readings`, where `epsilon` is negative, or None and the file has no ε.
        """
        pairs = ((reading, each.histogram) for reading, each in self.measured)
        return adaptable_fraction(((each, counted) for each, counted in pairs if counted is not None), epsilon)


@dataclass(frozen=True)
class Checkpoint:
    """What `read_checkpoint` found.

    Attributes:
        path: as it was given.
        optimizers: those with a second moment, at least one.
        skipped: why others have none, a sentence each.
    """

    path: Path
    optimizers: tuple[CheckpointOptimizer, ...]
    skipped: tuple[str, ...] = ()


def read_checkpoint(
    path: str | Path,
    *,
    optimizer: str | None = None,
    epsilon: float | None = None,
    betas: tuple[float, float] | None = None,
) -> Checkpoint:
    """Find the optimizers in a checkpoint; their tensors are read when something is asked.

    Read are files of `torch.save` and safetensors, which have an optimizer's state anywhere in them (so Lightning's
    too), folders of torch.distributed.checkpoint, the Trainer's checkpoint folders, and a folder or set of files with
    one optimizer file for each rank. 8-bit states of bitsandbytes are dequantised.

    Args:
        path: the file or folder.
        optimizer: its name, where the file does not show it, or shows it wrongly; see `epsgrid list optimizers`, or
            a class that is registered.
        epsilon: in place of that in the file, or where it has none.
        betas: in place of those in the file, or where it has none.

    Raises:
        ObservationError: the path is no checkpoint, is damaged, incomplete or wants to run code, has no second moment,
            or it cannot be told of which optimizer.
    """
    path = Path(path)
    files = checkpoint_parts(path)
    if not files:
        raise ObservationError(
            f"{path}: is a folder without an optimizer's state; expected {DCP_METADATA}, optimizer.pt, optimizer.bin,"
            " or a file for each rank: name the file itself"
        )
    opened = [open_file(file) for file in files]
    given: dict[str, Any] = {} if epsilon is None else {"eps": epsilon}
    given |= {} if betas is None else {"betas": tuple(betas)}
    found, skipped = [], []
    with _of_known_form(str(path)):
        by_rank = [stored_states(each) for each in opened]
        if len({len(each) for each in by_rank}) > 1:
            raise ObservationError(f"{path}: the files of the ranks have different numbers of optimizers")
        states = [StoredState.joined(parts) for parts in zip(*by_rank, strict=True)]
        if not states:
            raise ObservationError(f"{path}: {_nothing_in(opened[0])}")
        models, step = model_shapes(opened[0], files[0].parent), _steps_in(opened[0], files[0].parent)
        for state in states:
            try:
                found.append(_optimizer(state, optimizer, given, step, models))
            except ObservationError as error:
                skipped.append(f"{state.where or 'the state'}: {error}" if len(states) > 1 else str(error))
    if not found:
        raise ObservationError(f"{path}: {'; '.join(skipped)}")
    return Checkpoint(path, tuple(found), tuple(skipped))


def checkpoint_parts(path: Path) -> tuple[Path, ...]:
    """Return the files that make a checkpoint, or its one folder; empty where a folder is none.

    Files that differ in nothing but the number of a rank belong together. Raises ObservationError where one is missing.
    """
    if not path.is_dir():
        found = _RANK.search(path.name)
        if found is None or not path.is_file():
            return (path,)
        pattern = re.compile(re.escape(path.name[: found.start(1)]) + r"(\d+)" + re.escape(path.name[found.end(1) :]))
        ranks = {int(match[1]): each for each in path.parent.iterdir() if (match := pattern.fullmatch(each.name))}
        world = _WORLD.search(path.name)
        if not world and (0 not in ranks or len(ranks) == 1):  # such as the rank of a LoRA
            return (path,)
        if missing := set(range(int(world[1]) if world else max(ranks) + 1)) - set(ranks):
            ranks_text = ", ".join(map(str, sorted(missing)))
            raise ObservationError(f"{path.parent}: shards are missing: no file like {path.name} of rank {ranks_text}")
        return tuple(ranks[rank] for rank in sorted(ranks))
    if (path / DCP_METADATA).is_file():
        return (path,)
    for pattern_text in (
        "optimizer.pt",
        "optimizer.bin",
        "*optim*rank*",
        "*rank*optim*",
        f"optimizer_0/{DCP_METADATA}",
    ):
        for each in sorted(path.glob(pattern_text)):
            return (each.parent,) if each.name == DCP_METADATA else checkpoint_parts(each)
    return ()


def _nothing_in(stored: Any) -> str:
    """Return what a file without an optimizer's state holds."""
    shapes = model_shapes(stored, None).shapes
    if not shapes:
        return "no optimizer's state is in it, and no tensors either"
    return (
        f"no optimizer's state is in it, only {len(shapes)} tensors of a model, such as {shapes[0][0]}; name the file"
        " that has optimizer.state_dict(), often optimizer.pt beside it"
    )


def _steps_in(stored: Any, folder: Path) -> float | None:
    """Return the steps that a file or the Trainer's record beside it says were taken; None where none does."""
    places = [stored] if isinstance(stored, Mapping) else []
    with suppress(OSError, ValueError):
        places.append(json.loads((folder / "trainer_state.json").read_text(encoding="utf-8")))
    for place in places:
        for name in _STEPS:
            value = loaded(place.get(name))
            if isinstance(value, int | torch.Tensor) and float(value) >= 1:
                return float(value)
    return None


def _name_of(key: str, group: Mapping[str, Any]) -> str | None:
    """Return the name that a file itself gives a parameter; None where it has only a number."""
    names = group.get("param_names") or group.get("names")
    if isinstance(names, list | tuple) and len(names) == len(group["params"]):
        return str(names[group["params"].index(key)])
    return None if key.isdigit() else key


def _optimizer(
    stored: StoredState, name: str | None, given: Mapping[str, Any], step: float | None, models: ModelShapes
) -> CheckpointOptimizer:
    """Return an optimizer with its layers; raises ObservationError where it has no second moment."""
    groups, notes = stored.groups, []
    members = [[key for key in group["params"] if stored.state.get(key)] for group in groups]
    shapes = [[layer_shape(plain_state(stored.state[key])) for key in keys] for keys in members]
    names = names_by_order(shapes, models)
    layers: list[Layer] = []
    stored_of: list[tuple[_Entries, Adapter]] = []
    called, without = [], []
    for number, (group, keys) in enumerate(zip(groups, members, strict=True)):
        if not keys:
            continue
        try:
            chosen = name or optimizer_of({entry for key in keys for entry in plain_state(stored.state[key])}, group)
        except ObservationError as error:  # such as a group of Muon's beside one of Adam's
            without.append(str(error))
            continue
        adapter = adapter_called(chosen)
        is_ours = chosen.lower() in plugins.names("optimizers")
        defaults = optimizers.load(chosen.lower()).Options(name=chosen.lower()).model_dump() if is_ours else {}
        full = {**defaults, **group, **given}
        full["eps"] = epsilon_in(full)
        if full["eps"] is not None and not 0 <= full["eps"] < math.inf:
            raise ObservationError(f"group {number} has ε = {full['eps']:g}, which is none; --epsilon gives another")
        called.append(chosen.lower())
        for key, shape, guess in zip(keys, shapes[number], names[number], strict=True):
            entries = plain_state(stored.state[key], chosen.lower(), full)
            if entries.get("step") is None:
                entries["step"] = group.get("step", math.inf if step is None else step)
            layer_name = _name_of(key, group) or guess
            if layer_name is None or any(layer.name == layer_name for layer in layers):
                layer_name = f"group {number}, parameter {group['params'].index(key)}"
            parameter = torch.empty(shape, device="meta", requires_grad=True)
            layers.append(Layer(layer_name, parameter, full, kind_of_name(layer_name, len(shape))))
            stored_of.append((_Entries(entries), adapter))
    if not layers:
        raise ObservationError("; ".join(without) or _EMPTY)
    notes += [f"a group is left out: {reason}" for reason in without]
    states = [state for state, _ in stored_of]
    if all(state["step"] == math.inf for state in states):
        notes.append("the steps taken are not in the file: v is taken as it is, without bias correction")
    assumed = (layers[0].group or {}).get("betas")
    if assumed and not any("betas" in each for each in (given, *groups)):
        notes.append(f"betas are not in the file: {assumed[0]:g}, {assumed[1]:g} are assumed; --betas gives others")
    if any(layer.name.startswith("group ") for layer in layers):
        notes.append("names of layers are not in the file, nor do the shapes of a model beside it tell them all")
    if any("qmap2" in state or "qmap1" in state for state in states):
        notes.append("the state is of 8 bits: v has at most 256 values in a block, and the smallest of them are zero")
    return CheckpointOptimizer(
        stored.where, " and ".join(dict.fromkeys(called)), tuple(layers), tuple(notes), tuple(stored_of)
    )
