"""OBSERVE ANY TRAINING: what ε is compared with, in our own trials and in anybody's loop.

    adapters.py      where each optimizer keeps v and adds ε; others are registered here
    layers.py        an optimizer's parameters by name, also while groups are replaced and parameters added
    kinds.py         the kind of each parameter: convolution, bias, embedding, …
    reading.py       √v̂ of every layer, from the optimizer's present state
    observer.py      `observe`: what can be asked of a training
    history.py       the stored history of its steps
    distributed.py   the same over all ranks of a job
    probing.py       `probe`: bounds from an epoch of gradients, with their reliability
    stepping.py      a copy of the optimizer steps on a copy of the model, with weights frozen
    copying.py       copies of a model and its optimizer
    rounding.py      entries whose gradient is nothing but rounding noise
    restoring.py     states of random number generators
    checkpoint.py    `read_checkpoint`: from a file; opened by checkpoint_files.py, understood by checkpoint_state.py
    trackers.py      curves in TensorBoard, MLflow and W&B

The probe, and what it is made of from `probing` to `restoring`, looks before training, the others during it.
"""
