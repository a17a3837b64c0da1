"""WHAT WAS ASKED: one YAML file becomes one frozen, typed model.

spec = load_spec("experiments/demo.yaml", overrides=["training.epochs=2"])

reading     YAML text -> plain values with their places
loading     the ways to load a spec; overrides
checking    plain values -> model.Spec, or all problems, with line and column
writing     the effective spec as YAML
trial       a trial, its identity and its id
"""

BATCH_SIZE = "training.batch_size"
