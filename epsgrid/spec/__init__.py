"""WHAT WAS ASKED: one YAML file becomes one frozen, typed model.

spec = load_spec("experiments/demo.yaml", overrides=["training.epochs=2"])

reading     YAML text -> plain values with their places
loading     the ways to load a spec; overrides
checking    plain values -> model.Spec, or all problems, with line and column
writing     the effective spec as YAML
trial       a trial, its identity and its id
"""

from epsgrid.spec.loading import load_spec, parse_spec, spec_from_json
from epsgrid.spec.trial import differences, identity, trial_id, trial_identity
from epsgrid.spec.writing import spec_to_yaml

__all__ = [
    "differences",
    "identity",
    "load_spec",
    "parse_spec",
    "spec_from_json",
    "spec_to_yaml",
    "trial_id",
    "trial_identity",
]
