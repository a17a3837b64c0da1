"""Find optimizers' states among what a file holds, tell which optimizer each is of, and how its layers are called."""

from __future__ import annotations

import ast
import contextlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from epsgrid.errors import ObservationError
from epsgrid.observing.adapters import IN_PLACE
from epsgrid.observing.checkpoint_files import Unread, loaded, open_file, walk
from epsgrid.observing.layers import bare_names
from epsgrid.observing.reading import local
from epsgrid.optimizers import UNSUPPORTED

Shape = tuple[int, ...]

_SECOND_MOMENTS = {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "exp_inf", "exp_avg_var", "sum", "state2"}
_STATE_NAMES = {
    *_SECOND_MOMENTS,
    *("step", "exp_avg", "acc_delta", "grad_avg", "momentum_buffer", "mu_product", "state1", "qmap1", "qmap2"),
    *("absmax1", "absmax2", "max1", "max2", "exp_avg_sq_row", "exp_avg_sq_col"),
}
_BITSANDBYTES = "__bnb_optimizer_quant_state__"
_BLOCK_SIZES = (256, 2048)
"""Of bitsandbytes' optimizers from version 0.44 on, and before."""

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
"""A whole part of a name, as of the members of a list of modules."""
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "inv_freq")
_MODEL_FILES = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors")
_FIELDS = {
    *("params", "param_names", "names", "lr", "eps", "betas", "alpha", "rho", "centered", "rectify", "amsgrad", "step"),
    *("squared", "outside", "momentum_decay", "differentiable"),
}
"""The fields of a parameter group that are of use here; others are not read where each has to be read by itself."""


@dataclass(frozen=True)
class StoredState:
    """An optimizer's state as it is stored: `where` it lies, entries by parameter, and groups, each with its "params".

    Parameters are called by their numbers or names, as text.
    """

    where: str
    state: dict[str, dict[str, Any]]
    groups: list[dict[str, Any]]

    @classmethod
    def of(cls, where: str, state: Mapping[Any, Any], groups: Any) -> StoredState:
        """Return a state in one form; a parameter that no group names gets into one of its own."""
        if isinstance(groups, Mapping):  # a list that was taken apart
            groups = [groups[key] for key in sorted(groups, key=lambda key: int(key))]
        entries = {str(key): dict(value) for key, value in state.items() if isinstance(value, Mapping)}
        plain = [{name: loaded(value) for name, value in group.items() if name in _FIELDS} for group in groups]
        for group in plain:
            group["params"] = [str(key) for key in group.get("params", [])]
        rest = [key for key in entries if not any(key in group["params"] for group in plain)]
        if rest and len(plain) == 1 and not plain[0]["params"]:
            plain[0]["params"] = rest
        elif rest:
            plain.append({"params": rest})
        return cls(where, entries, plain)

    @classmethod
    def joined(cls, parts: Sequence[StoredState]) -> StoredState:
        """Return the state whose parts several ranks have saved: shards side by side, and replicas once."""
        first = parts[0]
        keys = list(dict.fromkeys(key for part in parts for key in part.state))
        if len(parts) == 1 or all(_is_replica(first, part) for part in parts[1:]):
            return first
        state: dict[str, dict[str, Any]] = {}
        for key in keys:
            held = [part.state[key] for part in parts if key in part.state]
            state[key] = {name: _side_by_side([entry[name] for entry in held if name in entry]) for name in held[0]}
        return cls(first.where, state, first.groups)


def _is_replica(first: StoredState, other: StoredState) -> bool:
    """Say whether two ranks hold the same: a replica's first parameter has equal tensors."""
    if first.state.keys() != other.state.keys():
        return False
    one, two = (next(iter(part.state.values()), {}).values() for part in (first, other))
    return all(
        not isinstance(mine, torch.Tensor) or (isinstance(its, torch.Tensor) and torch.equal(local(mine), local(its)))
        for mine, its in zip(one, two, strict=True)
    )


def _side_by_side(values: list[Any]) -> Any:
    shape = shape_of(values[0])
    if not shape or len(values) == 1:
        return values[0]

    def parts() -> list[torch.Tensor]:
        return [local(loaded(value)).reshape(-1) for value in values]

    return Unread(lambda: torch.cat(parts()), (sum(part.numel() for part in parts()),))


