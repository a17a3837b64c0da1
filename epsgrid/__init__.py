"""epsgrid finds the ε of Adam and its kin from one look at the gradient-magnitude histogram.

The flow, in words used everywhere with one meaning:

    spec -> task + optimizer -> probe -> histogram -> bounds -> grid -> trials -> records -> report

    spec/        what was asked: one YAML file, one frozen typed model
    numerics/    the mathematics: histograms, exact order statistics, bounds, where ε sits, statistics
    optimizers/  tasks/  models/  data/  grids/  executors/    plug-ins, one file each
    observe.py   read what an optimizer's ε is compared with
    store/       what came back: plain files, written atomically
    trials/      one training run, and the probe's run
    report/      from records to tables and figures
    stages/      the flow: probe, sweep, report
    cli/         the command line
"""

from __future__ import annotations

__version__ = "0.1.0"
