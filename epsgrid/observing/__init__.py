"""OBSERVE ANY TRAINING: read what ε is compared with, in our own trials and in any PyTorch loop.

Where v is, and its counts now and over time:

    adapters.py      where each optimizer keeps v and adds ε; others are registered here
    layers.py        an optimizer's parameters by name, also while groups change; kinds.py: what each of them does
    reading.py       √v̂ of every layer from the optimizer's present state, its bounds, the share above an ε
    observer.py      `observe`: what can be asked of a training
    recorder.py      counts after its steps; history.py: what is kept of them
    distributed.py   the same over all ranks of a job; collective.py adds their counts

The probe, which looks before training:

    probe.py         `probe`: an epoch of gradients through a user's optimizer, weights frozen
    probing.py       a probe in progress and its reliability, for `probe` and for the command line
    copying.py       copies of a model and its optimizer; restoring.py: random number generators
    rounding.py      entries whose gradient is nothing but rounding noise

Beside both: trackers.py writes curves to TensorBoard, MLflow and W&B.
"""