def shape_of(value: Any) -> Shape | None:
    """Return the shape of a tensor that may not be read yet; None where it is none."""
    return value.shape if isinstance(value, Unread) else tuple(value.shape) if isinstance(value, torch.Tensor) else None


def layer_shape(entries: Mapping[str, Any]) -> Shape:
    """Return the shape of the parameter that an entry of a state is of: that of its largest tensor."""
    others = ("step", "mu_product", "qmap", "absmax", "max1", "max2")
    shapes = (shape_of(value) or () for name, value in entries.items() if not name.startswith(others))
    return max(shapes, key=lambda shape: (math.prod(shape), len(shape)), default=())


def stored_states(stored: Any) -> list[StoredState]:
    """Return the optimizers' states in nested dicts and lists, wherever they lie; a model's tensors are none."""
    found: list[StoredState] = []
    for where, mapping in walk(stored):
        groups = loaded(mapping.get("param_groups"))
        if isinstance(mapping.get("state"), Mapping) and isinstance(groups, list | Mapping):
            found.append(StoredState.of(where, mapping["state"], groups))
        else:
            found += _flat_states(where, mapping)
    return found


def _flat_states(where: str, mapping: Mapping[Any, Any]) -> Iterator[StoredState]:
    """Yield the states that lie flat in a mapping, under keys such as "state.0.weight.exp_avg_sq" or "exp_avg_sq.0"."""
    states: dict[str, dict[str, dict[str, Any]]] = {}
    fields: dict[str, dict[str, dict[str, Any]]] = {}
    for key, value in mapping.items():
        parts = key.split(".") if isinstance(key, str) else []
        mark = next((name for name in ("state", "param_groups") if name in parts), None)
        place = parts.index(mark) if mark else -1
        prefix, rest = ".".join(parts[: max(place, 0)]), parts[place + 1 :]
        if len(rest) < 2:
            continue
        if mark == "param_groups":
            fields.setdefault(prefix, {}).setdefault(".".join(rest[:-1]), {})[rest[-1]] = value
        elif rest[0] in _STATE_NAMES:
            states.setdefault(prefix, {}).setdefault(".".join(rest[1:]), {})[rest[0]] = value
        elif rest[-1] in _STATE_NAMES or mark:
            states.setdefault(prefix, {}).setdefault(".".join(rest[:-1]), {})[rest[-1]] = value
    about = mapping.get("__metadata__")
    metadata = _numbers(about) if isinstance(about, Mapping) else {}
    for prefix, entries_by_name in states.items():
        # beside them may lie weights in full precision, and a lone "sum" may be anything
        state = {name: entries for name, entries in entries_by_name.items() if entries.keys() & _STATE_NAMES}
        if not any(_SECOND_MOMENTS & entries.keys() and entries.keys() != {"sum"} for entries in state.values()):
            continue
        groups = fields.get(prefix, {})
        if not all(name.isdigit() for name in groups):  # flattened: the fields of each parameter
            listed: Any = [{**group, "params": [name]} for name, group in groups.items()]
        else:
            listed = groups or [metadata]
        yield StoredState.of(".".join(filter(None, (where, prefix))), state, listed)


