"""What a parameter does in its model: one of eight kinds, so that layers can be compared by kind.

    convolution  normalisation  bias  embedding  attention  recurrent  dense  other

The module that holds a parameter decides. A bias is a bias wherever it stands, but for those of normalisations, which
scale and shift together; a dense matrix inside an attention belongs to the attention. Where there is no model to ask,
name and shape are asked instead, and "other" is the answer where they do not tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from epsgrid.numerics.magnitudes import OTHER

CONVOLUTION, NORMALISATION, BIAS, EMBEDDING = "convolution", "normalisation", "bias", "embedding"
ATTENTION, RECURRENT, DENSE = "attention", "recurrent", "dense"
KINDS = (CONVOLUTION, NORMALISATION, BIAS, EMBEDDING, ATTENTION, RECURRENT, DENSE, OTHER)

# Classes are recognised by the ends of their names, which other libraries share with torch.
_NORMALISATION = re.compile(r"Norm(\d?d)?$")
_ATTENTION = re.compile(r"(Attention|Attn)\d*$")
_RECURRENT = re.compile(r"(LSTM|GRU|RNN)(Cell|Layer|Base)?$", re.IGNORECASE)
_EMBEDDING = re.compile(r"Embedding(s|Bag)?$")
_CONVOLUTION = re.compile(r"Conv(Transpose)?\d?[dD]$")
_DENSE = re.compile(r"([Ll]inear|Dense|Conv1D)$")

_BIAS_NAME = re.compile(r"bias$|^bias")
_RECURRENT_NAME = re.compile(r"^weight_(ih|hh|hr)(_l\d+(_reverse)?)?$")
_ATTENTION_NAME = re.compile(r"attn|attention|^in_proj_weight$|^[qkv]_proj(_weight)?$", re.IGNORECASE)
_NORMALISATION_NAME = re.compile(r"norm|^bn\d*$|^ln(_\w+|\d*)$", re.IGNORECASE)
_EMBEDDING_NAME = re.compile(r"embed|^emb(_\w+)?$|_emb$|^wte$|^wpe$|^pos(ition)?s?(_|$)", re.IGNORECASE)


def kinds_of(names: Mapping[str, torch.Tensor], model: nn.Module | None = None) -> dict[str, str]:
    """Return the kind of each parameter, by name.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    >>> list(kinds_of(dict(model.named_parameters()), model).values())
    ['convolution', 'bias', 'normalisation', 'normalisation']

    Args:
        names: the parameters; what the names are matters only where the model does not hold them.
        model: asked first; of a tied parameter the first module that holds it tells.
    """
    known = {} if model is None else _kinds_in(model)
    return {name: known.get(id(parameter)) or _guess(name, names) for name, parameter in names.items()}


def _kinds_in(model: nn.Module) -> dict[int, str]:
    """Return kinds by identity of the parameter."""
    kinds: dict[int, str] = {}
    for holders in _with_holders((model,), set()):
        for name, parameter in holders[0].named_parameters(recurse=False):
            kinds.setdefault(id(parameter), _kind_in(holders, name, parameter))
    return kinds


def _with_holders(holders: tuple[nn.Module, ...], seen: set[nn.Module]) -> Iterator[tuple[nn.Module, ...]]:
    """Yield `holders[0]` and every module inside it once, each followed by those that hold it, the nearest first."""
    seen.add(holders[0])
    yield holders
    for child in holders[0].children():
        if child not in seen:
            yield from _with_holders((child, *holders), seen)


def _kind_in(holders: tuple[nn.Module, ...], name: str, parameter: torch.Tensor) -> str:
    # A parametrized weight lies in a list in a dictionary in the module that uses it.
    while isinstance(holders[0], ParametrizationList):
        holders, name = holders[2:], _parametrized(holders[0], holders[1])
    titles = [type(holder).__name__ for holder in holders]
    if _NORMALISATION.search(titles[0]):
        return NORMALISATION
    if _BIAS_NAME.search(name):
        return BIAS
    if _RECURRENT.search(titles[0]):
        return RECURRENT
    if any(map(_ATTENTION.search, titles)):
        return ATTENTION
    if _EMBEDDING.search(titles[0]) or _EMBEDDING_NAME.search(name):
        return EMBEDDING
    if _CONVOLUTION.search(titles[0]) and parameter.dim() > 2:
        return CONVOLUTION
    return DENSE if _DENSE.search(titles[0]) else OTHER


def _parametrized(parametrization: nn.Module, by_name: nn.Module) -> str:
    return next(name for name, module in by_name.named_children() if module is parametrization)


def _guess(name: str, names: Mapping[str, torch.Tensor]) -> str:
    """Guess a kind from the name, the shape, and the other parameters of the same module."""
    *path, last = name.split(".")
    if any(map(_NORMALISATION_NAME.search, path[-1:])) or _scales_and_shifts(path, names):
        return NORMALISATION
    if _BIAS_NAME.search(last):
        return BIAS
    if _RECURRENT_NAME.search(last):
        return RECURRENT
    if names[name].dim() < 2:
        return OTHER
    if any(map(_ATTENTION_NAME.search, (*path, last))):
        return ATTENTION
    if any(map(_EMBEDDING_NAME.search, (*path[-1:], last))):
        return EMBEDDING
    if last != "weight":
        return OTHER
    return CONVOLUTION if names[name].dim() > 2 else DENSE


def _scales_and_shifts(path: list[str], names: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether a module has a weight and a bias that are both vectors of one length: so have normalisations."""
    weight, bias = (names.get(".".join([*path, name])) for name in ("weight", "bias"))
    return weight is not None and bias is not None and weight.dim() == 1 and weight.shape == bias.shape
