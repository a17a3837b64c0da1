"""Optimizers that people ask for and that have no ε of the kind this project finds; the reason of each."""

from __future__ import annotations

UNSUPPORTED = {
    "adafactor": "it keeps row and column sums instead of a second moment per weight, so there is no √v̂ of a weight to"
    " make a histogram of, and its two epsilons guard squared gradients and step sizes",
    "asgd": "it averages weights and divides by no second moment, so it has no epsilon",
    "lbfgs": "it takes curvature from differences of gradients and divides by no second moment, so it has no epsilon",
    "lion": "it takes the sign of a momentum and divides by nothing, so it has no epsilon",
    "muon": "it orthogonalizes the momentum of whole matrices; its epsilon only guards a norm, so there is no √v̂ of a"
    " weight to compare it with",
    "rprop": "it uses signs of gradients only and divides by nothing, so it has no epsilon",
    "shampoo": "it preconditions with matrix roots, so there is no √v̂ of a weight to compare its epsilon with",
    "sparseadam": "it updates only the rows that have a gradient, each with a step count of its own; give the model"
    " dense gradients and use adam",
}
"""By name in lower case; the error about an unknown optimizer says it."""
