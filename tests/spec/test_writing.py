from __future__ import annotations

import json

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from epsgrid.spec.loading import parse_spec, spec_from_json
from epsgrid.spec.model import Spec
from epsgrid.spec.writing import spec_to_yaml
from tests.spec.fakes import MINIMAL

POSITIVE = st.floats(min_value=5e-324, allow_infinity=False)


def test_the_effective_spec_in_the_order_of_its_fields() -> None:
    assert spec_to_yaml(parse_spec(MINIMAL)) == (
        """\
experiment: demo
task:
  name: tests.spec.fakes:blobs
  root: null
  label: plain
  classes: 2
  shuffle: true
model:
  name: tests.spec.fakes:net
  layers:
  - width: 8
    activation: relu
optimizer:
  name: tests.spec.fakes:adam_like
  betas: [0.9, 0.999]
  weight_decay: 0.0
  warmup: auto
training:
  epochs: 200
  batch_size: 128
  schedule:
    kind: step
    milestones: [0.75]
    factor: 0.1
    warmup_steps: null
  clip_norm: null
  average_last: 0
  selection: validation
  precision: float32
  svag: null
probe:
  epochs: 1
  batches: null
  update_weights: false
  learning_rate: null
  tail_fraction: 0.02
  seed: 0
  seeds: 1
  compare_weights: null
  check_rounding: true
  beta2: []
  every: null
  batch_sizes: []
observe:
  every: epoch
sweep:
  grid: both
  learning_rates: [0.001]
  lr_mode: fixed
  seeds: [0, 1, 2]
  default_epsilon: 1.0e-08
  prune: null
execution:
  executor: local
  workers: null
  device: auto
  trials_per_device: 1
  retries: 1
  log:
    tensorboard: false
    mlflow: false
    wandb: null
  ray:
    address: null
    cpus: 1.0
    gpus: null
  slurm:
    partition: null
    account: null
    qos: null
    time: null
    memory: null
    cpus: 1
    gpus: 0
    signal_s: 120
    directives: []
    setup: []
"""
    )


def changed(spec: Spec, label: str, epsilon: float, rates: list[float]) -> Spec:
    values = spec.model_dump(mode="json")
    values["task"]["label"] = label
    values["sweep"] |= {"default_epsilon": epsilon, "learning_rates": rates}
    return spec_from_json(json.loads(json.dumps(values)), "values")


@given(st.text(st.characters(codec="utf-8")), POSITIVE, st.lists(POSITIVE, min_size=1, unique=True))
@example("1e-8", 1e16, [1e-300])
@example("no", 1e-8, [1e22])
@example("010", 5e-324, [0.1])
@example("1_000", 1.0, [123456.0])
@example("1:30", 1.0, [1e2])
@example("<<", 1.0, [1e2])
@example("~", 1.0, [1e2])
@example(" two\nlines \n", 1.0, [1e2])
@example("\x85", 1.0, [1.0])
@example("\x85\u2028\ufeff\x00\t", 1.0, [1e2])
def test_what_is_written_reads_back_as_an_equal_spec(label: str, epsilon: float, rates: list[float]) -> None:
    spec = changed(parse_spec(MINIMAL), label, epsilon, rates)
    written = spec_to_yaml(spec)
    assert parse_spec(written) == spec
    assert yaml.safe_load(written) == spec.model_dump(mode="json"), "any YAML reader takes it for the same"


def test_equal_lists_are_written_out_not_aliased() -> None:
    spec = parse_spec(MINIMAL, overrides=["sweep.seeds=[1]", "model.layers=[{width: 3}, {width: 3}]"])
    assert "*" not in spec_to_yaml(spec)
