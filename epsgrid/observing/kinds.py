"""What a parameter does in its model: one of eight kinds, so that layers can be compared by kind.

    convolution  normalisation  bias  embedding  attention  recurrent  dense  other

The module that holds a parameter tells. A bias is a bias wherever it stands, but for those of normalisations, which
scale and shift together; a dense matrix inside an attention belongs to the attention.
"""

from __future__ import annotations

import itertools
import re

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from epsgrid.numerics.magnitudes import OTHER

# Classes are recognised by the ends of their names, which other libraries share with torch.
_NORMALISATION = re.compile(r"Norm(\d?d)?$")
_ATTENTION = re.compile(r"(Attention|Attn)\d*$")
_RECURRENT = re.compile(r"(LSTM|GRU|RNN)(Cell|Layer|Base)?$", re.IGNORECASE)
_EMBEDDING = re.compile(r"Embedding(s|Bag)?$")
_CONVOLUTION = re.compile(r"Conv(Transpose)?\d?[dD]$")
_DENSE = re.compile(r"([Ll]inear|Dense|Conv1D)$")

_BATCH_NORM = re.compile(r"(Batch|Instance)Norm(\d?d)?$")
_ROTARY = re.compile(r"Rotary|RoPE", re.IGNORECASE)
_KEYS = re.compile(r"^(k|key|keys|k_proj|key_proj|to_k|w_?k|k_lin)$", re.IGNORECASE)
_QUERIES_KEYS_VALUES = re.compile(r"^(c_attn|qkv(_proj)?|w?qkv|to_qkv|query_key_value)$", re.IGNORECASE)

_BIAS_NAME = re.compile(r"bias$|^bias")
_EMBEDDING_NAME = re.compile(r"embed|^emb(_\w+)?$|_emb$|^wte$|^wpe$|^pos(ition)?s?(_|$)", re.IGNORECASE)


def kinds_of(model: nn.Module) -> dict[int, str]:
    """Return the kind of each parameter by its identity; of a tied parameter the first module that holds it tells.

    >>> list(kinds_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))).values())
    ['convolution', 'bias', 'normalisation', 'normalisation']
    """
    kinds: dict[int, str] = {}
    modules = dict(model.named_modules())
    for path, module in modules.items():
        holders = [module]
        while path:
            path = path.rpartition(".")[0]
            holders.append(modules[path])
        for name, parameter in module.named_parameters(recurse=False):
            kinds.setdefault(id(parameter), _kind_in(holders, name, parameter))
    return kinds


def _kind_in(holders: list[nn.Module], name: str, parameter: torch.Tensor) -> str:
    """Return the kind of a parameter; `holders` are the module that has it and those around it, nearest first."""
    # A parametrized weight lies in a list in a dictionary in the module that uses it.
    while isinstance(holders[0], ParametrizationList):
        name = next(name for name, module in holders[1].named_children() if module is holders[0])
        holders = holders[2:]
    titles = [type(holder).__name__ for holder in holders]
    if _NORMALISATION.search(titles[0]):
        return "normalisation"
    if _BIAS_NAME.search(name):
        return "bias"
    if _RECURRENT.search(titles[0]):
        return "recurrent"
    if any(map(_ATTENTION.search, titles)):
        return "attention"
    if _EMBEDDING.search(titles[0]) or _EMBEDDING_NAME.search(name):
        return "embedding"
    if _CONVOLUTION.search(titles[0]) and parameter.dim() > 2:
        return "convolution"
    return "dense" if _DENSE.search(titles[0]) else OTHER


def cancelled_biases(model: nn.Module) -> dict[torch.Tensor, torch.Tensor]:
    """Return the biases whose gradient is zero by the structure of a model, each with a mask of those entries.

    A bias in front of a batch or instance norm is subtracted there with the mean of its channel, and one of an
    attention's keys adds the same to all scores of a query, which a softmax ignores. Classes, names and the order in
    which modules are defined tell; the forward pass, which may differ, is not looked at.
    """
    modules = dict(model.named_modules())
    found: dict[torch.Tensor, torch.Tensor] = {}
    has_rotary = any(_ROTARY.search(type(module).__name__) for module in modules.values())

    def mark(bias: object, part: slice = slice(None)) -> None:
        if isinstance(bias, torch.Tensor):
            found[bias] = torch.zeros(bias.shape, dtype=torch.bool, device=bias.device)
            found[bias][part] = True

    for path, module in modules.items():
        for first, norm in itertools.pairwise(module.children()):
            bias = getattr(first, "bias", None)
            is_normed = _BATCH_NORM.search(type(norm).__name__) and _is_linear(first)
            if is_normed and isinstance(bias, torch.Tensor) and getattr(norm, "num_features", None) == len(bias):
                mark(bias)
        parent, _, name = path.rpartition(".")
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_bias is not None:
            mark(module.in_proj_bias, _middle(module.in_proj_bias))
        elif not has_rotary and _is_linear(module) and _ATTENTION.search(type(modules[parent]).__name__):
            bias = getattr(module, "bias", None)
            if _KEYS.search(name):
                mark(bias)
            elif _QUERIES_KEYS_VALUES.search(name) and isinstance(bias, torch.Tensor) and len(bias) % 3 == 0:
                mark(bias, _middle(bias))
    return found


def _is_linear(module: nn.Module) -> bool:
    name = type(module).__name__
    return bool(_CONVOLUTION.search(name) or _DENSE.search(name))


def _middle(bias: torch.Tensor) -> slice:
    third = len(bias) // 3
    return slice(third, 2 * third)


def kind_of_name(name: str, dimensions: int) -> str:
    """Return the kind of a parameter of which nothing but its name and number of dimensions is known.

    >>> [kind_of_name(*each) for each in (("h.0.ln_1.weight", 1), ("h.0.attn.c_attn.weight", 2), ("4.weight", 2))]
    ['normalisation', 'attention', 'other']
    """
    *holders, own = name.split(".")
    parent = holders[-1] if holders else ""
    if re.search(r"norm\d*$|(^|_)(ln|bn)(_|\d|$)", parent, re.IGNORECASE):
        return "normalisation"
    if _BIAS_NAME.search(own):
        return "bias"
    if re.match(r"weight_[ih]h", own):
        return "recurrent"
    if any(re.search(r"attn|attention", holder, re.IGNORECASE) for holder in holders):
        return "attention"
    if _EMBEDDING_NAME.search(own) or _EMBEDDING_NAME.search(parent):
        return "embedding"
    if dimensions > 2:
        return "convolution"
    return "dense" if re.search(r"linear|dense|mlp|fc|proj|head|classifier", name, re.IGNORECASE) else OTHER