def _numbers(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the texts among the metadata of safetensors that are numbers, or several, as such."""
    found = {}
    for name, text in metadata.items():
        with contextlib.suppress(ValueError, SyntaxError, TypeError):
            value = ast.literal_eval(text)
            if isinstance(value, int | float | list | tuple):
                found[name] = value
    return found


def optimizer_of(names: set[str], group: Mapping[str, Any]) -> str:
    """Return the optimizer whose state has entries of these names, by the fields of its group where several have.

    Raises ObservationError where it is none that epsgrid can read, or it could be several.
    """
    if "squared" in group:
        return IN_PLACE[group["squared"]]
    if "exp_avg_diff" in names:
        raise ObservationError(
            "it looks like Adan's, whose second moment epsgrid does not know; --optimizer NAME reads it"
        )
    if "max_exp_avg_sq" in names:
        return "amsgrad"
    if "exp_avg_sq" in names:
        if "momentum_decay" in group or "mu_product" in names:
            return "nadam"
        # torch's Adam always has the field amsgrad, and its RAdam never; others have no "differentiable"
        return "radam" if "differentiable" in group and "amsgrad" not in group else "adam"
    if "square_avg" in names:
        return "adadelta" if "acc_delta" in names else "rmsprop"
    for name, optimizer in (("exp_inf", "adamax"), ("exp_avg_var", "adabelief"), ("sum", "adagrad")):
        if name in names:
            return optimizer
    reason = "they are of no optimizer that epsgrid knows"
    if "exp_avg_sq_row" in names:
        reason = f"it is Adafactor's: {UNSUPPORTED['adafactor']}"
    elif "state1" in names:
        reason = "bitsandbytes keeps one moment there, of RMSprop, Adagrad, Lion or SGD; --optimizer says which"
    elif names <= {"momentum_buffer", "step"}:
        reason = "SGD and Muon keep nothing else: they divide by no second moment, so they have no ε"
    elif names <= {"exp_avg", "step"}:
        reason = f"it is Lion's: {UNSUPPORTED['lion']}"
    elif "prev" in names:
        reason = f"it is Rprop's: {UNSUPPORTED['rprop']}"
    raise ObservationError(
        f"no second moment: its entries are {', '.join(sorted(names))}; {reason}"
        + ("; --optimizer NAME reads it as another's" if "of no" in reason else "")
    )


def plain_state(
    entries: Mapping[str, Any], optimizer: str = "", group: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the entries of one parameter as torch's optimizers name them, in full precision.

    The second moment of bitsandbytes is dequantised, and the ε that AdaBelief's authors add to theirs taken out.
    """
    plain = {
        **{name: value for name, value in entries.items() if name != _BITSANDBYTES},
        **entries.get(_BITSANDBYTES, {}),
    }
    one = {"rmsprop": "square_avg", "adagrad": "sum"}.get(optimizer)
    number = "2" if "state2" in plain else "1" if "state1" in plain and one else ""
    if number:
        shape = shape_of(plain[f"state{number}"])
        plain[(one or "exp_avg_sq") if number == "1" else "exp_avg_sq"] = Unread(
            lambda: _dequantised(plain, number), shape
        )
    if "exp_avg_var" in plain and group is not None:
        plain["exp_avg_sq"] = Unread(lambda: _without_epsilon(plain, group), shape_of(plain["exp_avg_var"]))
    return plain


def _dequantised(entries: Mapping[str, Any], number: str) -> torch.Tensor:
    """Return a moment of bitsandbytes as float32: a code book's entries, times the largest of the block or of all."""
    codes: torch.Tensor = loaded(entries[f"state{number}"])
    if codes.dtype != torch.uint8:  # small ones are kept as they are
        return codes
    book, flat = loaded(entries[f"qmap{number}"]), codes.reshape(-1)
    if f"absmax{number}" not in entries:
        unblocked: torch.Tensor = book[flat.int()] * loaded(entries[f"max{number}"])
        return unblocked.reshape(codes.shape)
    largest = loaded(entries[f"absmax{number}"])
    size = next((size for size in _BLOCK_SIZES if math.ceil(flat.numel() / size) == largest.numel()), None)
    if size is None:
        raise ObservationError(
            f"8-bit state of {flat.numel():,} entries in {largest.numel():,} blocks: of unknown size"
        )
    values = torch.empty(flat.numel())
    for first in range(0, flat.numel(), 1 << 20):
        last = min(first + (1 << 20), flat.numel())
        blocks = largest[first // size : math.ceil(last / size)].repeat_interleave(size)[: last - first]
        values[first:last] = book[flat[first:last].int()] * blocks
    return values.reshape(codes.shape)


def _without_epsilon(entries: Mapping[str, Any], group: Mapping[str, Any]) -> torch.Tensor:
    """Return AdaBelief's v without the ε that was added at every step; what rounding hides beside it is zero."""
    beta2, step = float(group["betas"][1]), float(loaded(entries["step"]))
    added = float(group["eps"]) * (1 - beta2**step) / (1 - beta2)
    v: torch.Tensor = loaded(entries["exp_avg_var"]) - added
    return v.masked_fill_(v < 1e-3 * added, 0.0)


@dataclass(frozen=True)
class ModelShapes:
    """The parameters of a model by name and shape, in its own order where `is_ordered`."""

    shapes: tuple[tuple[str, Shape], ...] = ()
    is_ordered: bool = True


def model_shapes(stored: Any, folder: Path | None) -> ModelShapes:
    """Return the parameters of the model in a checkpoint, or in a file beside it; none where there is none.

    Buffers and further names of tied weights are left out as far as they can be told. safetensors does not keep the
    order.
    """
    candidates = [_floats(mapping) for _, mapping in walk(stored)]
    best = max(candidates, key=len, default=[])
    is_ordered = True
    if not best and folder is not None:
        names = [name for name in _MODEL_FILES if (folder / name).is_file()] or [
            each.name for each in sorted(folder.glob("model-*-of-*.safetensors"))
        ]
        is_ordered = not any(name.endswith("safetensors") for name in names)
        try:
            best = [
                pair for name in (names if not is_ordered else names[:1]) for pair in _floats(open_file(folder / name))
            ]
        except ObservationError:  # names are a help: without them there are numbers
            best = []
    return ModelShapes(
        tuple(zip(bare_names([name for name, _ in best]), (shape for _, shape in best), strict=True)), is_ordered
    )


def _floats(mapping: Any) -> list[tuple[str, Shape]]:
    """Return name and shape of the tensors that may be parameters in a mapping; none where it is an optimizer's."""
    found: dict[Any, tuple[str, Shape]] = {}
    for name, value in mapping.items() if isinstance(mapping, Mapping) else ():
        shape = shape_of(value)
        if not isinstance(name, str) or shape is None or name.split(".")[-1] in _BUFFERS:
            continue
        if {name.split(".")[0], name.split(".")[-1]} & _STATE_NAMES:
            return []
        is_float = value.is_float if isinstance(value, Unread) else value.is_floating_point()
        if is_float:
            tied = value.data_ptr() if isinstance(value, torch.Tensor) and value.numel() else name
            found.setdefault((tied, shape), (name, shape))
    return list(found.values())


def names_by_order(groups: Sequence[Sequence[Shape]], model: ModelShapes) -> list[list[str | None]]:
    """Return the name of each parameter of each group, where there is only one that it can have; else None.

    A group has the model's parameters in their order, or some of them: where the first and the last way to find their
    shapes in that order agree, every way does. Without an order, a shape tells a name where only one parameter has it,
    or only those that differ in nothing but the numbers of their blocks, which a model has in rising order.
    """
    by_shape: dict[Shape, list[str]] = {}
    for name, shape in model.shapes:
        by_shape.setdefault(shape, []).append(name)
    found: list[list[str | None]] = []
    for shapes in groups:
        if not model.is_ordered:
            used = Counter(shapes)  # a shape of several groups is used too seldom in each
            rising = {shape: iter(_in_rising_order(names, used[shape])) for shape, names in by_shape.items()}
            found.append([next(rising.get(shape, iter(())), None) for shape in shapes])
            continue
        first = _places(shapes, model.shapes)
        last = [len(model.shapes) - 1 - place for place in reversed(_places(shapes[::-1], model.shapes[::-1]))]
        pairs = zip(first, last, strict=True)
        found.append([model.shapes[one][0] if one == two else None for one, two in pairs] or [None] * len(shapes))
    taken = Counter(name for names in found for name in names)
    return [[name if taken[name] == 1 else None for name in names] for names in found]


def _in_rising_order(names: Sequence[str], count: int) -> list[str]:
    """Return names by the numbers in them, such as that of "h.0.mlp.weight"; none if they differ in more, or number."""
    if len(names) != count or len({_NUMBER.sub("", name) for name in names}) > 1:
        return []
    return sorted(names, key=lambda name: [int(number) for number in _NUMBER.findall(name)])


def _places(shapes: Sequence[Shape], model: Sequence[tuple[str, Shape]]) -> list[int]:
    """Return the first places where shapes stand in a model in this order; none where they do not."""
    places: list[int] = []
    start = 0
    for shape in shapes:
        while start < len(model) and model[start][1] != shape:
            start += 1
        if start == len(model):
            return []
        places.append(start)
        start += 1
    return places
